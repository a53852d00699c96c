"""The engine of a Dask cluster: the blocks are futures, one task a worker reads them.

Each reduction asks the scheduler where the blocks lie, since that changes, and
submits one task per worker over all blocks that it holds.  Tasks may run
elsewhere where their worker is lost; Dask then rebuilds the blocks from their
lineage.  Partial results are added in a tree on the workers, and the client
receives one.
"""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from distributed import Client, Future, get_worker, wait

from dresoftmax.blocks import Block

__all__ = ["DistributedEngine"]

T = TypeVar("T")

# Partial results that one task of the tree adds.
FAN_IN = 8


class DistributedEngine:
    """Read blocks that lie on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
    blocks : sequence of Future
        Each resolves to a `Block`.  They are held until `close`.
    """

    def __init__(self, client: Client, blocks: Sequence[Future]) -> None:
        self.client = client
        self.blocks = list(blocks)
        self._name = f"dresoftmax-{uuid.uuid4().hex[:8]}"
        self._count = itertools.count()

    def reduce(self, task: Callable[[Sequence[Block], int], T]) -> T:
        """Run `task` on each worker's blocks and return the sum of the results."""
        name = f"{self._name}-{next(self._count)}"
        parts = [
            self.client.submit(
                _run,
                task,
                group,
                key=f"read-{name}-{i}",
                workers=[worker] if worker else None,
                allow_other_workers=bool(worker),
                pure=False,
            )
            for i, (worker, group) in enumerate(sorted(self._groups().items()))
        ]
        level = 0
        while len(parts) > 1:
            parts = [
                self.client.submit(_add, group, key=f"add-{name}-{level}-{i}", pure=False)
                for i, group in enumerate(_batches(parts))
            ]
            level += 1
        return self.client.gather(parts[0])

    def close(self) -> None:
        """Let go of the blocks on the cluster."""
        self.blocks = []

    def _groups(self) -> dict[str, list[Future]]:
        """Return the blocks by the worker that holds them, in their order.

        Blocks that are still to be made, or to be made again, are waited for: before
        that nobody knows where they will lie.  A block that is held twice goes to the
        worker with fewer blocks so far.
        """
        wait(self.blocks)
        holders = self.client.who_has(self.blocks)
        groups: dict[str, list[Future]] = defaultdict(list)
        for block in self.blocks:
            workers = holders.get(block.key, ())
            groups[min(workers, key=lambda w: (len(groups[w]), w), default="")].append(block)
        return {worker: group for worker, group in groups.items() if group}


def _run(task: Callable[[Sequence[Block], int], Any], blocks: Sequence[Block]) -> Any:
    return task(blocks, get_worker().state.nthreads)


def _add(parts: Sequence[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _batches(parts: Sequence[Future]) -> list[Sequence[Future]]:
    return [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
