"""Reads a finished partition back from its store, tile by tile on the workers: facts for checks, views for pictures.

One pass: every stored chunk is read once, and what comes back is counts, thumbnails and the values of a few pixels.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from scs2_cubes.core.checks import PlaneFacts, TileFacts, Verdict
from scs2_cubes.core.cube import CubeSchema, TileRecord
from scs2_cubes.core.facts import plane_facts
from scs2_cubes.core.grid import Grid, Partition, Tile, Window
from scs2_cubes.core.specification import SiteSpec
from scs2_cubes.core.variables import Kind
from scs2_cubes.core.verdicts import judge, unjudged
from scs2_cubes.errors import GridError, StorageError
from scs2_cubes.pipeline.compute import Compute
from scs2_cubes.pipeline.evidence import evidence_of
from scs2_cubes.pipeline.graph import TileGraph
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore

__all__ = ["Inspection", "Look", "inspect_partition", "look_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What is wanted of a partition besides facts."""

    steps: tuple[int, ...] = ()
    """Steps of which there is to be a view; none: no views."""
    stride: int = 1
    """Every so manyth row and column of the cube is in a view, the first at half of it.

    Counted on the whole grid, so that views of neighbouring partitions fit together.
    """
    sites: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Site → (row, column) in the region's grid; those outside of the partition are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What a partition holds."""

    partition: Partition
    """Which."""
    data_version: str
    """That of the plan it was judged by."""
    verdicts: tuple[Verdict, ...]
    """One for each of :data:`scs2_cubes.core.checks.CHECKS`, in that order."""
    means: Mapping[str, npt.NDArray[np.float64]]
    """Layer (not categorical) → mean of its values by step; NaN where there are none.

    On geographic grids pixels are weighted by the area of their cells, which goes with the cosine of the latitude.
    """
    shares: Mapping[str, Mapping[int, npt.NDArray[np.float64]]]
    """Categorical layer → class code → its share of the pixels with a value, weighted as means are, by step; NaN where
    there are none."""
    views: Mapping[tuple[str, int], npt.NDArray[Any]]
    """(layer, step) → every :attr:`Look.stride`-th pixel of the partition, (rows, columns), stored dtype."""
    site_values: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    """Site → layer → value by step, stored dtype, fill where there is none."""
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Layer (not categorical) → smallest and largest value of all pixels and steps; lacks layers without any value."""
    counts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Layer → what :attr:`means` and :attr:`shares` are parts of, (steps,): pixels with a value, weighted alike."""
    sums: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Layer (not categorical) → mean times count, (steps,); 0 where there is no value."""


@dataclass(frozen=True, slots=True, eq=False)
class _TileLook:
    """What one task found in one tile."""

    tile: Tile
    facts: TileFacts
    views: Mapping[tuple[str, int], Array]
    """(layer, step) → its part of the view."""
    sites: Mapping[tuple[str, str, int], Any]
    """(site, layer, step) → value."""


@dataclass(frozen=True)
class _Reading:
    """Reads tiles of one cube; shared by the tasks of a process."""

    schema: CubeSchema
    store: CubeStore
    categorical: frozenset[str]
    look: Look

    def read(self, tile: Tile) -> _TileLook:
        """Read every plane of ``tile`` once, one after the other. What can't be read is a fact."""
        try:
            reader = self.store.reader(self.schema)
        except StorageError as error:
            return _TileLook(tile, TileFacts(tile.key, {}, str(error)), {}, {})
        planes: dict[tuple[str, int], PlaneFacts] = {}
        views: dict[tuple[str, int], Array] = {}
        sites: dict[tuple[str, str, int], Any] = {}
        problems = []
        rows, cols = _viewed(tile.window, self.look.stride)
        weights = _row_weights(self.schema.grid, tile.window)
        for layer in self.schema.layers:
            for step in range(self.schema.n_steps):
                try:
                    values = reader.read_plane(layer.name, step, tile)
                except StorageError as error:
                    problems.append(str(error))
                    continue
                is_categorical = layer.name in self.categorical
                planes[layer.name, step] = plane_facts(
                    values, tile.window, fill=layer.fill, is_categorical=is_categorical, row_weights=weights
                )
                if step in self.look.steps:
                    views[layer.name, step] = values[np.ix_(rows, cols)]
                sites |= {
                    (site, layer.name, step): values[place] for site, place in _within(tile.window, self.look.sites)
                }
        more = f" (and {len(problems) - 1} more planes)" if len(problems) > 1 else ""
        problem = f"{problems[0]}{more}" if problems else ""
        return _TileLook(tile, TileFacts(tile.key, planes, problem), views, sites)


def _row_weights(grid: Grid, window: Window) -> npt.NDArray[np.float64] | None:
    """The cosine of the latitude of each row of ``window``, (rows,), on a geographic grid; None on others.

    That is a cell's area on a sphere. On an ellipsoid of squared eccentricity e² it goes with cos φ / (1 - e² sin² φ)²
    (Snyder 1987, Map Projections: a Working Manual, section 4): 1.4 % more at the poles than at the equator, which
    within a region is nothing.
    """
    crs = CRS.from_user_input(grid.crs)
    if not crs.is_geographic:
        return None
    # Radians per unit of the CRS: degrees, or grads.
    factor = crs.axis_info[0].unit_conversion_factor
    return np.cos(grid.lattice.y_centres(window.row_start, window.row_stop) * factor)


def inspect_partition(
    plan: CubePlan, partition: Partition, store: CubeStore, compute: Compute, look: Look
) -> Inspection:
    """Read what lies in ``store`` of ``partition``, once, with one task per tile, and judge it against ``plan``.

    Tiles without a record aren't read. Whatever is wrong with the cube, one that isn't there included, is a verdict.
    Raises what ``compute`` raises where it can't run, and StorageError where the store as such doesn't answer.
    """
    evidence = evidence_of(plan, partition, store)
    if isinstance(evidence, tuple):
        check, reason = evidence
        return _compiled(plan, partition, look, [], unjudged(check, reason))
    # Its own steps, where the source has got more since.
    plan = replace(plan, schema=replace(plan.schema, times=evidence.times))
    reading = _Reading(plan.schema, store, _categorical(plan), look)
    looks: list[_TileLook] = []
    compute.run(_graph(plan, reading, _recorded(partition, evidence.records)), looks.append)
    # Tiles end in any order; sums of floats must not.
    looks.sort(key=lambda one: one.tile.key)
    return _compiled(plan, partition, look, looks, judge(evidence, [one.facts for one in looks]))


def _categorical(plan: CubePlan) -> frozenset[str]:
    return frozenset(layer.variable.name for layer in plan.layers if layer.variable.kind is Kind.CATEGORICAL)


def _recorded(partition: Partition, records: Mapping[str, TileRecord]) -> list[Tile]:
    return [tile for tile in partition.tiles() if tile.key in records]


def _graph(plan: CubePlan, reading: _Reading, tiles: Iterable[Tile]) -> TileGraph[_TileLook]:
    # A number of its own: a scheduler that is shared takes tasks of the same name for the same work.
    prefix = f"{plan.identifier}-{plan.region.name}-{uuid.uuid4().hex}"
    # Once for all tasks, because it holds the whole schema.
    reader = f"reading-{prefix}"
    tasks: dict[str, tuple[Any, ...]] = {
        reader: (_Reading, reading.schema, reading.store, reading.categorical, reading.look)
    }
    names = {f"look-{prefix}-{tile.key}": tile for tile in tiles}
    tasks |= {name: (_Reading.read, reader, tile) for name, tile in names.items()}
    return TileGraph(tasks, {name: tile.key for name, tile in names.items()})


def _compiled(
    plan: CubePlan, partition: Partition, look: Look, looks: Sequence[_TileLook], verdicts: tuple[Verdict, ...]
) -> Inspection:
    categorical = _categorical(plan)
    names = [layer.name for layer in plan.schema.layers]
    means = {name: _mean_by_step(plan.schema, name, looks) for name in names if name not in categorical}
    counts = {name: _counts_by_step(plan.schema, name, looks) for name in names}
    return Inspection(
        partition=partition,
        data_version=plan.data_version,
        verdicts=verdicts,
        means=means,
        shares={name: _shares_by_step(plan.schema, name, looks) for name in names if name in categorical},
        views=_views(plan.schema, partition, look, looks),
        site_values=_site_values(plan.schema, partition, look, looks),
        extremes={name: ends for name in means for ends in _extremes(looks, name)},
        counts=counts,
        sums={name: np.where(counts[name] > 0, mean * counts[name], 0.0) for name, mean in means.items()},
    )


def _by_step(schema: CubeSchema, layer: str, looks: Sequence[_TileLook]) -> list[list[PlaneFacts]]:
    """Facts of the layer's planes that could be read, by step."""
    return [
        [one.facts.planes[layer, step] for one in looks if (layer, step) in one.facts.planes]
        for step in range(schema.n_steps)
    ]


def _mean_by_step(schema: CubeSchema, layer: str, looks: Sequence[_TileLook]) -> npt.NDArray[np.float64]:
    steps = _by_step(schema, layer, looks)
    counts = [sum(facts.weight for facts in planes) for planes in steps]
    totals = [sum(facts.total for facts in planes) for planes in steps]
    return np.array([total / count if count else np.nan for total, count in zip(totals, counts, strict=True)])


def _shares_by_step(schema: CubeSchema, layer: str, looks: Sequence[_TileLook]) -> dict[int, npt.NDArray[np.float64]]:
    steps = _by_step(schema, layer, looks)
    codes = sorted({code for planes in steps for facts in planes for code in facts.codes})
    shares = {code: np.full(len(steps), np.nan) for code in codes}
    for step, planes in enumerate(steps):
        count = sum(facts.weight for facts in planes)
        for code in codes if count else ():
            shares[code][step] = sum(facts.class_weights.get(code, 0.0) for facts in planes) / count
    return shares


def _counts_by_step(schema: CubeSchema, layer: str, looks: Sequence[_TileLook]) -> npt.NDArray[np.float64]:
    steps = _by_step(schema, layer, looks)
    return np.array([sum(facts.weight for facts in planes) for planes in steps], dtype=np.float64)


def _extremes(looks: Sequence[_TileLook], layer: str) -> list[tuple[float, float]]:
    """Smallest and largest value of the layer; nothing where it has none."""
    planes = [facts for one in looks for (name, _), facts in one.facts.planes.items() if name == layer]
    low = [facts.minimum for facts in planes if facts.minimum is not None]
    high = [facts.maximum for facts in planes if facts.maximum is not None]
    return [(min(low), max(high))] if low and high else []


def _views(
    schema: CubeSchema, partition: Partition, look: Look, looks: Sequence[_TileLook]
) -> dict[tuple[str, int], Array]:
    rows, cols = _viewed(partition.window, look.stride)
    views = {
        (layer.name, step): np.full((len(rows), len(cols)), layer.fill, layer.numpy_dtype)
        for layer in schema.layers
        for step in look.steps
    }
    first = _first_viewed(partition.window, look.stride)
    for one in looks:
        row, col = (
            (start - origin) // look.stride
            for start, origin in zip(_first_viewed(one.tile.window, look.stride), first, strict=True)
        )
        for key, part in one.views.items():
            views[key][row : row + part.shape[0], col : col + part.shape[1]] = part
    return views


def _site_values(
    schema: CubeSchema, partition: Partition, look: Look, looks: Sequence[_TileLook]
) -> dict[str, dict[str, Array]]:
    values = {
        site: {layer.name: np.full(schema.n_steps, layer.fill, layer.numpy_dtype) for layer in schema.layers}
        for site, _ in _within(partition.window, look.sites)
    }
    for one in looks:
        for (site, layer, step), value in one.sites.items():
            values[site][layer][step] = value
    return values


def _first_viewed(window: Window, stride: int) -> tuple[int, int]:
    """(row, column) of the grid that is the first of ``window`` in a view, or would be where it has none."""
    return _next_viewed(window.row_start, stride), _next_viewed(window.col_start, stride)


def _next_viewed(start: int, stride: int) -> int:
    return start + (stride // 2 - start) % stride


def _viewed(window: Window, stride: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of ``window`` that are in a view, counted from its corner."""
    row, col = _first_viewed(window, stride)
    return (
        np.arange(row, window.row_stop, stride) - window.row_start,
        np.arange(col, window.col_stop, stride) - window.col_start,
    )


def _within(window: Window, sites: Mapping[str, tuple[int, int]]) -> list[tuple[str, tuple[int, int]]]:
    """(site, its row and column in ``window``) of those that lie in it."""
    return [
        (site, (row - window.row_start, col - window.col_start))
        for site, (row, col) in sites.items()
        if window.row_start <= row < window.row_stop and window.col_start <= col < window.col_stop
    ]


def look_of(
    plan: CubePlan,
    partition: Partition,
    times: Iterable[str] = (),
    sites: Iterable[SiteSpec] = (),
    pixels: int = 512,
) -> Look:
    """The look at ``partition`` with views of the steps nearest to ``times``, and with the ``sites`` that lie in it.

    ``times`` are dates (ISO 8601); none: the first, the middle and the last step. A view's longer side has at most
    ``pixels``, unless the partition is so narrow that its shorter side would have none. No I/O. Raises GridError where
    PROJ knows no transformation from a site's CRS to the grid's.
    """
    window = partition.window
    stride = -(-max(window.shape) // max(1, pixels))
    return Look(
        steps=_steps(plan.schema, tuple(times)),
        # Of any so many rows in a line one is in a view.
        stride=min(stride, *window.shape),
        sites=dict(_within_whole(window, {site.name: _pixel_of(plan, site) for site in sites})),
    )


def _steps(schema: CubeSchema, times: Sequence[str]) -> tuple[int, ...]:
    """Steps in the order of time, without repeats."""
    if not schema.time_is_dim:
        return (0,)
    if not times:
        return tuple(sorted({0, schema.n_steps // 2, schema.n_steps - 1}))
    stamps = np.array(schema.times, dtype="datetime64[s]")
    wanted = np.array(times, dtype="datetime64[s]")
    return tuple(sorted({int(np.argmin(np.abs(stamps - moment))) for moment in wanted}))


def _pixel_of(plan: CubePlan, site: SiteSpec) -> tuple[int, int] | None:
    """(row, column) of a site on the grid, or beyond it; None where its point can't be transformed."""
    lattice = plan.region.grid.lattice
    try:
        x, y = Transformer.from_crs(site.crs, lattice.crs, always_xy=True).transform(site.x, site.y)
    except ProjError as error:
        raise GridError(
            f"site {site.name!r}: its point {site.x}, {site.y} in {site.crs} can't be transformed to {lattice.crs}: "
            f"{error}"
        ) from error
    if not (np.isfinite(x) and np.isfinite(y)):
        return None
    return int((y - lattice.y_origin) // lattice.dy), int((x - lattice.x_origin) // lattice.dx)


def _within_whole(
    window: Window, pixels: Mapping[str, tuple[int, int] | None]
) -> Iterable[tuple[str, tuple[int, int]]]:
    known = {site: pixel for site, pixel in pixels.items() if pixel is not None}
    return [(site, known[site]) for site, _ in _within(window, known)]
