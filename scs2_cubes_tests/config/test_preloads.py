"""Stores whose datasets are fetched first: their parameters, and what has to be fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scs2_cubes.config import describe
from scs2_cubes.core.specification import PreloadSpec, StorageSpec, StoreSpec
from scs2_cubes_tests.config.conftest import World

FTY = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"
SECRET = "hunter2"


@pytest.fixture
def clms(world: World) -> World:
    """The configuration with a third store, from which nothing is read."""
    world.data["data_stores"].append(
        {"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "key.json"}}
    )
    return world


def _params(world: World) -> dict[str, Any]:
    params: dict[str, Any] = world.data["data_stores"][2]["store_params"]
    return params


def _store(world: World) -> StoreSpec:
    return world.load().stores[1]


def _read(world: World, data_id: str, identifier: str = "forest") -> None:
    world.data["datasets"].append(
        {"identifier": identifier, "store": "clms", "data_id": data_id, "grid_mapping": "landes"}
    )


def _fetch(world: World, *entries: dict[str, Any]) -> None:
    world.data["preload_datasets"] = [{"store": "clms"} | entry for entry in entries]


# The stores.


def test_clms_store(clms: World) -> None:
    store = _store(clms)
    assert (store.identifier, store.protocol) == ("clms", "clms")
    assert store.params == {
        "credentials": str(clms.folder / "key.json"),
        "api_url": "https://land.copernicus.eu/api",
    }
    assert store.cache == StorageSpec(str(clms.folder / "data" / ".cache" / "clms"))
    assert store.href_rewrite == ()
    # Nothing was made, and the key isn't there.
    assert [path.name for path in clms.folder.iterdir()] == ["case.yml"]


def test_credentials_are_relative_to_the_file(clms: World, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = clms.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(clms.folder / "home"))
    assert _store(clms).params["credentials"] == str(clms.folder / "key.json")
    # … and the cache is relative to the working directory.
    assert _store(clms).cache == StorageSpec(str(elsewhere / "data" / ".cache" / "clms"))
    _params(clms)["credentials"] = "~/key.json"
    assert _store(clms).params["credentials"] == str(clms.folder / "home" / "key.json")
    _params(clms)["credentials"] = "/somewhere/key.json"
    assert _store(clms).params["credentials"] == "/somewhere/key.json"


def test_credentials_from_the_environment(clms: World) -> None:
    text = json.dumps({"client_id": "a", "private_key": f"-----BEGIN\n{SECRET}\n"}, indent=1)
    _params(clms)["credentials"] = "${CLMS_CREDENTIALS}"
    clms.environ = {"CLMS_CREDENTIALS": text}
    case = clms.load()
    assert case.stores[1].params["credentials"] == text
    assert case.warnings == ()
    assert SECRET not in repr(case)
    assert SECRET not in json.dumps(describe(case))
    # Whoever gets it looks at its first character only.
    clms.environ = {"CLMS_CREDENTIALS": f"\n  {text}"}
    assert _store(clms).params["credentials"] == text
    clms.environ = {"CLMS_CREDENTIALS": "a{b}/key.json"}
    assert _store(clms).params["credentials"] == str(clms.folder / "a{b}" / "key.json")
    clms.environ = {"CLMS_CREDENTIALS": "keys/mine.json"}
    assert _store(clms).params["credentials"] == str(clms.folder / "keys" / "mine.json")


def test_credentials_that_are_a_key_alone_are_not_taken_for_a_path(clms: World) -> None:
    _params(clms)["credentials"] = "${CLMS_CREDENTIALS}"
    clms.environ = {"CLMS_CREDENTIALS": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n"}
    message = clms.message()
    assert "data_stores[2].store_params.credentials: should be the path of a JSON file" in message
    assert SECRET not in message


def test_credentials_in_the_file_are_warned_about(clms: World) -> None:
    _params(clms)["credentials"] = json.dumps({"client_id": SECRET})
    case = clms.load()
    assert len(case.warnings) == 1
    assert "data_stores[2].store_params.credentials: a secret stands in the file" in case.warnings[0]
    assert SECRET not in str(describe(case))


def test_other_addresses(clms: World) -> None:
    _params(clms).update(api_url="http://127.0.0.1:1/clms/api/", href_rewrite={"https://a/": "1", "https://a/b/": "2"})
    store = _store(clms)
    assert store.params["api_url"] == "http://127.0.0.1:1/clms/api"
    assert store.href_rewrite == (("https://a/b/", "2"), ("https://a/", "1"))
    _params(clms)["api_url"] = f"http://u:{SECRET}@127.0.0.1/api?token={SECRET}"
    assert SECRET not in str(describe(clms.load()))


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("fetched", "{here}/fetched"),
        ("../fetched", "{up}/fetched"),
        ("~/fetched", "{home}/fetched"),
        ("/fetched", "/fetched"),
        ("s3://bucket/fetched", "s3://bucket/fetched"),
        ("memory://fetched", "memory://fetched"),
    ],
)
def test_place_of_the_cache(
    clms: World, root: str, expected: str, monkeypatch: pytest.MonkeyPatch, *, older: bool
) -> None:
    monkeypatch.setenv("HOME", str(clms.folder / "home"))
    _params(clms).update({"cache_store_params": {"root": root}} if older else {"cache": root})
    place = expected.format(here=Path.cwd(), up=Path.cwd().parent, home=clms.folder / "home")
    cache = _store(clms).cache
    assert cache is not None
    assert cache.root == place


@pytest.mark.parametrize(
    ("identifier", "folder"), [("a/b", "a%2Fb"), ("../../a", "%2E.%2F..%2Fa"), ("..", "%2E."), ("é a", "%C3%A9%20a")]
)
def test_cache_stays_below_the_storage_whatever_the_store_is_called(clms: World, identifier: str, folder: str) -> None:
    clms.data["data_stores"][2]["identifier"] = identifier
    cache = _store(clms).cache
    assert cache == StorageSpec(str(clms.folder / "data" / ".cache" / folder))
    assert Path(cache.root).resolve().parent == clms.folder / "data" / ".cache"


def test_two_stores_keep_their_caches_apart(clms: World) -> None:
    params = {"credentials": "other.json", "cache": "data/.cache/clms/"}
    clms.data["data_stores"].append({"identifier": "second", "store_id": "clms", "store_params": params})
    assert clms.lines() == [
        "data_stores[3].store_params.cache: should be a folder of its own: the cache of 'clms' lies there"
    ]
    params["cache"] = "data/.cache/second"
    assert len({store.cache.root for store in clms.load().stores if store.cache}) == 2


def test_store_of_the_portal(world: World) -> None:
    world.data["data_stores"].append({"identifier": "cci", "store_id": "cciodp"})
    store = world.load().stores[1]
    assert (store.protocol, store.params) == (
        "cciodp",
        {
            "endpoint_url": "https://archive.opensearch.ceda.ac.uk/opensearch/request",
            "endpoint_description_url": (
                "https://archive.opensearch.ceda.ac.uk/opensearch/description.xml?parentIdentifier=cci"
            ),
            "max_connections": 4,
            "cache_size": 20_000_000_000,
        },
    )
    assert store.cache == StorageSpec(str(world.folder / "data" / ".cache" / "cci"))
    assert world.load().preloads == ()


def test_parameters_of_the_portal(world: World) -> None:
    params: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:1/opensearch/request", "max_connections": "2"}
    world.data["data_stores"].append({"identifier": "cci", "store_id": "cciodp", "store_params": params})
    store = world.load().stores[1]
    # The description lies beside the search.
    assert store.params == {
        "endpoint_url": "http://127.0.0.1:1/opensearch/request",
        "endpoint_description_url": "http://127.0.0.1:1/opensearch/description.xml?parentIdentifier=cci",
        "max_connections": 2,
        "cache_size": 20_000_000_000,
    }
    params["cache_size"] = "5000000000"
    params |= {"endpoint_description_url": "http://h/d", "cache": "c", "href_rewrite": {"a": "b"}}
    store = world.load().stores[1]
    assert store.params["endpoint_description_url"] == "http://h/d"
    assert store.params["cache_size"] == 5_000_000_000
    params["cache_size"] = "20 GB"
    assert world.lines() == [
        "data_stores[2].store_params.cache_size: should be a whole number of at least 1, not '20 GB'"
    ]
    params["cache_size"] = 999_999
    (line,) = world.load().warnings
    assert line.startswith("data_stores[2].store_params.cache_size: 999999 bytes, where less than 1 MB")
    params["cache_size"] = 1_000_000
    assert world.load().warnings == ()
    assert (store.cache, store.href_rewrite) == (StorageSpec(str(world.folder / "c")), (("a", "b"),))


def test_a_store_that_is_read_where_it_is_has_no_cache(world: World) -> None:
    assert world.load().stores[0].cache is None


def test_one_policy_for_all(clms: World) -> None:
    clms.data["general"] = {"retry": {"max_attempts": 3}}
    assert [store.retry.max_attempts for store in clms.load().stores] == [3, 3]


# What is fetched.


def test_nothing_to_fetch(clms: World) -> None:
    assert clms.load().preloads == ()


def test_named_ones_come_first_and_the_datasets_others_follow(clms: World) -> None:
    _read(clms, "p|c.zarr", "c")
    _read(clms, "p|a", "a")
    _read(clms, "p|c", "again")
    _read(clms, "p|d", "d")
    _fetch(
        clms,
        {"data_ids": ["p|b.zarr", "p|a.zarr"], "preload_params": {"max_wait": 60, "cleanup": False}},
        {"data_ids": "p|e"},
    )
    case = clms.load()
    store = case.stores[1]
    assert case.preloads == (
        PreloadSpec(store, "p|b", 60.0, cleanup=False),
        PreloadSpec(store, "p|a", 60.0, cleanup=False),
        PreloadSpec(store, "p|e"),
        PreloadSpec(store, "p|c"),
        PreloadSpec(store, "p|d"),
    )
    # One spelling for cube, cache and order.
    assert [dataset.data_id for dataset in case.datasets[2:]] == ["p|c", "p|a", "p|c", "p|d"]


def test_the_catalogues_ids_keep_their_spelling(world: World) -> None:
    world.data["datasets"][0]["data_id"] = "x.zarr"
    case = world.load()
    assert case.datasets[0].data_id == "x.zarr"
    assert case.preloads == ()


def test_same_id_in_two_stores(clms: World) -> None:
    clms.data["data_stores"].append(
        {"identifier": "second", "store_id": "clms", "store_params": {"credentials": "b.json"}}
    )
    clms.data["preload_datasets"] = [{"store": name, "data_ids": ["p|a"]} for name in ("second", "clms")]
    assert [(one.store.identifier, one.data_id) for one in clms.load().preloads] == [("second", "p|a"), ("clms", "p|a")]


@pytest.mark.parametrize(("value", "force"), [(True, True), (False, False), (None, False)])
def test_force(clms: World, value: bool | None, *, force: bool) -> None:
    _read(clms, "p|a")
    _fetch(clms, {"data_ids": ["p|b"]})
    clms.data["general"] = {"force_preload": value}
    case = clms.load()
    assert [one.force for one in case.preloads] == [force, force]
    assert describe(case)["general"]["force_preload"] is force


def test_numbers_from_the_environment(clms: World) -> None:
    clms.environ = {"WAIT": "0", "KEEP": "false"}
    _fetch(clms, {"data_ids": ["p|a"], "preload_params": {"max_wait": "${WAIT}", "cleanup": "${KEEP}"}})
    (preload,) = clms.load().preloads
    assert (preload.max_wait, preload.cleanup) == (0.0, False)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"store": "clns"}, "preload_datasets[0].store: no data store 'clns'; did you mean 'clms'?"),
        (
            {"store": "storage"},
            "preload_datasets[0].store: reading from the store 'storage' isn't supported yet",
        ),
        (
            {"store": "eoforest_stac"},
            (
                "preload_datasets[0].store: 'eoforest_stac' is a stac store, which is read without preloading; "
                "only clms needs it. Remove it"
            ),
        ),
        ({"data_ids": []}, "preload_datasets[0].data_ids: should not be empty, not []"),
        ({"data_ids": [""]}, "preload_datasets[0].data_ids[0]: should not be empty, not ''"),
        ({"data_ids": 5}, "preload_datasets[0].data_ids: should be a string (put it into quotes), not 5"),
        (
            {"data_ids": ["p|a", "p|b", "p|a.zarr"]},
            (
                "preload_datasets[0].data_ids[2]: 'p|a' is named already, by preload_datasets[0].data_ids[0]; "
                "with or without .zarr"
            ),
        ),
        ({"data_id": "p|a"}, "preload_datasets[0].data_id: unknown key; did you mean 'data_ids'?"),
        (
            {"preload_params": {"max_wait": -1}},
            "preload_datasets[0].preload_params.max_wait: should be greater than or equal to 0, not -1",
        ),
        (
            {"preload_params": {"max_wait": True}},
            "preload_datasets[0].preload_params.max_wait: should be a number, not True",
        ),
        (
            {"preload_params": {"tile_size": 2048}},
            (
                "preload_datasets[0].preload_params.tile_size: isn't supported yet; supported: blocking, cleanup, "
                "max_wait, silent"
            ),
        ),
        (
            {"preload_params": {"max_wiat": 1}},
            (
                "preload_datasets[0].preload_params.max_wiat: unknown parameter, or not supported yet; "
                "did you mean 'max_wait'?"
            ),
        ),
    ],
)
def test_refused(clms: World, entry: dict[str, Any], line: str) -> None:
    _fetch(clms, {"data_ids": ["p|a"]} | entry)
    assert clms.lines() == [line]


@pytest.mark.parametrize("silent", [True, False])
def test_todays_parameters_without_effect(clms: World, *, silent: bool) -> None:
    _fetch(clms, {"data_ids": ["p|a"]})
    before = clms.load()
    clms.data["preload_datasets"][0]["preload_params"] = {"blocking": True, "silent": silent}
    assert clms.load() == before


def test_twice_in_two_entries(clms: World) -> None:
    _fetch(clms, {"data_ids": "p|a.zarr"}, {"data_ids": ["p|b", "p|a"]})
    assert clms.lines() == [
        (
            "preload_datasets[1].data_ids[1]: 'p|a' is named already, by preload_datasets[0].data_ids; "
            "with or without .zarr"
        )
    ]


def test_portal_needs_no_preloading(world: World) -> None:
    world.data["data_stores"].append({"identifier": "cci", "store_id": "cciodp"})
    world.data["preload_datasets"] = [{"store": "cci", "data_ids": ["a"]}]
    assert world.lines() == [
        (
            "preload_datasets[0].store: 'cci' is a cciodp store, which is read without preloading; "
            "only clms needs it. Remove it"
        )
    ]


def test_a_wrong_store_is_one_line(clms: World) -> None:
    _params(clms)["api_url"] = "here"
    _read(clms, "p|a")
    _fetch(clms, {"data_ids": ["p|b"]})
    assert clms.lines() == ["data_stores[2].store_params.api_url: should be an http or https URL, not 'here'"]


def test_effective_configuration_can_be_read_again(clms: World) -> None:
    _read(clms, f"{FTY}.zarr")
    _fetch(clms, {"data_ids": ["p|b"], "preload_params": {"max_wait": 60, "cleanup": False}})
    before = clms.load()
    shown = describe(before)
    assert yaml.safe_load(yaml.safe_dump(shown)) == shown
    assert shown["preload_datasets"] == [
        {"store": "clms", "data_ids": ["p|b"], "preload_params": {"max_wait": 60.0, "cleanup": False}},
        {"store": "clms", "data_ids": [FTY], "preload_params": {"max_wait": 7200.0, "cleanup": True}},
    ]
    assert shown["data_stores"][2] == {
        "identifier": "clms",
        "store_id": "clms",
        "store_params": {
            "credentials": "***",
            "api_url": "https://land.copernicus.eu/api",
            "href_rewrite": {},
            "cache": str(clms.folder / "data" / ".cache" / "clms"),
        },
    }
    clms.data["preload_datasets"] = shown["preload_datasets"]
    assert clms.load() == before


def test_the_datasets_product_has_the_files_name(clms: World) -> None:
    _read(clms, f"{FTY}.zarr")
    dataset = clms.load().datasets[2]
    assert dataset.product is not None
    assert [variable.name for variable in dataset.product.variables] == ["FTY_2015_020m_eu_03035_d04_E30N20"]


def test_a_variable_can_be_named_by_the_files_name(clms: World) -> None:
    _read(clms, FTY)
    section = {"agg_methods": {"FTY_2015_020m_eu_03035_d04_E30N20": "mean"}}
    clms.data["datasets"][2]["spatial_resample_params"] = section
    (line,) = clms.lines()
    assert line.startswith("datasets[2].spatial_resample_params.agg_methods.FTY_2015_020m_eu_03035_d04_E30N20: ")
    section["agg_methods"] = {"FTY_2015": "mode"}
    (line,) = clms.lines()
    assert line.endswith("has no variable 'FTY_2015'; known: FTY_2015_020m_eu_03035_d04_E30N20")
