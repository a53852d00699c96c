"""Arguments that a user passes, checked and opened."""
