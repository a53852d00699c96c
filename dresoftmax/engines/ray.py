"""The engine of a Ray cluster: the blocks are objects in its store; one task per CPU reads them.

Every process of a node reads a block in the node's object store, without a copy.  So a task
has one thread and takes one CPU, whichever is free: more threads per task would gain nothing.
Each reduction divides the blocks evenly among as many tasks as there are CPUs, and keeps
blocks of one node together; Ray starts a task where most of its blocks lie.  Partial results
are added in a tree, in the order of the tasks, and the driver receives one.

Tasks are pure functions: Ray repeats tasks that are lost with a process, and those that made
blocks that are lost with a node.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError
from ray.experimental import get_object_locations

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.utils.tree_sum import add, batches

__all__ = ["RayEngine", "cpus", "get", "start"]

T = TypeVar("T")


class RayEngine:
    """Read blocks that lie in Ray's object store.

    Parameters
    ----------
    blocks : sequence of ObjectRef
        Each refers to a `Block` or a `LazyBlock`.  They are held until `close`.
    """

    def __init__(self, blocks: Sequence[Any]) -> None:
        self.blocks = list(blocks)

    def reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        """Run `task` on groups of blocks, one for each CPU, and return the sum of the results."""
        # The sizes and places of the blocks are known only once they are made.
        ray.wait(self.blocks, num_returns=len(self.blocks), fetch_local=False)
        shared = ray.put(task)
        parts = [_read.remote(shared, *group) for group in _groups(self.blocks, cpus())]
        while len(parts) > 1:
            parts = [_add.remote(*batch) for batch in batches(parts)]
        return get(parts[0])

    def close(self) -> None:
        """Release the blocks."""
        self.blocks = []


def start() -> None:
    """Connect to the existing Ray cluster, or start one on this machine.

    Ray's own libraries do the same.  The connection lasts until the process ends.
    """
    if not ray.is_initialized():
        ray.init(include_dashboard=False)


def cpus() -> int:
    """Return the number of CPUs of the cluster."""
    start()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def get(refs: Any) -> Any:
    """Return the values of these objects, or raise what their tasks raised."""
    try:
        return ray.get(refs)
    except RayTaskError as error:
        raise error.cause from error


def _groups(blocks: Sequence[Any], count: int) -> list[list[Any]]:
    """Divide the blocks, node by node, into at most `count` groups of about the same size."""
    places = get_object_locations(blocks)
    nodes = [min(places[block]["node_ids"], default="") for block in blocks]
    order = sorted(range(len(blocks)), key=lambda i: (nodes[i], i))
    # A small object may be in no store, and then has no size.
    sizes = [max(1, places[blocks[i]]["object_size"] or 0) for i in order]
    ends = list(accumulate(sizes))
    cuts = [ends[-1] * (i + 1) / count for i in range(count)]
    groups: list[list[Any]] = [[] for _ in cuts]
    for i, end, size in zip(order, ends, sizes, strict=True):
        groups[bisect(cuts, end - size / 2)].append(blocks[i])
    return [group for group in groups if group]


def _run(task: Callable[[Sequence[Any], int], Any], *blocks: Block | LazyBlock) -> Any:
    return task(blocks, 1)


def _sum(*parts: Any) -> Any:
    return add(parts)


def _named(function: Callable[..., Any], name: str) -> Any:
    return ray.remote(function).options(name=f"dresoftmax-{name}")


_read, _add = _named(_run, "read"), _named(_sum, "add")
