"""Which module may import which: one way, from the rows up to the command line.

Also imports within functions count; those for type checkers alone do not.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dresoftmax

ROOT = Path(dresoftmax.__file__).parent

# A folder may import folders of lines above its own only; and in a folder, a module those that
# stand before it in its line.  A new module has to be placed.
LAYERS = """
result
utils:      atomic_write blas_threads tree_sum
model:      layout evaluation row_sums loss losses unit_compiler units
kernels:    arguments sources simd tile_ops pointwise row_sampling dense csr
blocks:     base dense csr make lazy prefetch
engines:    base worker_context memory threads dask ray
reductions: query panels totals countsketch row_sample evaluate
inputs:     dataframes storage paths ray_dataset containers arguments dataset
placement:  dask_graph memory_budget chunks local dask ray open
optimize:   whitening quadratic_model hessian_reuse objective trust_region proposals termination
            iterate newton history surrogate initialization
problem
progress
fit:        hessian_policy checkpoint options results lockstep single_target multi_target
inference:  summary jacobian_moments agreement covariance
theory:     arguments row_operators hessian_sums hessian_parts psd lipschitz_search lipschitz
            convergence sketches
solver
datasets
dresoftmax
plots
launch:     spec security open
verify:     claims problems figures newton_iteration hessian_cases lipschitz decomposition newton
            sketches norms user_data report
cli:        errors options files output performance_report demo verify commands __main__
"""

# What is only imported where it is needed, and by which modules and folders.
OPTIONAL = {
    "matplotlib": {"plots", "cli.demo", "verify.figures"},
    "jinja2": {"verify.report"},
    "rich": {"progress", "cli"},
    "click": {"cli"},
    "numba": {"kernels", "model.unit_compiler"},
    "distributed": {"engines", "placement", "inputs.arguments", "launch", "cli.performance_report"},
    "dask": {"inputs", "placement", "launch", "cli.demo", "theory.row_operators"},
    "dask_kubernetes": {"launch.open"},
    "yaml": {"launch"},
    "ray": {"engines", "inputs.ray_dataset", "placement.ray"},
    "zarr": {"inputs.paths"},
    "h5py": {"inputs.paths", "inputs.storage"},
    "pyarrow": {"inputs.paths", "inputs.storage"},
}

# Dask imports pandas, and with it PyArrow and xarray, where they are installed.
DATA_PACKAGES = ["h5py", "polars", "zarr"]
HEAVY = ["dask", "distributed", "scipy", "numba", "matplotlib", "rich", "click"]


def name_of(path):
    """Return "engines.threads" for dresoftmax/engines/threads.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "dresoftmax"


PATHS = {name_of(path): path for path in ROOT.rglob("*.py")}


def layers(text):
    """Return the place of every module, in the order of lines; a folder stands after its own."""
    places = []
    for line in text.replace("\n            ", " ").split("\n"):
        folder, _, modules = line.partition(":")
        places += [f"{folder}.{module}" for module in modules.split()] + [folder] * bool(folder)
    return {module: place for place, module in enumerate(places)}


LEVELS = layers(LAYERS)


def import_statements(node):
    """Yield the imports below `node`, except for those under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from import_statements(ast.Module([other], []))
        else:
            yield from import_statements(child)


def imports_of(source):
    """Return the full names of all modules and objects that `source` imports."""
    names = set()
    for statement in import_statements(ast.parse(source)):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        else:
            assert statement.level == 0, "imports are absolute, by the rules of the linter"
            names |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    return names


def modules_of(names):
    """Return the modules of the package that are imported by these full names."""
    found = set()
    for name in names:
        package, *rest = name.split(".")
        if package == "dresoftmax":
            while rest and ".".join(rest) not in PATHS:
                rest.pop()  # an object in a module, or an attribute of the package
            found.add(".".join(rest) or "dresoftmax")
    return found


def test_every_module_has_its_place():
    assert set(LEVELS) == set(PATHS)


@pytest.mark.parametrize("module", PATHS)
def test_imports_run_one_way(module):
    imported = modules_of(imports_of(PATHS[module].read_text(encoding="utf-8")))
    upwards = {other for other in imported if LEVELS[other] >= LEVELS[module]}
    assert not upwards, f"{module} imports {upwards}"


@pytest.mark.parametrize("package", OPTIONAL)
def test_packages_stay_in_their_modules(package):
    """The iteration knows nothing of Dask, and only the kernels know of Numba."""
    users = {
        module
        for module, path in PATHS.items()
        if package in {name.split(".")[0] for name in imports_of(path.read_text("utf-8"))}
    }
    assert users
    strangers = {user for user in users if not {user, user.split(".")[0]} & OPTIONAL[package]}
    assert not strangers


def test_the_imports_are_found():
    """The check itself: every kind of import, and none for type checkers."""
    source = """
import dresoftmax
import numpy as np, dresoftmax.model.evaluation
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from dresoftmax.cli import main
else:
    from dresoftmax.reductions.evaluate import Query
def later():
    with open("x"):
        from dresoftmax.engines.threads import ThreadsEngine
        from dresoftmax import kernels, __version__
"""
    expected = {
        "dresoftmax",
        "model.evaluation",
        "reductions.evaluate",
        "engines.threads",
        "kernels",
    }
    assert modules_of(imports_of(source)) == expected


ENTRANCES = {
    "import dresoftmax": HEAVY,
    "import dresoftmax; dir(dresoftmax); dresoftmax.__version__": HEAVY,
    "import dresoftmax; dresoftmax.Status": HEAVY,
    "import dresoftmax.cli": [name for name in HEAVY if name != "click"],
    "import dresoftmax; dresoftmax.solve([[1], [-1], [2]], [0.3, 0.3, 0.4])": [
        "distributed",
        "matplotlib",
        "rich",
        "click",
        *DATA_PACKAGES,
    ],
}


@pytest.mark.parametrize("statement", ENTRANCES)
def test_what_is_not_needed_is_not_imported(statement):
    program = f"{statement}; import sys; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    assert "dresoftmax" in modules.split()
    assert not set(ENTRANCES[statement]) & set(modules.split())


def test_what_benchmarks_import_is_there():
    program = """
import sys
sys.path.insert(0, "benchmarks")
import run
for suite in run.SUITES:
    __import__(suite)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT.parent, check=True, timeout=60)
