"""Tiles → Dask: a flat graph that holds plans, not pixels.

One task for each job of a tile (one output chunk, or several that come from the same source chunks), one that records
the tile, and one that every other depends on and that makes the process's :class:`~scs2_cubes.pipeline.tile.Workshop`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask.delayed import delayed

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Tile
from scs2_cubes.errors import Scs2CubesError, TileError
from scs2_cubes.pipeline.plan import CubePlan, Job
from scs2_cubes.pipeline.tile import JobResult, Workshop
from scs2_cubes.storage import CubeStore

__all__ = ["TileGraph", "TileResult", "build_graph"]


@dataclass(frozen=True, slots=True)
class TileResult:
    """A finished tile."""

    record: TileRecord
    """Its record, as stored."""
    bytes_written: int
    """Bytes of its chunks."""


@dataclass(frozen=True)
class TileGraph:
    """A Dask graph and the keys of its results, one for each tile."""

    tasks: Mapping[Any, Any]
    """Dask's low-level graph."""
    tiles: Mapping[str, str]
    """Dask key of a tile's result → the tile's key."""


def build_graph(plan: CubePlan, store: CubeStore, tiles: Iterable[Tile]) -> TileGraph:
    """Graph that makes ``tiles``. Nothing is read or written until it runs."""
    prefix = f"{plan.identifier}-{plan.region.name}-{plan.data_version}"
    workshop = delayed(Workshop, pure=False)(plan, store, dask_key_name=f"workshop-{prefix}")
    finished = []
    names = {}
    for tile in tiles:
        jobs = [
            delayed(_run_job, pure=False)(workshop, tile, job, dask_key_name=f"job-{prefix}-{tile.key}-{number:04d}")
            for number, job in enumerate(plan.jobs())
        ]
        key = f"tile-{prefix}-{tile.key}"
        finished.append(delayed(_finish_tile, pure=False)(workshop, tile, jobs, dask_key_name=key))
        names[key] = tile.key
    tasks: dict[Any, Any] = {}
    for one in finished:
        tasks.update(one.__dask_graph__())
    return TileGraph(tasks, names)


def _run_job(workshop: Workshop, tile: Tile, job: Job) -> JobResult:
    try:
        return workshop.run(tile, job)
    except Scs2CubesError as error:
        raise TileError(f"tile {tile.key}: {type(error).__name__}: {error}") from error


def _finish_tile(workshop: Workshop, tile: Tile, results: list[JobResult]) -> TileResult:
    record = workshop.finish(tile, results)
    return TileResult(record, sum(result.bytes_written for result in results))
