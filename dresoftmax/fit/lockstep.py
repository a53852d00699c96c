"""Several solves in lockstep: their simultaneous queries are answered by one read.

Each solve runs in a thread of its own, as many of them at a time as there are cores.
When each of them has asked for a read or has ended, the rows are read once for all that
have asked, and each goes on with its answer.  A solve does the same as if it were alone,
and nothing depends on the timing of threads.

Turns only: queries and answers are passed on unread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["in_lockstep"]

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


def in_lockstep(
    solves: Sequence[Callable[[Callable[[Q], S]], T]],
    read: Callable[[Sequence[Q]], Sequence[S]],
    cores: int,
) -> list[T]:
    """Run all `solves`, joining their reads.

    Parameters
    ----------
    solves : sequence of callable
        Each is called with a function that reads: a query → its answer.
    read : callable
        Answers several queries by one read; called in this thread.
    cores : int
        How many solves may run at a time.

    Returns
    -------
    list
        What the solves returned.

    Raises
    ------
    BaseException
        The first that `read` or, in their order, a solve raised.  All other solves end
        where they are or at their next read.
    """
    if len(solves) == 1:
        return [solves[0](lambda query: read([query])[0])]
    free = threading.Semaphore(cores)
    turns = [_Turn(solve, free) for solve in solves]
    try:
        for turn in turns:
            turn.begin()
        while True:
            for turn in turns:
                turn.wait()
            asking = [turn for turn in turns if not turn.ended]
            if not asking:
                return [turn.result for turn in turns]
            answers = read([turn.query for turn in asking])
            for turn, answer in zip(asking, answers, strict=True):
                turn.go_on(answer)
    finally:
        for turn in turns:
            turn.leave()


class _Left(BaseException):
    """Ends a solve whose result is no longer needed."""


class _Turn(Generic[Q, S, T]):
    """One solve in its thread, which runs from one read to the next.

    Attributes
    ----------
    query
        What it asks, after `wait`.
    ended : bool
        Whether it asks for nothing more, and has a result.
    """

    query: Q
    result: T

    def __init__(self, solve: Callable[[Callable[[Q], S]], T], free: threading.Semaphore) -> None:
        self.ended = False
        self._solve = solve
        self._free = free
        self._error: BaseException | None = None
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._waits: SimpleQueue[None] = SimpleQueue()
        # Settings such as NumPy's reaction to overflow belong to the caller's context.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), daemon=True)

    def begin(self) -> None:
        """Start the solve."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the solve asks for a read or ends; raise what it raises."""
        if not self.ended:
            self._waits.get()
        if self._error is not None:
            raise self._error

    def go_on(self, answer: S) -> None:
        """Answer what the solve asked."""
        self._answers.put(answer)

    def leave(self) -> None:
        """End the solve where it waits, or at its next read."""
        self._answers.put(_Left())
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._free, suppress(_Left):
                self.result = self._solve(self._read)
        except BaseException as error:  # whatever it is, it belongs to the caller
            self._error = error
        self.ended = True
        self._waits.put(None)

    def _read(self, query: Q) -> S:
        self.query = query
        self._free.release()
        self._waits.put(None)
        answer = self._answers.get()
        self._free.acquire()
        if isinstance(answer, _Left):
            raise answer
        return answer
