"""Dask's performance report of what a cluster computes, as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dresoftmax.utils.atomic_write import atomic_write

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["reported"]


@contextmanager
def reported(client: Client | None, path: Path) -> Iterator[None]:
    """Have a report of the computations in this context written, whole or not at all.

    Raises
    ------
    ValueError
        If there is no cluster, or its scheduler has no bokeh, which draws the report.
    OSError
        If the file could not be written.
    """
    if client is None:
        raise ValueError(
            "a performance report is of the tasks of a Dask cluster; name one, or give --workers"
        )
    if not client.run_on_scheduler(_draws):
        raise ValueError(
            "a performance report needs bokeh where the scheduler runs: "
            "pip install 'dresoftmax[report]'"
        )
    from distributed import performance_report

    with client.as_current(), TemporaryDirectory() as folder:
        part = Path(folder) / "report.html"
        report = ExitStack()
        report.enter_context(performance_report(filename=str(part)))
        yield
        report.close()  # not after an error, which may be that the cluster is gone
        with atomic_write(path) as file:
            file.write(part.read_bytes())


def _draws() -> bool:
    """Whether this process can draw a report."""
    try:
        import distributed.dashboard.core  # noqa: F401 (it checks the version of bokeh, too)
    except ImportError:
        return False
    return True
