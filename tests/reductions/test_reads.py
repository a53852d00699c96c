"""One read: sketched Hessians, edges of the buffers, types, and what it leaves behind."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from helpers.problems import spectrum_matrix, synthetic

from dresoftmax.blocks.dense import FEW_COLUMNS
from dresoftmax.blocks.make import make_block
from dresoftmax.kernels import sources
from dresoftmax.kernels.csr import csr_rows
from dresoftmax.kernels.dense import dense_rows
from dresoftmax.model.losses import RescaledLoss, SquaredLoss
from dresoftmax.model.units import UNITS
from dresoftmax.reductions import evaluate as reads
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch

ROOT = Path(sources.__file__).parents[1]
SKETCHES = ["leverage", "uniform", "countsketch"]
KINDS = ["none", "exact", *SKETCHES]
FORMS = {"dense": np.ascontiguousarray, "csr": scipy.sparse.csr_array}


def factors(A, b, x, kappa=0.0, w=0.0, alpha=None):
    """Return D of each row, with the references α₀ = `alpha`, by default n, and κ₀."""
    alpha = alpha or len(b)
    z, e = A @ x, np.exp(A @ x) / alpha
    return (e + 1 / alpha) ** 2 + e * (e + z / alpha - b - kappa) + w**2


def gram(A, D):
    """Return the exact sum Aᵀdiag(D)A."""
    return (A.T * D) @ A


def coherent(n=600, d=4, rows=6, seed=0):
    """Return A, b where a few rows are ten times as long as the others."""
    rng = np.random.default_rng(seed)
    A = spectrum_matrix(n, d, 3.0, rng)
    A[:rows] *= 10.0
    A = A[rng.permutation(n)]
    return A - A.mean(axis=0), rng.dirichlet(np.full(n, 2.0))


def query_of(A, kind="exact", m=100, seed=0, number=0, x=None, kappa=0.0, D=None, **options):
    """Return a query whose leverage scores are those in |D|^½A, of D as given."""
    n, d = A.shape
    sketch = Sketch(kind, m / n, entropy=(seed, number))
    if kind == "leverage":
        D = np.full(n, 1.0 / n**2) if D is None else np.abs(D)
        # ‖probes @ a‖² is the leverage itself, of which the sum is d.
        probes = np.linalg.inv(np.linalg.cholesky(gram(A, D)))
        sketch = replace(sketch, rate=0.0, leverage_rate=m / d, probes=probes)
    x = np.zeros((1, d)) if x is None else np.atleast_2d(x)
    ones = np.ones(len(x))
    return Query(x, np.log(n) * ones, kappa * ones, UNITS["exp+linear"], sketch, **options)


def cut(A, b, *ends):
    """Return the rows as blocks that end before the rows `ends`, and at the last."""
    places = enumerate(pairwise((0, *ends, len(b))))
    return [make_block(i, A[low:high], b[low:high], None) for i, (low, high) in places]


def read(query, A, b, w=None, threads=1):
    return evaluate_blocks([query], [make_block(0, A, b, w)], threads).each[0]


def assert_same(sums, other, rtol=1e-12):
    for name in ("scalars", "vectors", "gram", "squares"):
        value, expected = getattr(sums, name), getattr(other, name)
        atol = rtol * np.max(np.abs(expected), initial=0.0)
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol, err_msg=name)
    assert (sums.rows, sums.sketched) == (other.rows, other.sketched)


@pytest.fixture
def small_parts(monkeypatch):
    """Let threads divide few rows, and buffers hold no more than 64."""
    monkeypatch.setattr(reads, "NUMBERS_PER_THREAD", 1)
    monkeypatch.setattr(reads, "BUFFER_NUMBERS", 1)
    monkeypatch.setattr(reads, "LEAST_BUFFER_ROWS", 64)


# --- sketches: right on average, and as accurate as they should be ---------------


@pytest.mark.parametrize("kappa", [0.0, 3.0], ids=["D > 0", "D of both signs"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", SKETCHES)
def test_sketches_are_unbiased(kind, form, kappa):
    """Every entry of the mean lies within five standard errors of the truth."""
    A, b = coherent(n=200)
    A = np.where(np.abs(A) > 0.3, A, 0.0)
    x = np.array([0.2, -0.1, 0.0, 0.1])
    D = factors(A, b, x, kappa / len(b))
    assert (D > 0).any()
    assert (D < 0).any() == bool(kappa)
    options = {"x": x, "kappa": kappa / len(b), "D": D, "column_gram": True}
    queries = [query_of(A, kind, 60, seed, **options) for seed in range(300)]
    found = [read(query, form(A), b).gram for query in queries]
    error = np.mean(found, axis=0) - [gram(A, D), A.T @ A]
    assert (np.abs(error) <= 5 * np.std(found, axis=0) / np.sqrt(len(found))).all()
    assert (np.std(found, axis=0) > 0).all()


def error_of(kind, A, b, m):
    """Return the mean spectral error of a sketch, relative to the exact G."""
    D = factors(A, b, np.zeros(A.shape[1]), w=1.0 / len(b))
    root = np.linalg.inv(np.linalg.cholesky(gram(A, D)))
    queries = [query_of(A, kind, m, seed, D=D) for seed in range(40)]
    errors = [read(query, A, b, 1.0 / len(b)).gram[0] - gram(A, D) for query in queries]
    return np.mean([np.linalg.norm(root @ error @ root.T, 2) for error in errors])


@pytest.mark.parametrize("kind", SKETCHES)
def test_sketches_are_as_accurate_as_their_size_allows(kind):
    """The error is about √(d ln d/m): a sketch of four times the rows halves it."""
    A = spectrum_matrix(4000, 6, 100.0, np.random.default_rng(1))
    b = np.full(4000, 1.0 / 4000)
    small, large = (error_of(kind, A, b, m) for m in (150, 600))
    scale = np.sqrt(6 * np.log(6) / 150)
    assert 0.3 * scale <= small <= 2.0 * scale
    assert 1.5 <= small / large <= 3.0


def test_leverage_scores_find_the_rows_that_matter():
    A, b = coherent(n=4000)
    assert error_of("leverage", A, b, 200) <= 0.6 * error_of("uniform", A, b, 200)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["exact", *SKETCHES])
def test_the_signs_of_D_are_kept(kind, form):
    """The rows of one column have D < 0, those of the other D > 0."""
    A = np.zeros((300, 2))
    A[::2, 0] = A[1::2, 1] = np.random.default_rng(0).uniform(1, 2, 150)
    b = np.where(np.arange(300) % 2, 0.0, 8.0 / 300)
    D = factors(A, b, np.zeros(2))
    for seed in range(10):
        found = read(query_of(A, kind, 60, seed, D=D), form(A), b).gram[0]
        assert found[0, 0] < 0 < found[1, 1]
        assert found[0, 1] == found[1, 0] == 0


def test_the_expected_number_of_rows_enters():
    A, b = coherent(n=4000)
    D = factors(A, b, np.zeros(4))
    leverage = np.einsum("ij,ij->i", A @ np.linalg.inv(gram(A, D)), A) * D
    for kind, pi in ("uniform", np.full(4000, 0.05)), ("leverage", np.minimum(50 * leverage, 1)):
        drawn = [read(query_of(A, kind, 200, seed, D=D), A, b) for seed in range(50)]
        error = 5 * np.sqrt(np.sum(pi * (1 - pi)) / len(drawn))
        assert abs(np.mean([sums.sketched for sums in drawn]) - pi.sum()) <= error
        every = read(query_of(A, kind, 1e9, D=D), A, b)
        assert every.sketched == 4000
        np.testing.assert_allclose(every.gram[0], gram(A, D), rtol=1e-11)
    np.testing.assert_allclose(drawn[0].total_leverage, 4.0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("threads", [2, 3, 11])
@pytest.mark.parametrize("kind", SKETCHES)
def test_rows_drawn_do_not_depend_on_who_reads_them(small_parts, kind, threads, form):
    A, b = coherent()
    query = query_of(A, kind, 300, column_gram=True)
    blocks = cut(form(A), b, 150, 151, 400)
    alone = evaluate_blocks([query], blocks, 1).each[0]
    assert_same(evaluate_blocks([query], blocks, threads).each[0], alone)
    assert_same(evaluate_blocks([query], blocks[::-1], threads).each[0], alone)
    assert_same(
        evaluate_blocks([query], blocks[2:], threads).each[0]
        + evaluate_blocks([query], blocks[:2], 1).each[0],
        alone,
    )


@pytest.mark.parametrize("kind", SKETCHES)
def test_other_seeds_reads_and_blocks_draw_other_rows(kind):
    A, b = coherent()

    def drawn(seed, number, index):
        query = query_of(A, kind, 50, seed, number)
        return evaluate_blocks([query], [make_block(index, A, b, None)], 1).each[0].gram[0, 0, 0]

    twice = [*np.ndindex(3, 3, 3), *np.ndindex(3, 3, 3)]
    assert len({drawn(*place) for place in twice}) == 27


# The smallest buffer holds 64 rows, and tiles have 32 or 64.
EDGES = [1, 2, 3, 4, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 200]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_blocks_of_any_length(small_parts, kind, dtype):
    """Around the ends of tiles and buffers; dense and CSR agree, and so do the types."""
    problem = synthetic(n=200, d=3, noise="strong", w="vector")
    A = np.where(np.abs(problem.A) > 0.5, problem.A, 0.0).astype(dtype)
    x = np.array([[0.3, -0.2, 0.1], [-1.0, 0.0, 0.5]])
    query = query_of(A.astype(float), kind, 40, x=x, kappa=2e-3, column_gram=True)
    # Leverages of dense rows are estimated in the precision of the rows.
    rtol = 1e-6 if (kind, dtype) == ("leverage", np.float32) else 1e-12
    for n in EDGES:
        b, w = problem.b[:n], problem.w[:n]
        forms = (np.array, scipy.sparse.csr_array, np.float64)
        dense, csr, wide = (read(query, form(A[:n]), b, w) for form in forms)
        assert_same(csr, dense, rtol)
        assert_same(wide, dense, rtol)
        assert dense.rows == n
        if kind == "exact":
            rows = A[:n].astype(float)
            D = [factors(rows, b, point, 2e-3, w, 200) for point in x]
            expected = [gram(rows, factor) for factor in (*D, np.ones(n))]
            np.testing.assert_allclose(dense.gram, expected, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("d", [1, 7, 8, 9, 24, 31, 100, FEW_COLUMNS, FEW_COLUMNS + 1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exact_grams_of_any_width(d, dtype):
    """Those of few columns are added up by the kernel, the others by BLAS."""
    rng = np.random.default_rng(d)
    A = (rng.standard_normal((150, d)) / np.sqrt(d)).astype(dtype)
    b, w = rng.dirichlet(np.ones(150)), rng.uniform(0.0, 0.01, 150)
    x = rng.standard_normal((2, d))
    query = query_of(A, x=x, kappa=3e-3, column_gram=True)
    found = read(query, A, b, w, threads=2).gram
    rows = A.astype(float)
    D = [factors(rows, b, point, 3e-3, w) for point in x]
    expected = np.array([gram(rows, factor) for factor in (*D, np.ones(150))])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("place", [None, (0, 0), (1, 3), (1, 64), (2, 99)], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_row_is_named(small_parts, kind, form, place, value):
    A, b = coherent(n=300)
    for block, row in [] if place is None else [place, (2, 99)]:
        A[100 * block + row, 2] = value
    query = query_of(coherent(n=300)[0], kind)
    blocks = cut(form(A), b, 100, 200)
    assert [evaluate_blocks([query], blocks, threads).each[0].bad for threads in (1, 4)] == [
        place,
        place,
    ]


@pytest.mark.parametrize("shift", [0.0, 1.25, -600.0, 1e4])
def test_the_exponential_is_that_of_the_mathematical_library(shift):
    """One row with A = 1, so that Σu' = exp(x − log α₀) at each of many points x."""
    rng = np.random.default_rng(0)
    exponents = np.concatenate([rng.uniform(-700, 700, 3000), rng.normal(size=3000), [0, -0.0]])
    x = exponents + shift
    ones = np.ones(len(x))
    query = Query(x[:, None], shift * ones, 0.0 * ones, UNITS["exp"], Sketch("none"))
    found = read(query, np.ones((1, 1)), np.zeros(1)).scalars[:, 0]
    np.testing.assert_allclose(found, np.exp(x - shift), rtol=5e-16)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_overflow_is_neither_a_bad_row_nor_a_warning(small_parts, kind, threads):
    A, b = coherent()
    sums = read(query_of(A, kind, x=np.full(4, 1e300)), A, b, threads=threads)
    assert sums.bad is None
    assert not np.isfinite(sums.scalars).all()


def test_what_is_compiled_into_the_kernels_is_in_their_key(tmp_path, monkeypatch):
    """Numba would go on with what it cached, were another file alone to change."""
    for folder in ("kernels", "model"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__py*"))
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "kernels" / "sources.py"))
    before = sources._checksum()
    assert before == sources.SOURCES
    for file in ("kernels/tile_ops.py", "model/losses.py", "model/layout.py"):
        changed = (tmp_path / file).read_text("utf-8") + "# changed\n"
        (tmp_path / file).write_text(changed, "utf-8")
        before, now = sources._checksum(), before
        assert before != now
    for kernel in (dense_rows, csr_rows):
        assert [cell.cell_contents for cell in kernel.py_func.__closure__] == [sources.SOURCES]


@pytest.mark.parametrize("loss", [SquaredLoss(), RescaledLoss()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("unit", UNITS)
def test_the_kernels_compute_the_terms_of_the_loss(unit, form, loss):
    """The very functions that are compiled, run by NumPy."""
    rng = np.random.default_rng(4)
    A, b = coherent(n=131)
    w, x = rng.uniform(0.0, 0.1, 131), np.array([0.3, -0.2, 0.1, 0.0])
    weight = rng.uniform(0.5, 2.0, 131)
    block = replace(make_block(0, form(A), b, w), weight=weight)
    query = query_of(A, x=x, kappa=0.01)
    query = replace(query, unit=UNITS[unit], loss=loss)
    sums = evaluate_blocks([query], [block], 1).each[0]
    z = A @ x
    one, two, three, first, second, D = loss.row_terms(
        weight, *UNITS[unit].scaled(z, np.log(131)), b, 0.01
    )
    quadratic = weight * w**2 * loss.penalty_unit(query.log_alpha)[0]
    u, v, _ = UNITS[unit].scaled(z, np.log(131))
    scalars = [weight * u, one, two, three, quadratic * z**2]
    vectors = [weight * v, first, second, quadratic * z]
    np.testing.assert_allclose(sums.scalars[0, :5], np.sum(scalars, axis=1), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(sums.vectors[0], vectors @ A, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(sums.gram[0], gram(A, D + quadratic), rtol=1e-9, atol=1e-13)


# --- what a read leaves behind ---------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_may_be_read_only_and_stay_as_they_are(kind, form):
    A, b = coherent(n=100)
    A, w, x = form(A), np.full(100, 0.01), np.full((1, 4), 0.1)
    query = query_of(coherent(n=100)[0], kind, x=x, column_gram=True)
    parts = [A.data, A.indices, A.indptr] if scipy.sparse.issparse(A) else [A]
    parts += [b, w, x, query.log_alpha, query.kappa, query.sketch.probes]
    before, expected = deepcopy(parts), read(query, A, b, w)
    for part in parts:
        part.flags.writeable = False
    assert_same(read(query, A, b, w), expected, rtol=0)
    for part, old in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, old)
