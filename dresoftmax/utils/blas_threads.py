"""One BLAS thread for each of ours, while several of ours read.

The limit is the process's, and reads may overlap: the first of them sets it, the
last one takes it back.  Both do so from a thread that ends at once, since
threadpoolctl lets only one living thread change the limit, and that one would
otherwise be whichever read came first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


class _OneBlasThread:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                _briefly(self._set)
            self._users += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _briefly(self._limit.restore_original_limits)

    def _set(self) -> None:
        self._limit = _libraries().limit(limits=1)


@cache
def _libraries() -> Any:
    """Return the BLAS libraries; to look for them takes longer than many a read.

    NumPy's, which has the products of a read, is loaded before the first of them.
    """
    return ThreadpoolController().select(user_api="blas")


def _briefly(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


one_blas_thread = _OneBlasThread()
