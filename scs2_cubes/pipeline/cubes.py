"""From a dataset's specification to its plan and its store: where sources and storage meet."""

from __future__ import annotations

from dataclasses import dataclass

from scs2_cubes.core.grid import Grid, Partition, Region
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import NATIVE_PARTITION, DatasetSpec, StorageSpec
from scs2_cubes.errors import PlanError
from scs2_cubes.pipeline.materialize import Fetch
from scs2_cubes.pipeline.plan import CubePlan, make_plan
from scs2_cubes.preload import WINDOWS, Tell, WantedWindow, WindowReport, describe
from scs2_cubes.storage import CubeStore, cube_name, open_cube_store

__all__ = ["PlannedPartition", "describe_source", "plan_partition", "store_of", "window_fetch"]


@dataclass(frozen=True, slots=True)
class PlannedPartition:
    """A partition with the plan and the store of the cube that it is part of."""

    partition: Partition
    """Which."""
    plan: CubePlan
    """How its cube is made."""
    store: CubeStore
    """Where its cube lies."""


def store_of(storage: StorageSpec, dataset: DatasetSpec, region: str | None) -> CubeStore:
    """The store of ``dataset``'s cube on ``region`` (None: native grid). No I/O."""
    return open_cube_store(storage, cube_name(dataset.identifier, region if dataset.region_folders else None))


def describe_source(dataset: DatasetSpec) -> NativeDataset:
    """Ask ``dataset``'s source what it holds now: metadata, no pixels.

    Raises what :meth:`scs2_cubes.sources.base.DescribedSource.describe` raises, or ConfigurationError where the
    source's datasets must be fetched first.
    """
    return describe(dataset.store, dataset.data_id)


def window_fetch(dataset: DatasetSpec, native: NativeDataset, tell: Tell) -> Fetch | None:
    """What brings windows of ``native`` near, for all partitions of ``dataset``; None where there's no need. No I/O.

    ``tell`` gets a line about what is fetched now and then. See :class:`scs2_cubes.preload.WindowPreload`.
    """
    opener = WINDOWS.get(dataset.store.protocol)
    if opener is None:
        return None
    preload = opener(dataset.store)

    def fetch(wanted: tuple[WantedWindow, ...]) -> WindowReport:
        return preload.fetch(native, wanted, tell)

    return fetch


def plan_partition(dataset: DatasetSpec, storage: StorageSpec, native: NativeDataset, key: str) -> PlannedPartition:
    """Plan the partition ``key`` of ``dataset`` from what its source holds. No I/O.

    Raises PlanError where the cube can't be made from this source, or where there is no such partition.
    """
    partition = next((one for one in _partitions(dataset, native) if one.key == key), None)
    if partition is None:
        raise PlanError(f"dataset {dataset.identifier!r} has no partition {key!r}: {', '.join(dataset.partition_keys)}")
    plan = make_plan(dataset, partition.region, native)
    return PlannedPartition(partition, plan, store_of(storage, dataset, partition.region.name))


def _partitions(dataset: DatasetSpec, native: NativeDataset) -> tuple[Partition, ...]:
    if dataset.regions:
        return dataset.partitions
    region = Region(NATIVE_PARTITION, _native_grid(native))
    return (Partition(NATIVE_PARTITION, region, 0, region.grid.tile_rows, 0, region.grid.tile_cols),)


def _native_grid(native: NativeDataset) -> Grid:
    """The source's lattice as a target, tiled as the source is chunked."""
    lattice = native.lattice
    west, south, _, _ = lattice.bbox
    first = native.arrays[0]
    sizes = dict(zip(first.dims, first.chunks, strict=True))
    return Grid(
        crs=lattice.crs,
        west=west,
        south=south,
        x_res=abs(lattice.dx),
        y_res=abs(lattice.dy),
        nx=lattice.nx,
        ny=lattice.ny,
        tile_nx=sizes[native.x_dim],
        tile_ny=sizes[native.y_dim],
    )
