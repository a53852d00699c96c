"""The mathematics: units, losses, and what a read's sums make of the objective at a point."""
