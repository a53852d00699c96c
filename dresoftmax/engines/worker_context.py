"""A solve inside a task of a Dask worker: its thread is one of the worker's.

Nothing here is about what a task does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_task", "seceding"]


def in_task() -> bool:
    """Whether this thread runs a task of a Dask worker."""
    if "distributed" not in sys.modules:
        return False  # nobody can have started a worker
    from distributed.worker import thread_state

    return getattr(thread_state, "key", None) is not None


@contextmanager
def seceding() -> Iterator[None]:
    """Let the worker run other tasks in place of the one that is waiting here, if it is one.

    Else a task that waits for others could have the thread that they wait for.
    """
    if not in_task():
        yield
        return
    from distributed import rejoin, secede

    try:
        secede()
    except KeyError:  # it has done so itself, as in `worker_client`
        yield
        return
    try:
        yield
    finally:
        rejoin()
