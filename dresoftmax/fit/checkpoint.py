"""Checkpoints: the answers of all reads so far, from which a solve goes on.

A solve knows of A only the answers to its reads, and they determine what it does.  So the
iteration's own state need not be kept: a solve that is given the old answers one by one
comes to the same point as the first one, and reads on from there.

    resumed      query 1 → kept answer,  …  query k → kept answer,  query k+1 → read

The first read also asks for the last kept answer once more, in the same pass: if another
one comes, A, b or w have changed.  A query that differs from the kept one ends the replay
(another machine may round differently, or `tol` may have changed).  From there on the rows
are read, and the solve is as right as without a checkpoint.

The file is a .npz without pickle: a header of JSON, and the arrays of each query and
its sums.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dresoftmax.model.layout import LEVERAGE, LOSS_SCALARS
from dresoftmax.model.loss import Loss
from dresoftmax.model.row_sums import RowSums
from dresoftmax.model.units import AnyUnit
from dresoftmax.reductions.query import Query, Sketch
from dresoftmax.utils.atomic_write import atomic_write

__all__ = ["Checkpoint", "KeptRead", "ReplayLog"]

FORMAT = "dresoftmax checkpoint 2"
# What is an array of its own in the file, of a `Query` and of its `RowSums`.
_QUERY = ["points", "log_alpha", "kappa", "target"]
_SUMS = ["scalars", "vectors", "gram", "squares"]
# Points this near, relative to their size, differ by rounding alone; those further
# apart than FAR belong to another problem.
SAME, FAR = 1e-11, 1e-5
# Rounding errors of sums over many rows, taken in another order.
ROUNDING = 1e-10


@dataclass(frozen=True, slots=True)
class KeptRead:
    """A query and its answer; the probes of a sketch are not kept."""

    query: Query
    sums: RowSums

    def answers(self, query: Query) -> bool:
        """Whether `query` is the one that was answered.

        Raises
        ------
        ValueError
            If it is at other points, of which no rounding error can be the reason.
        """
        points = self.query.points
        if points.shape != query.points.shape or _asked(self.query) != _asked(query):
            return False
        off = np.abs(points - query.points).max()
        size = max(np.abs(points).max(), np.abs(query.points).max())
        if off > FAR * size:
            raise _other("the solve asks for other points than the one that wrote it")
        return bool(off <= SAME * size and np.array_equal(self.query.targets, query.targets))

    def check(self, sums: RowSums) -> None:
        """Raise ValueError if the rows now give other sums than the kept ones."""
        if self.sums.rows != sums.rows:
            raise _other(f"A has {sums.rows} rows, and had {self.sums.rows}")
        # Columns of A may cancel in one of the vectors, not in all.
        scalars, vectors = self.sums.scalars[:, :LEVERAGE], self.sums.vectors
        sizes = np.maximum(np.abs(scalars), np.abs(scalars[:, [LOSS_SCALARS[-1]]]))
        lengths = np.abs(vectors).max(axis=(1, 2), keepdims=True)
        for old, new, size in (
            (scalars, sums.scalars[:, :LEVERAGE], sizes),
            (vectors, sums.vectors, np.broadcast_to(lengths, vectors.shape)),
        ):
            known = np.isfinite(size)  # unless a trial overflowed
            if not (np.abs(new - old) <= ROUNDING * size)[known].all():
                raise _other("A, b or w give other sums than when it was written")

    def checking(self) -> Query:
        """Return the query that asks again for these sums, without a Hessian."""
        return replace(self.query, sketch=Sketch("none"), column_gram=False)


class _OtherFormat(ValueError):
    """A checkpoint of another version, which is not damaged."""


def _asked(query: Query) -> list[Any]:
    """Return what is asked for at the points, as the header has it."""
    sketch = query.sketch
    return [sketch.kind, list(sketch.entropy), query.column_gram]


def _other(reason: str) -> ValueError:
    return ValueError(
        f"resume is a checkpoint of other data: {reason}; pass the A (in the same chunks), b, w "
        "and x0 that it was written with, or solve without resume"
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    options : dict
        Names and values of the options that say what is solved, and how.
    totals : ndarray
        Sums over all rows of b, known before A is read.
    reads : list of list of Kept
        The queries of each read, and their answers.
    """

    options: dict[str, Any]
    totals: np.ndarray
    reads: list[list[KeptRead]]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays = {"totals": self.totals}
        asked = []
        for i, read in enumerate(self.reads):
            asked.append(
                [(_asked(kept.query), kept.sums.rows, kept.sums.sketched) for kept in read]
            )
            for j, kept in enumerate(read):
                for owner, names in ((kept.query, _QUERY), (kept.sums, _SUMS)):
                    arrays |= {f"{i}-{j}-{name}": getattr(owner, name) for name in names}
        header = {"format": FORMAT, "options": self.options, "reads": asked}
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, header=json.dumps(header), **arrays)

    @classmethod
    def load(cls, path: Path, unit: AnyUnit, loss: Loss) -> Checkpoint:
        """Read a file.  It holds only the name of its unit, which `check_options` compares.

        Raises
        ------
        ValueError
            If it is damaged, or no checkpoint.
        OSError
            If there is no such file.
        """
        if not path.is_file():
            raise FileNotFoundError(f"resume is {path}, but there is no such file")
        try:
            # Not by np.load: it would take a file that is damaged for a pickle.
            with zipfile.ZipFile(path) as file:
                arrays = {name.removesuffix(".npy"): _array(file, name) for name in file.namelist()}
            header = json.loads(str(arrays["header"]))
            if header["format"] != FORMAT:
                raise _OtherFormat(
                    f"resume is {path}, a {header['format']}, but this version reads a {FORMAT}; "
                    "solve without it"
                )
            reads = [
                [_kept(arrays, f"{i}-{j}", unit, loss, *told) for j, told in enumerate(read)]
                for i, read in enumerate(header["reads"])
            ]
            return cls(header["options"], arrays["totals"], reads)
        except _OtherFormat:
            raise
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"resume is {path}, which is damaged or no checkpoint: {error}; solve without it"
            ) from error

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ValueError if it was written with other options."""
        for name, value in options.items():
            if self.options.get(name) != value:
                raise ValueError(
                    f"resume is a checkpoint with {name}={self.options.get(name)!r}, but {name} is "
                    f"{value!r}; pass the same, or solve without resume"
                )

    def check_totals(self, totals: np.ndarray) -> None:
        """Raise ValueError if it was written for another b."""
        if not np.allclose(self.totals, totals, rtol=ROUNDING, atol=0.0):
            raise _other("b has another sum or norm")


def _kept(
    arrays: dict[str, np.ndarray], prefix: str, unit: AnyUnit, loss: Loss,
    asked: list[Any], rows: int, sketched: int,
) -> KeptRead:  # fmt: skip
    kind, entropy, column_gram = asked
    points, log_alpha, kappa, target = (arrays[f"{prefix}-{name}"] for name in _QUERY)
    sketch = Sketch(kind, entropy=tuple(entropy))
    scalars, vectors, gram, squares = (arrays[f"{prefix}-{name}"] for name in _SUMS)
    return KeptRead(
        Query(points, log_alpha, kappa, unit, sketch, column_gram, target, loss),
        RowSums(scalars, vectors, gram, squares, rows, sketched),
    )


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to its end, where the checksum is compared
    return array


class ReplayLog:
    """Answers reads from a checkpoint while it has the answers, and keeps all of them.

    Parameters
    ----------
    read : callable
        Reads the rows: queries → their sums.
    options, totals
        Those of the `Checkpoint` to write.
    path : Path or None
        Where to write it after each read.
    resumed : Checkpoint or None
        What was kept of an earlier solve.
    """

    def __init__(
        self,
        read: Callable[[Sequence[Query]], list[RowSums]],
        options: dict[str, Any],
        totals: np.ndarray,
        path: Path | None,
        resumed: Checkpoint | None,
    ) -> None:
        self._read = read
        self._path = path
        self._written = Checkpoint(options, totals, [])
        self._left = [] if resumed is None else list(resumed.reads)
        self._unchecked = self._left[-1][0] if self._left else None

    def read(self, queries: Sequence[Query]) -> list[RowSums]:
        """Return the sums of each query."""
        kept = self._left.pop(0) if self._left else []
        if len(kept) == len(queries) and all(map(KeptRead.answers, kept, queries)):
            answers = [each.sums for each in kept]
        else:
            self._left.clear()
            answers = self._read_checking(queries)
        if self._path is not None and all(sums.bad is None for sums in answers):
            self._written.reads.append(list(map(KeptRead, queries, answers)))
            if not self._left:
                self._written.write(self._path)
        return answers

    def close(self) -> None:
        """Check the rows if all answers came from the checkpoint."""
        if self._unchecked is not None:
            self._read_checking([])

    def _read_checking(self, queries: Sequence[Query]) -> list[RowSums]:
        """Read the rows and, the first time, compare them with the checkpoint."""
        if self._unchecked is None:
            return self._read(queries)
        *answers, again = self._read([*queries, self._unchecked.checking()])
        self._unchecked.check(again)
        self._unchecked = None
        return answers
