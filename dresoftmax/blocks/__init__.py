"""Blocks of rows: one class for each kind of rows, held in memory or loaded when they are read."""
