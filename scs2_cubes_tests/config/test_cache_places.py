"""Where a cache may lie: clearing it must never take a cube, or another store's cache, away."""

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes.core.specification import StorageSpec
from scs2_cubes_tests.config.conftest import World

CUBES = "data_stores[2].store_params.cache: should be a folder of its own: cubes are written there"


@pytest.fixture
def clms(world: World) -> World:
    world.data["data_stores"].append(
        {"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "key.json"}}
    )
    return world


def _params(world: World, index: int = 2) -> dict[str, Any]:
    params: dict[str, Any] = world.data["data_stores"][index]["store_params"]
    return params


@pytest.mark.parametrize(
    "place",
    [
        "data",
        "data/",
        "./x/../data",
        "data/landes",
        "data/landes/.cache/x",
        "data/.cache",
        "data/.cachet/x",
        ".",
        "..",
        "/",
        "file://{here}/data",
        "file://{here}/data/",
        "file:{here}/data",
        "file://localhost{here}/data",
        "local://{here}/data/landes",
        "FILE://{here}/x/../data",
        "file://{here}/d%61ta",
        "file://{here}",
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_not_among_the_cubes(clms: World, place: str, *, older: bool) -> None:
    root = place.format(here=clms.folder)
    _params(clms).update({"cache_store_params": {"root": root}} if older else {"cache": root})
    assert clms.lines() == [CUBES]


def test_not_among_the_cubes_by_a_link(clms: World) -> None:
    (clms.folder / "data").mkdir()
    (clms.folder / "link").symlink_to(clms.folder / "data")
    _params(clms)["cache"] = f"file://{clms.folder}/link"
    assert clms.lines() == [CUBES]


@pytest.mark.parametrize("place", ["data/.cache/fetched", "data-fetched", "datas", "file://{here}/data/.cache/a%20b"])
def test_beside_the_cubes(clms: World, place: str) -> None:
    _params(clms)["cache"] = place.format(here=clms.folder)
    cache = clms.load().stores[1].cache
    expected = place.replace("file://{here}/", "").replace("%20", " ")
    # A folder has one spelling from here on.
    assert cache == StorageSpec(str(clms.folder / expected))


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ("fetched", "fetched", False),
        ("fetched", "fetched/clms", False),
        ("fetched/clms", "fetched", False),
        ("fetched", "file://{here}/fetched/", False),
        ("fetched/a", "fetched/b", True),
        ("fetched", "fetched-2", True),
        ("s3://bucket/a", "s3://bucket/a/", False),
        ("s3://bucket", "s3://bucket/a/b", False),
        ("s3://bucket//a/./c", "s3://bucket/a", False),
        ("s3://key:pw@bucket/a", "s3://bucket/a", False),
        ("s3://bucket/a", "s3://bucket/ab", True),
        ("s3://bucket/a", "memory://bucket/a", True),
    ],
)
def test_two_caches(clms: World, one: str, other: str, *, fits: bool) -> None:
    _params(clms)["cache"] = one.format(here=clms.folder)
    params = {"credentials": "other.json", "cache": other.format(here=clms.folder)}
    clms.data["data_stores"].append({"identifier": "second", "store_id": "clms", "store_params": params})
    if fits:
        assert len(clms.load().stores) == 3
        return
    assert clms.lines() == [
        "data_stores[3].store_params.cache: should be a folder of its own: the cache of 'clms' lies there"
    ]
