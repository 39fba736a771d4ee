"""From the entries of ``datasets`` to specifications: every section checked against product and grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scs2_cubes.config.chunks import chunk_shape, report_tile_size
from scs2_cubes.config.data_ids import report_data_id
from scs2_cubes.config.functions import function_spec
from scs2_cubes.config.grids import GridChoice
from scs2_cubes.config.models import OpenParams, SingleSource
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.products import load_products, product_for
from scs2_cubes.config.protocols import canonical_data_id
from scs2_cubes.config.resampling import resample_spec
from scs2_cubes.config.validation import Sections
from scs2_cubes.config.variables import KnownVariables, known_variables, member_statistics, zero_values
from scs2_cubes.core.specification import DatasetSpec, FunctionSpec, StoreSpec

__all__ = ["dataset_specs"]


def dataset_specs(
    sections: Sections,
    grids: Mapping[int, GridChoice],
    stores: Mapping[str, StoreSpec],
    folder: Path,
    problems: Problems,
) -> tuple[DatasetSpec, ...]:
    """The datasets with one source, in the order of the file; without those whose grid or store isn't there.

    Reads the product descriptions, and users' functions, which lie relative to ``folder``.
    """
    products = load_products()
    specs = (
        _dataset_spec(
            cube,
            ("datasets", index),
            known_variables(cube, product_for(cube.data_id, products)),
            grids.get(index),
            stores.get(cube.store),
            folder,
            problems,
        )
        for index, cube in sections.datasets.items()
        if isinstance(cube, SingleSource)
    )
    return tuple(spec for spec in specs if spec)


def _dataset_spec(
    cube: SingleSource,
    path: KeyPath,
    known: KnownVariables,
    grid: GridChoice | None,
    store: StoreSpec | None,
    folder: Path,
    problems: Problems,
) -> DatasetSpec | None:
    selection = cube.open_params or OpenParams()
    names, bbox = selection.variable_names, selection.bbox
    product, zero_is_value = zero_values(cube, known, (*path, "zero"), problems)
    statistics = member_statistics(cube, known, (*path, "statistics"), problems)
    resampling = resample_spec(cube, known, (*path, "spatial_resample_params"), problems)
    report_tile_size(cube, grid, (*path, "spatial_resample_params", "tile_size"), problems)
    processing = _processing(cube, folder, (*path, "custom_processing"), problems)
    chunks = chunk_shape(cube.chunksize, grid, (*path, "chunksize"), problems)
    times = _quicklook_times(cube, (*path, "quicklook_times"), problems)
    if grid is None or store is None:
        return None
    report_data_id(store.protocol, cube.data_id, (*path, "data_id"), problems)
    data_id = canonical_data_id(store.protocol, cube.data_id)
    return DatasetSpec(
        identifier=cube.identifier,
        store=store,
        data_id=data_id,
        regions=grid.regions,
        region_folders=grid.region_folders,
        product=product,
        time_range=(selection.time_range[0], selection.time_range[1]) if selection.time_range else None,
        variable_names=(names,) if isinstance(names, str) else names,
        zarr_format=cube.zarr_format,
        description=f"{product.title if product else cube.identifier}: {data_id} from {store.identifier}",
        bbox=(bbox[0], bbox[1], bbox[2], bbox[3]) if bbox else None,
        bbox_crs=selection.crs,
        processing=processing,
        resampling=resampling,
        statistics=statistics,
        zero_is_value=zero_is_value,
        chunks=chunks,
        remade_on_new_version=cube.automation == "on_new_version",
        quicklook_times=times,
    )


def _processing(cube: SingleSource, folder: Path, path: KeyPath, problems: Problems) -> FunctionSpec | None:
    return function_spec(cube.custom_processing, folder, path, problems) if cube.custom_processing else None


def _quicklook_times(cube: SingleSource, path: KeyPath, problems: Problems) -> tuple[str, ...]:
    times = (cube.quicklook_times,) if isinstance(cube.quicklook_times, str) else cube.quicklook_times or ()
    for number, time in enumerate(times):
        if time in times[:number]:
            problems.add((*path, number), f"{time!r} stands in the list twice")
    return times
