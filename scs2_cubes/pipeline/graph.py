"""Tiles → Dask: a flat graph that holds plans, not pixels.

One task for each job of a tile (one output chunk, or several that come from the same source chunks), one that records
the tile, and one that every other depends on and that makes the process's :class:`~scs2_cubes.pipeline.tile.Workshop`.
Those that make and record hold the fingerprint of the planning process's source text, and fail where it is another one.

Tiles of one row are made together, job by job: neighbours share source chunks, and so a process holds those of one
array and step, not those of all. Where a tile has several jobs, one more task for each of them and row tells Dask so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Tile
from scs2_cubes.errors import Scs2CubesError, TileError
from scs2_cubes.pipeline.claims import TileStore
from scs2_cubes.pipeline.installations import require_sources, source_fingerprint
from scs2_cubes.pipeline.plan import CubePlan, Job
from scs2_cubes.pipeline.tile import JobResult, Workshop

__all__ = ["TileGraph", "TileResult", "build_graph"]

#: What comes of one tile.
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TileResult:
    """A finished tile."""

    record: TileRecord
    """Its record, as stored."""
    bytes_written: int
    """Bytes of its chunks."""


@dataclass(frozen=True)
class TileGraph(Generic[Result]):
    """A Dask graph and the keys of its results, one ``Result`` for each tile."""

    tasks: Mapping[Any, Any]
    """Dask's low-level graph."""
    tiles: Mapping[str, str]
    """Dask key of a tile's result → the tile's key."""


def build_graph(plan: CubePlan, store: TileStore, tiles: Iterable[Tile]) -> TileGraph[TileResult]:
    """Graph that makes ``tiles``. Nothing is read or written until it runs."""
    # A number of its own: a scheduler that is shared takes tasks of the same name for the same work, whoever's store
    # they write to, and whether or not it was made in vain before.
    prefix = f"{plan.identifier}-{plan.region.name}-{uuid.uuid4().hex}"
    workshop = f"workshop-{prefix}"
    # Written out, because dask.delayed takes milliseconds for each task.
    wanted = sorted(tiles, key=lambda tile: (tile.row, tile.col))
    places = frozenset((tile.row, tile.col) for tile in wanted)
    # An argument of each task, not of the workshop, which must not fail while it is unpickled. A worker whose release
    # doesn't know the argument fails by the number of them.
    sources = source_fingerprint()
    tasks: dict[str, tuple[Any, ...]] = {workshop: (Workshop, plan, store, places)}
    names = {}
    jobs = plan.jobs()
    for row, members in groupby(wanted, key=lambda tile: tile.row):
        row_tiles = list(members)
        strips = []
        parts: dict[Tile, list[str]] = {tile: [] for tile in row_tiles}
        for number, job in enumerate(jobs):
            keys = {f"job-{prefix}-{tile.key}-{number:04d}": tile for tile in row_tiles}
            tasks |= {key: (_run_job, sources, workshop, tile, job) for key, tile in keys.items()}
            for key, tile in keys.items():
                parts[tile].append(key)
            if len(jobs) > 1:
                # Holds nothing: it is there for Dask's order, which finishes what one task waits for before it goes on.
                strips.append(f"strip-{prefix}-{row:04d}-{number:04d}")
                tasks[strips[-1]] = (_note_strip, list(keys))
        for tile, own in parts.items():
            finished = f"tile-{prefix}-{tile.key}"
            tasks[finished] = (_finish_tile, sources, workshop, tile, own, strips)
            names[finished] = tile.key
    return TileGraph(tasks, names)


def _run_job(sources: str, workshop: Workshop, tile: Tile, job: Job) -> JobResult:
    try:
        require_sources(sources)
        return workshop.run(tile, job)
    except Scs2CubesError as error:
        failure = _named(tile, error)
    # Raised out here, without a chain of causes: distributed pickles the whole chain on the way back from a worker,
    # and errors of other packages, of aiohttp for one, can't be pickled.
    raise failure


def _note_strip(results: list[JobResult]) -> int:
    return len(results)


def _finish_tile(sources: str, workshop: Workshop, tile: Tile, results: list[JobResult], _: list[int]) -> TileResult:
    try:
        require_sources(sources)
        record = workshop.finish(tile, results)
        return TileResult(record, sum(result.bytes_written for result in results))
    except Scs2CubesError as error:
        failure = _named(tile, error)
    raise failure


def _named(tile: Tile, error: Scs2CubesError) -> TileError:
    return TileError(f"tile {tile.key}: {type(error).__name__}: {error}")
