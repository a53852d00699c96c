"""The demo: real attention data, both units, one cluster of its own, one picture.

With unit "exp" the answer is known: the attention head's own query has to come
back.  With unit "exp+linear" the same weights are fitted by exp(Ax) + Ax, as well
as that function can.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dresoftmax.datasets import load_attention
from dresoftmax.launch import local_spec, open_cluster
from dresoftmax.model.units import UNITS
from dresoftmax.result import SolveResult

__all__ = ["run"]

QUERY = 0
WORKERS = 2
BLOCKS = 8
TOL = 1e-8


def run(output: Path) -> bool:
    """Run the demo, print what came out and write the picture to `output`.

    Returns
    -------
    bool
        Whether both solves converged.
    """
    import dask.array as da

    import dresoftmax

    console = Console(highlight=False)
    head = load_attention()
    A, b = head.problem(QUERY)
    n, d = A.shape
    console.print(
        f"An attention head weighs {n:,} keys of dimension {d} by b = softmax(Aq). From A and b, "
        f"find q; then fit the same b with exp(Ax) + Ax. Starting {WORKERS} worker processes …"
    )
    results = {}
    with open_cluster(local_spec(WORKERS)) as client:
        rows = -(-n // BLOCKS)
        blocks = client.persist(da.from_array(A, chunks=(rows, d)))
        for unit in ("exp", "exp+linear"):
            console.print(f"\nunit [bold]{unit}[/bold]")
            result = dresoftmax.solve(
                blocks, b, unit=unit, tol=TOL, seed=0, client=client, progress=True
            )
            assert isinstance(result, SolveResult), "one target has one result"
            results[unit] = result
    fits = {unit: fitted(A, result.x, unit) for unit, result in results.items()}
    error = np.abs(results["exp"].x - head.queries[QUERY]).max()
    console.print()
    console.print(comparison(b, results, fits))
    console.print(f"\nThe query came back from its softmax weights: max |x − q| = {error:.1e}")
    draw(b, results, fits, output)
    console.print(f"The picture is in {output}")
    return all(result.success for result in results.values())


def fitted(A: np.ndarray, x: np.ndarray, unit: str) -> np.ndarray:
    """Return f(x) = u(Ax)/Σu(Ax)."""
    u, _, _ = UNITS[unit].scaled(A @ x, 0.0)
    return u / u.sum()


def comparison(
    b: np.ndarray, results: dict[str, SolveResult], fits: dict[str, np.ndarray]
) -> Table:
    """Return how well each unit fits b, and what it cost, as a column for each unit."""
    measures: dict[str, Callable[[SolveResult, np.ndarray], str]] = {
        "status": lambda result, f: result.status.name.lower().replace("_", " "),
        "loss / ‖b‖²": lambda result, f: f"{result.fun / (b @ b):.1e}",
        "correlation of f and b": lambda result, f: f"{np.corrcoef(f, b)[0, 1]:.6f}",
        "total variation ½‖f − b‖₁": lambda result, f: f"{np.abs(f - b).sum() / 2:.1e}",
        "rows read / n": lambda result, f: f"{result.data_passes:.1f}",
        "seconds": lambda result, f: f"{result.history[-1].seconds:.2f}",
    }
    table = Table(box=None, header_style="bold")
    table.add_column("unit")
    for unit in results:
        table.add_column(unit, justify="right")
    for name, measure in measures.items():
        table.add_row(name, *(measure(results[unit], fits[unit]) for unit in results))
    return table


def draw(
    b: np.ndarray, results: dict[str, SolveResult], fits: dict[str, np.ndarray], output: Path
) -> None:
    """Write the picture: the convergence on the left, the fits on the right."""
    from matplotlib.figure import Figure

    from dresoftmax.plots import plot_convergence, plot_fit

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_convergence(results, norm_b=float(np.linalg.norm(b)), tol=TOL, ax=left)
    plot_fit(b, fits, ax=right)
    figure.suptitle(
        f"The weights that an attention head gives to {len(b):,} keys, fitted by both units",
        fontsize="medium",
    )
    figure.savefig(output, dpi=160)
