"""``python -m dresoftmax.cli`` is the command ``dresoftmax``."""

from dresoftmax.cli.commands import main

main()
