"""The trust-region Newton method, and what it is made of."""
