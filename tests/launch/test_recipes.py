"""The recipes in `cluster/` that run anywhere, run as a newcomer runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CLUSTER = Path(__file__).parents[2] / "cluster"


def test_the_local_recipe_returns_its_x(tmp_path):
    done = subprocess.run(
        [sys.executable, CLUSTER / "local.py"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Converged")
    error = next(line for line in done.stdout.splitlines() if line.startswith("max"))
    assert float(error.rpartition("=")[2]) < 1e-6
