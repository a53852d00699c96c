"""`solve`: open the problem and fit it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from dresoftmax.fit.multi_target import fit
from dresoftmax.fit.options import FitOptions
from dresoftmax.inputs.arguments import check_flag, check_number, check_unit
from dresoftmax.model.losses import RescaledLoss, SquaredLoss
from dresoftmax.model.units import Unit
from dresoftmax.problem import open_problem
from dresoftmax.result import IterationRecord, JointResult, SolveResult

if TYPE_CHECKING:
    from distributed import Client
    from numpy.typing import ArrayLike

__all__ = ["solve"]


def solve(
    A: Any,
    b: Any,
    *,
    w: Any = None,
    ridge: float = 0.0,
    x0: ArrayLike | None = None,
    unit: str | Unit = "exp+linear",
    rescaled: bool = False,
    hessian: str = "auto",
    sketch_size: int | None = None,
    tol: float = 1e-8,
    max_iter: int = 100,
    seed: int | None = None,
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
    callback: Callable[[IterationRecord], bool | None] | None = None,
    progress: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    resume: str | PathLike[str] | None = None,
) -> SolveResult | JointResult:
    """Fit the normalised unit u(Ax)/Σu(Ax) to a distribution b over the rows of A.

    Minimises

        L(x) = ½‖f − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖²,   f = u(Ax)/⟨u(Ax), 1⟩

    by a trust-region Newton method that reads A once per step.  It begins on a
    sample of the rows, which then guides the steps over all of them.

    Parameters
    ----------
    A : array, table, path or list of delayed blocks, of shape (n, d)
        The notes list all kinds.  Blocks of rows are NumPy or SciPy sparse
        (kept as CSR), float32 or float64; other real types are converted.  Sums are
        taken in float64.  A dask array is computed once, and held on the workers, in
        even shares, until the solve ends; if it does not fit, `persist` says what
        happens.
    b : as A, dense and of shape (n,) or (n, k)
        Target, or k targets, one in each column, which are fitted in the same reads
        of A, each as if it were alone; one that has converged drops out.  It need not
        be cut as A is.  Each target should sum to one.
    w : None, scalar, or as b of shape (n,), optional
        Weights of the quadratic term, not negative; None for none.
    ridge : float, default 0
        λ ≥ 0.  The first term is of order ‖b‖², often 1/n: λ and w² have to be
        of that order to matter.
    x0 : array_like of shape (d,) or (d, k), optional
        The start, unless the loss at zero is lower; α(x0) must be positive.
        The default solves a sample of the rows first, from both sides of zero
        (from zero itself if the rows are too few for a sample).
    unit : {"exp+linear", "exp", "cosh", "sinh"} or Unit, default "exp+linear"
        u(z) = exp(z) + z; exp(z), which is softmax regression; cosh(z); sinh(z); or a
        function of your own, see `dresoftmax.Unit`.
    rescaled : bool, default False
        Whether the first term is ½‖u(Ax) − αb‖², with α = ⟨u(Ax), 1⟩, in place of
        ½‖u(Ax)/α − b‖².  It is of order α²‖b‖², and so should λ and w² be; b = 0 would
        have it fall without end.
    hessian : {"auto", "exact", "leverage", "uniform", "countsketch"}
        All rows enter the Hessian ("exact"), or a sketch of them: rows sampled
        by leverage scores, rows sampled evenly, or rows summed with random
        signs.  "auto" takes "exact" or "leverage", whichever costs less.  With more
        than 64 columns, with several targets, or if A is loaded in each read, an
        exact Hessian serves several nearby points, with the sample's corrections.
    sketch_size : int, optional
        Rows that enter a sketched Hessian, on average.  By default so many that
        their share of the work is about that of the rest of a read.  With n or
        more the Hessian is exact.
    tol : float, default 1e-8
        Converged means: Newton decrement ≤ tol·‖b‖.
    max_iter : int, default 100
        Most Newton iterations over all rows.
    seed : int, optional
        Of the sample and the sketches.  The same seed and chunks give the same
        answer, up to rounding, whatever the number of workers.
    client : distributed.Client, optional
        Where the rows lie.  By default the current client if A is a dask
        array and there is one, else this process.
    engine : {"auto", "ray"}, default "auto"
        "ray" has the tasks of a Ray cluster read A, out of Ray's object store: the cluster
        that Ray is connected to, else the one that it finds or starts.  b and w come to
        this process first.  "auto" means the same if A, b or w is a Ray Dataset, else
        what `client` says.
    persist : bool, optional
        Whether A is held in memory.  False loads the chunks of a dask array from
        their source in each read, a few at a time, the next ones while the present
        ones are computed.  By default this is done if A does not fit into the
        memory of the workers, or of this process, with a margin.  What is persisted
        already stays in its place.  Chunks should be those of the source: a part of it
        that two of them share is loaded for each.  A float32 or float64 array in memory
        that is not C-contiguous is copied by parts in each read, and as a whole only
        with True.
    callback : callable, optional
        Sees each `IterationRecord`; returning True ends the solve.  Those of several
        targets come before each read of all rows.
    progress : bool, default False
        Whether to show a live table of the iterations on stderr.
    checkpoint : path, optional
        A file that keeps the answers to all reads of A, d² numbers for each Hessian.  It is
        written anew, and whole, after each read; `resume` goes on from it.
    resume : path, optional
        A checkpoint to go on from.  The same data and options are needed, except `tol`,
        `max_iter` and `persist`; a seed that is not given is taken from it.  The callback
        sees the iterations of the earlier solve again.

    Returns
    -------
    SolveResult
        ``result.x`` is the best point found, ``result.success`` is True only
        if the solve converged, ``result.message`` says why it ended.
    JointResult
        If b has two dimensions: ``result.x`` has a column for each target, and
        ``result[t]`` is the `SolveResult` of target t.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, or a file cannot be read: which one, what was found,
        and what to do.

    KeyboardInterrupt
        If Ctrl-C comes before the first read of all rows has ended.  After it the best
        point is returned, with ``status=Status.INTERRUPTED``.

    Warns
    -----
    UserWarning
        If Σb is far from 1: f sums to one, so that b cannot be matched.

    Notes
    -----
    Objective, gradient and Hessian follow "A Unified Scheme of ResNet and
    Softmax" (arXiv 2309.13482); see `dresoftmax.model.losses` for the formulas.

    A, b and w are taken in

    =============================================  =====================================
    NumPy, float32 or float64 in C order           as it is
    NumPy, float32 or float64 in another order     copied in each read, by parts
    other NumPy arrays, lists                      converted
    SciPy sparse, `sparse.COO` and `GCXS`; A only  CSR as it is, others converted
    tables and columns of pandas, Polars, Arrow    copied into rows of one float type
    dask array                                     chunks of columns are merged
    dask DataFrame, list of delayed blocks         converted on the workers
    Ray Dataset                                    the same; its rows stay in order
    `numpy.memmap`, path of a .npy                 mapped; read by a client's workers
    zarr, h5py, path X.zarr, X.zarr::/name or
    X.h5::/name                                    read by the workers, by whole chunks
    path of a .parquet file or directory           read by the workers, by row groups
    path of a .npz with a SciPy matrix; A only     read here
    xarray DataArray                               as what it holds
    =============================================  =====================================

    Rows count by position: no index is aligned by its labels.  float32 holds float16
    and integers of up to 16 bits, float64 all else; nothing wraps.  Missing values and
    columns that are not real numbers are errors.  Workers must see files under the
    same path.  The one column of a .parquet is a vector for b and w; b with one column is
    else one target of a `JointResult`.  Names of columns come back as ``result.names``,
    those of targets as ``result.target_names``.

    Examples
    --------
    >>> import numpy as np, dresoftmax
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(1000, 3))
    >>> u = np.exp(A @ [0.5, -0.2, 0.1])
    >>> result = dresoftmax.solve(A, u / u.sum(), unit="exp")
    >>> result.success, result.x.round(6).tolist()
    (True, [0.5, -0.2, 0.1])

    Several targets:

    >>> B = np.exp(A @ [[0.5, 0.4], [-0.2, 0.3], [0.1, -0.1]])
    >>> result = dresoftmax.solve(A, B / B.sum(axis=0), unit="exp")
    >>> result.success, result.x.round(6).tolist()
    (True, [[0.5, 0.4], [-0.2, 0.3], [0.1, -0.1]])
    """
    check_flag("rescaled", rescaled)
    loss = RescaledLoss() if rescaled else SquaredLoss()
    options = FitOptions.checked(
        unit=check_unit(unit), loss=loss, ridge=check_number("ridge", ridge), x0=x0,
        hessian=hessian, sketch_size=sketch_size, tol=tol, max_iter=max_iter, seed=seed,
        callback=callback, progress=progress, checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    with open_problem(
        A, b, w=w, ridge=ridge, unit=unit, loss=loss, client=client, engine=engine,
        persist=persist, check=options.check,
    ) as problem:  # fmt: skip
        return fit(problem, options)
