"""What a contender is, and what those without a store of their own share: the same input and the same output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import FsspecStore

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.core.variables import Kind
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import open_cube_store
from scs2_cubes_tests.benchmarks.tasks import Task

__all__ = [
    "Contender",
    "GraphSize",
    "Outcome",
    "create_cube",
    "has_classes",
    "member_mean",
    "nodata_of",
    "open_source_group",
    "read_window",
    "window_affine",
]


@dataclass(frozen=True, slots=True)
class GraphSize:
    """How large a contender's task graph is."""

    tasks: int
    """Number of tasks."""
    n_bytes: int
    """Bytes when pickled, as a scheduler would get it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contender tells about its run."""

    graph: Callable[[], GraphSize] | None = None
    """Reckons the graph's size, after the measurement; None without a graph."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that a user could pick."""

    name: str
    """In tables and options."""
    run: Callable[[Task, Any], Outcome]
    """Makes the task's cube below its output folder, as ``<cube>.zarr``, from what ``prepare`` gave."""
    makes: Callable[[Task], bool]
    """Whether it takes part in this cube."""
    caveat: str
    """In what it isn't the same as ours; empty where it is."""
    is_judged: bool = True
    """Whether its pixels are compared with the exact ones."""
    prepare: Callable[[Task], Any] | None = None
    """What is done before the clock starts; its result goes to ``run``."""


def open_source_group(url: str) -> zarr.Group:
    """The Zarr group at an http address, by zarr-python over fsspec, as everybody reads it. Reads the metadata."""
    filesystem, path = fsspec.core.url_to_fs(url, asynchronous=True)
    return zarr.open_group(FsspecStore(filesystem, path=path, read_only=True), mode="r", zarr_format=2)


def create_cube(task: Task, plan: CubePlan) -> zarr.Group:
    """An empty cube with ours' layout (codec, chunks, dtypes, fill), opened for writing with zarr-python."""
    store = open_cube_store(StorageSpec(task.output), task.cube)
    store.create(plan.schema)
    return zarr.open_group(store.url, mode="r+", zarr_format=2)


def read_window(
    array: zarr.Array[Any], native: NativeDataset, described: NativeArray, window: Window, step: int
) -> npt.NDArray[Any]:
    """(row, column), or (member, row, column), of one time step of a window, undecoded."""
    rows, cols = window.slices
    place: dict[str, slice | int] = {native.y_dim: rows, native.x_dim: cols}
    if native.time_dim is not None:
        place[native.time_dim] = step
    selection = tuple(place.get(dim, slice(None)) for dim in described.dims)
    kept = [dim for dim in described.dims if not isinstance(place.get(dim), int)]
    order = sorted(range(len(kept)), key=lambda axis: (kept[axis] == native.x_dim, kept[axis] == native.y_dim))
    return np.asarray(array[selection]).transpose(order)


def window_affine(plan: CubePlan, window: Window) -> tuple[float, float, float, float, float, float]:
    """Affine transform (a, b, c, d, e, f) of a window of the source."""
    lattice = plan.native.lattice
    x = lattice.x_origin + window.col_start * lattice.dx
    y = lattice.y_origin + window.row_start * lattice.dy
    return lattice.dx, 0.0, x, 0.0, lattice.dy, y


def nodata_of(layer: LayerPlan) -> float | None:
    """The source's number for "no value"; None where only NaN is one."""
    return None if layer.nodata is None or np.isnan(layer.nodata) else float(layer.nodata)


def member_mean(members: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.float32]:
    """Mean over the valid of (member, row, column), with numpy, as a user without compiled code writes it."""
    valid = np.ones(members.shape, bool) if nodata is None else members != nodata
    count = valid.sum(axis=0)
    total = np.where(valid, members, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.float32] = (total / count).astype(np.float32)
    return mean


def has_classes(task: Task) -> bool:
    """Whether the cube holds class codes."""
    variables = task.dataset.product.variables if task.dataset.product else ()
    return any(variable.kind is Kind.CATEGORICAL for variable in variables)
