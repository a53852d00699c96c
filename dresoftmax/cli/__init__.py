"""The command line: ``dresoftmax solve``, ``dresoftmax demo`` and ``dresoftmax verify``."""

from dresoftmax.cli.commands import main

__all__ = ["main"]
