"""What the schema knows and can't be done yet: found, checked for typing errors, and refused in so many words."""

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes_tests.config.conftest import World

RESAMPLING: dict[str, Any] = {
    "interp_methods": {"a": "nearest", "b": 1},
    "agg_methods": "mode",
    "fill_values": {"a": 255},
    "recover_nans": True,
    "prevent_nan_propagations": {"a": False},
    "variables": ["a", "b"],
    "tile_size": [2048, 2048],
    "error_model": "independent",
}
IN_TIME: dict[str, Any] = {
    "frequency": "1YE",
    "variables": "a",
    "interp_methods": "linear",
    "agg_methods": {"a": "mean"},
    "offset": "6M",
    "tolerance": "1D",
}
PROCESSING = {"module_path": "processing.py", "function_name": "modify", "timeout": 60, "processing": "whole"}


@pytest.fixture
def everything(world: World) -> World:
    """A configuration in which everything of the schema is set."""
    (world.folder / "processing.py").write_text("def modify(dataset):\n    return dataset\n", encoding="utf-8")
    world.data["datasets"][0] |= {
        "open_params": {
            "time_range": ["2020-01-01", None],
            "variable_names": ["a"],
            "bbox": [0, 1, 2, 3],
            "crs": "EPSG:4326",
        },
        "zero": {"a": "value"},
        "custom_processing": PROCESSING,
        "spatial_resample_params": RESAMPLING,
        "temporal_resample_params": IN_TIME,
        "format_id": "levels",
        "chunksize": {"x": 512, "y": 512, "time": 1},
        "xr_merge_params": {"compat": "override", "anything": 1},
        "zarr_format": 3,
    }
    world.data["datasets"].append(
        {
            "identifier": "many",
            "grid_mapping": "landes",
            "format_id": "netcdf",
            "variables": [
                {
                    "identifier": "v",
                    "store": "clms",
                    "data_id": "forest-type|FTY",
                    "open_params": {"anything": 1},
                    "custom_processing": PROCESSING,
                    "spatial_resample_params": RESAMPLING,
                    "temporal_resample_params": IN_TIME,
                }
            ],
        }
    )
    world.data["data_stores"].append(
        {
            "identifier": "clms",
            "store_id": "clms",
            "store_params": {
                "credentials": "a.json",
                "api_url": "https://h/",
                "cache": "a",
                "href_rewrite": {"a": "b"},
            },
        }
    )
    world.data["data_stores"].append(
        {
            "identifier": "cciodp",
            "store_id": "cciodp",
            "store_params": {"endpoint_url": "https://h/", "endpoint_description_url": "https://h/", "cache": "b"},
        }
    )
    for store_id, params in (
        ("zenodo", {"a": 1}),
        ("s3", {"root": "bucket/folder", "storage_options": {"anon": True}}),
        ("file", {"root": "folder"}),
        ("https", {"root": "https://h/folder"}),
    ):
        world.data["data_stores"].append({"identifier": store_id, "store_id": store_id, "store_params": params})
    world.data["preload_datasets"] = [
        {"store": "clms", "data_ids": ["a|b"], "preload_params": {"max_wait": 1, "cleanup": False, "blocking": False}},
        {"store": "zenodo", "data_ids": ["a"]},
    ]
    world.data["general"] = {
        "visualize": True,
        "force_preload": True,
        "gdal_http_params": {"gdal_http_max_retry": 3, "gdal_http_retry_delay": 1},
        "retry": {"deadline": 1, "max_attempts": 2, "initial_wait": 3, "max_wait": 4, "timeout": 5},
    }
    world.data["dask"] = {"mode": "local", "n_workers": 1, "threads_per_worker": 2, "memory_limit": "2 GB"}
    return world


def test_refused_for_nothing_else(everything: World) -> None:
    assert sorted(everything.lines()) == sorted(
        [
            "datasets[0].temporal_resample_params: resampling in time isn't supported yet; remove it",
            "datasets[0].xr_merge_params: merging several sources isn't supported yet; remove it",
            "datasets[0].format_id: the format levels isn't supported yet; only zarr is",
            "datasets[2].variables: a cube from several sources isn't supported yet; remove it",
            "datasets[2].format_id: the format netcdf isn't supported yet; only zarr is",
            (
                "data_stores[4].store_id: 'zenodo' isn't supported yet as source; supported: cciodp, clms, file, "
                "https, s3, stac"
            ),
            (
                "preload_datasets[0].preload_params.blocking: false isn't supported: a run waits for its order, at "
                "most for max_wait seconds. Leave it out"
            ),
        ]
    )


@pytest.mark.parametrize("key", ["spatial_res", "point", "bbox_width", "tile_size"])
def test_other_parameters_of_stores(world: World, key: str) -> None:
    world.data["datasets"][0]["open_params"] = {key: 1}
    assert world.lines() == [
        f"datasets[0].open_params.{key}: isn't supported yet; supported: bbox, crs, time_range, variable_names"
    ]


@pytest.mark.parametrize("store_id", ["stac", "clms", "cciodp", "https"])
def test_what_cannot_be_a_storage(world: World, store_id: str) -> None:
    world.data["data_stores"][0] = {"identifier": "storage", "store_id": store_id}
    assert world.lines() == [
        f"data_stores[0].store_id: {store_id!r} isn't supported yet as storage; supported: file, s3"
    ]


def test_typing_errors_in_what_isnt_supported(everything: World) -> None:
    first = everything.data["datasets"][0]
    first["spatial_resample_params"] = {"interp_method": 1, "agg_methods": {"a": "modus"}}
    first["custom_processing"] = {"module_path": "a.py"}
    everything.data["datasets"][2]["variables"][0]["store"] = "clns"
    everything.data["preload_datasets"][0]["store"] = "clns"
    lines = everything.lines()
    for line in (
        "datasets[0].spatial_resample_params.interp_method: unknown key; did you mean 'interp_methods'?",
        (
            "datasets[0].spatial_resample_params.agg_methods.a: "
            "'modus' isn't one of the values that are possible here; did you mean 'mode'?"
        ),
        "datasets[0].custom_processing.function_name: required key is missing",
        "datasets[2].variables[0].store: no data store 'clns'; did you mean 'clms'?",
        "preload_datasets[0].store: no data store 'clns'; did you mean 'clms'?",
    ):
        assert line in lines


def test_single_and_multi_source_exclude_each_other(everything: World) -> None:
    everything.data["datasets"][2]["store"] = "clms"
    line = "datasets[2].store: can't stand together with 'variables'; leave one of the two out"
    assert line in everything.lines()


def test_older_scheduler_and_its_section(world: World) -> None:
    world.data |= {"general": {"dask_scheduler": "threads"}, "dask": {"n_workers": 2}}
    assert world.lines() == ["general.dask_scheduler: can't stand together with the section 'dask'; remove it"]
