"""Small archives written with zarr, the cubes that are made of them, and what their pixels must be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from pyproj import CRS, Transformer

from scs2_cubes.core.grid import Grid, Partition, Region, partitions_of
from scs2_cubes.core.native import Location, NativeArray, NativeDataset, RetryPolicy
from scs2_cubes.core.specification import DatasetSpec, StorageSpec, StoreSpec
from scs2_cubes.core.variables import Kind, Product, Variable
from scs2_cubes.pipeline.compute import Compute, ThreadCompute
from scs2_cubes.pipeline.materialize import PartitionReport, Progress, materialize_partition, prepare_cube
from scs2_cubes.pipeline.plan import CubePlan, make_plan
from scs2_cubes.sources import ChunkReader, open_reader
from scs2_cubes.sources.zarr_group import content_version, describe_group
from scs2_cubes.storage import CubeStore, open_cube_store
from scs2_cubes_tests.core import oracles

LAEA = "EPSG:3035"
QUICK = RetryPolicy(deadline=5.0, max_attempts=3, initial_wait=0.01, max_wait=0.02, timeout=5.0)
STORE = StoreSpec("archive", "stac", {"url": "/nowhere/catalog.json"})

#: Of the two archives: (crs, x_origin, y_origin, dx, dy).
AGE_RASTER: oracles.Raster = ("EPSG:4326", -1.03, 44.53, 0.0009, -0.0009)
GENUS_RASTER: oracles.Raster = (LAEA, 3_400_004.0, 2_500_003.0, 10.0, -10.0)
AGE_NODATA, GENUS_NODATA = -9999, 255

AGE = Product(
    "age",
    "Age",
    code_version=1,
    variables=(
        Variable(
            "forest_age",
            Kind.ENSEMBLE,
            "float32",
            float("nan"),
            nodata=AGE_NODATA,
            units="years",
            ensemble_dim="members",
        ),
    ),
)
GENUS = Product(
    "genus",
    "Genus",
    code_version=1,
    variables=(Variable("genus", Kind.CATEGORICAL, "uint8", 255, nodata=GENUS_NODATA),),
)


def age_values() -> npt.NDArray[np.int16]:
    """(member, latitude, longitude, time); smooth, because geolocation may be off by a thousandth of a pixel."""
    rng = np.random.default_rng(11)
    rows, cols = np.mgrid[:60, :80]
    field_ = 120 + 40 * np.sin(rows / 9) + 50 * np.cos(cols / 11)
    members = np.arange(5)[:, None, None, None]
    values: npt.NDArray[np.int16] = np.rint(field_[None, :, :, None] + 3 * members + 10 * np.arange(2)).astype(np.int16)
    values[rng.random(values.shape) < 0.1] = AGE_NODATA
    values[:, 20:31, 25:40] = AGE_NODATA
    # Two whole chunks, which aren't stored at all.
    values[:, 32:48, 48:64] = AGE_NODATA
    values[0:2, 16:32, 16:32] = AGE_NODATA
    return values


def genus_values(seed: int = 12) -> npt.NDArray[np.uint16]:
    """(row, column); patches of 7 x 7 pixels with some noise, and a hole."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 8, (58, 61)).repeat(7, axis=0).repeat(7, axis=1)[:400, :420]
    noisy = np.where(rng.random(patches.shape) < 0.2, rng.integers(0, 8, patches.shape), patches)
    noisy[rng.random(patches.shape) < 0.1] = GENUS_NODATA
    noisy[120:200, 50:170] = GENUS_NODATA
    return noisy.astype(np.uint16)


def write_age(path: Path) -> Path:
    group = zarr.create_group(path, zarr_format=2)
    _array(
        group,
        "forest_age",
        ("members", "latitude", "longitude", "time"),
        age_values(),
        chunks=(2, 16, 16, 2),
        fill=AGE_NODATA,
        attrs={"units": "years", "grid_mapping": "crs"},
    )
    _axes(group, AGE_RASTER, "latitude", "longitude", (60, 80))
    _array(group, "crs", (), np.array(0), attrs={"crs_wkt": CRS.from_user_input("EPSG:4326").to_wkt()})
    _array(group, "time", ("time",), np.array([0, 3652]), attrs={"units": "days since 2010-01-01"})
    zarr.consolidate_metadata(group.store)
    return path


def write_genus(path: Path, values: npt.NDArray[np.uint16] | None = None, created: str = "2026-01-15") -> Path:
    group = zarr.create_group(path, zarr_format=2, attributes={"creation_date": created})
    _array(group, "genus", ("y", "x"), genus_values() if values is None else values, chunks=(64, 64))
    _axes(group, GENUS_RASTER, "y", "x", (400, 420))
    _array(group, "spatial_ref", (), np.array(0), attrs={"crs_wkt": CRS.from_user_input(LAEA).to_wkt()})
    _array(group, "time", (), np.array(0), attrs={"units": "days since 2020-01-01"})
    zarr.consolidate_metadata(group.store)
    return path


def _array(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: npt.NDArray[Any],
    *,
    chunks: tuple[int, ...] | None = None,
    fill: int | None = None,
    attrs: dict[str, Any] | None = None,
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape if chunks is None else chunks,
        dtype=values.dtype,
        fill_value=fill,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **(attrs or {})},
    )
    array[...] = values


def _axes(group: zarr.Group, raster: oracles.Raster, y_dim: str, x_dim: str, shape: tuple[int, int]) -> None:
    _, x_origin, y_origin, dx, dy = raster
    _array(group, y_dim, (y_dim,), y_origin + (np.arange(shape[0]) + 0.5) * dy)
    _array(group, x_dim, (x_dim,), x_origin + (np.arange(shape[1]) + 0.5) * dx)


def native(path: Path | str) -> NativeDataset:
    location = Location(str(path), retry=QUICK)
    version = content_version(location)
    return describe_group(location, href="https://archive.example/a.zarr", version=version, provenance={})


def age_grid(tile: int = 32) -> Grid:
    """110 rows x 120 columns of 30 m over the middle of the age archive."""
    to_metres = Transformer.from_crs("EPSG:4326", LAEA, always_xy=True)
    x, y = to_metres.transform(-1.03 + 40 * 0.0009, 44.53 - 30 * 0.0009)
    west, south = round(x) - 1800, round(y) - 1650
    return Grid.from_bbox([west, south, west + 3600, south + 3300], LAEA, 30, tile)


def genus_grid(tile: int = 32) -> Grid:
    """130 rows x 135 columns of 30 m; reaches beyond the genus archive in the north and in the west."""
    return Grid.from_bbox([3_399_904, 2_496_203, 3_403_954, 2_500_103], LAEA, 30, tile)


def dataset(product: Product | None, *, identifier: str = "forest", **changes: Any) -> DatasetSpec:
    return replace(DatasetSpec(identifier, STORE, "a/b.json", (), region_folders=False, product=product), **changes)


@dataclass(frozen=True)
class World:
    """A cube to make."""

    plan: CubePlan
    storage: StorageSpec

    @property
    def store(self) -> CubeStore:
        return open_cube_store(self.storage, "forest")

    @property
    def partition(self) -> Partition:
        (partition,) = partitions_of(self.plan.region)
        return partition

    def make(
        self,
        compute: Compute | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> PartitionReport:
        prepare_cube(self.plan, self.store)
        return materialize_partition(self.plan, self.partition, self.store, compute or ThreadCompute(2), on_progress)

    def values(self, layer: str) -> npt.NDArray[Any]:
        """What lies there, with plain zarr."""
        return np.asarray(zarr.open_array(self.store.url, path=layer, mode="r")[...])

    def files(self) -> dict[str, bytes]:
        root = Path(self.storage.root)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def age_world(folder: Path, source: Path | str | None = None, **changes: Any) -> World:
    """Two steps of an ensemble, one source chunk in time."""
    path = write_age(folder / "age.zarr") if source is None else source
    plan = make_plan(replace(dataset(AGE), **changes), Region("here", age_grid()), native(path))
    return World(plan, StorageSpec(str(folder / "cubes")))


def genus_world(folder: Path, source: Path | str | None = None, tile: int = 32, **changes: Any) -> World:
    path = write_genus(folder / "genus.zarr") if source is None else source
    plan = make_plan(replace(dataset(GENUS), **changes), Region("here", genus_grid(tile)), native(path))
    return World(plan, StorageSpec(str(folder / "cubes")))


@dataclass
class CountingReader:
    """A real reader that counts."""

    reader: ChunkReader
    reads: Counter[tuple[str, tuple[int, ...]]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, location: Location) -> CountingReader:
        return cls(open_reader(location))

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        with self.lock:
            self.reads[array.name, index] += 1
        return self.reader.fetch_chunk(array, index)

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        return self.reader.decode_chunk(array, index, encoded)
