"""The statements of the paper about the regression, evaluated on your own data.

    hessian_parts          ∇²L as Aᵀ(B_mat + B_rank + B_diag + W²)A + λI, each part with bounds
    psd_certificate        whether ∇²L is positive semidefinite: guaranteed, and in fact
    required_weight        the w that guarantees ∇²L ⪰ l·I
    lipschitz_bound        the paper's bound of the Lipschitz constant of ∇²L
    lipschitz_estimate     lower bounds of it, observed at random and at chosen pairs of points
    goodness               the constants of a minimum, and where convergence is guaranteed
    predicted_iterations   how many steps the convergence takes
    spectral_error         how far a sketched Hessian is from the exact one

All are about L = ½‖f − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖², not about the rescaled loss.  A, b and w
are what `dresoftmax.solve` takes, and the same engines read A.  The docstrings separate what
is known from the paper (arXiv 2309.13482), what is derived here, and what could not be found.
Most functions have a counterpart that takes an open `dresoftmax.problem.Problem`, or its
`HessianParts`, so that several can share the rows: `parts_at`, `certificate_of`, `weight_for`,
`estimate_within`, `goodness_at` and `sketch_errors_at`.
"""

from dresoftmax.theory.convergence import Goodness, goodness, predicted_iterations
from dresoftmax.theory.hessian_parts import HessianParts, hessian_parts
from dresoftmax.theory.lipschitz import LipschitzEstimate, lipschitz_bound, lipschitz_estimate
from dresoftmax.theory.psd import PsdCertificate, psd_certificate, required_weight
from dresoftmax.theory.row_operators import Part
from dresoftmax.theory.sketches import spectral_error

__all__ = [
    "Goodness",
    "HessianParts",
    "LipschitzEstimate",
    "Part",
    "PsdCertificate",
    "goodness",
    "hessian_parts",
    "lipschitz_bound",
    "lipschitz_estimate",
    "predicted_iterations",
    "psd_certificate",
    "required_weight",
    "spectral_error",
]
