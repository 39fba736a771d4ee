"""A small archive on disk whose content can be published anew, and a configuration that makes a cube of it.

Source and target lie on lattices of 30 m that don't coincide. The source has classes and quantities; what it holds is
made by numpy alone, so that tests can tell what must be in a cube.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
import zarr
from pyproj import CRS

from scs2_cubes.config import load_case
from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import StorageError
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition
from scs2_cubes.pipeline.materialize import PartitionReport, materialize_partition, prepare_cube
from scs2_cubes.storage.objects import Objects
from scs2_cubes.storage.zarr_cube import ZarrCube

__all__ = [
    "CLASS_FILL",
    "FIRST_YEAR",
    "HEIGHT_FILL",
    "TILES",
    "Archive",
    "Disk",
    "DiskFullError",
    "Tree",
    "World",
    "tree",
]

FIRST_YEAR = 2000
CLASS_FILL, HEIGHT_FILL = 255, -9999.0
#: Of the source: rows, columns, edge of a chunk, upper-left corner.
ROWS, COLS, CHUNK, WEST, NORTH = 64, 64, 16, 3_400_007.0, 2_501_933.0
#: Of the target: 32 x 48 pixels in 2 x 3 tiles, all of them within the source.
BBOX, TILE, TILES = [3_400_100, 2_500_300, 3_401_540, 2_501_260], 16, 6

Tree = dict[str, bytes]


def classes(edition: int, year: int) -> npt.NDArray[np.uint8]:
    """(row, column) of one year: patches of 3 x 3 pixels; 255 where there is no value."""
    rng = np.random.default_rng([edition, year])
    patches = rng.integers(0, 5, (22, 22)).repeat(3, axis=0).repeat(3, axis=1)[:ROWS, :COLS].astype(np.uint8)
    patches[rng.random(patches.shape) < 0.05] = CLASS_FILL
    return patches


def heights(edition: int, year: int) -> npt.NDArray[np.float32]:
    """(row, column) of one year; -9999 where there is no value."""
    rows, cols = np.mgrid[:ROWS, :COLS]
    values = 10 + 3 * np.sin(rows / 5 + year) + 2 * np.cos(cols / 7) + edition
    values[np.random.default_rng([edition, year, 1]).random(values.shape) < 0.05] = HEIGHT_FILL
    return np.asarray(values, dtype=np.float32)


@dataclass
class Archive:
    """A STAC catalogue with one item in the folder ``folder``."""

    folder: Path
    data_id: str = "forest/forest.json"

    @property
    def url(self) -> str:
        return str(self.folder / "catalog.json")

    def publish(
        self, edition: int = 1, years: int = 2, void: Sequence[tuple[slice, slice]] = (), *, stored: bool = False
    ) -> None:
        """Write the store of an edition. Nothing has a value in ``void``, whose chunks aren't there unless ``stored``.

        The pixels of a year depend on the edition, not on how many years there are.
        """
        path = self.folder / "forest/forest.zarr"
        path.parent.mkdir(parents=True, exist_ok=True)
        group = zarr.create_group(
            path, zarr_format=2, overwrite=True, attributes={"creation_date": f"{edition}/{years}/{void}/{stored}"}
        )
        span = range(FIRST_YEAR, FIRST_YEAR + years)
        for name, make, fill, attrs in (
            ("kind", classes, CLASS_FILL, {"flag_values": [0, 1, 2, 3, 4], "flag_meanings": "a b c d e"}),
            ("height", heights, HEIGHT_FILL, {"units": "m"}),
        ):
            values = np.stack([make(edition, year) for year in span])
            for rows, cols in void:
                values[:, rows, cols] = fill
            _array(group, name, ("time", "y", "x"), values, fill, {**attrs, "grid_mapping": "spatial_ref"}, stored)
        _array(group, "y", ("y",), NORTH - (np.arange(ROWS) + 0.5) * 30)
        _array(group, "x", ("x",), WEST + (np.arange(COLS) + 0.5) * 30)
        _array(group, "spatial_ref", (), np.array(0), attrs={"crs_wkt": CRS.from_epsg(3035).to_wkt()})
        days = [int((np.datetime64(f"{year}-01-01") - np.datetime64("2000-01-01")).astype(int)) for year in span]
        _array(group, "time", ("time",), np.array(days), attrs={"units": "days since 2000-01-01"})
        zarr.consolidate_metadata(group.store)
        asset = {"href": "./forest.zarr", "type": "application/vnd.zarr"}
        item = {"type": "Feature", "id": "forest", "links": [], "assets": {"zarr": asset}}
        (self.folder / self.data_id).write_text(json.dumps(item), encoding="utf-8")


def _array(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: npt.NDArray[Any],
    fill: float | None = None,
    attrs: dict[str, Any] | None = None,
    stored: bool = True,
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(1, CHUNK, CHUNK) if values.ndim == 3 else values.shape,
        dtype=values.dtype,
        fill_value=fill,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **(attrs or {})},
        config={"write_empty_chunks": stored},
    )
    array[...] = values


@dataclass
class World:
    """A configuration of one dataset, ``forest``; ``data`` may be changed between two plans."""

    folder: Path
    archive: Archive
    data: dict[str, Any] = field(init=False)
    head: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = {
            "data_stores": [
                {"identifier": "storage", "store_id": "file", "store_params": {"root": str(self.root)}},
                {"identifier": "archive", "store_id": "stac", "store_params": {"url": self.archive.url}},
            ],
            "grid_mappings": [
                {"identifier": "here", "bbox": BBOX, "crs": "EPSG:3035", "spatial_res": 30, "tile_size": TILE}
            ],
            "datasets": [
                {
                    "identifier": "forest",
                    "store": "archive",
                    "data_id": self.archive.data_id,
                    "grid_mapping": "here",
                }
            ],
        }

    @property
    def root(self) -> Path:
        return self.folder / "cubes"

    @property
    def path(self) -> Path:
        return self.folder / "case.yml"

    @property
    def dataset(self) -> dict[str, Any]:
        """The dataset's entry, to be changed."""
        entry: dict[str, Any] = self.data["datasets"][0]
        return entry

    def write(self) -> Path:
        text = self.head + yaml.safe_dump(self.data, sort_keys=False)
        # At once, since another thread may be reading it.
        unseen = self.path.with_suffix(f".{threading.get_ident()}")
        unseen.write_text(text, encoding="utf-8")
        unseen.replace(self.path)
        return self.path

    def case(self) -> Case:
        return load_case(self.write(), environ={})

    def spec(self) -> DatasetSpec:
        return self.case().dataset("forest")

    def plan(self, key: str = "here") -> PlannedPartition:
        """The plan from the configuration and the archive as they are now."""
        case = self.case()
        dataset = case.dataset("forest")
        return plan_partition(dataset, case.storage, describe_source(dataset), key)

    def make(self, objects: Callable[[Objects], Objects] | None = None, threads: int = 2) -> PartitionReport:
        """Make what is due, on storage that ``objects`` may spoil."""
        planned = self.plan()
        store = planned.store
        if objects is not None:
            whole = ZarrCube.at(self.case().storage, "forest")
            store = ZarrCube(whole.name, whole.storage, objects(whole.objects))
        prepare_cube(planned.plan, store)
        return materialize_partition(planned.plan, planned.partition, store, ThreadCompute(threads), lambda _: None)

    def records(self) -> dict[str, TileRecord]:
        return self.plan().store.records()

    def tree(self) -> Tree:
        return tree(self.root)

    def values(self, layer: str) -> npt.NDArray[Any]:
        """What lies there, with plain zarr; (step, row, column)."""
        return np.asarray(zarr.open_array(str(self.root / "forest.zarr"), path=layer, mode="r")[...])


def tree(root: Path) -> Tree:
    """Path below ``root`` → bytes, of all files of cubes and records."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in [*root.rglob("*.zarr"), *root.rglob("*.records")]
        for path in folder.rglob("*")
        if path.is_file()
    }


class DiskFullError(StorageError):
    """What the storage of a trial says from some moment on."""


class Disk(Objects):
    """Objects of which nothing changes any more after ``changes`` puts and deletions, as where a process was killed.

    ``seen`` is called after each of them.
    """

    def __init__(self, objects: Objects, changes: int = -1, seen: Callable[[], None] = lambda: None) -> None:
        self.changed: list[str] = []
        self._objects = objects
        self._changes = changes
        self._seen = seen

    def put(self, key: str, value: bytes) -> None:
        self._count(key)
        self._objects.put(key, value)
        self._seen()

    def delete(self, key: str) -> None:
        self._count(key)
        self._objects.delete(key)
        self._seen()

    def move(self, prefix: str, target: str) -> None:
        self._count(prefix)
        self._objects.move(prefix, target)
        self._seen()

    def is_being_moved(self, prefix: str, target: str) -> bool:
        return self._objects.is_being_moved(prefix, target)

    def _count(self, key: str) -> None:
        if len(self.changed) == self._changes:
            raise DiskFullError(f"{key}: no space left on device")
        self.changed.append(key)

    def get(self, key: str) -> bytes | None:
        return self._objects.get(key)

    def keys(self, prefix: str) -> Any:
        return self._objects.keys(prefix)

    def size(self, prefix: str) -> int:
        return self._objects.size(prefix)

    def exists(self, prefix: str) -> bool:
        return self._objects.exists(prefix)

    def shown(self, key: str) -> str:
        return self.url(key)

    def url(self, key: str) -> str:
        return self._objects.url(key)
