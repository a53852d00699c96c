"""Data → blocks on an engine: which are held, which are loaded, and where they lie."""
