"""Which windows, which chunks, how many bytes: integers in, integers out. Reads nothing.

A plan holds no pixels and no connections. It is made once per cube and region, travels to the workers, and is all
that they need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from pyproj import CRS

from scs2_cubes.core.cube import CubeLayer, CubeSchema
from scs2_cubes.core.grid import Grid, Region, Tile, Window
from scs2_cubes.core.harmonise import layer_attributes
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import DatasetSpec, FunctionSpec
from scs2_cubes.core.transform import IndexMap, index_map
from scs2_cubes.core.versions import KERNEL_CODE_VERSION, data_version
from scs2_cubes.errors import PlanError
from scs2_cubes.pipeline.attributes import static_attributes, version_attributes
from scs2_cubes.pipeline.layers import LayerPlan, plan_layers
from scs2_cubes.pipeline.selection import select_steps, time_axis, used_window, with_zeros
from scs2_cubes.processing import (
    Output,
    apply_function,
    decode_window,
    learn_outputs,
    load_function,
    narrow_times,
    sample_window,
)

__all__ = ["CubePlan", "Job", "blocks_of", "make_plan", "specification_components", "specification_version"]


@dataclass(frozen=True, slots=True)
class Job:
    """The part of a tile's work that shares source chunks: one array, and the steps that lie in one of its chunks.

    Where the source stores one step per chunk, a job makes one output chunk of each of the array's layers.
    """

    array: str | None
    """Name of the source's array; None: all of them, for a function."""
    steps: tuple[int, ...]
    """Positions on the cube's time axis."""


@dataclass(frozen=True, slots=True)
class CubePlan:
    """How one dataset's cube on one region is made from what the source holds now."""

    identifier: str
    """The dataset."""
    region: Region
    """Its region."""
    native: NativeDataset
    """What the source holds."""
    index_map: IndexMap
    """Where target pixels lie on the source."""
    layers: tuple[LayerPlan, ...]
    """The layers, in order."""
    source_steps: tuple[int, ...]
    """Positions on the source's time axis: of each step of the cube, or of all that a function sees; (0,) without."""
    schema: CubeSchema
    """The cube's identity."""
    components: Mapping[str, Any]
    """Everything that can change pixels, as plain JSON values."""
    attrs: Mapping[str, Any]
    """Global attributes that depend on the version; added when the last tile is complete."""
    limit: Window
    """The part of the source that is used: ``open_params.bbox``, or all of it."""
    processing: FunctionSpec | None
    """The user's function, or None."""

    @property
    def data_version(self) -> str:
        """Fingerprint of ``components``."""
        return data_version(self.components)

    @property
    def source_version(self) -> str:
        """What the source says about its present content."""
        return self.native.version

    def tile_window(self, tile: Tile) -> Window | None:
        """The source pixels that ``tile`` needs, of those that are used; None where there are none."""
        needed = self.index_map.source_window(tile.window)
        return None if needed is None else needed.intersection(self.limit)

    def region_window(self) -> Window | None:
        """The source pixels that the whole region needs, of those that are used; None where there are none."""
        needed = self.index_map.source_window(self.region.grid.lattice.window)
        return None if needed is None else needed.intersection(self.limit)

    def layers_of(self, array: str) -> tuple[LayerPlan, ...]:
        """The layers that come from ``array``."""
        return tuple(layer for layer in self.layers if layer.array == array)

    def jobs(self) -> tuple[Job, ...]:
        """The work of each tile, in parts; the same for every tile. A function takes all of it at once."""
        if self.processing is not None:
            return (Job(None, tuple(range(self.schema.n_steps))),)
        jobs = []
        for name in dict.fromkeys(layer.array for layer in self.layers):
            size = _time_chunk(self.native, self.native.array(name))
            chunks = groupby(enumerate(self.source_steps), key=lambda pair: pair[1] // size)
            jobs += [Job(name, tuple(step for step, _ in members)) for _, members in chunks]
        return tuple(jobs)


def make_plan(dataset: DatasetSpec, region: Region, native: NativeDataset) -> CubePlan:
    """Plan ``dataset``'s cube on ``region``.

    Raises PlanError where the region lies outside the source, where no step lies in the time range, or where a
    variable is missing or can't be understood; ProcessingError where a user's function isn't fit for use.
    """
    native = with_zeros(dataset, native)
    mapping = index_map(native.lattice, region.grid.lattice)
    limit = used_window(dataset, native)
    needed = mapping.source_window(region.grid.lattice.window)
    if needed is None or needed.intersection(limit) is None:
        raise PlanError(
            f"dataset {dataset.identifier!r}: region {region.name!r}, bbox {list(region.grid.bbox)} in "
            f"{region.grid.crs}, lies outside the source {native.href}, bbox {list(native.lattice.bbox)} in "
            f"{native.lattice.crs}" + (f", or outside open_params.bbox {list(dataset.bbox)}" if dataset.bbox else "")
        )
    selected = select_steps(dataset, native)
    outputs = None if dataset.processing is None else _learn(dataset.processing, narrow_times(native, selected))
    layers = plan_layers(dataset, native, mapping, outputs)
    if not layers:
        raise PlanError(f"dataset {dataset.identifier!r}: {native.href} has no variable to make a cube of")
    steps, times, time_is_dim = time_axis(dataset, native, layers, selected)
    schema = CubeSchema(
        layers=tuple(_cube_layer(layer, mapping) for layer in layers),
        grid=region.grid,
        times=times,
        time_is_dim=time_is_dim,
        zarr_format=dataset.zarr_format,
        attrs=static_attributes(dataset, native),
        chunk=dataset.chunks,
    )
    return CubePlan(
        identifier=dataset.identifier,
        region=region,
        native=native,
        index_map=mapping,
        layers=layers,
        source_steps=steps,
        schema=schema,
        components=_components(dataset, region.grid, native, layers),
        attrs=version_attributes(dataset, native, layers),
        limit=limit,
        processing=dataset.processing,
    )


def _learn(spec: FunctionSpec, seen: NativeDataset) -> tuple[Output, ...]:
    """What the function returns, from one call on a small window. No I/O but what the function itself does."""
    window, arrays = sample_window(seen)
    result = apply_function(spec, load_function(spec), decode_window(seen, arrays, window))
    return learn_outputs(spec, seen, result, window)


def blocks_of(native: NativeDataset, array: NativeArray, window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
    """((chunk row, chunk column), its pixels) of the chunks of ``array`` that touch ``window``, row-major."""
    sizes = dict(zip(array.dims, array.chunks, strict=True))
    rows, cols = sizes[native.y_dim], sizes[native.x_dim]
    for row in range(window.row_start // rows, -(-window.row_stop // rows)):
        for col in range(window.col_start // cols, -(-window.col_stop // cols)):
            yield (
                (row, col),
                Window(
                    row * rows,
                    min((row + 1) * rows, native.lattice.ny),
                    col * cols,
                    min((col + 1) * cols, native.lattice.nx),
                ),
            )


def _time_chunk(native: NativeDataset, array: NativeArray) -> int:
    if native.time_dim is None or native.time_dim not in array.dims:
        return 1
    return array.chunks[array.dims.index(native.time_dim)]


def _cube_layer(layer: LayerPlan, mapping: IndexMap) -> CubeLayer:
    attrs = layer_attributes(
        layer.variable,
        layer.attrs,
        method=layer.method,
        coarsening=mapping.coarsening,
        statistic=layer.statistic,
        assumed=layer.assumed,
    )
    return CubeLayer(layer.variable.name, layer.variable.dtype, layer.variable.fill, attrs)


def specification_components(dataset: DatasetSpec) -> dict[str, Any]:
    """What can change pixels and is known without asking the source, as plain JSON values."""
    return {
        "data_id": dataset.data_id,
        "time_range": list(dataset.time_range) if dataset.time_range else None,
        "bbox": [*dataset.bbox, dataset.bbox_crs and _canonical_crs(dataset.bbox_crs)] if dataset.bbox else None,
        "processing": _processing_components(dataset.processing),
        "code_version": {
            "kernels": KERNEL_CODE_VERSION,
            "product": dataset.product.code_version if dataset.product else 0,
        },
    }


def specification_version(dataset: DatasetSpec) -> str:
    """Dagster's code version of the cube's asset: all that the configuration says of its pixels.

    Beside :func:`specification_components` there are options whose effect on the layers only the source can tell; a
    data version knows that effect, and so nothing is made again where there is none.
    """
    options = {
        "resampling": asdict(dataset.resampling),
        "statistics": dict(dataset.statistics),
        "zero_is_value": sorted(dataset.zero_is_value),
    }
    return data_version({**specification_components(dataset), **options})


def _canonical_crs(text: str) -> str:
    """``EPSG:3035``, in whatever words the CRS was asked for; as it stands where no authority has just this one.

    Not WKT, whose words change with PROJ's releases, with which the pixels don't.
    """
    crs = CRS.from_user_input(text)
    authority = crs.to_authority()
    if authority is None or not CRS.from_authority(*authority).equals(crs):
        return text
    return ":".join(authority)


def _processing_components(spec: FunctionSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    digest = hashlib.sha256(spec.source.encode()).hexdigest()
    return {"function": spec.name, "source": digest, "whole": spec.whole}


def _components(
    dataset: DatasetSpec, grid: Grid, native: NativeDataset, layers: tuple[LayerPlan, ...]
) -> dict[str, Any]:
    """Everything that can change pixels; neither addresses nor credentials nor how it is computed."""
    return {
        **specification_components(dataset),
        "source_version": native.version,
        "layers": [_layer_components(layer) for layer in layers],
        "crs": _canonical_crs(grid.crs),
        "anchor": [grid.west, grid.south],
        "resolution": [grid.x_res, grid.y_res],
    }


def _layer_components(layer: LayerPlan) -> dict[str, Any]:
    variable = layer.variable
    return {
        "name": variable.name,
        "array": layer.array,
        "kind": str(variable.kind),
        "statistic": None if layer.statistic is None else str(layer.statistic),
        "method": str(layer.method),
        # As text: NaN isn't JSON.
        "nodata": repr(layer.nodata),
        "dtype": variable.dtype,
        "fill": repr(variable.fill),
        "time": variable.time,
    }
