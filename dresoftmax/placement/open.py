"""Data → the engine that holds its rows, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from dresoftmax.engines.base import Engine
from dresoftmax.engines.worker_context import seceding
from dresoftmax.inputs.arguments import Dataset
from dresoftmax.placement.dask import client_of, place
from dresoftmax.utils.blas_threads import one_blas_thread

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["open_engine"]

# Matrices up to this size are no work for more than one thread.
SMALL = 200


@contextmanager
def open_engine(
    data: Dataset, client: Client | None, persist: bool | None, *, on_ray: bool
) -> Iterator[Engine]:
    """Hold the rows of `data`, and give the engine that reads them.

    The parameters are those of `placing.place`; `on_ray` says that they go to Ray.

    Raises
    ------
    ValueError
        If A does not fit, or cannot lie where it is to.
    """
    client = client_of(data, client)
    with ExitStack() as stack:
        if client is not None:
            stack.enter_context(seceding())
        if data.d <= SMALL:
            stack.enter_context(one_blas_thread)
        if on_ray:
            from dresoftmax.placement.ray import place_on_ray

            rows: Engine = stack.enter_context(closing(place_on_ray(data, persist)))
        else:
            rows = stack.enter_context(closing(place(data, client, persist)))
        yield rows
