"""Market shares of cars: real data of attraction models, from the package pyblp (MIT).

The share of a car among those sold in the United States in a year, 1971 to 1990, of 2,217
models of cars and years (Berry, Levinsohn and Pakes 1995): the attraction of a row over
the sum of all attractions.  Only its file is read; pyblp is not imported.  Its cereal data
are left out: its documentation calls them fake.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

TRAITS = ("log price", "hpwt", "air", "mpd", "space")


def installed() -> bool:
    """Return whether the package that brings the data is there."""
    return find_spec("pyblp") is not None


def markets(full: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, A and b: of all years together, then of each year (every sixth without `full`).

    Columns are the traits of a car and its region; for all years there is also a problem with its
    firm in place of the region.  Columns are centred within the years, since a car competes with
    those of its year, and have a variance of one.  In the problems of all years, each has the
    same weight.
    """
    spec = find_spec("pyblp")
    if spec is None or spec.origin is None:
        return
    cars = pd.read_csv(Path(spec.origin).parent / "data" / "blp_products.csv")
    cars["log price"] = np.log(cars["prices"])
    year = cars["market_ids"]
    share = cars["shares"] / cars.groupby(year)["shares"].transform("sum")
    traits = cars[list(TRAITS)]
    for origin in ("region", "firm_ids"):
        columns = pd.concat([traits, pd.get_dummies(cars[origin], drop_first=True)], axis=1)
        columns = columns.astype(float)
        centred = columns - columns.groupby(year).transform("mean")
        yield f"cars-{origin.removesuffix('_ids')}", *problem(centred, share)
    columns = pd.concat([traits, pd.get_dummies(cars["region"], drop_first=True)], axis=1)
    for market in sorted(set(year))[:: 1 if full else 6]:
        yield (
            f"year-{market}",
            *problem(columns[year == market].astype(float), share[year == market]),
        )


def problem(columns: pd.DataFrame, share: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return A, without columns that do not vary, and b."""
    A = columns.to_numpy()
    A = A - A.mean(axis=0)
    A = A[:, A.std(axis=0) > 1e-12]
    b = share.to_numpy()
    return A / A.std(axis=0), b / b.sum()
