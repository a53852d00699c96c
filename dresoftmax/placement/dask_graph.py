"""A dask array → the source of each of its chunks.

Each chunk gets its own graph, cut out of the array's.  So a worker holds little of the graph,
and loading one chunk loads nothing else.  Only the public interface of Dask is used.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da

from dresoftmax.blocks.lazy import Chunk

__all__ = ["check_kept", "chunk_sources", "is_persisted", "lies_on_workers"]

# The graphs of all chunks may together have this many times the tasks of the array's graph.
# Neighbours may share a source; no chunk may repeat the work of all.
SHARED = 3


def chunk_sources(name: str, array: da.Array, *, pickled: bool) -> list[Chunk]:
    """Return the source of each chunk of `array`, in order; `pickled` if it is sent to workers.

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
                f"work (as in {name} - {name}.mean(axis=0)) that each would repeat; compute "
                f"that part first, or write {name} to a file and pass the file"
            )
        chunks.append(Chunk(_pickled(name, alone) if pickled else alone))
    return chunks


def _pickled(name: str, part: Any) -> bytes:
    # Dask's `dumps` also pickles what cloudpickle cannot, such as an h5py dataset.
    from distributed.protocol.pickle import dumps

    try:
        return bytes(dumps(part))
    except Exception as error:  # objects in the graph may raise anything
        raise ValueError(
            f"the chunks of {name} cannot be loaded by workers in each read: {error}; "
            "persist them, or pass an array whose chunks are read from files"
        ) from error


def check_kept(name: str, array: Any) -> None:
    """Raise ConnectionError if chunks of a persisted array are gone from the workers."""
    from distributed import futures_of

    if any(future.cancelled() for future in futures_of(array)):
        raise ConnectionError(
            f"{name} was persisted, and is gone from the workers, since the client lost its "
            f"connection to the scheduler; pass {name} as it was before persist(): the solve "
            "holds it on the workers, and makes lost parts of it again"
        )


def lies_on_workers(array: Any) -> bool:
    """Whether a dask array is made from data that workers already hold."""
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
