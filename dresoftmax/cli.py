"""The command line: ``dresoftmax solve``, ``dresoftmax demo`` and ``dresoftmax verify``.

Exit status: 0 the solve converged, 1 it ended otherwise, 2 the input or the usage is
wrong, 130 it was interrupted.  Progress and errors go to stderr, the summary to stdout.
Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dresoftmax import __version__
from dresoftmax.failing import plain_errors
from dresoftmax.options import cluster_options
from dresoftmax.result import SolveResult, Status
from dresoftmax.units import UNITS
from dresoftmax.verify.command import verify

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dresoftmax.result import JointResult

__all__ = ["main"]


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Regression on the normalised unit exp(Ax) + Ax, distributed on Dask."""


@main.command()
@click.argument("a", metavar="A", required=False)
@click.argument("b", metavar="B", required=False)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result here, as .npz.",
)  # fmt: skip
@cluster_options
@click.option(
    "--dry-run", is_flag=True,
    help="Print the job script or the manifest of the cluster, and do nothing.",
)  # fmt: skip
@click.option(
    "--unit", type=click.Choice(list(UNITS)), default="exp+linear", show_default=True,
    help="Pointwise function that is normalised.",
)  # fmt: skip
@click.option("--rescaled", is_flag=True, help="Minimise ½‖u(Ax) − Σu(Ax)·b‖² in the first term.")
@click.option(
    "--hessian",
    type=click.Choice(["auto", "exact", "leverage", "uniform", "countsketch"]),
    default="auto", show_default=True, help="How the Hessian is formed.",
)  # fmt: skip
@click.option(
    "--tol", type=float, default=1e-8, show_default=True,
    help="Stop at a Newton decrement of tol·‖b‖.",
)  # fmt: skip
@click.option("--w", metavar="PATH", help="Weights w ≥ 0 of ½‖diag(w)Ax‖².")
@click.option("--ridge", type=float, default=0.0, show_default=True, help="λ ≥ 0 of ½λ‖x‖².")
@click.option(
    "--max-iter", type=int, default=100, show_default=True, help="Most Newton iterations."
)
@click.option("--seed", type=int, help="Seed of all sampling, for repeatable runs.")
@click.option(
    "--persist/--stream", default=None,
    help="Hold A in memory, or load it in each read.  [default: hold what fits]",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep here, after each read, what --resume goes on from.",
)  # fmt: skip
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), help="Go on from a checkpoint."
)
@click.option(
    "--performance-report", type=click.Path(dir_okay=False, path_type=Path),
    help="Write Dask's report of the cluster's tasks here, as .html.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Show neither progress nor summary.")
def solve(
    a: str | None,
    b: str | None,
    output: Path | None,
    where: Any,
    dry_run: bool,
    unit: str,
    rescaled: bool,
    hessian: str,
    tol: float,
    w: str | None,
    ridge: float,
    max_iter: int,
    seed: int | None,
    persist: bool | None,
    checkpoint: Path | None,
    resume: Path | None,
    performance_report: Path | None,
    quiet: bool,
) -> None:
    """Minimise ½‖u(Ax)/Σu(Ax) − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖² over x.

    A is a dense .npy, a scipy.sparse .npz, a .zarr, a .parquet file or directory, or a
    dataset of an HDF5 file, as file.h5::/name; B and the weights are any of them
    but .npz.  Each column of B is a target, and all are fitted in the same reads.
    Without --cluster, --scheduler, --scheduler-file or --workers the solve runs on the
    threads of this process.  With one of them the workers read all but .npz themselves,
    so that files must lie under the same path for them.

    Ctrl-C ends the solve at the best point found.

    Exit status: 0 converged, 1 ended otherwise, 2 wrong input or usage, 130 interrupted.
    """
    if dry_run:
        return _describe(where)
    if a is None or b is None:
        raise click.UsageError(f"Missing argument '{'A' if a is None else 'B'}'.")
    with plain_errors(), ExitStack() as stack:
        from dresoftmax.files import file_of, write_result
        from dresoftmax.writing import check_writable

        inputs = [file_of(path).resolve() for path in (a, b, w) if path is not None]
        written = {
            "output": output, "checkpoint": checkpoint, "performance report": performance_report
        }  # fmt: skip
        for name, path in written.items():
            if path is not None:
                if path.resolve() in inputs:
                    raise ValueError(f"the {name} {path} is one of the inputs")
                check_writable(path)

        import dresoftmax

        client = None
        if where is not None:
            from dresoftmax.launch import open_cluster

            client = stack.enter_context(open_cluster(where))
        if performance_report is not None:
            from dresoftmax.report import reported

            stack.enter_context(reported(client, performance_report))
        result = dresoftmax.solve(
            a,
            b,
            w=w,
            ridge=ridge,
            unit=unit,
            rescaled=rescaled,
            hessian=hessian,
            tol=tol,
            max_iter=max_iter,
            seed=seed,
            client=client,
            persist=persist,
            progress=not quiet,
            checkpoint=checkpoint,
            resume=resume,
        )
        if output is not None:
            write_result(output, result)
    if not quiet:
        from rich.console import Console

        Console().print(summary(result, output))
    fits = [result] if isinstance(result, SolveResult) else result
    if any(fit.status is Status.INTERRUPTED for fit in fits):
        sys.exit(130)
    sys.exit(0 if result.success else 1)


@main.command()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    default="dresoftmax-demo.png", show_default=True, help="Where to write the picture.",
)  # fmt: skip
def demo(output: Path) -> None:
    """Solve real attention data with both units on a cluster in this machine."""
    with plain_errors():
        from dresoftmax.demo import run
        from dresoftmax.writing import check_writable

        check_writable(output)
        converged = run(output)
    sys.exit(0 if converged else 1)


def summary(result: SolveResult | JointResult, output: Path | None) -> RenderableType:
    """Return the end of a solve as a table: of two columns, or with a row for each target."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # names are no markup

    single = isinstance(result, SolveResult)
    each: Sequence[SolveResult] = [result] if isinstance(result, SolveResult) else result
    fits = Table(box=None, header_style="bold", collapse_padding=True)
    fits.add_column("target", overflow="fold")
    fits.add_column("status")
    for name in ("loss", "decrement", "to reach", "α", "iterations"):
        fits.add_column(name, justify="right", no_wrap=True)
    names = getattr(result, "target_names", None) or range(len(each))
    for name, fit in zip(names, each, strict=True):
        fits.add_row(
            Text(str(name)), _words(fit), f"{fit.fun:.6e}", f"{fit.decrement:.2e}",
            f"{fit.target_decrement:.2e}", f"{fit.alpha:.4e}", str(fit.nit),
        )  # fmt: skip
    first = each[0]
    on_sample = sum(
        r.phase == "sample" and r.step not in ("start", "anchor") for r in first.history
    )
    rows = {"message": result.message}
    if single:
        rows = {
            "status": _words(first),
            **rows,
            "loss": f"{first.fun:.10e}",
            "decrement": f"{first.decrement:.3e} (target {first.target_decrement:.3e})",
            "error of x, estimated": f"{first.x_error_estimate:.3e}",
            "α": f"{first.alpha:.6e}",
            "iterations": f"{on_sample} on a sample of rows, {first.nit} on all rows",
        }
    rows |= {
        "rank": f"{first.rank} of {len(first.x)}",
        "Hessian": first.hessian_kind,
        "rows read / n": f"{result.data_passes:.2f}",
        "seconds": f"{result.history[-1].seconds:.2f}" if result.history else "0",
    }
    if output is not None:
        rows["saved in"] = str(output)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table if single else Group(fits, table)


def _words(result: SolveResult) -> str:
    return result.status.name.lower().replace("_", " ")


def _describe(where: Any) -> None:
    """Print what would be started."""
    if where is None:
        raise click.UsageError("--dry-run shows a cluster; give --cluster SPEC")
    with plain_errors():
        from dresoftmax.launch import describe

        click.echo(describe(where).rstrip())


main.add_command(verify)

if __name__ == "__main__":
    main()
