"""The command line: ``dresoftmax solve``, ``dresoftmax demo`` and ``dresoftmax verify``.

Exit status: 0 the solve converged, 1 it ended otherwise, 2 the input or the usage is
wrong, 130 it was interrupted.  Progress and errors go to stderr, the summary to stdout.
Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dresoftmax import __version__
from dresoftmax.cli.errors import plain_errors
from dresoftmax.cli.options import cluster_options
from dresoftmax.cli.verify import verify
from dresoftmax.model.units import UNITS
from dresoftmax.result import SolveResult, Status

if TYPE_CHECKING:
    from dresoftmax.problem import Problem
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
@click.option(
    "--summary", "table", is_flag=True,
    help="Print the coefficients with their standard errors: three more reads of A.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Show neither progress nor how the solve ended.")
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
    table: bool,
    quiet: bool,
) -> None:
    """Minimise ½‖u(Ax)/Σu(Ax) − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖² over x.

    A is a dense .npy, a scipy.sparse .npz, a .zarr, a .parquet file or directory, or a
    dataset of an HDF5 file, as file.h5::/name; B and the weights are any of them
    except .npz.  Each column of B is a target, and all are fitted in the same reads.
    Without --cluster, --scheduler, --scheduler-file or --workers the solve runs on the
    threads of this process.  With one of them the workers read all files except .npz
    themselves, so that files must lie under the same path for them.

    Ctrl-C ends the solve at the best point found.

    Exit status: 0 converged, 1 ended otherwise, 2 wrong input or usage, 130 interrupted.
    """
    if dry_run:
        return _describe(where)
    if a is None or b is None:
        raise click.UsageError(f"Missing argument '{'A' if a is None else 'B'}'.")
    with plain_errors(), ExitStack() as stack:
        from dresoftmax.cli.files import check_outputs, write_result

        written = {
            "output": output, "checkpoint": checkpoint, "performance report": performance_report
        }  # fmt: skip
        check_outputs(written, (a, b, w))

        from dresoftmax.fit.multi_target import fit
        from dresoftmax.fit.options import FitOptions
        from dresoftmax.inputs.arguments import check_number
        from dresoftmax.model.losses import RescaledLoss, SquaredLoss
        from dresoftmax.problem import open_problem

        loss = RescaledLoss() if rescaled else SquaredLoss()
        options = FitOptions.checked(
            unit=UNITS[unit], loss=loss, ridge=check_number("ridge", ridge), hessian=hessian,
            tol=tol, max_iter=max_iter, seed=seed, progress=not quiet, checkpoint=checkpoint,
            resume=resume,
        )  # fmt: skip
        client = None
        if where is not None:
            from dresoftmax.launch import open_cluster

            client = stack.enter_context(open_cluster(where))
        if performance_report is not None:
            from dresoftmax.cli.performance_report import reported

            stack.enter_context(reported(client, performance_report))
        problem = stack.enter_context(
            open_problem(
                a, b, w=w, ridge=ridge, unit=unit, loss=loss, client=client, persist=persist,
                check=options.check,
            )
        )  # fmt: skip
        result = fit(problem, options)
        if output is not None:
            write_result(output, result)
        fits = [result] if isinstance(result, SolveResult) else result
        interrupted = any(fit.status is Status.INTERRUPTED for fit in fits)
        tables = _tables(problem, result) if table and not interrupted else []
    if not quiet:
        from rich.console import Console

        from dresoftmax.cli.output import result_table

        Console().print(result_table(result, output))
    for text in tables:
        click.echo(text)
    if interrupted:
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
        from dresoftmax.cli.demo import run
        from dresoftmax.utils.atomic_write import check_writable

        check_writable(output)
        converged = run(output)
    sys.exit(0 if converged else 1)


def _tables(problem: Problem, result: SolveResult | JointResult) -> list[str]:
    """Return the coefficients of each target with their errors, or say why there are none."""
    from dresoftmax.inference.agreement import check_result
    from dresoftmax.inference.covariance import covariance_of

    try:
        check_result(result)
        found = covariance_of(problem, result)
    except ValueError as error:
        click.echo(f"Warning: there are no standard errors: {error}", err=True)
        return []
    return [str(each) for each in (found if isinstance(found, tuple) else [found])]


def _describe(where: Any) -> None:
    """Print what would be started."""
    if where is None:
        raise click.UsageError("--dry-run shows a cluster; give --cluster SPEC")
    with plain_errors():
        from dresoftmax.launch import describe

        click.echo(describe(where).rstrip())


main.add_command(verify)
