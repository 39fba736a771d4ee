"""Configurations that hold together, and what they become."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scs2_cubes.config import dagster_home, describe, effective, json_schema, load_case
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import DaskSpec, ResampleSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes_tests.config.conftest import World

CONFIGS = Path(__file__).parents[2] / "configs"

#: The case as people write it today for two of the products, extensions left out.
AS_PEOPLE_HAVE_IT = """
datasets:
- identifier: gami
  store: eoforest_stac
  grid_mapping: landes
  data_id: structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json
  open_params:
    time_range: [2020-01-01, 2020-12-31]
    variable_names: forest_age
- identifier: age/copy
  store: eoforest_stac
  grid_mapping: gami
  data_id: a|b|structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json
  format_id: zarr
- identifier: native
  store: eoforest_stac
  data_id: other
data_stores:
- identifier: storage
  store_id: file
  store_params: {root: cubes}
- identifier: eoforest_stac
  store_id: stac
  store_params: {url: https://catalogue.example/catalog.json}
grid_mappings:
- identifier: landes
  bbox: [3401404, 2346797, 3556068, 2539337]
  crs: EPSG:3035
  spatial_res: 30
preload_datasets: []
general:
  visualize: true
  force_preload: true
  gdal_http_params: {gdal_http_max_retry: 4, gdal_http_retry_delay: 45}
"""


def test_case_of_today(world: World) -> None:
    case = load_case(world.write(AS_PEOPLE_HAVE_IT), environ={})

    assert case.name == str(world.path)
    assert case.storage.root == str(world.folder / "cubes")
    assert [dataset.identifier for dataset in case.datasets] == ["gami", "age/copy", "native"]
    gami, copy, native = case.datasets
    assert gami.store.params == {"url": "https://catalogue.example/catalog.json"}
    assert gami.time_range == ("2020-01-01", "2020-12-31")
    assert gami.variable_names == ("forest_age",)
    assert gami.zarr_format == 2
    assert gami.product is not None
    assert gami.product.identifier == "gami"
    assert not gami.region_folders
    assert copy.regions == gami.regions == case.regions
    assert copy.time_range is None
    assert copy.variable_names is None
    assert native.regions == ()
    assert native.partition_keys == ("native",)
    assert native.product is None
    # gdal_http_max_retry counts the attempts after the first.
    assert gami.store.retry == dataclasses.replace(RetryPolicy(), max_attempts=5, initial_wait=45, max_wait=45)
    assert case.dask == DaskSpec()
    assert case.warnings == ()


def test_landes_has_the_size_of_the_cubes_of_today(world: World) -> None:
    grid = world.load().regions[0].grid
    assert (grid.nx, grid.ny) == (5156, 6418)
    assert grid.bbox == (3401404.0, 2346797.0, 3556084.0, 2539337.0)


@pytest.mark.parametrize("name", ["scs2.yml", "demo.yml"])
def test_the_configurations_that_come_along(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = load_case(CONFIGS / name, environ={})
    products = [dataset.product.identifier for dataset in case.datasets if dataset.product]
    # Cubes are called as their products are, but for the year.
    assert [dataset.identifier.removesuffix("_2015") for dataset in case.datasets] == products
    assert [one for one in products if one not in {"forest_type", "esa_cci_biomass"}] == [
        "gami",
        "forestpaths_genus",
        "liu",
        "efda",
    ]
    assert case.storage.root == str(tmp_path / "data")
    assert case.warnings == ()


def test_scs2_configuration() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    (region,) = case.regions
    assert (region.name, region.grid.nx, region.grid.ny, region.grid.tile_nx) == ("landes", 5156, 6418, 2048)


def test_demo_configuration_follows_the_demo() -> None:
    from scs2_cubes.demo.region import demo_region  # noqa: PLC0415 - only this test needs the demo

    assert load_case(CONFIGS / "demo.yml", environ={}).regions == (demo_region(),)


def test_demo_configuration_goes_where_the_environment_says(tmp_path: Path) -> None:
    environ = {"SCS2_DEMO_URL": "http://127.0.0.1:1234", "SCS2_DEMO_ROOT": str(tmp_path)}
    case = load_case(CONFIGS / "demo.yml", environ=environ)
    assert case.storage.root == str(tmp_path)
    assert case.stores[0].href_rewrite == (("https://s3.gfz-potsdam.de", "http://127.0.0.1:1234"),)


def test_everything_is_frozen(world: World) -> None:
    (world.folder / "functions.py").write_text("def modify(dataset): ...\n", encoding="utf-8")
    world.data["datasets"][0]["custom_processing"] = {"module_path": "functions.py", "function_name": "modify"}
    world.data["datasets"][0]["spatial_resample_params"] = {"fill_values": 0}
    case = world.load()
    gami = case.datasets[0]
    for value in (
        case,
        gami,
        gami.processing,
        gami.resampling,
        gami.resampling.default,
        case.stores[0],
        case.storage,
        case.regions[0],
        case.regions[0].grid,
    ):
        assert dataclasses.is_dataclass(value)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, "other")


def test_two_configurations_in_one_process_keep_apart(world: World) -> None:
    first = world.load()
    world.data["grid_mappings"][0]["spatial_res"] = 300
    world.data["data_stores"][0]["store_params"]["root"] = "elsewhere"
    second = world.load()
    assert first.storage.root == str(world.folder / "data")
    assert second.storage.root == str(world.folder / "elsewhere")
    assert first.regions[0].grid.x_res == 30
    assert second.regions[0].grid.x_res == 300


def test_which_file(world: World) -> None:
    world.write()
    (world.folder / "configs").mkdir()
    default = world.folder / "configs" / "scs2.yml"
    default.write_text(world.path.read_text())
    assert load_case(environ={}).name == "configs/scs2.yml"
    assert load_case(environ={"SCS2_CONFIG": "case.yml"}).name == "case.yml"
    assert load_case("case.yml", environ={"SCS2_CONFIG": "nowhere.yml"}).name == "case.yml"
    assert load_case(environ={"SCS2_CONFIG": ""}).name == "configs/scs2.yml"


def test_the_process_environment_is_the_default(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write()
    monkeypatch.setenv("SCS2_CONFIG", "case.yml")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    case = load_case()
    assert case.name == "case.yml"
    assert dagster_home(case) == world.folder / "data" / ".dagster"


def test_paths_of_the_storage_and_of_a_local_catalogue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stac_params["url"] = "catalogue/catalog.json"
    world.write()
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    case = load_case("../case.yml", environ={})
    assert case.name == "../case.yml"
    assert case.storage.root == str(elsewhere / "data")
    assert case.stores[0].params["url"] == str(world.folder / "catalogue" / "catalog.json")


def test_storage_root_has_a_default(world: World) -> None:
    del world.data["data_stores"][0]["store_params"]
    assert world.load().storage.root == str(world.folder / "data")


def test_href_rewrite_has_the_longest_prefix_first(world: World) -> None:
    world.stac_params["href_rewrite"] = {"https://a/": "1", "https://a/b/c/": "2", "https://a/b/": "3"}
    rewrite = world.load().stores[0].href_rewrite
    assert rewrite == (("https://a/b/c/", "2"), ("https://a/b/", "3"), ("https://a/", "1"))
    assert "href_rewrite" not in world.load().stores[0].params


def test_grid_of_another_dataset_in_any_order(world: World) -> None:
    world.data["datasets"][0]["grid_mapping"] = "genus"
    world.data["datasets"][1]["grid_mapping"] = ["corner"]
    gami, genus = world.load().datasets
    assert [region.name for region in gami.regions] == ["corner"]
    assert gami.region_folders
    assert genus.region_folders


def test_list_of_regions_has_folders_and_keeps_its_order(world: World) -> None:
    world.data["datasets"][0]["grid_mapping"] = ["corner", "landes"]
    gami = world.load().datasets[0]
    assert gami.region_folders
    assert gami.partition_keys == ("corner", "landes")


def test_a_grid_mapping_goes_before_a_dataset_of_the_same_name(world: World) -> None:
    world.data["datasets"][0]["identifier"] = "landes"
    assert [region.name for region in world.load().datasets[1].regions] == ["landes"]


def test_numbers_from_the_environment(world: World) -> None:
    world.environ = {"RES": "60", "TILE": "512"}
    world.data["grid_mappings"][0] |= {"spatial_res": "${RES}", "tile_size": ["${TILE}", "${OTHER:-256}"]}
    grid = world.load().regions[0].grid
    assert (grid.x_res, grid.tile_nx, grid.tile_ny) == (60.0, 512, 256)


def test_empty_sections_are_absent_ones(world: World) -> None:
    world.data |= {"preload_datasets": None, "general": None, "dask": None}
    world.data["datasets"][0] |= {"open_params": None, "custom_processing": None, "chunksize": None}
    assert world.load().datasets[0].time_range is None


def test_open_time_range(world: World) -> None:
    world.data["datasets"][0]["open_params"] = {
        "time_range": [None, "2020-12-31T23:59:59"],
        "variable_names": ["a", "b"],
    }
    gami = world.load().datasets[0]
    assert gami.time_range == (None, "2020-12-31T23:59:59")
    assert gami.variable_names == ("a", "b")


def test_part_of_the_source(world: World) -> None:
    world.data["datasets"][0]["open_params"] = {"bbox": [-1.25, 43, 0.5, 44.8], "crs": "EPSG:4326"}
    world.data["datasets"][1]["open_params"] = {"bbox": ["3401404", 2346797, 3556068, 2539337]}
    gami, genus = world.load().datasets
    assert (gami.bbox, gami.bbox_crs) == ((-1.25, 43.0, 0.5, 44.8), "EPSG:4326")
    assert (genus.bbox, genus.bbox_crs) == ((3401404.0, 2346797.0, 3556068.0, 2539337.0), None)


def test_nothing_asked_for_is_nothing_set(world: World) -> None:
    gami = world.load().datasets[0]
    assert (gami.bbox, gami.bbox_crs, gami.processing, gami.chunks) == (None, None, None, None)
    assert gami.resampling == ResampleSpec()
    assert gami.statistics == {}
    assert gami.zero_is_value == frozenset()


@pytest.mark.parametrize(
    ("general", "policy"),
    [
        ({}, RetryPolicy()),
        ({"gdal_http_params": {}}, RetryPolicy(max_attempts=11, initial_wait=5)),
        ({"gdal_http_params": {"gdal_http_max_retry": 0}}, RetryPolicy(max_attempts=1, initial_wait=5)),
        (
            {"gdal_http_params": {"gdal_http_max_retry": 2}, "retry": {"max_attempts": 7, "deadline": 9, "timeout": 3}},
            RetryPolicy(max_attempts=7, initial_wait=5, deadline=9, timeout=3),
        ),
        ({"retry": {"initial_wait": 1, "max_wait": 2}}, RetryPolicy(initial_wait=1, max_wait=2)),
    ],
)
def test_retry(world: World, general: dict[str, object], policy: RetryPolicy) -> None:
    world.data["general"] = general
    assert world.load().stores[0].retry == policy


@pytest.mark.parametrize(
    ("section", "spec"),
    [
        ({"dask": {"n_workers": 3}}, DaskSpec(n_workers=3)),
        (
            {"dask": {"mode": "local", "n_workers": 2, "threads_per_worker": 4, "memory_limit": "4GiB"}},
            DaskSpec("local", None, 2, 4, "4GiB"),
        ),
        ({"dask": {"mode": "address", "address": "tcp://s:8786"}}, DaskSpec("address", "tcp://s:8786")),
        (
            {"dask": {"mode": "address", "address": "tcp://s:8786", "steps": True}},
            DaskSpec("address", "tcp://s:8786", steps=True),
        ),
        ({"general": {"dask_scheduler": "single-threaded"}}, DaskSpec(n_workers=1)),
        ({"general": {"dask_scheduler": "processes"}}, DaskSpec("local")),
        ({"general": {"dask_scheduler": "threads"}}, DaskSpec()),
    ],
)
def test_dask(world: World, section: dict[str, object], spec: DaskSpec) -> None:
    world.data |= section
    assert world.load().dask == spec


def test_steps_without_a_job_are_told(world: World) -> None:
    world.data["dask"] = {"mode": "address", "address": "tcp://s:8786", "steps": True}
    assert world.load().warnings == ()
    world.data["datasets"][1]["grid_mapping"] = "corner"
    (warning,) = world.load().warnings
    assert warning.startswith("dask.steps: has no effect, because")


def test_dagster_home(world: World) -> None:
    case = world.load()
    assert dagster_home(case, {}) == world.folder / "data" / ".dagster"
    assert dagster_home(case, {"DAGSTER_HOME": "/elsewhere"}) == Path("/elsewhere")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yml: there is no such configuration file"):
        load_case(tmp_path / "nowhere.yml", environ={})
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        load_case(tmp_path, environ={})


def test_json_schema_knows_every_section() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {
        "datasets", "data_stores", "grid_mappings", "preload_datasets", "general", "dask", "automation", "sites"
    }  # fmt: skip
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"datasets", "data_stores"}


def test_effective_configuration_is_plain_and_has_the_defaults(world: World) -> None:
    world.data["grid_mappings"][0].pop("tile_size")
    world.write()
    plain = effective(world.path, environ={})
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    assert plain["grid_mappings"][0]["tile_size"] == [1024, 1024]
    assert plain["grid_mappings"][0]["size"] == [5156, 6418]
    assert plain["datasets"][0]["zarr_format"] == 2
    assert plain["datasets"][0]["product"] == "gami"
    assert plain["general"]["retry"]["max_attempts"] == 10
    assert plain["data_stores"][0]["store_params"]["root"] == str(world.folder / "data")
    assert describe(world.load()) == plain


EVERYTHING: dict[str, Any] = {
    "open_params": {
        "time_range": None,
        "variable_names": ["forest_age"],
        "bbox": [0.0, 1.0, 2.0, 3.0],
        "crs": "EPSG:4326",
    },
    "spatial_resample_params": {
        "interp_methods": "bilinear",
        "agg_methods": {"forest_age": "median"},
        "fill_values": {"forest_age": -1.0},
        "prevent_nan_propagations": True,
        "variables": ["forest_age"],
        "error_model": "independent",
    },
    "statistics": {"forest_age": ["mean", "q25"]},
    "zero": {"forest_age": "value"},
    "chunksize": {"y": 1024, "x": 512},
    "automation": "on_new_version",
    "quicklook_times": ["2010-01-01"],
}


def test_effective_configuration_shows_all_and_can_be_read_again(world: World) -> None:
    world.data["datasets"][0] |= EVERYTHING
    plain = effective(world.write(), environ={})
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    shown = {key: plain["datasets"][0][key] for key in EVERYTHING}
    assert shown == EVERYTHING
    assert plain["datasets"][0]["custom_processing"] is None
    before = world.load().datasets[0]
    world.data["datasets"][0] |= shown
    assert world.load().datasets[0] == before


def test_effective_configuration_of_a_function(world: World) -> None:
    (world.folder / "functions.py").write_text("def modify(dataset): ...\n", encoding="utf-8")
    world.data["datasets"][0]["custom_processing"] = {"module_path": "functions", "function_name": "modify"}
    plain = effective(world.write(), environ={})
    assert plain["datasets"][0]["custom_processing"] == {
        "module_path": str(world.folder / "functions.py"),
        "function_name": "modify",
        "timeout": 900.0,
        "processing": "tile",
    }
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain


def test_effective_configuration_without_any_of_it(world: World) -> None:
    dataset = effective(world.write(), environ={})["datasets"][0]
    assert dataset["spatial_resample_params"] == {
        "interp_methods": None,
        "agg_methods": None,
        "fill_values": None,
        "prevent_nan_propagations": True,
        "variables": None,
        "error_model": "correlated",
    }
    assert (dataset["statistics"], dataset["zero"], dataset["chunksize"]) == ({}, {}, None)
    assert (dataset["automation"], dataset["quicklook_times"]) == ("manual", None)
    assert dataset["open_params"] == {"time_range": None, "variable_names": None, "bbox": None, "crs": None}


def test_effective_configuration_shows_the_zeros_of_the_product(world: World) -> None:
    case = world.load()
    product = case.datasets[0].product
    assert product is not None
    variables = tuple(dataclasses.replace(variable, zero_is_value=True) for variable in product.variables)
    gami = dataclasses.replace(case.datasets[0], product=dataclasses.replace(product, variables=variables))
    plain = describe(dataclasses.replace(case, datasets=(gami,)))
    assert plain["datasets"][0]["zero"] == {"forest_age": "value"}


def test_json_schema_says_what_can_be_said() -> None:
    definitions = json_schema()["$defs"]
    processing = definitions["CustomProcessing"]
    assert set(processing["properties"]) == {"module_path", "function_name", "timeout", "processing"}
    assert set(processing["required"]) == {"module_path", "function_name"}
    assert processing["properties"]["timeout"]["default"] == 900
    assert processing["properties"]["processing"]["enum"] == ["tile", "whole"]
    assert set(definitions["ChunkSize"]["properties"]) == {"y", "x", "lat", "lon", "time"}
    assert definitions["SpatialResampling"]["properties"]["error_model"]["enum"] == ["correlated", "independent"]
    assert {"bbox", "crs"} <= set(definitions["OpenParams"]["properties"])
    assert {"statistics", "zero"} <= set(definitions["SingleSource"]["properties"])
    assert definitions["Statistic"]["enum"] == ["mean", "median", "std", "q05", "q10", "q25", "q75", "q90", "q95"]
    assert "Not supported yet" not in json.dumps([definitions["CustomProcessing"], definitions["SpatialResampling"]])
