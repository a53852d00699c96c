"""A dask array → where each of its chunks comes from.

The graph of each chunk is cut out of the array's, so that what a worker holds of it
is small, and loading a chunk loads nothing else.  Only what Dask makes public is used.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da

from dresoftmax.blocks.lazy import Chunk

__all__ = ["check_kept", "chunk_sources", "is_persisted", "lies_on_workers"]

# Chunks may have so many tasks, taken one by one, for each of the array's.  Neighbours
# may share what both are cut from, but not each of them the work of all.
SHARED = 3


def chunk_sources(name: str, array: da.Array, *, pickled: bool) -> list[Chunk]:
    """Return the source of each chunk of `array`, in order, `pickled` where it is sent to others.

    Raises
    ------
    ValueError
        If chunks cannot be loaded one by one: they share work, or cannot be sent.
    """
    parts = array.to_delayed().ravel()
    most = SHARED * len(parts[0].dask) + len(parts)
    chunks = []
    for part in parts:
        (alone,) = dask.optimize(part)
        most -= len(alone.dask)
        if most < 0:
            raise ValueError(
                f"the chunks of {name} cannot be loaded one by one in each read, since they share "
                f"work (as in {name} - {name}.mean(axis=0)) that each would do again; compute "
                f"that part first, or write {name} to a file and pass that"
            )
        chunks.append(Chunk(_pickled(name, alone) if pickled else alone))
    return chunks


def _pickled(name: str, part: Any) -> bytes:
    # It pickles what Dask can send and cloudpickle cannot, such as a dataset of h5py.
    from distributed.protocol.pickle import dumps

    try:
        return bytes(dumps(part))
    except Exception as error:  # whatever the objects in the graph raise
        raise ValueError(
            f"the chunks of {name} cannot be loaded by workers in each read: {error}; "
            "persist them, or pass an array whose chunks are read from files"
        ) from error


def check_kept(name: str, array: Any) -> None:
    """Raise ConnectionError where what workers held of a dask array is gone."""
    from distributed import futures_of

    if any(future.cancelled() for future in futures_of(array)):
        raise ConnectionError(
            f"{name} was persisted, and is gone from the workers, since the client lost its "
            f"connection to the scheduler; pass {name} as it was before persist(): it is held on "
            "the workers during the solve, and made again where it is lost"
        )


def lies_on_workers(array: Any) -> bool:
    """Whether a dask array is made from what workers hold already."""
    return bool(_futures(array))


def is_persisted(array: Any) -> bool:
    """Whether every chunk of a dask array lies on a worker."""
    futures = _futures(array)
    return bool(futures) and futures >= {
        chunk.key for chunk in array.to_delayed(optimize_graph=False).ravel()
    }


def _futures(array: Any) -> set[Any]:
    from distributed import futures_of

    return {future.key for future in futures_of(array)}
