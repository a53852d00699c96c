"""What the paper says of the regression, to ask of your own data.

    hessian_parts          ∇²L as Aᵀ(B_mat + B_rank + B_diag + W²)A + λI, each part with bounds
    psd_certificate        is ∇²L positive semidefinite: by guarantee, and in fact
    required_weight        the w that guarantees ∇²L ⪰ l·I
    lipschitz_bound        the paper's bound of the Lipschitz constant of ∇²L
    lipschitz_estimate     what is seen of it, between random and chosen pairs of points
    goodness               the constants of a minimum, and where convergence is guaranteed
    predicted_iterations   how many steps that takes
    spectral_error         how far a sketched Hessian is from the exact one

All are about L = ½‖f − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖², not about the rescaled loss.  Those that
take A, b and w do as `dresoftmax.solve` does, and read A by the same engines.  The
docstrings keep apart what is known of the paper (arXiv 2309.13482), what is derived here,
and what could not be found.  Beside each stands a function that asks the same of a
`dresoftmax.problem.Problem`, or of its parts, so that several can share the rows: `parts_at`,
`certificate_of`, `weight_for`, `estimate_within`, `goodness_at` and `sketch_error_at`.
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
