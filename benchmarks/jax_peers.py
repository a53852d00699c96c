"""Adapters of the peers that differentiate with JAX: SciPy's Newton methods, optimistix.

Everything is in float64 and compiled once for each shape, with A and b as arguments;
compilation is timed separately.  JAX is imported only when one of them runs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from problems import Problem
from scipy.optimize import minimize
from watch import ENDLESS, SCALE, Outcome, Termination

from dresoftmax.model.units import UNITS


def scipy_newton(method: str, problem: Problem, tol: float, cap: float) -> Outcome:
    """SciPy's trust-exact (Hessians), trust-krylov or Newton-CG (Hessian times vector)."""
    data = _data(problem)
    exact = method == "trust-exact"
    gradient, second, compile_seconds = _compiled_derivatives(exact, *problem.A.shape)
    watch = Termination(problem.A.shape[1], tol, cap)
    x = watch.x
    calls = 0

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = gradient(x, *data)
        return watch.see(x, float(value), np.asarray(slope))

    def curvature(*vectors: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.asarray(second(*vectors, *data))

    options: dict[str, float] = {"maxiter": ENDLESS}
    # Gradients are watched from outside.
    options["xtol" if method == "Newton-CG" else "gtol"] = 0.0
    derivatives = {"jac": True, "hess" if exact else "hessp": curvature}
    outcome = watch.run(
        lambda: minimize(function, x, method=method, options=options, **derivatives),
        compile_seconds,
    )
    work = f"{calls} {'Hessians' if exact else 'products'}"
    return replace(outcome, note=f"{work}, {outcome.note}" if outcome.note else work)


@cache
def _compiled_derivatives(exact: bool, n: int, d: int) -> tuple[Any, Any, float]:
    """Return value and gradient, Hessian or its product, and the seconds of compilation."""
    import jax

    def product(x: Any, direction: Any, *data: Any) -> Any:
        return jax.jvp(lambda x: jax.grad(_loss)(x, *data), (x,), (direction,))[1]

    x, *data = _zeros(n, d)
    began = time.perf_counter()
    gradient = jax.jit(jax.value_and_grad(_loss)).lower(x, *data).compile()
    if exact:
        second = jax.jit(jax.hessian(_loss)).lower(x, *data).compile()
    else:
        second = jax.jit(product).lower(x, x, *data).compile()
    return gradient, second, time.perf_counter() - began


def optimistix(name: str, problem: Problem, tol: float, cap: float) -> Outcome:
    """Step "BFGS", "LBFGS" or "LevenbergMarquardt", so that gradients can be watched."""
    data = _data(problem)
    step, start, compile_seconds = _compiled_step(name, *problem.A.shape)
    watch = Termination(problem.A.shape[1], tol, cap)

    def run() -> None:
        y, state = watch.x, start
        while True:
            y, state, value, slope = step(y, state, data)
            watch.see(np.asarray(y), float(value), np.asarray(slope))

    return watch.run(run, compile_seconds)


@cache
def _compiled_step(name: str, n: int, d: int) -> tuple[Any, Any, float]:
    """Return a step (y, state, data) of a solver, its first state and the seconds of compilation.

    Levenberg and Marquardt's method gets the residual.  BFGS, which begins with the
    identity, suffers from SCALE and runs without it.
    """
    import equinox as eqx
    import jax
    import optimistix as optx

    def function(x: Any, data: Any) -> tuple[Any, None]:
        if name == "LevenbergMarquardt":
            return _residual(x, *data), None
        return _loss(x, *data) / (SCALE if name == "BFGS" else 1.0), None

    @eqx.filter_jit
    def step(y: Any, state: Any, data: Any) -> tuple[Any, Any, Any, Any]:
        y, state, _ = solver.step(function, y, data, {}, state, frozenset())
        info = state.f_info
        slope = info.grad if hasattr(info, "grad") else info.compute_grad()
        return y, state, info.as_min(), slope

    solver = getattr(optx, name)(rtol=0.0, atol=0.0)
    x, *data = _zeros(n, d)
    shape, _ = jax.eval_shape(function, x, data)
    start = solver.init(function, x, data, {}, shape, None, frozenset())
    began = time.perf_counter()
    compiled = step.lower(x, start, data).compile()
    return compiled, start, time.perf_counter() - began


def _data(problem: Problem) -> list[Any]:
    """Return A, b and ℓ as JAX takes them."""
    import jax

    jax.config.update("jax_enable_x64", True)
    linear = UNITS[problem.unit].linear
    return [jax.numpy.asarray(part) for part in (problem.A, problem.b, linear)]


def _zeros(n: int, d: int) -> list[Any]:
    """Return x, A, b and ℓ to compile for."""
    import jax

    return [jax.numpy.zeros(shape) for shape in ((d,), (n, d), (n,), ())]


def _residual(x: Any, A: Any, b: Any, linear: Any) -> Any:
    import jax
    import jax.numpy as jnp

    z = A @ x
    shift = jax.lax.stop_gradient(jnp.maximum(z.max(), 0.0))
    u = jnp.exp(z - shift) + linear * jnp.exp(-shift) * z
    return (u / u.sum() - b) * jnp.sqrt(SCALE / (b @ b))


def _loss(x: Any, *data: Any) -> Any:
    import jax.numpy as jnp

    return 0.5 * jnp.sum(_residual(x, *data) ** 2)
