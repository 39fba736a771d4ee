"""Data ids that can't be: told without asking anybody."""

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes_tests.config.conftest import World

CCI = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
CLMS_FORM = "it should be <product>|<file>, such as forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"
CCI_FORM = (
    "it should be esacci.<ECV>.<frequency>.<processing level>.<data type>.<sensor>.<platform>.<product string>."
    "<product version>.<suffix>"
)


def with_store(world: World, store_id: str, data_id: str) -> None:
    params: dict[str, Any] = {"credentials": "key.json"} if store_id == "clms" else {}
    world.data["data_stores"].append({"identifier": "other", "store_id": store_id, "store_params": params})
    world.data["datasets"] = [world.data["datasets"][0] | {"store": "other", "data_id": data_id}]


@pytest.mark.parametrize(
    ("store_id", "data_id", "why"),
    [
        ("clms", "forest-type-2015/FTY_2015_020m_eu_03035_d04_E30N20", CLMS_FORM),
        ("clms", "|FTY_2015", CLMS_FORM),
        ("clms", "forest-type-2015|.zarr", CLMS_FORM),
        ("clms", "a|b|c", CLMS_FORM),
        ("cciodp", CCI.removesuffix(".6-0.100m"), f"it has 8 of 10 parts; {CCI_FORM}"),
        ("cciodp", f"{CCI}.zarr", f"it has 11 of 10 parts; {CCI_FORM}"),
        ("cciodp", CCI.replace("esacci", "esa"), f"its first part isn't esacci; {CCI_FORM}"),
        ("cciodp", CCI.replace("multi-sensor", "").replace("6-0", ""), f"it lacks sensor, product version; {CCI_FORM}"),
    ],
)
def test_refused(world: World, store_id: str, data_id: str, why: str) -> None:
    with_store(world, store_id, data_id)
    assert world.lines() == [f"datasets[0].data_id: {data_id!r} can't be a data id of a {store_id} store: {why}"]


@pytest.mark.parametrize(
    ("store_id", "data_id"),
    [
        ("clms", "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"),
        ("clms", "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20.zarr"),
        ("cciodp", CCI),
        ("cciodp", f"{CCI}~fv6.0"),
    ],
)
def test_taken(world: World, store_id: str, data_id: str) -> None:
    with_store(world, store_id, data_id)
    assert world.load().datasets[0].store.protocol == store_id


def test_refused_where_it_is_preloaded(world: World) -> None:
    with_store(world, "clms", "forest-type-2015|FTY")
    world.data["preload_datasets"] = [{"store": "other", "data_ids": ["a|b", "forest-type-2015"]}]
    assert world.lines() == [
        f"preload_datasets[0].data_ids[1]: 'forest-type-2015' can't be a data id of a clms store: {CLMS_FORM}"
    ]
