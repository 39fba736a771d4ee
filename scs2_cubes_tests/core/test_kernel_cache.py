"""Machine code is kept for the next process, and made anew when a file changes that any of it is made from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scs2_cubes

# ensemble_mean calls is_valid, which lies in another file: 4 is "no value" there.
_PROGRAM = """
import numpy as np
from scs2_cubes.core import kernels
out = np.empty((1, 1), np.float32)
kernels.ensemble_mean(np.array([[[2]], [[4]]], np.uint8), np.uint8(4), True, np.empty(1, np.int32), out)
stats = getattr(kernels.ensemble_mean, "stats", None)
print(out.item(), *([sum(stats.cache_hits.values()), sum(stats.cache_misses.values())] if stats else []))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package that was never compiled, and may be edited."""
    package = Path(scs2_cubes.__file__).parent
    shutil.copytree(package, tmp_path / "scs2_cubes", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _run(checkout: Path, program: str = _PROGRAM, **settings: str) -> list[str]:
    """What the program prints in a process of its own: the mean, hits and misses of numba's cache."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=ours | {"PYTHONPATH": str(checkout)} | settings,
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_the_next_process_does_not_compile_until_a_callee_changes(checkout: Path) -> None:
    assert _run(checkout) == ["2.0", "0", "1"]
    assert _run(checkout) == ["2.0", "1", "0"]
    planes = checkout / "scs2_cubes" / "core" / "kernels" / "planes.py"
    text = planes.read_text()
    changed = text.replace("(value == nodata)", "(value != nodata)")
    assert changed != text
    planes.write_text(changed)
    assert _run(checkout) == ["4.0", "0", "1"]


def test_kernels_run_without_the_compiler(checkout: Path) -> None:
    assert _run(checkout, NUMBA_DISABLE_JIT="1") == ["2.0"]


def test_without_a_folder_to_keep_it_in_each_process_compiles(checkout: Path) -> None:
    # What numba has where neither the code's folder nor the user's own can be written: no place at all.
    nowhere = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
    for _ in range(2):
        assert _run(checkout, nowhere + _PROGRAM) == ["2.0", "0", "1"]
    assert not list(checkout.rglob("*.nbi"))
