"""Solves inside a task of a Dask worker, on one of the worker's threads.

Nothing here depends on what a task does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_task", "seceding"]


def in_task() -> bool:
    """Whether this thread runs a task of a Dask worker."""
    if "distributed" not in sys.modules:
        return False  # so there is no worker
    from distributed.worker import thread_state

    return getattr(thread_state, "key", None) is not None


@contextmanager
def seceding() -> Iterator[None]:
    """Let the worker run other tasks while this one waits; do nothing outside a task.

    Else a task that waits for others could occupy the thread that they need.
    """
    if not in_task():
        yield
        return
    from distributed import rejoin, secede

    try:
        secede()
    except KeyError:  # the task has seceded already, as in `worker_client`
        yield
        return
    try:
        yield
    finally:
        rejoin()
