"""The effective configuration: every default filled in, every reference resolved, every secret masked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from scs2_cubes.config.load import load_case
from scs2_cubes.config.masking import masked, without_secrets
from scs2_cubes.core.grid import Region
from scs2_cubes.core.specification import (
    Case,
    DatasetSpec,
    FunctionSpec,
    PreloadSpec,
    ResampleSpec,
    SiteSpec,
    StoreSpec,
)

__all__ = ["describe", "effective"]


def effective(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The configuration as it takes effect, as nested dicts and lists for YAML or a table.

    Reads and raises as :func:`~scs2_cubes.config.load.load_case` does.
    """
    return describe(load_case(path, environ=environ))


def describe(case: Case) -> dict[str, Any]:
    """The same for a case that is loaded already. Section and key names are those of the configuration."""
    retry = case.stores[0].retry if case.stores else None
    plain: dict[str, Any] = masked(
        {
            "configuration": case.name,
            "datasets": [_dataset(dataset) for dataset in case.datasets],
            "data_stores": [_storage(case), *(_store(store) for store in case.stores)],
            "grid_mappings": [_region(region) for region in case.regions],
            "preload_datasets": [_preload(preload) for preload in case.preloads],
            "general": {
                "visualize": case.visualize,
                "force_preload": any(preload.force for preload in case.preloads),
                "retry": asdict(retry) if retry else None,
            },
            "dask": asdict(case.dask),
            "automation": {
                "interval": case.automation.interval,
                "sensors": "running" if case.automation.running else "stopped",
            },
            "sites": [_site(site) for site in case.sites],
            "warnings": list(case.warnings),
        }
    )
    plain["dask"]["address"] = without_secrets(case.dask.address) if case.dask.address else None
    return plain


def _dataset(dataset: DatasetSpec) -> dict[str, Any]:
    return {
        "identifier": dataset.identifier,
        "store": dataset.store.identifier,
        "data_id": dataset.data_id,
        "grid_mapping": [region.name for region in dataset.regions] or None,
        "region_folders": dataset.region_folders,
        "partitions": list(dataset.partition_keys),
        "product": dataset.product.identifier if dataset.product else None,
        "open_params": {
            "time_range": list(dataset.time_range) if dataset.time_range else None,
            "variable_names": list(dataset.variable_names) if dataset.variable_names else None,
            "bbox": list(dataset.bbox) if dataset.bbox else None,
            "crs": dataset.bbox_crs,
        },
        "custom_processing": _processing(dataset.processing) if dataset.processing else None,
        "spatial_resample_params": _resampling(dataset.resampling),
        "statistics": {name: [str(one) for one in several] for name, several in dataset.statistics.items()},
        "zero": dict.fromkeys(sorted(dataset.zero_is_value | _zeros_of_product(dataset)), "value"),
        "format_id": "zarr",
        "chunksize": {"y": dataset.chunks[0], "x": dataset.chunks[1]} if dataset.chunks else None,
        "zarr_format": dataset.zarr_format,
        "automation": "on_new_version" if dataset.remade_on_new_version else "manual",
        "quicklook_times": list(dataset.quicklook_times) or None,
    }


def _zeros_of_product(dataset: DatasetSpec) -> frozenset[str]:
    variables = dataset.product.variables if dataset.product else ()
    return frozenset(variable.name for variable in variables if variable.zero_is_value)


def _processing(function: FunctionSpec) -> dict[str, Any]:
    return {
        "module_path": function.path,
        "function_name": function.name,
        "timeout": function.timeout,
        "processing": "whole" if function.whole else "tile",
    }


def _resampling(resampling: ResampleSpec) -> dict[str, Any]:
    return {
        "interp_methods": _one_or_each(resampling, "refine"),
        "agg_methods": _one_or_each(resampling, "coarsen"),
        "fill_values": _one_or_each(resampling, "fill"),
        # Whatever the file says: a missing value never spreads here.
        "prevent_nan_propagations": True,
        "variables": list(resampling.only) if resampling.only else None,
        "error_model": resampling.error_model,
    }


def _one_or_each(resampling: ResampleSpec, option: str) -> Any:
    """One value for all variables, or one by variable, as the schema has it; None where the kinds decide."""
    for_all = getattr(resampling.default, option)
    if for_all is not None:
        return for_all
    each = {name: getattr(options, option) for name, options in resampling.variables.items()}
    return {name: value for name, value in each.items() if value is not None} or None


def _storage(case: Case) -> dict[str, Any]:
    root = case.storage.root
    # Where it lies on disk there are none.
    options = {"storage_options": dict(case.storage.options)} if case.storage.options else {}
    return {
        "identifier": "storage",
        "store_id": "s3" if root.startswith("s3://") else "file",
        "store_params": {"root": without_secrets(root), **options},
    }


def _store(store: StoreSpec) -> dict[str, Any]:
    params = {key: without_secrets(value) if isinstance(value, str) else value for key, value in store.params.items()}
    cache = {"cache": without_secrets(store.cache.root)} if store.cache else {}
    rewrite = {without_secrets(prefix): without_secrets(replacement) for prefix, replacement in store.href_rewrite}
    return {
        "identifier": store.identifier,
        "store_id": store.protocol,
        "store_params": {**params, "href_rewrite": rewrite, **cache},
    }


def _preload(preload: PreloadSpec) -> dict[str, Any]:
    return {
        "store": preload.store.identifier,
        "data_ids": [preload.data_id],
        "preload_params": {"max_wait": preload.max_wait, "cleanup": preload.cleanup},
    }


def _site(site: SiteSpec) -> dict[str, Any]:
    return {"identifier": site.name, "point": [site.x, site.y], "crs": site.crs}


def _region(region: Region) -> dict[str, Any]:
    grid = region.grid
    return {
        "identifier": region.name,
        "bbox": list(grid.bbox),
        "crs": grid.crs,
        "spatial_res": [grid.x_res, grid.y_res],
        "tile_size": [grid.tile_nx, grid.tile_ny],
        "size": [grid.nx, grid.ny],
    }
