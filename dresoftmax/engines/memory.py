"""Memory for data, in this process or on the workers of a cluster."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Memory", "memory_here", "memory_of", "memory_of_ray"]

# Dask moves data to disk beyond this part of a worker's memory.
FILL = 0.6
# Ray moves data to disk beyond this part of a node's object store.
RAY_FILL = 0.8
# Bytes that a worker takes without any data: the interpreter, its libraries, compiled loops,
# and the buffers of a read.
PROCESS = 300_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory, place by place.

    Attributes
    ----------
    limits : tuple of int
        All memory of each worker, or of this process.
    rooms : tuple of int
        The part of it that data may take.
    """

    limits: tuple[int, ...]
    rooms: tuple[int, ...]

    @property
    def room(self) -> int:
        """What data may take in all places together; unbounded while there are no places."""
        return sum(self.rooms) if self.rooms else sys.maxsize

    @property
    def least(self) -> int:
        """What data may take in the smallest place."""
        return min(self.rooms, default=sys.maxsize)


def memory_here() -> Memory:
    """Return the memory that is free for this process."""
    # Both come with distributed, and are imported only if they are needed.
    import psutil
    from distributed.system import MEMORY_LIMIT

    held = psutil.Process().memory_info().rss
    free = min(psutil.virtual_memory().available, max(0, MEMORY_LIMIT - held))
    return Memory((free,), (int(FILL * free),))


def memory_of(client: Client) -> Memory:
    """Return the memory of the cluster; workers without a limit share their machine's."""
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    except TypeError:  # older versions always return all workers
        workers = client.scheduler_info()["workers"]
    limits = {address: worker["memory_limit"] for address, worker in workers.items()}
    unlimited = [address for address, limit in limits.items() if not limit]
    if unlimited:
        machines = client.run(_machine, workers=unlimited)
        hosts = [workers[address]["host"] for address in unlimited]
        for address, host in zip(unlimited, hosts, strict=True):
            limits[address] = machines[address] // hosts.count(host)
    rooms = (max(0, int(FILL * limit) - PROCESS) for limit in limits.values())
    return Memory(tuple(limits.values()), tuple(rooms))


def memory_of_ray() -> tuple[Memory, Memory]:
    """Return the memory of Ray's object stores, by node, and of its tasks, by CPU."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    stores = [int(node.get("object_store_memory", 0)) for node in nodes]
    shares = [
        int(node.get("memory", 0) / node["CPU"])
        for node in nodes
        for _ in range(int(node.get("CPU", 0)))
    ]
    return (
        Memory(tuple(stores), tuple(int(RAY_FILL * store) for store in stores)),
        Memory(tuple(shares), tuple(max(0, int(FILL * share) - PROCESS) for share in shares)),
    )


def _machine() -> int:
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)
