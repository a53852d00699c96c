"""One BLAS thread per thread of a read.

The limit applies to the whole process, and reads may overlap: the first one sets it, and the
last one restores it.  Both do so from a thread that ends at once, since threadpoolctl lets
only one living thread change the limit; otherwise only the first read could do so.
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
    """Return the BLAS libraries, cached since finding them takes longer than many reads.

    The products of a read use NumPy's BLAS, which is loaded before the first read.
    """
    return ThreadpoolController().select(user_api="blas")


def _briefly(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


one_blas_thread = _OneBlasThread()
