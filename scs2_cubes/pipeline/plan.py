"""Which windows, which chunks, how many bytes: integers in, integers out. Reads nothing.

A plan holds no pixels and no connections. It is made once per cube and region, travels to the workers, and is all
that they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any

import numpy as np

from scs2_cubes.core.cube import CubeLayer, CubeSchema
from scs2_cubes.core.grid import Grid, Region, Window
from scs2_cubes.core.harmonise import layer_attributes
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.core.transform import IndexMap, index_map
from scs2_cubes.core.versions import KERNEL_CODE_VERSION, data_version
from scs2_cubes.errors import PlanError
from scs2_cubes.pipeline.layers import LayerPlan, plan_layers

__all__ = ["CubePlan", "Job", "blocks_of", "make_plan", "specification_components", "specification_version"]


@dataclass(frozen=True, slots=True)
class Job:
    """The part of a tile's work that shares source chunks: one array, and the steps that lie in one of its chunks.

    Where the source stores one step per chunk, a job makes one output chunk of each of the array's layers.
    """

    array: str
    """Name of the source's array."""
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
    """Position on the source's time axis of each step of the cube; (0,) without a time axis."""
    schema: CubeSchema
    """The cube's identity."""
    components: Mapping[str, Any]
    """Everything that can change pixels, as plain JSON values."""
    attrs: Mapping[str, Any]
    """Global attributes that depend on the version; added when the last tile is complete."""

    @property
    def data_version(self) -> str:
        """Fingerprint of ``components``."""
        return data_version(self.components)

    @property
    def source_version(self) -> str:
        """What the source says about its present content."""
        return self.native.version

    def layers_of(self, array: str) -> tuple[LayerPlan, ...]:
        """The layers that come from ``array``."""
        return tuple(layer for layer in self.layers if layer.array == array)

    def jobs(self) -> tuple[Job, ...]:
        """The work of each tile, in parts; the same for every tile."""
        jobs = []
        for name in dict.fromkeys(layer.array for layer in self.layers):
            size = _time_chunk(self.native, self.native.array(name))
            chunks = groupby(enumerate(self.source_steps), key=lambda pair: pair[1] // size)
            jobs += [Job(name, tuple(step for step, _ in members)) for _, members in chunks]
        return tuple(jobs)


def make_plan(dataset: DatasetSpec, region: Region, native: NativeDataset) -> CubePlan:
    """Plan ``dataset``'s cube on ``region``.

    Raises PlanError where the region lies outside the source, where no step lies in the time range, or where a
    variable is missing or can't be understood.
    """
    mapping = index_map(native.lattice, region.grid.lattice)
    if mapping.source_window(region.grid.lattice.window) is None:
        raise PlanError(
            f"dataset {dataset.identifier!r}: region {region.name!r}, bbox {list(region.grid.bbox)} in "
            f"{region.grid.crs}, lies outside the source {native.href}, bbox {list(native.lattice.bbox)} in "
            f"{native.lattice.crs}"
        )
    layers = plan_layers(dataset, native, mapping)
    if not layers:
        raise PlanError(f"dataset {dataset.identifier!r}: {native.href} has no variable to make a cube of")
    steps, time_is_dim = _select_steps(dataset, native, layers)
    schema = CubeSchema(
        layers=tuple(_cube_layer(layer, native, mapping) for layer in layers),
        grid=region.grid,
        times=tuple(native.times[step] for step in steps) if native.times else (),
        time_is_dim=time_is_dim,
        zarr_format=dataset.zarr_format,
        attrs=_static_attributes(dataset, native),
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
        attrs=_version_attributes(dataset, native, layers),
    )


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


def _select_steps(
    dataset: DatasetSpec, native: NativeDataset, layers: tuple[LayerPlan, ...]
) -> tuple[tuple[int, ...], bool]:
    """(source steps, whether time is a dimension of the cube)."""
    if native.time_dim is None:
        if dataset.time_range is not None and native.times:
            _steps_within(dataset, native, dataset.time_range)
        return (0,), False
    if dataset.time_range is None:
        if all(layer.variable.time == "last" for layer in layers):
            return (len(native.times) - 1,), False
        return tuple(range(len(native.times))), True
    return _steps_within(dataset, native, dataset.time_range), True


def _steps_within(
    dataset: DatasetSpec, native: NativeDataset, time_range: tuple[str | None, str | None]
) -> tuple[int, ...]:
    first, last = time_range
    stamps = np.array(native.times, dtype="datetime64[s]")
    chosen = np.ones(len(stamps), dtype=bool)
    if first is not None:
        chosen &= stamps >= np.datetime64(first)
    if last is not None:
        # A date means the whole day.
        chosen &= stamps.astype("datetime64[D]") <= np.datetime64(last, "D")
    if not chosen.any():
        raise PlanError(
            f"dataset {dataset.identifier!r}: open_params.time_range: no step between {first} and {last}; "
            f"{native.href} has {native.times[0]} to {native.times[-1]}"
        )
    return tuple(int(step) for step in np.flatnonzero(chosen))


def _cube_layer(layer: LayerPlan, native: NativeDataset, mapping: IndexMap) -> CubeLayer:
    attrs = layer_attributes(
        layer.variable,
        native.array(layer.array).attrs,
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
        "processing": None,
        "code_version": {
            "kernels": KERNEL_CODE_VERSION,
            "product": dataset.product.code_version if dataset.product else 0,
        },
    }


def specification_version(dataset: DatasetSpec) -> str:
    """Fingerprint of :func:`specification_components`: Dagster's code version of the cube's asset."""
    return data_version(specification_components(dataset))


def _components(
    dataset: DatasetSpec, grid: Grid, native: NativeDataset, layers: tuple[LayerPlan, ...]
) -> dict[str, Any]:
    """Everything that can change pixels; neither addresses nor credentials nor how it is computed."""
    return {
        **specification_components(dataset),
        "source_version": native.version,
        "layers": [_layer_components(layer) for layer in layers],
        "crs": grid.crs,
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


def _static_attributes(dataset: DatasetSpec, native: NativeDataset) -> dict[str, Any]:
    product = dataset.product
    known = (
        {
            "licence_url": product.licence_url,
            "license": product.licence,
            "references": " ".join(product.references),
            "citation": product.citation,
        }
        if product
        else {}
    )
    added = {
        "Conventions": "CF-1.11",
        "title": product.title if product else str(native.attrs.get("title", dataset.identifier)),
        "source": native.href,
        **{name: value for name, value in known.items() if value},
        **({"non_commercial_use_only": 1} if product and product.non_commercial else {}),
        **native.provenance,
    }
    kept = {name: value for name, value in native.attrs.items() if name not in _VERSIONED_ATTRS}
    return {**kept, **added}


#: Global attributes of a source that describe its present content or its own lattice, not the cube's identity.
_VERSIONED_ATTRS = frozenset(
    {"creation_date", "date_created", "date_modified", "history", "spatial_ref", "crs", "spatial_resolution"}
)


def _version_attributes(dataset: DatasetSpec, native: NativeDataset, layers: tuple[LayerPlan, ...]) -> dict[str, Any]:
    release = version("scs2-cubes")
    steps = "; ".join(
        f"{layer.variable.name}: " + (f"{layer.statistic} of members, " if layer.statistic else "") + str(layer.method)
        for layer in layers
    )
    return {
        "source_version": native.version,
        "scs2_cubes_version": release,
        "history": f"scs2_cubes {release} from {dataset.data_id}: {steps}",
    }
