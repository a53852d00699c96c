"""The fit of one target or of many on an engine."""
