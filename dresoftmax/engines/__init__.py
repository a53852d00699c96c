"""Where blocks lie, and how all of them are read at once."""
