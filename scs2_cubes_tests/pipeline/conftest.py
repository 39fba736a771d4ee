from __future__ import annotations

from scs2_cubes_tests.pipeline.dask_processes import processes
from scs2_cubes_tests.pipeline.finished import copied, made
from scs2_cubes_tests.processing.fixtures import archive, bench

__all__ = ["archive", "bench", "copied", "made", "processes"]
