"""One measurement's task: which contender makes which cube, from where, to where. Travels to a process as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from scs2_cubes.core.grid import Grid, Region, partitions_of
from scs2_cubes.core.specification import DatasetSpec, StorageSpec, StoreSpec
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.layouts import LAYOUTS, SourceLayout
from scs2_cubes_tests.benchmarks.products import data_id, product_of

__all__ = ["Extent", "Task", "extent_of", "plan_of", "planned_partitions", "small_task"]

#: The case's region (west, south, east, north), and where larger and smaller ones are anchored.
_LANDES = (3401404.0, 2346797.0, 3556068.0, 2539337.0)
_ANCHOR = (3201404.0, 2146797.0)
#: The region of ``configs/france.yml``.
_FRANCE = (3200014.0, 2249987.0, 3950014.0, 2999987.0)
_LAEA = "EPSG:3035"


@dataclass(frozen=True, slots=True)
class Extent:
    """The target: a bounding box in EPSG:3035 at 30 m."""

    name: str
    """For people."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north in metres."""
    tile: int
    """Pixels of a tile's edge."""

    @property
    def grid(self) -> Grid:
        return Grid.from_bbox(self.bbox, _LAEA, 30, self.tile)


def extent_of(scale: str) -> Extent:
    """``landes``, ``france``, ``quick`` (one tile of 1024 in ``landes``), or a number of pixels: a square of that edge.

    Raises ValueError for a scale that doesn't lie within all six sources.
    """
    west, south, _, _ = _LANDES
    if scale == "landes":
        return Extent("landes", _LANDES, 2048)
    if scale == "france":
        return Extent("france", _FRANCE, 2048)
    if scale == "quick":
        west, south = west + 60_000, south + 60_000
        return Extent("quick", (west, south, west + 30 * 1024, south + 30 * 1024), 1024)
    edge = int(scale)
    if not 1 <= edge <= 25_000:
        raise ValueError(f"--scale {scale}: use landes, france, or 1 to 25000 pixels, which all six sources cover")
    west, south = _ANCHOR
    return Extent(f"{edge}x{edge}", (west, south, west + 30 * edge, south + 30 * edge), 2048)


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does."""

    contender: str
    """Name of the contender."""
    cube: str
    """Identifier of the cube."""
    url: str
    """Address of the catalogue's folder, with the server's session."""
    output: str
    """Folder that cubes are written to."""
    reference: str | None
    """Folder with the cubes that ours made last, for what needs finished pixels."""
    extent: Extent
    """The target."""
    steps: int | None
    """How many of the last time steps; None: what the product says."""
    threads: int
    """Threads to use."""
    wraps_window: bool
    """True: a contender that wraps the whole store in a Dask array gets the window and its surroundings only."""
    partition: str | None = None
    """Key of the one partition that is made, of ours alone; None: all of the target."""

    @property
    def layout(self) -> SourceLayout:
        return LAYOUTS[self.cube]

    @property
    def made_grid(self) -> Grid:
        """What of the target is made: pixels of 30 m in EPSG:3035. Raises KeyError for an unknown partition."""
        grid = self.extent.grid
        if self.partition is None:
            return grid
        found = {part.key: part.window for part in partitions_of(Region(self.extent.name, grid))}
        window = found[self.partition]
        west, south = grid.west + 30 * window.col_start, grid.south + 30 * (grid.ny - window.row_stop)
        bbox = (west, south, west + 30 * window.width, south + 30 * window.height)
        return Grid.from_bbox(bbox, _LAEA, 30, self.extent.tile)

    @property
    def dataset(self) -> DatasetSpec:
        """The cube as a configuration would say it. Reads the product descriptions."""
        layout = self.layout
        first = layout.times[-self.steps][:10] if self.steps and layout.time_dim else None
        return DatasetSpec(
            identifier=self.cube,
            store=StoreSpec("benchmark", "stac", {"url": f"{self.url}/catalog.json"}),
            data_id=data_id(layout),
            regions=(Region(self.extent.name, self.extent.grid),),
            region_folders=False,
            product=product_of(layout),
            time_range=(first, None) if first else None,
            variable_names=layout.variables,
        )

    @property
    def storage(self) -> StorageSpec:
        return StorageSpec(self.output)

    @property
    def source(self) -> str:
        """Address of the Zarr store."""
        return f"{self.url}/{self.layout.item}.zarr"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        values = json.loads(text)
        extent = values.pop("extent")
        return cls(extent=Extent(extent["name"], tuple(extent["bbox"]), extent["tile"]), **values)


def small_task(task: Task, url: str, output: str) -> Task:
    """The same task on 96 x 96 pixels in the middle: compiles, connects and imports what the real one needs."""
    west, south, east, north = task.made_grid.bbox if task.partition else task.extent.bbox
    # Whole pixels from the anchor, so that both lie on the source alike: with another shift pixels might be copied.
    x, y = west + (east - west) / 2 // 30 * 30, south + (north - south) / 2 // 30 * 30
    extent = Extent("warm-up", (x, y, x + 30 * 96, y + 30 * 96), 96)
    return replace(task, url=url, output=output, reference=None, extent=extent, wraps_window=True, partition=None)


def plan_of(task: Task) -> CubePlan:
    """Ours' plan of the whole region, from which every contender takes methods, dtypes and layout. Reads metadata."""
    return planned_partitions(task, task.dataset)[0].plan


def planned_partitions(task: Task, dataset: DatasetSpec) -> list[PlannedPartition]:
    """The partitions of ``dataset``'s cube that are made, planned from what the source says now. Reads metadata."""
    native = describe_source(dataset)
    keys = dataset.partition_keys if task.partition is None else (task.partition,)
    return [plan_partition(dataset, task.storage, native, key) for key in keys]
