"""The time of a read by a model, up to 1,000 workers, and beside it what was measured.

    python benchmarks/cost_model.py [--full] [PICTURE]

With W workers, each with the same rows, and a tree of fan-in F over them,

    seconds = latency                       a round trip with one task
            + levels·level                  a message more for each level of the tree
            + manage(tasks − 1)             the scheduler's and the workers' work on tasks
            + (fixed + rows·row)·c          a task, when c tasks share a core
            + Σ (parts − 1)·bytes·link·c'   partial results that an adder receives
            + bytes·gather                  the sum, on its way to the client.

On a cluster every worker has its core: c = c' = 1, the workers do their part of the
management side by side, and the scheduler does its own task by task.  On this
machine all share the cores that the idle processes leave: c = W/cores, a
transfer keeps two processes busy, and all of the management is divided by the cores.

Every constant comes from runs with one and two workers.  Measurements with
more workers were not used.  Times are the shortest of some runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, wait
from workers import CONTEXT, CORES, cluster, normal_rows, print_table, read, seconds_to_read

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.make import make_block
from dresoftmax.engines.dask import DaskEngine
from dresoftmax.plots import COLOURS, GREY, MARK
from dresoftmax.utils.tree_sum import FAN_IN

WORKERS = (1, 2, 4, 8, 16)
PREDICTED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
# Bytes of the partial results that the speed of transfers is measured with.
PART = 32 << 20
# A task's fixed and its proportional part come from this many times fewer rows.
FEWER = 8


@dataclass(frozen=True)
class Case:
    """Rows of each worker, and what is read of them."""

    name: str
    rows: int
    d: int
    kind: str

    @property
    def nbytes(self) -> int:
        """Bytes of a partial result."""
        return 8 * self.d**2 if self.kind == "exact" else 0


CASES = (
    Case("latency: 64 × 4 a worker", 64, 4, "none"),
    Case("compute: 100,000 × 32 a worker", 100_000, 32, "none"),
    Case("reduction: 512 × 1,000 a worker, exact", 512, 1000, "exact"),
)


@dataclass(frozen=True)
class Costs:
    """The constants of the cluster, in seconds, and in seconds a byte.

    `idle` is how many cores it keeps busy without any work.
    """

    latency: float
    level: float
    scheduler_task: float
    worker_task: float
    link: float
    gather: float
    idle: float


@dataclass(frozen=True)
class Work:
    """The constants of a task: seconds, and seconds a row."""

    fixed: float
    row: float


def tree(workers: int) -> list[tuple[int, int]]:
    """Return (adders, most parts that one of them adds) for each level."""
    levels, parts = [], workers
    while parts > 1:
        adders = -(-parts // FAN_IN)
        levels.append((adders, min(parts, FAN_IN)))
        parts = adders
    return levels


def predict(costs: Costs, work: Work, case: Case, workers: int, cores: float | None) -> float:
    """Return the seconds of a read; if `cores` is None, each worker has one."""
    levels = tree(workers)
    tasks = workers + sum(adders for adders, _ in levels)
    seconds = costs.latency + len(levels) * costs.level + manage(costs, tasks - 1, cores)
    seconds += (work.fixed + case.rows * work.row) * max(1.0, workers / (cores or workers))
    for adders, parts in levels:
        sharing = max(1.0, 2 * adders / (cores or 2 * adders))
        seconds += (parts - 1) * case.nbytes * costs.link * sharing
    return seconds + case.nbytes * costs.gather


def manage(costs: Costs, tasks: int, cores: float | None) -> float:
    """Return the seconds that managing so many more tasks takes."""
    serial = costs.scheduler_task * tasks
    if cores is None:
        return serial
    return max(serial, (costs.scheduler_task + costs.worker_task) * tasks / cores)


def measure(full: bool) -> list[dict[str, object]]:
    """Return measured and predicted seconds, first on this machine, then on a cluster."""
    counts = WORKERS if full else WORKERS[:4]
    repeats = 25 if full else 9
    rows: list[dict[str, object]] = []
    with cluster(max(counts)) as client:
        costs = cluster_costs(client, 2 * repeats)
        works = {case: task_costs(client, case, repeats) for case in CASES}
        rows.append({"case": "constants", **asdict(costs)})
        for case in CASES:
            for workers in counts:
                with engine_of(client, workers, case.rows, case.d) as engine:
                    seconds, _, _ = seconds_to_read(
                        engine, read(case.d, case.kind), repeats, np.min
                    )
                predicted = predict(costs, works[case], case, workers, CORES - costs.idle)
                rows.append(
                    {
                        "case": case.name,
                        "machine": f"{CORES} cores",
                        "workers": workers,
                        "predicted": predicted,
                        "measured": seconds,
                        "ratio": seconds / predicted,
                    }
                )
    rows += [
        {
            "case": case.name,
            "machine": "a core a worker",
            "workers": workers,
            "predicted": predict(costs, works[case], case, workers, None),
        }
        for case in CASES
        for workers in PREDICTED
    ]
    return [{**row, **CONTEXT} for row in rows]


def engine_of(client: Client, workers: int, rows: int, d: int) -> closing[DaskEngine]:
    """Return an engine of one block on each of so many workers."""
    blocks = [
        client.submit(_block, i, rows, d, workers=[address], pure=False)
        for i, address in enumerate(addresses(client)[:workers])
    ]
    return closing(DaskEngine(client, lambda: blocks))


def addresses(client: Client) -> list[str]:
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


def _block(index: int, rows: int, d: int) -> Block:
    return make_block(index, normal_rows(rows, d, np.float64, index), np.full(rows, 1e-6), None)


def _ones(nbytes: int, blocks: Sequence[Block], threads: int) -> Any:
    return np.ones(nbytes // 8)


def cluster_costs(client: Client, repeats: int) -> Costs:
    """Measure the constants of the cluster with one and two workers."""
    nothing, part = partial(_ones, 8), partial(_ones, PART)
    with engine_of(client, 1, 2, 1) as one, engine_of(client, 2, 2, 1) as two:
        elapsed, *idle = spent(client, partial(time.sleep, 2.0))
        idle = np.array(idle) / elapsed
        client1, workers1 = cpu_of(client, one, nothing, repeats, idle)
        client2, workers2 = cpu_of(client, two, nothing, repeats, idle)
        t1 = seconds_to_read(one, nothing, repeats, np.min)[2]
        t2 = seconds_to_read(two, nothing, repeats, np.min)[2]
        t1_part = seconds_to_read(one, part, 9, np.min)[2]
    # The second worker brings two tasks: another one that reads, and one that adds.
    scheduler_task = max(0.0, client2 - client1) / 2
    worker_task = max(0.0, workers2 - workers1) / 2
    return Costs(
        latency=t1,
        level=max(0.0, t2 - t1 - (scheduler_task + worker_task)),
        scheduler_task=scheduler_task,
        worker_task=worker_task,
        link=max(0.0, seconds_to_receive(client, PART) - seconds_to_receive(client, 8)) / PART,
        gather=max(0.0, t1_part - t1) / PART,
        idle=float(idle.sum()),
    )


def seconds_to_receive(client: Client, nbytes: int) -> float:
    """Return the seconds in which a worker gets an array from another, and adds it."""
    first, second = addresses(client)[:2]
    times = []
    for _ in range(7):
        part = client.submit(_ones, nbytes, (), 1, workers=[first], pure=False)
        wait(part)
        began = time.perf_counter()
        client.submit(_add, part, workers=[second], pure=False).result()
        times.append(time.perf_counter() - began)
    return min(times)


def _add(part: np.ndarray) -> float:
    return float((part + part)[0])


def cpu_of(
    client: Client,
    engine: DaskEngine,
    task: Callable[..., Any],
    repeats: int,
    idle: np.ndarray,
) -> tuple[float, float]:
    """Return the processor seconds of a read in this process and on the workers.

    The time that an idle cluster would have spent is subtracted.
    """
    seconds_to_read(engine, task, 3)  # warms up
    elapsed, *busy = spent(client, partial(seconds_to_read, engine, task, repeats))
    here, there = (np.array(busy) - idle * elapsed) / (repeats + 2)
    return float(here), float(there)


def spent(client: Client, call: Callable[[], object]) -> np.ndarray:
    """Return the seconds of `call`, and the processor seconds here and on the workers."""

    def clocks() -> np.ndarray:
        there = sum(client.run(time.process_time).values())
        return np.array([time.perf_counter(), time.process_time(), there])

    before = clocks()
    call()
    return clocks() - before


def task_costs(client: Client, case: Case, repeats: int) -> Work:
    """Measure the constants of a task with one worker."""
    task, few = read(case.d, case.kind), max(2, case.rows // FEWER)
    inside = []
    for rows in (few, case.rows):
        with engine_of(client, 1, rows, case.d) as engine:
            inside.append(seconds_to_read(engine, task, repeats, np.min)[1])
    row = max(0.0, inside[1] - inside[0]) / (case.rows - few)
    return Work(max(0.0, inside[1] - case.rows * row), row)


def draw(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw the measured times over those predicted for this machine, and for a cluster."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if "predicted" in row]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.add_subplot()
    for case, colour in zip(dict.fromkeys(row["case"] for row in rows), COLOURS, strict=False):
        mine = [row for row in rows if row["case"] == case]
        here = [row for row in mine if "measured" in row]
        there = [row for row in mine if "measured" not in row]
        for part, line in ((here, "-"), (there, "--")):
            workers = [row["workers"] for row in part]
            ax.plot(workers, [row["predicted"] for row in part], line, color=colour, linewidth=1.5)
        workers, measured = zip(*((row["workers"], row["measured"]) for row in here), strict=True)
        ax.plot(workers, measured, "o", color=colour, markersize=MARK, label=case)
    machine = next(row["machine"] for row in rows if "measured" in row)
    ax.plot([], [], "o", color=GREY, markersize=MARK, label=f"measured, {machine}")
    ax.plot([], [], "-", color=GREY, label=f"predicted, {machine}")
    ax.plot([], [], "--", color=GREY, label="predicted, a core a worker")
    ax.set(xscale="log", yscale="log", xlabel="workers", ylabel="seconds of a read")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    found = measure("--full" in sys.argv)
    print_table("The time of a read, by a model and measured", found)
    for path in (argument for argument in sys.argv[1:] if not argument.startswith("--")):
        draw(found, path)
