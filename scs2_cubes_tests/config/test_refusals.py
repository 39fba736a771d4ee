"""What doesn't hold together: each with the very words that it's refused with."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes_tests.config.conftest import World


def _set(data: Any, path: str, value: Any) -> None:
    """Put ``value`` at a path such as ``datasets.0.store``."""
    *way, last = path.split(".")
    for part in way:
        data = data[int(part)] if isinstance(data, list) else data.setdefault(part, {})
    data[int(last) if isinstance(data, list) else last] = value


CLMS: dict[str, Any] = {"identifier": "eoforest_stac", "store_id": "clms"}


def _clms(**params: Any) -> dict[str, Any]:
    return CLMS | {"store_params": {"credentials": "key.json"} | params}


def _cci(**params: Any) -> dict[str, Any]:
    return {"identifier": "eoforest_stac", "store_id": "cciodp", "store_params": params}


CASES = [
    # Unknown keys, on each level.
    ("dataset", [], "dataset: unknown key; did you mean 'datasets'?"),
    ("datasets.0.grid_maping", "x", "datasets[0].grid_maping: unknown key; did you mean 'grid_mapping'?"),
    ("data_stores.1.storeid", "x", "data_stores[1].storeid: unknown key; did you mean 'store_id'?"),
    ("grid_mappings.0.tilesize", 1, "grid_mappings[0].tilesize: unknown key; did you mean 'tile_size'?"),
    ("general.visualise", True, "general.visualise: unknown key; did you mean 'visualize'?"),
    ("general.retry.dedline", 1, "general.retry.dedline: unknown key; did you mean 'deadline'?"),
    ("dask.workers", 1, "dask.workers: unknown key; did you mean 'n_workers'?"),
    # Names that don't exist.
    ("datasets.1.grid_mapping", "lands", "datasets[1].grid_mapping: no grid mapping or dataset 'lands'; did you mean 'landes'?"),
    ("datasets.1.grid_mapping", "gamy", "datasets[1].grid_mapping: no grid mapping or dataset 'gamy'; did you mean 'gami'?"),
    ("datasets.1.grid_mapping", "q", "datasets[1].grid_mapping: no grid mapping or dataset 'q'; known: corner, gami, landes"),
    ("datasets.1.grid_mapping", ["lands"], "datasets[1].grid_mapping[0]: no grid mapping 'lands'; did you mean 'landes'?"),
    ("datasets.1.grid_mapping", ["gami"], "datasets[1].grid_mapping[0]: 'gami' is a dataset; a list can only hold grid_mappings"),
    ("datasets.1.grid_mapping", ["landes", "landes"], "datasets[1].grid_mapping[1]: 'landes' stands in the list twice"),
    ("datasets.0.store", "eoforst_stac", "datasets[0].store: no data store 'eoforst_stac'; did you mean 'eoforest_stac'?"),
    ("datasets.0.store", "storage", "datasets[0].store: reading from the store 'storage' isn't supported yet"),
    # Values that can't be.
    ("data_stores.1.store_id", "stak", "data_stores[1].store_id: 'stak' isn't one of the values that are possible here; did you mean 'stac'?"),
    ("datasets.0.format_id", "zar", "datasets[0].format_id: 'zar' isn't one of the values that are possible here; did you mean 'zarr'? Known: levels, netcdf, zarr"),
    ("datasets.0.zarr_format", 4, "datasets[0].zarr_format: 4 isn't one of the values that are possible here; known: 2, 3"),
    ("dask.mode", "adress", "dask.mode: 'adress' isn't one of the values that are possible here; did you mean 'address'? Known: address, local, threads"),
    ("datasets", None, "datasets: should be a list, not null"),
    ("datasets", [], "datasets: should not be empty, not []"),
    ("datasets.0.identifier", 2015, "datasets[0].identifier: should be a string (put it into quotes), not 2015"),
    ("datasets.0.data_id", "", "datasets[0].data_id: should not be empty, not ''"),
    ("general", ["a"], "general: should be a mapping, not ['a']"),
    # Grids.
    ("grid_mappings.1.bbox", [5, 0, 5, 9], "grid_mappings[1].bbox: should be west, south, east, north; here west >= east, not [5, 0, 5, 9]"),
    ("grid_mappings.1.bbox", [0, 9, 5, 0], "grid_mappings[1].bbox: should be west, south, east, north; here south >= north, not [0, 9, 5, 0]"),
    ("grid_mappings.1.bbox", [0, 9, 5], "grid_mappings[1].bbox: should have 4 values, not [0, 9, 5]"),
    ("grid_mappings.1.bbox", [0, 1, 5, float("nan")], "grid_mappings[1].bbox[3]: should be a finite number, not nan"),
    ("grid_mappings.1.crs", "EPSG:99999", "grid_mappings[1].crs: unknown CRS: should be one that PROJ knows, such as EPSG:3035, not 'EPSG:99999'"),
    ("grid_mappings.1.crs", "EPSG:4978", "grid_mappings[1].crs: should be a projected or geographic CRS (WGS 84 is neither), not 'EPSG:4978'"),
    ("grid_mappings.1.spatial_res", 0, "grid_mappings[1].spatial_res: should be greater than 0, not 0"),
    ("grid_mappings.1.spatial_res", [30, -30], "grid_mappings[1].spatial_res[1]: should be greater than 0, not -30"),
    ("grid_mappings.1.tile_size", 0, "grid_mappings[1].tile_size: should be greater than or equal to 1, not 0"),
    ("grid_mappings.1.tile_size", [5, 0], "grid_mappings[1].tile_size[1]: should be greater than or equal to 1, not 0"),
    ("grid_mappings.1.tile_size", True, "grid_mappings[1].tile_size: should be a number, not True"),
    ("grid_mappings.1.tile_size", "many", "grid_mappings[1].tile_size: should be a valid integer, not 'many'"),
    ("grid_mappings.1.table", "sites.csv", "grid_mappings[1].bbox: can't stand together with 'table'; leave one of the two out"),
    # Identifiers.
    ("datasets.1.identifier", "gami", "datasets[1].identifier: duplicate identifier 'gami', already used by datasets[0]"),
    ("datasets.1.identifier", "../genus", "datasets[1].identifier: '../genus' would leave the storage root"),
    ("datasets.1.identifier", "a/../../genus", "datasets[1].identifier: 'a/../../genus' would leave the storage root"),
    ("datasets.1.identifier", "/elsewhere/genus", "datasets[1].identifier: '/elsewhere/genus' is an absolute path; a cube's name is relative to the storage root"),
    ("datasets.1.identifier", "C:/genus", "datasets[1].identifier: 'C:/genus' is an absolute path; a cube's name is relative to the storage root"),
    ("datasets.1.identifier", ".dagster/a", "datasets[1].identifier: '.dagster/a' has an empty part, or one that begins with '.', which is kept for the platform's own folders"),
    ("datasets.1.identifier", "a//b", "datasets[1].identifier: 'a//b' has an empty part, or one that begins with '.', which is kept for the platform's own folders"),
    ("datasets.1.identifier", "gami.zarr/genus", "datasets[1].identifier: its cube at gami.zarr/genus.zarr and that of datasets[0] would lie in each other"),
    ("data_stores.1.identifier", "storage", "data_stores[1].identifier: duplicate identifier 'storage', already used by data_stores[0]"),
    ("grid_mappings.1.identifier", "a/b", "grid_mappings[1].identifier: the region 'a/b' names a folder and a partition, so it can't begin with '.' or hold '/', '\\', '|', '...' or a line break"),
    # Stores.
    ("data_stores.1.store_params", {}, "data_stores[1].store_params.url: required key is missing"),
    ("data_stores.1.store_params.url", 5, "data_stores[1].store_params.url: should be a string that isn't empty, not 5"),
    ("data_stores.1.store_params.ulr", "x", "data_stores[1].store_params.ulr: isn't supported for a stac source; did you mean 'url'?"),
    ("data_stores.1.store_params.href_rewrite", ["a"], "data_stores[1].store_params.href_rewrite: should be a mapping of URL prefixes to their replacements"),
    ("data_stores.0.store_params.root", "s3://bucket", "data_stores[0].store_params.root: should be the path of a folder; for a bucket write store_id: s3, root: bucket/folder"),
    ("data_stores.0.store_params.max_depth", 3, "data_stores[0].store_params.max_depth: isn't supported for a file storage; known: root"),
    ("data_stores.1", CLMS | {"store_params": {}}, "data_stores[1].store_params.credentials: required key is missing"),
    ("data_stores.1", _clms(credentials=""), "data_stores[1].store_params.credentials: should be a string that isn't empty, not ***"),
    ("data_stores.1", _clms(credentials={"client_id": "x"}), "data_stores[1].store_params.credentials: should be a string that isn't empty, not ***"),
    ("data_stores.1", _clms(credentials="-----BEGIN\nabc"), "data_stores[1].store_params.credentials: should be the path of a JSON file, or the JSON text, which begins with {"),
    ("data_stores.1", _clms(api_url="ftp://h/"), "data_stores[1].store_params.api_url: should be an http or https URL, not 'ftp://h/'"),
    ("data_stores.1", _clms(api_url="land.copernicus.eu"), "data_stores[1].store_params.api_url: should be an http or https URL, not 'land.copernicus.eu'"),
    ("data_stores.1", _clms(api_url="https://u:p/w@h/"), "data_stores[1].store_params.api_url: is no valid URL: a password in it, if any, needs percent-encoding"),
    ("data_stores.1", _clms(api_url="//[x"), "data_stores[1].store_params.api_url: should be an http or https URL, not '//[x'"),
    ("data_stores.1", _clms(credentials="~nobody-of-that-name/key.json"), "data_stores[1].store_params.credentials: is no valid path"),
    ("data_stores.1", _clms(cache="~nobody-of-that-name/key.json"), "data_stores[1].store_params.cache: is no valid path"),
    ("data_stores.1", _clms(cache="s3://u:p/w@bucket/"), "data_stores[1].store_params.cache: is no valid URL: a password in it, if any, needs percent-encoding"),
    ("data_stores.1.store_params.url", "a\0b", "data_stores[1].store_params.url: is no valid path"),
    ("data_stores.0.store_params.root", "~nobody-of-that-name", "data_stores[0].store_params.root: is no valid path"),
    ("data_stores.1", _clms(href_rewrite="a"), "data_stores[1].store_params.href_rewrite: should be a mapping of URL prefixes to their replacements"),
    ("data_stores.1", _clms(cache=5), "data_stores[1].store_params.cache: should be a string that isn't empty, not 5"),
    ("data_stores.1", _clms(cache="data"), "data_stores[1].store_params.cache: should be a folder of its own: cubes are written there"),
    ("data_stores.1", _clms(cache_store_params="a"), "data_stores[1].store_params.cache_store_params: should be a mapping, not 'a'"),
    ("data_stores.1", _clms(cache_store_params={}), "data_stores[1].store_params.cache_store_params.root: required key is missing"),
    ("data_stores.1", _clms(cache_store_params={"root": "a", "max_depth": 2}), "data_stores[1].store_params.cache_store_params.max_depth: isn't supported for a cache; known: root"),
    ("data_stores.1", _clms(cache_store_params={"root": "a"}, cache="b"), "data_stores[1].store_params.cache_store_params: can't stand together with 'cache'; leave one of the two out"),
    ("data_stores.1", _clms(credential="a"), "data_stores[1].store_params.credential: isn't supported for a clms source; did you mean 'credentials'?"),
    ("data_stores.1", _clms(max_connections=2), "data_stores[1].store_params.max_connections: isn't supported for a clms source; known: api_url, cache, cache_store_params, credentials, href_rewrite"),
    ("data_stores.1", _cci(max_connections=0), "data_stores[1].store_params.max_connections: should be a whole number of at least 1, not 0"),
    ("data_stores.1", _cci(max_connections=1.5), "data_stores[1].store_params.max_connections: should be a whole number of at least 1, not 1.5"),
    ("data_stores.1", _cci(max_connections=True), "data_stores[1].store_params.max_connections: should be a whole number of at least 1, not True"),
    ("data_stores.1", _cci(endpoint_url="here"), "data_stores[1].store_params.endpoint_url: should be an http or https URL, not 'here'"),
    ("data_stores.1", _cci(endpoint_description_url="here"), "data_stores[1].store_params.endpoint_description_url: should be an http or https URL, not 'here'"),
    ("data_stores.1", _cci(endpoint="https://h/"), "data_stores[1].store_params.endpoint: isn't supported for a cciodp source; did you mean 'endpoint_url'?"),
    ("data_stores.1", _cci(cache_store_params={"root": "a"}), "data_stores[1].store_params.cache_store_params: isn't supported for a cciodp source; did you mean 'cache_size'?"),
    # Selections.
    ("datasets.0.open_params.time_range", ["2020-01-32", None], "datasets[0].open_params.time_range[0]: day is out of range for month, not '2020-01-32'"),
    ("datasets.0.open_params.time_range", ["2020", None], "datasets[0].open_params.time_range[0]: should be a date such as 2020-01-01, or null, not '2020'"),
    ("datasets.0.open_params.time_range", ["2021-01-01", "2020-01-01"], "datasets[0].open_params.time_range: should be the first date, then the last one, not ['2021-01-01', '2020-01-01']"),
    ("datasets.0.open_params.time_range", ["2021-01-01"], "datasets[0].open_params.time_range: should have 2 values, not ['2021-01-01']"),
    ("datasets.0.open_params.time_rnage", [], "datasets[0].open_params.time_rnage: unknown parameter, or not supported yet; did you mean 'time_range'?"),
    ("datasets.0.open_params.bbox", [0, 9, 5, 0], "datasets[0].open_params.bbox: should be west, south, east, north; here south >= north, not [0, 9, 5, 0]"),
    ("datasets.0.open_params.bbox", [0, 9, 5], "datasets[0].open_params.bbox: should have 4 values, not [0, 9, 5]"),
    ("datasets.0.open_params", {"bbox": [0, 1, 2, 3], "crs": "EPSG:99999"}, "datasets[0].open_params.crs: unknown CRS: should be one that PROJ knows, such as EPSG:3035, not 'EPSG:99999'"),
    ("datasets.0.open_params", {"crs": "EPSG:3035"}, "datasets[0].open_params: crs is the CRS of bbox, and there is none; leave it out, or say bbox"),
    # What computes, and how patiently.
    ("dask.address", "tcp://s:1", "dask.address: has no effect in mode 'threads', only in address"),
    ("dask.steps", True, "dask.steps: has no effect in mode 'threads', only in address"),
    ("dask.memory_limit", "much", "dask.memory_limit: should be auto, or a size such as 4GiB, not 'much'"),
    ("dask.mode", "address", "dask.address: mode 'address' needs the scheduler's address, for example tcp://127.0.0.1:8786"),
    ("general.retry", {"initial_wait": 60}, "general.retry: max_wait (30 s) is shorter than initial_wait (60 s)"),
    ("general.retry.max_attempts", 0, "general.retry.max_attempts: should be greater than or equal to 1, not 0"),
    ("general.dask_scheduler", "thread", "general.dask_scheduler: 'thread' isn't one of the values that are possible here; did you mean 'threads'?"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "line"), CASES, ids=[f"{path}={value!r}"[:60] for path, value, _ in CASES])
def test_refused_in_these_words(world: World, path: str, value: Any, line: str) -> None:
    _set(world.data, path, value)
    assert line in world.lines()


def test_one_wrong_value_is_one_line(world: World) -> None:
    world.data["datasets"][1]["grid_mapping"] = "lands"
    assert len(world.lines()) == 1
    world.data["grid_mappings"][0]["bbox"] = [1, 2, 3, "x"]
    assert world.lines()[0] == "grid_mappings[0].bbox[3]: should be a valid number, not 'x'"
    assert len(world.lines()) == 2


def test_data_id_without_store(world: World) -> None:
    del world.data["datasets"][1]["store"]
    assert world.lines() == ["datasets[1].store: required key is missing"]


def test_no_storage(world: World) -> None:
    world.data["data_stores"][0]["identifier"] = "storag"
    assert (
        "data_stores: no store is called 'storage': it says where cubes are written; did you mean 'storag'?"
        in world.lines()
    )


def test_circle_of_datasets(world: World) -> None:
    world.data["datasets"][0]["grid_mapping"] = "genus"
    world.data["datasets"][1]["grid_mapping"] = "gami"
    assert world.lines() == [
        "datasets[0].grid_mapping: a circle: gami → genus → gami; one of them needs a grid mapping",
        "datasets[1].grid_mapping: a circle: genus → gami → genus; one of them needs a grid mapping",
    ]


def test_dataset_as_its_own_grid(world: World) -> None:
    world.data["datasets"][0]["grid_mapping"] = "gami"
    assert world.lines() == ["datasets[0].grid_mapping: a circle: gami → gami; one of them needs a grid mapping"]


def test_grid_of_a_dataset_without_one(world: World) -> None:
    del world.data["datasets"][0]["grid_mapping"]
    world.data["datasets"][1]["grid_mapping"] = "gami"
    assert world.lines() == [
        (
            "datasets[1].grid_mapping: the dataset 'gami' has no grid mapping; "
            "taking over its source's own grid isn't supported yet"
        )
    ]


def test_partition_keys_that_collide(world: World) -> None:
    # 9000 x 9000 pixels in tiles of 1000: cut after 8 of 9 tiles, so that the last block is y01x01.
    large = {"identifier": "large", "bbox": [0, 0, 9000, 9000], "crs": "EPSG:3035", "spatial_res": 1, "tile_size": 1000}
    world.data["grid_mappings"].append(large)
    world.data["grid_mappings"][1]["identifier"] = "large-y01x01"
    world.data["datasets"][0]["grid_mapping"] = ["large", "large-y01x01"]
    assert world.lines() == [
        "datasets[0].grid_mapping: the regions 'large' and 'large-y01x01' both have a partition 'large-y01x01'; rename one"
    ]


def test_cubes_at_the_same_place(world: World) -> None:
    world.data["datasets"][0]["grid_mapping"] = ["landes"]
    world.data["datasets"][1]["identifier"] = "landes/gami"
    assert world.lines() == [
        "datasets[1].identifier: its cube would lie at landes/gami.zarr, where datasets[0] has its own"
    ]


def test_cube_around_another(world: World) -> None:
    world.data["datasets"][0]["identifier"] = "genus.zarr/gami"
    assert world.lines() == [
        "datasets[1].identifier: its cube at genus.zarr and that of datasets[0] would lie in each other"
    ]


def test_all_problems_in_one_error(world: World) -> None:
    world.data["datasets"][0] |= {"format_id": "zar", "store": "nowhere", "colour": 1}
    world.data["datasets"][1] |= {"grid_mapping": "lands", "identifier": "../x"}
    world.data["grid_mappings"][0] |= {"crs": "EPSG:99999", "spatial_res": 0}
    world.data["general"] = {"retry": {"deadline": "${SCS2_NOT_SET}"}}
    paths = {line.partition(": ")[0] for line in world.lines()}
    assert paths == {
        "datasets[0].format_id",
        "datasets[0].store",
        "datasets[0].colour",
        "datasets[1].grid_mapping",
        "datasets[1].identifier",
        "grid_mappings[0].crs",
        "grid_mappings[0].spatial_res",
        "general.retry.deadline",
    }


def test_missing_environment_variable(world: World) -> None:
    world.stac_params["url"] = "https://${SCS2_HOST}/catalog.json"
    assert world.lines() == [
        (
            "data_stores[1].store_params.url: the environment variable SCS2_HOST isn't set; "
            "set it, or write ${SCS2_HOST:-default}"
        )
    ]
    world.environ["SCS2_HOST"] = "h"
    assert world.load().stores[0].params["url"] == "https://h/catalog.json"
