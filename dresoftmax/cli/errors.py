"""How a command fails: with one plain line, and exit status 2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["plain_errors"]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Report wrong input in one line and exit with 2; show warnings without their origin."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
        try:
            yield
        except (ValueError, TypeError, OSError) as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
