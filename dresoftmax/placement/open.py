"""Data → the engine that holds its rows, until the context ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from dresoftmax.engines.base import Engine
from dresoftmax.engines.worker_context import seceding
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.placement.dask import client_of, place_on_workers
from dresoftmax.placement.local import place_here
from dresoftmax.utils.blas_threads import one_blas_thread

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["open_engine"]

# Matrices up to this size gain nothing from a second BLAS thread.
SMALL = 200


@contextmanager
def open_engine(
    data: Dataset, client: Client | None, persist: bool | None, *, on_ray: bool
) -> Iterator[Engine]:
    """Hold the rows of `data`, and yield the engine that reads them.

    Parameters
    ----------
    data : Dataset
    client : distributed.Client or None
        The client whose workers hold the rows.  The default is the current client if there is
        one and A is a dask array, else this process.
    persist : bool or None
        Whether A is held in memory; None holds it if it fits.
    on_ray : bool
        Whether Ray holds the rows.

    Raises
    ------
    ValueError
        If A does not fit, or cannot be placed on this engine.
    """
    client = client_of(data, client)
    with ExitStack() as stack:
        if client is not None:
            stack.enter_context(seceding())
        if data.d <= SMALL:
            stack.enter_context(one_blas_thread)
        yield stack.enter_context(closing(_place(data, client, persist, on_ray)))


def _place(data: Dataset, client: Client | None, persist: bool | None, on_ray: bool) -> Engine:
    if on_ray:
        from dresoftmax.placement.ray import place_on_ray

        return place_on_ray(data, persist)
    if client is None:
        return place_here(data, persist)
    return place_on_workers(data, client, persist)
