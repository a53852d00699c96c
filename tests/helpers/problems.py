"""Regression problems with certified optima, stated independently of the package.

The objective is written out here once more, in plain NumPy operations,

    L(x) = ½‖u(Ax)/Σu(Ax) − b‖² + ½‖w∘Ax‖² + ½λ‖x‖²,

and differentiated automatically, so that no formula under test is used to test
itself.  A reference optimum is found by SciPy in whitened coordinates, polished
by Newton steps and certified: the gradient vanishes and the Hessian is positive
definite.  Nothing in this module may import the solver; the package's own data
set and matrices are its only imports from there.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial

import autograd
import autograd.numpy as anp
import dask.array as da
import numpy as np
import scipy.optimize
import scipy.sparse

from dresoftmax import datasets
from dresoftmax.verify import problems as verify_problems

FORMULAS = {
    "exp+linear": lambda z: anp.exp(z) + z,
    "exp": lambda z: anp.exp(z),
    "cosh": lambda z: anp.cosh(z),
    "sinh": lambda z: anp.sinh(z),
    "softplus": lambda z: anp.logaddexp(0.0, z),
}
# Those that everything is tested with.
UNITS = ["exp+linear", "exp"]
NOISE = {"none": 0.0, "mild": 0.1, "strong": 1.0}


def fitted(A, x, unit="exp+linear"):
    """Return f(x) = u(Ax) / Σ u(Ax)."""
    u = FORMULAS[unit](anp.dot(A, x))
    return u / anp.sum(u)


def alpha(A, x, unit="exp+linear"):
    """Return the normaliser Σ u(Ax)."""
    return anp.sum(FORMULAS[unit](anp.dot(A, x)))


def loss(A, b, x, unit="exp+linear", w=None, ridge=0.0):
    """Return the objective; `w` is None, a scalar or one weight per row."""
    c = fitted(A, x, unit) - b
    total = 0.5 * anp.sum(c**2) + 0.5 * ridge * anp.sum(x**2)
    if w is not None:
        total = total + 0.5 * anp.sum((w * anp.dot(A, x)) ** 2)
    return total


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and penalties of one solve.  Hashed by identity."""

    A: np.ndarray | scipy.sparse.csr_array
    b: np.ndarray
    unit: str = "exp+linear"
    w: float | np.ndarray | None = None
    ridge: float = 0.0
    x_true: np.ndarray | None = field(default=None, repr=False)

    @property
    def dense(self):
        return self.A.toarray() if scipy.sparse.issparse(self.A) else np.asarray(self.A)

    @property
    def options(self):
        """Keyword arguments of `dresoftmax.solve` that belong to the problem."""
        return {"unit": self.unit, "w": self.w, "ridge": self.ridge}

    def loss(self, x):
        return float(loss(self.dense, self.b, x, **self.options))

    def residuals(self, x):
        return fitted(self.dense, x, self.unit) - self.b

    def gradient(self, x):
        return autograd.grad(self._loss_of_x())(x)

    def hessian(self, x):
        return autograd.hessian(self._loss_of_x())(x)

    def with_data(self, **changes):
        return replace(self, **changes)

    def _loss_of_x(self):
        A = self.dense
        return lambda x: loss(A, self.b, x, **self.options)


@dataclass(frozen=True, eq=False)
class Reference:
    """A certified local minimum."""

    x: np.ndarray
    fun: float
    rank: int


@cache
def reference_solution(problem):
    """Return the certified minimum reached from x = 0, of least norm.

    SciPy's trust-exact runs on y, where x = V S⁻¹ y √n and A = U S Vᵀ is cut at
    the numerical rank.  A unit change of y is then a unit root mean square change
    of Ax, which makes every problem here as well conditioned as it can be.
    """
    A = problem.dense
    n = len(problem.b)
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    rank = int(np.sum(s > 1e-10 * s[0]))
    to_x = Vt[:rank].T / s[:rank] * np.sqrt(n)
    columns = A @ to_x
    scale = 1.0 / np.sum(problem.b**2)

    def objective(y):
        penalty = problem.ridge * anp.sum(anp.dot(to_x, y) ** 2) / 2
        return scale * (loss(columns, problem.b, y, problem.unit, problem.w) + penalty)

    gradient, hessian = autograd.grad(objective), autograd.hessian(objective)
    with np.errstate(all="ignore"):  # SciPy may try a step that overflows
        y = scipy.optimize.minimize(
            objective, np.zeros(rank), jac=gradient, hess=hessian, method="trust-exact",
            options={"gtol": 1e-9, "maxiter": 500},
        ).x  # fmt: skip
    for _ in range(20):
        step = np.linalg.solve(hessian(y), gradient(y))
        y = y - step
        if np.linalg.norm(step) <= 1e-13 * (1 + np.linalg.norm(y)):
            break
    g, H = gradient(y), hessian(y)
    assert np.linalg.norm(np.linalg.solve(H, g)) <= 1e-11 * (1 + np.linalg.norm(y))
    assert np.linalg.eigvalsh(H)[0] > 0
    return Reference(to_x @ y, objective(y) / scale, rank)


def spectrum_matrix(n, d, cond, rng):
    """Return columns of mean zero (so α > 0) and singular values √n … √n/cond."""
    return verify_problems.spectrum_matrix(n, d, cond, rng)[0]


def target(A, x_true, unit, noise, rng):
    """Return f(x_true) with noise relative to its entries; it still sums to one."""
    f = fitted(A, x_true, unit)
    b = f + NOISE[noise] * f * rng.standard_normal(len(f))
    return b + (1.0 - b.sum()) / len(b)


@cache
def synthetic(n=400, d=5, cond=10.0, noise="mild", unit="exp+linear", w=None, ridge=False, seed=0):
    """Make a dense problem whose z = A x_true has unit root mean square.

    `w` is None, "scalar" or "vector".  Both penalties are of the order of the data
    term, so that leaving one out, or halving it, moves the optimum visibly.
    """
    rng = np.random.default_rng(seed)
    A = spectrum_matrix(n, d, cond, rng)
    # every singular direction carries the same share of z, whatever the spectrum
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    x_true = Vt.T @ (rng.choice([-1.0, 1.0], d) / s) * np.sqrt(n / d)
    weights = {None: None, "scalar": 0.2 / n, "vector": rng.uniform(0, 0.4, n) / n}[w]
    b = target(A, x_true, unit, noise, rng)
    return Problem(A, b, unit, weights, (0.01 / n if ridge else 0.0), x_true)


@cache
def sparse(n=1000, d=8, density=0.2, unit="exp+linear", noise="mild", seed=0):
    """Make a CSR problem; rows come in pairs (a, −a), so that columns have mean zero."""
    rng = np.random.default_rng(seed)
    half = scipy.sparse.random_array(
        (n // 2, d), density=density, rng=rng, data_sampler=rng.standard_normal
    )
    A = scipy.sparse.csr_array(scipy.sparse.vstack([half, -half]).tocsr()[rng.permutation(n)])
    x_true = rng.standard_normal(d)
    b = target(A.toarray(), x_true, unit, noise, rng)
    return Problem(A, b, unit, x_true=x_true)


@cache
def attention(unit, query=0):
    """Fit attention weights of real text; with unit "exp" x_true is the optimum."""
    head = datasets.load_attention()
    A, b = head.problem(query)
    return Problem(A, b, unit, x_true=head.queries[query].astype(float))


def _load(block_info=None, *, A, folder):
    (first, last), _ = block_info[None]["array-location"]
    (folder / f"{first}-{last}-{uuid.uuid4().hex}").touch()
    return A[first:last]


def counted(A, rows, folder):
    """Wrap A in a dask array whose blocks leave a file in `folder` at each load."""
    n, d = A.shape
    chunks = ((rows,) * (n // rows), (d,))
    load = partial(_load, A=A, folder=folder)
    return da.map_blocks(load, chunks=chunks, dtype=A.dtype, meta=A[:0])


def loads(folder):
    """Count how often each block of a counted array was loaded."""
    return list(Counter(path.name.rsplit("-", 1)[0] for path in folder.iterdir()).values())
