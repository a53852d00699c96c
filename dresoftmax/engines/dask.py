"""The engine of a Dask cluster: the blocks are futures, one task a worker reads them.

A scheduler's work grows with the dependencies of a task, and data come in
thousands of blocks.  So before the first read the blocks of each worker are
gathered there into a few groups, objects that refer to the very same blocks, and
the groups are held in their place.  A read lasts as long as the worker with most
rows for its threads takes, so the excess over its share is grouped on others.

Each reduction asks the scheduler where the groups lie, since that changes, and
submits one task per worker over all groups that it holds.  The task follows its
data.  Where a worker is lost, Dask rebuilds its groups from their lineage, and
tasks may run elsewhere.  Partial results are added in a tree on the workers, and
the client receives one.

A client that loses its connection loses all that it holds on the cluster.  So what
the engine has is the way to make the blocks: once it is connected again they are made
anew, and the reduction is done again.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from distributed import Client, Future, Worker, get_worker, wait
from distributed.client import ClosedClientError, FutureCancelledError, FuturesCancelledError
from distributed.comm import CommClosedError

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.engines.base import add, batches

__all__ = ["DaskEngine"]

T = TypeVar("T")

# Groups that a worker's blocks are gathered into.  More of them spread more evenly
# over the other workers when it is lost, and make each read dearer.
GROUPS = 4
# What a worker may hold beyond its share, as a part of it: less is not worth a move.
SLACK = 0.05
# How often a reduction is tried.  The scheduler may notice a lost connection later than
# the client, and close the new one, too.
TRIES = 5
# What Dask raises where the connection was lost.
LOST = (FutureCancelledError, FuturesCancelledError, CommClosedError, ClosedClientError)

# A read takes all threads of its worker, and all the room for what is loaded: those of
# several solves take turns.
_turns: WeakKeyDictionary[Worker, threading.Lock] = WeakKeyDictionary()
_new_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks that lie on one worker, held under one name."""

    blocks: Sequence[Block | LazyBlock]

    def __sizeof__(self) -> int:
        # The blocks are let go of under their own names, and count here alone.
        return sum(block.__sizeof__() for block in self.blocks)


class DaskEngine:
    """Read blocks that lie on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
    make : callable
        Has the blocks made, and returns a future of each, which resolves to a `Block` or a
        `LazyBlock`.  They are held until `close`, in groups.  Called in the first reduction,
        and in those that find the blocks lost.
    """

    def __init__(self, client: Client, make: Callable[[], Sequence[Future]]) -> None:
        self.client = client
        self.held: list[Future] = []
        self._make = make
        self._grouped = False
        self._submitted: list[Future] = []
        self._token = uuid.uuid4().hex[:8]
        self._count = itertools.count()

    def reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        """Run `task` on each worker's blocks and return the sum of the results.

        Raises
        ------
        ConnectionError
            If the connection to the scheduler was lost, and not had again.
        Exception
            What a task raised, and ``distributed.KilledWorker`` where its workers died.
        """
        tries = 0
        with self.client.as_current():
            while True:
                try:
                    if not self._grouped:
                        self._group()
                    return self._reduce(task)
                except LOST as error:
                    if any(future.status == "error" for future in self._submitted):
                        raise  # by a task, which is no matter of the connection
                    tries += 1
                    if tries == TRIES:
                        raise ConnectionError(
                            "the connection to the Dask scheduler was lost, and did not come back "
                            "to stay; connect again, and solve again"
                        ) from error
                if any(future.cancelled() for future in self.held):
                    self._grouped = False

    def close(self) -> None:
        """Let go of the blocks on the cluster."""
        # The traceback of an error may refer to them for long.
        for future in [*self.held, *self._submitted]:
            future.release()
        self.held = []
        self._submitted = []

    def _reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        count = next(self._count)
        parts = self._map(partial(_run, task), list(self._places().values()), f"read-{count}")
        submitted, level = list(parts), 0
        while len(parts) > 1:
            parts = self._map(add, batches(parts), f"add-{count}-{level}")
            submitted, level = submitted + parts, level + 1
        # Only now let go of what the last reduction left.  A client sends a message once
        # in 10 ms, and this reduction would have to wait behind that one.
        self._submitted = submitted
        return self.client.gather(parts[0])

    def _group(self) -> None:
        """Have the blocks made, and gather those of each worker, where they lie or are to lie.

        One group of each worker at a time, so that its blocks are let go of before the
        next: while both exist, Dask counts their memory twice and might spill.
        """
        self.held = list(self._make())
        wait(self.held)  # before that nobody knows where they will lie
        places = self._places()
        sizes = self.client.nbytes([block.key for block in self.held], summary=False)
        moved = _level(places, sizes, self.client.nthreads())
        waves = [
            [(worker, place[i::GROUPS]) for worker, place in places.items() if place[i:]]
            for i in range(GROUPS)
        ]
        self.held, places = [], {}  # no reference to a block may be left
        groups: list[Future] = []
        count = next(self._count)
        for i, wave in enumerate(waves):
            groups += self._gather(wave, moved, f"group-{count}-{i}")
            wave.clear()
            wait(groups)
        self.held = groups
        self._grouped = True

    def _gather(
        self, wave: Sequence[tuple[str, list[Future]]], moved: set[str], name: str
    ) -> list[Future]:
        """Make a group of each batch: on this worker, where blocks are moved there."""
        groups: list[Future] = []
        there: list[list[Future]] = []
        for worker, batch in wave:
            if not moved.isdisjoint(block.key for block in batch):
                place = {"workers": [worker], "allow_other_workers": True}
                key = f"dresoftmax-{name}-{self._token}-{worker}"
                groups.append(self.client.submit(Group, batch, key=key, **place))
            elif len(batch) > 1:
                there.append(batch)
            else:
                groups += batch
        return groups + self._map(Group, there, name)

    def _places(self) -> dict[str, list[Future]]:
        """Return what is held by the worker that holds it, in order.

        What is held twice goes to the worker with less so far.  What is being made
        again has a place of its own, for nobody knows where it will lie.
        """
        holders = self.client.who_has(self.held)
        places: dict[str, list[Future]] = defaultdict(list)
        for held in self.held:
            workers = holders.get(held.key, ())
            places[min(workers, key=lambda w: (len(places[w]), w), default=held.key)].append(held)
        return {worker: place for worker, place in sorted(places.items()) if place}

    def _map(self, function: Callable[..., Any], each: Sequence[Any], name: str) -> list[Future]:
        """Submit a call for each argument, in one message, to wherever it lies."""
        keys = [f"dresoftmax-{name}-{self._token}-{i}" for i in range(len(each))]
        return self.client.map(function, each, key=keys, pure=False)


def _level(
    places: dict[str, list[Future]], sizes: Mapping[str, int], threads: Mapping[str, int]
) -> set[str]:
    """Move blocks from workers that hold more than their share, and return their keys.

    Shares go by threads.  The fullest worker gives its smallest block to whoever is then
    least full, so that hardly more than the excess travels, and none does twice; until
    it would be no better.
    """
    for place in places.values():
        place.sort(key=lambda block: sizes[block.key], reverse=True)
    loads = {
        worker: sum(sizes[block.key] for block in places.get(worker, ())) / count
        for worker, count in threads.items()
    }
    total = sum(loads[worker] * count for worker, count in threads.items())
    most = (1.0 + SLACK) * total / sum(threads.values())
    moved: set[str] = set()
    while loads[fullest := max(loads, key=lambda worker: loads[worker])] > most:
        key = places[fullest][-1].key
        then = {worker: load + sizes[key] / threads[worker] for worker, load in loads.items()}
        to = min(then, key=lambda worker: then[worker])
        if key in moved or then[to] >= loads[fullest]:
            break
        loads[fullest] -= sizes[key] / threads[fullest]
        loads[to] = then[to]
        places.setdefault(to, []).append(places[fullest].pop())
        moved.add(key)
    return moved


def _run(
    task: Callable[[Sequence[Block | LazyBlock], int], Any],
    held: Sequence[Block | LazyBlock | Group],
) -> Any:
    blocks = list(itertools.chain.from_iterable(map(_blocks, held)))
    worker = get_worker()
    with _new_turn:
        turn = _turns.setdefault(worker, threading.Lock())
    with turn:
        return task(blocks, worker.state.nthreads)


def _blocks(held: Block | LazyBlock | Group) -> Sequence[Block | LazyBlock]:
    return held.blocks if isinstance(held, Group) else (held,)
