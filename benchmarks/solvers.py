"""One adapter for each solver: dresoftmax, and what a user would pick instead.

All start from x = 0, and all peers stop at the same relative gradient (see
`watch`).  Compiling is timed separately, and moving the data is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import jax_peers
import numpy as np
import scipy.linalg as la
from measure import CORES
from problems import Problem
from quality import loss_and_gradient
from scipy.optimize import minimize
from watch import ENDLESS, SCALE, Outcome, Termination

import dresoftmax
from dresoftmax.launch import local_spec, open_cluster
from dresoftmax.model.units import UNITS

if TYPE_CHECKING:
    from distributed import Client

# As few as keep all workers busy: Dask pays for every chunk in every evaluation.
CHUNKS_PER_WORKER = 2
# dresoftmax stops by the Newton decrement.  With this part of the tolerance it leaves
# no larger a gradient than the peers.
DECREMENT = 0.1

# A solve is repeated for BRIEF seconds, at most MOST times; the fastest counts.
BRIEF = 3.0
MOST = 10

LBFGS_OPTIONS = {"maxiter": ENDLESS, "maxfun": ENDLESS, "ftol": 0.0, "gtol": 0.0}


@dataclass(frozen=True)
class Solver:
    """An adapter: ``run(problem, tol, cap)`` stops at the gradient `tol` or after `cap` seconds."""

    name: str
    package: str
    run: Callable[[Problem, float, float], Outcome]

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


def best_outcome(solver: Solver, problem: Problem, tol: float, cap: float) -> Outcome:
    """Return the fastest of some solves, the first of which warms up."""
    began = time.perf_counter()
    outcomes = [solver.run(problem, tol, cap)]
    while time.perf_counter() - began < BRIEF and len(outcomes) < MOST:
        outcomes.append(solver.run(problem, tol, cap))
    return min(outcomes, key=lambda outcome: outcome.seconds)


def zeros(problem: Problem, tol: float, cap: float) -> Outcome:
    """Return x = 0, the baseline without a fit."""
    return Outcome(np.zeros(problem.A.shape[1]), 0.0, 0)


def dresoftmax_threads(problem: Problem, tol: float, cap: float) -> Outcome:
    """Solve in this process."""
    first = _dresoftmax(problem, problem.A, tol, None)
    outcome = _dresoftmax(problem, problem.A, tol, None)
    return replace(outcome, compile_seconds=max(first.seconds - outcome.seconds, 0.0))


def dresoftmax_workers(problem: Problem, tol: float, cap: float) -> Outcome:
    """Solve on the warm workers of a cluster in this machine."""
    with open_cluster(local_spec(CORES)) as client:
        A, _ = _on_workers(problem, client)
        first = _dresoftmax(problem, A, tol, client)
        outcome = _dresoftmax(problem, A, tol, client)
    return replace(outcome, compile_seconds=max(first.seconds - outcome.seconds, 0.0))


def _dresoftmax(problem: Problem, A: Any, tol: float, client: Client | None) -> Outcome:
    began = time.perf_counter()
    result = dresoftmax.solve(
        A, problem.b, unit=problem.unit, tol=DECREMENT * tol, seed=0, client=client
    )
    seconds = time.perf_counter() - began
    scale = la.norm(loss_and_gradient(problem, np.zeros(len(result.x)))[1])
    scale *= problem.b @ problem.b
    full = [record for record in result.history if record.phase == "full"]
    curve = [(record.seconds, record.gradient_norm / scale) for record in full]
    note = f"{result.status.name.lower().replace('_', ' ')}, {result.hessian_kind} Hessian"
    return Outcome(result.x, seconds, round(result.data_passes, 1), note, curve=curve)


def scipy_lbfgs(problem: Problem, tol: float, cap: float) -> Outcome:
    """SciPy's L-BFGS-B with a gradient in NumPy: one product Ax and one Aᵀy."""
    watch = Termination(problem.A.shape[1], tol, cap)

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss_and_gradient(problem, x)
        return watch.see(x, SCALE * value, SCALE * gradient)

    return watch.run(
        lambda: minimize(function, watch.x, jac=True, method="L-BFGS-B", options=LBFGS_OPTIONS)
    )


def torch_lbfgs(problem: Problem, tol: float, cap: float) -> Outcome:
    """PyTorch's LBFGS with a strong Wolfe line search, in float64."""
    import torch

    A, b = torch.from_numpy(problem.A), torch.from_numpy(problem.b)
    linear = UNITS[problem.unit].linear
    x = torch.zeros(A.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=ENDLESS, max_eval=ENDLESS, tolerance_grad=0.0, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    watch = Termination(problem.A.shape[1], tol, cap)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        z = A @ x
        shift = z.detach().max().clamp(min=0.0)
        u = torch.exp(z - shift) + linear * torch.exp(-shift) * z
        loss = 0.5 * SCALE * ((u / u.sum() - b) ** 2).sum() / (b @ b)
        loss.backward()
        watch.see(x.detach().numpy(), loss.item(), x.grad.numpy())
        return loss

    return watch.run(lambda: optimizer.step(closure))


def dask_lbfgs(problem: Problem, tol: float, cap: float) -> Outcome:
    """L-BFGS as dask-glm does it: loss and gradient are collections, computed at each x."""
    linear = UNITS[problem.unit].linear
    watch = Termination(problem.A.shape[1], tol, cap)
    with open_cluster(local_spec(CORES)) as client:
        A, b = _on_workers(problem, client)
        scale = SCALE / (problem.b @ problem.b)

        def function(x: np.ndarray) -> tuple[float, np.ndarray]:
            z = A @ x
            e = da.exp(z)
            u, v = e + linear * z, e + linear
            alpha = u.sum()
            f = u / alpha
            c = f - b
            gradient = A.T @ (v * (c - f @ c)) * (scale / alpha)
            return watch.see(x, *dask.compute(0.5 * scale * (c @ c), gradient))

        return watch.run(
            lambda: minimize(function, watch.x, jac=True, method="L-BFGS-B", options=LBFGS_OPTIONS)
        )


def _on_workers(problem: Problem, client: Client) -> list[da.Array]:
    """Return A and b in chunks that lie on the workers."""
    chunks = CORES * CHUNKS_PER_WORKER
    arrays = []
    for whole in (problem.A, problem.b):
        parts = np.array_split(whole, chunks)
        futures = client.scatter(parts)
        blocks = [
            da.from_delayed(future, part.shape, part.dtype)
            for future, part in zip(futures, parts, strict=True)
        ]
        arrays.append(da.concatenate(blocks))
    return dask.persist(*arrays)


DRESOFTMAX = Solver("dresoftmax", "dresoftmax", dresoftmax_threads)
DRESOFTMAX_DASK = Solver("dresoftmax, on workers", "dresoftmax", dresoftmax_workers)
DASK_LBFGS = Solver("Dask L-BFGS", "dask", dask_lbfgs)

SOLVERS = (
    DRESOFTMAX,
    Solver("zeros", "numpy", zeros),
    Solver("SciPy L-BFGS-B", "scipy", scipy_lbfgs),
    Solver("SciPy trust-exact, JAX", "jax", partial(jax_peers.scipy_newton, "trust-exact")),
    Solver("SciPy trust-krylov, JAX", "jax", partial(jax_peers.scipy_newton, "trust-krylov")),
    Solver("SciPy Newton-CG, JAX", "jax", partial(jax_peers.scipy_newton, "Newton-CG")),
    Solver("PyTorch L-BFGS", "torch", torch_lbfgs),
    Solver("optimistix BFGS", "optimistix", partial(jax_peers.optimistix, "BFGS")),
    Solver("optimistix L-BFGS", "optimistix", partial(jax_peers.optimistix, "LBFGS")),
    Solver("optimistix LM", "optimistix", partial(jax_peers.optimistix, "LevenbergMarquardt")),
    DRESOFTMAX_DASK,
    DASK_LBFGS,
)
