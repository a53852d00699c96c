"""Data to blocks on an engine: what is held, what is loaded, and where."""
