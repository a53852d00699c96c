"""Engines, which hold the blocks of rows and reduce a task over all of them."""
