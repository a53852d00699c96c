"""The engine of a Dask cluster: the blocks are futures; one task per worker reads them.

A scheduler's work grows with the dependencies of a task, and data come in thousands of
blocks.  Before the first read, the blocks of each worker are therefore gathered there into
a few groups.  A group refers to the same blocks without a copy, and is held in their place.
A read lasts as long as its slowest worker, so blocks beyond a worker's share are grouped on
other workers.

Each reduction asks the scheduler where the groups lie, since that changes, and submits one
task per worker over all groups on it.  The task runs where its data lie.  If a worker is
lost, Dask rebuilds its groups from their lineage, and tasks may run elsewhere.  Partial
results are added in a tree on the workers, and the client receives one.

A client that loses its connection loses all data that it holds on the cluster.  The engine
therefore keeps the function that makes the blocks.  Once the client is connected again, the
blocks are made again, and the reduction is repeated.
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
from dresoftmax.utils.tree_sum import add, batches

__all__ = ["DaskEngine"]

T = TypeVar("T")

# Groups per worker.  With more groups, the data of a lost worker spread more evenly over the
# others, and each read costs more.
GROUPS = 4
# Part of its share that a worker may hold in excess: less is not worth a move.
SLACK = 0.05
# Attempts at a reduction.  The scheduler may notice a lost connection later than the client,
# and close the new one, too.
TRIES = 5
# What Dask raises if the connection was lost.
LOST = (FutureCancelledError, FuturesCancelledError, CommClosedError, ClosedClientError)

# A read takes all threads of its worker, and all memory for loaded blocks.  Reads of several
# solves therefore take turns.
_turns: WeakKeyDictionary[Worker, threading.Lock] = WeakKeyDictionary()
_new_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks that lie on one worker, held under one name."""

    blocks: Sequence[Block | LazyBlock]

    def __sizeof__(self) -> int:
        # The blocks' own futures are released, so their memory is counted only here.
        return sum(block.__sizeof__() for block in self.blocks)


class DaskEngine:
    """Read blocks that lie on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
    make : callable
        Submits the blocks, and returns a future of each `Block` or `LazyBlock`.  They are
        held in groups until `close`.  `make` is called in the first reduction, and again if
        the blocks are lost.
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
            If the connection to the scheduler was lost, and could not be restored.
        Exception
            What a task raised, and ``distributed.KilledWorker`` if its workers died.
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
                        raise  # a task raised it; the connection is not the cause
                    tries += 1
                    if tries == TRIES:
                        raise ConnectionError(
                            "the connection to the Dask scheduler was lost, and could not be "
                            "restored; connect again, and solve again"
                        ) from error
                if any(future.cancelled() for future in self.held):
                    self._grouped = False

    def close(self) -> None:
        """Release the blocks on the cluster."""
        # Released explicitly, since the traceback of an error may keep the futures alive.
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
        # The futures of the last reduction are released only now.  A client sends messages every
        # 10 ms, and the tasks of this reduction would have waited behind that release.
        self._submitted = submitted
        return self.client.gather(parts[0])

    def _group(self) -> None:
        """Make the blocks, and gather them into groups on each worker.

        Each worker makes one group at a time, and its blocks are released before the next:
        while both exist, Dask counts their memory twice and might spill.
        """
        self.held = list(self._make())
        wait(self.held)  # before that their workers are not known
        places = self._places()
        sizes = self.client.nbytes([block.key for block in self.held], summary=False)
        moved = _level(places, sizes, self.client.nthreads())
        waves = [
            [(worker, place[i::GROUPS]) for worker, place in places.items() if place[i:]]
            for i in range(GROUPS)
        ]
        self.held, places = [], {}  # no reference to a block may remain
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
        """Make a group of each batch; a batch with moved blocks is sent to its new worker."""
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
        """Return the held futures of each worker, in order.

        A future on two workers goes to the one with fewer so far.  A future that is being
        recomputed has a place of its own, since its worker is not known yet.
        """
        holders = self.client.who_has(self.held)
        places: dict[str, list[Future]] = defaultdict(list)
        for held in self.held:
            workers = holders.get(held.key, ())
            places[min(workers, key=lambda w: (len(places[w]), w), default=held.key)].append(held)
        return {worker: place for worker, place in sorted(places.items()) if place}

    def _map(self, function: Callable[..., Any], each: Sequence[Any], name: str) -> list[Future]:
        """Submit a call for each argument, in one message; it runs where the argument lies."""
        keys = [f"dresoftmax-{name}-{self._token}-{i}" for i in range(len(each))]
        return self.client.map(function, each, key=keys, pure=False)


def _level(
    places: dict[str, list[Future]], sizes: Mapping[str, int], threads: Mapping[str, int]
) -> set[str]:
    """Move blocks from workers that hold more than their share, and return the blocks' keys.

    Shares are in proportion to threads.  The fullest worker gives its smallest block to the
    worker that is then least full, until that is no improvement.  So little more than the
    excess is moved, and no block is moved twice.
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
