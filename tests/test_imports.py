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

# A module may import modules of lines above its own only.  A new one has to be placed.
LAYERS = """
    result inference writing blocks sums together subproblem blas datasets vectors tasks
    tiles tables own_units
    units pointwise drawing stores deferred memory carrying region stopping progress
    kernels queries engines profile loading sources
    reads panels checkpoint sampling engines.threads engines.distributed engines.ray costs files
    moments objective ray_datasets
    containers
    checks
    sizing
    placing
    placing_on_ray
    opening
    problem
    uncertainty
    guides theory.points theory.rows
    theory.gather theory.sketches theory.climbs
    theory.parts theory.constants
    theory.certificates theory.convergence
    theory
    newton
    journal companion
    warmup answers
    fitting
    course
    solver
    dresoftmax
    plots specs report console
    hardening
    launch
    options demo failing verify.claims verify.problems verify
    verify.pictures verify.courses verify.cases verify.lipschitz
    verify.decomposition
    verify.report verify.newton verify.sketches verify.norms verify.own
    verify.command
    cli
"""
LEVELS = {module: level for level, line in enumerate(LAYERS.split("\n")) for module in line.split()}

# What is only imported where it is needed, and by whom.
OPTIONAL = {
    "matplotlib": {"plots", "demo", "verify.pictures"},
    "jinja2": {"verify.report"},
    "rich": {"progress", "cli", "console", "demo", "verify.command"},
    "click": {"cli", "options", "failing", "verify.command"},
    "numba": {"kernels", "tiles", "vectors", "own_units", "pointwise", "drawing"},
    "distributed": {
        "engines.distributed",
        "tasks",
        "report",
        "memory",
        "sources",
        "sizing",
        "placing",
        "checks",
        "specs",
        "hardening",
        "launch",
    },
    "dask": {
        "checks",
        "containers",
        "stores",
        "sources",
        "sizing",
        "placing",
        "placing_on_ray",
        "specs",
        "hardening",
        "launch",
        "demo",
        "theory.rows",
    },
    "dask_kubernetes": {"launch"},
    "yaml": {"specs", "launch"},
    "ray": {"engines.ray", "ray_datasets", "placing_on_ray", "memory"},
    "zarr": {"files"},
    "h5py": {"files", "stores"},
    "pyarrow": {"files", "stores"},
}

# Dask imports pandas, and with it PyArrow and xarray, where they are installed.
DATA_PACKAGES = ["h5py", "polars", "zarr"]
HEAVY = ["dask", "distributed", "scipy", "numba", "matplotlib", "rich", "click"]


def name_of(path):
    """Return "engines.threads" for dresoftmax/engines/threads.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "dresoftmax"


PATHS = {name_of(path): path for path in ROOT.rglob("*.py")}


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
    assert users <= OPTIONAL[package]


def test_the_imports_are_found():
    """The check itself: every kind of import, and none for type checkers."""
    source = """
import dresoftmax
import numpy as np, dresoftmax.sums
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from dresoftmax.cli import main
else:
    from dresoftmax.reads import Query
def later():
    with open("x"):
        from dresoftmax.engines.threads import ThreadsEngine
        from dresoftmax import kernels, __version__
"""
    expected = {"dresoftmax", "sums", "reads", "engines.threads", "kernels"}
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
