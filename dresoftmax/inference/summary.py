"""The results from a covariance: standard errors, tests, intervals, and the table.

A record and its text only: nothing here reads rows, and nothing here imports another
module of the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["Covariance"]

# Confidence level of the interval in the last two columns of the table.
LEVEL = 0.95
KINDS = {
    "sandwich": "sandwich (HC3)",
    "gauss-newton": "Gauss-Newton",
}


@dataclass(frozen=True, slots=True, repr=False)
class Covariance:
    """The estimated covariance of x̂, with standard errors, tests and intervals.

    ``print(covariance)`` shows the table of `summary`.

    Attributes
    ----------
    matrix : ndarray of shape (d, d)
        Estimated covariance of the errors of `x`.
    x : ndarray of shape (d,)
        The estimate.
    names : tuple of str
        The names of A's columns; "x0", "x1" and so on if they have none.
    kind : {"sandwich", "gauss-newton"}
    n : int
        Rows of A.
    sigma : float
        Residual scale σ = ‖f − b‖/√(n − d), in units of b.
    loss : float
        The objective at `x`.
    r_squared : float
        1 − ‖f − b‖²/‖b − 1/n‖², the share of the squared distance of b from the uniform
        distribution that the fit explains; NaN if b is uniform.
    unit : str
        The pointwise function.
    normalized : bool
        Whether b is assumed to have been divided by its sum.
    target_name : str or None
        The name of the target, if there are several.
    """

    matrix: np.ndarray
    x: np.ndarray
    names: tuple[str, ...]
    kind: str
    n: int
    sigma: float
    loss: float
    r_squared: float
    unit: str
    normalized: bool
    target_name: str | None = None

    @property
    def standard_errors(self) -> np.ndarray:
        """Square roots of the diagonal of `matrix`, of shape (d,)."""
        return np.sqrt(np.maximum(np.diag(self.matrix), 0.0))

    @property
    def z_values(self) -> np.ndarray:
        """Estimates over their standard errors, of shape (d,)."""
        with np.errstate(divide="ignore", invalid="ignore"):  # b may be fitted exactly
            return self.x / self.standard_errors

    @property
    def p_values(self) -> np.ndarray:
        """Two-sided p-values of "the coefficient is zero", of shape (d,).

        From the normal distribution, not Student's t: in general x̂ is normal only
        asymptotically, for many rows, and there the two are the same.
        """
        return 2.0 * ndtr(-np.abs(self.z_values))

    def confidence_interval(self, level: float = LEVEL) -> np.ndarray:
        """Return the ends of the normal confidence interval of each coefficient.

        Parameters
        ----------
        level : float, default 0.95
            Probability, between 0 and 1, that an interval contains the true value.

        Returns
        -------
        ndarray of shape (d, 2)

        Raises
        ------
        ValueError
            If `level` does not lie between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level!r}; a number between 0 and 1 is needed")
        reach = ndtri(0.5 * (1.0 + level)) * self.standard_errors
        return np.stack([self.x - reach, self.x + reach], axis=1)

    def summary(self) -> str:
        """Return a table of the coefficients, as statistics packages print it."""
        low, high = f"[{0.5 * (1.0 - LEVEL):.3f}", f"{0.5 * (1.0 + LEVEL):.3f}]"
        lines = [("", "coef", "std err", "z", "P>|z|", low, high)]
        for name, *numbers in zip(
            self.names, self.x, self.standard_errors, self.z_values, self.p_values,
            *self.confidence_interval().T, strict=True,
        ):  # fmt: skip
            formats = ("#.5g", "#.3g", ".2f", ".3f", "#.5g", "#.5g")
            lines.append((name, *map(format, numbers, formats)))
        names, *columns = zip(*lines, strict=True)
        widths = [max(map(len, column)) for column in columns]
        first = max(map(len, names))
        table = [
            "   ".join([line[0].ljust(first), *map(str.rjust, line[1:], widths)]) for line in lines
        ]
        head = self._head()
        width = max(map(len, [*head, *table]))
        title = "Fit of a distribution" if self.target_name is None else self.target_name
        double, single = "=" * width, "-" * width
        text = [title.center(width).rstrip(), double, *head, double, table[0], single]
        return "\n".join([*text, *table[1:], double])

    def _head(self) -> list[str]:
        """Return the lines on the fit as a whole, two facts in each."""
        facts = {
            "Rows": f"{self.n}",
            "Columns": f"{len(self.x)}",
            "Unit": self.unit,
            "Covariance": KINDS[self.kind],
            "Loss": f"{self.loss:.6g}",
            "Errors": "b divided by its sum" if self.normalized else "independent",
            "Residual scale": f"{self.sigma:.6g}",
            "R² over uniform": f"{self.r_squared:.4f}",
        }
        cells = [f"{name + ':':<17}{value}" for name, value in facts.items()]
        width = max(map(len, cells[::2])) + 3
        return [
            left.ljust(width) + right for left, right in zip(cells[::2], cells[1::2], strict=True)
        ]

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        errors = ", ".join(
            f"{name}: {x:#.5g} ± {error:#.2g}"
            for name, x, error in zip(self.names, self.x, self.standard_errors, strict=True)
        )
        return f"<Covariance, {self.kind}, n = {self.n}: {errors}>"
