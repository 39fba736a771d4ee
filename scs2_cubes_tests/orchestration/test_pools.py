"""Which steps share a pool, and what a pool does where a limit is set, and where none is."""

from __future__ import annotations

import threading
from pathlib import Path

import dagster as dg
import pytest

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.pools import cube_pool_of, pool_of
from scs2_cubes_tests.end_to_end.trial import CHECKOUT


@pytest.mark.parametrize(
    ("protocol", "fetching", "cube"),
    [("clms", "clms", None), ("cciodp", "cciodp", "cciodp"), ("stac", None, None), ("file", None, None)],
)
def test_pool_of_a_store(protocol: str, fetching: str | None, cube: str | None) -> None:
    store = StoreSpec("mine", protocol)
    assert pool_of(store) == fetching
    assert cube_pool_of(store) == cube


def test_stores_of_one_protocol_share_a_pool() -> None:
    assert pool_of(StoreSpec("first", "clms")) == pool_of(StoreSpec("second account", "clms")) == "clms"


@pytest.mark.parametrize(
    ("settings", "together"),
    [("", True), ("concurrency:\n  pools:\n    default_limit: 1\n", False)],
    ids=["nothing configured", "limit 1"],
)
def test_two_runs_in_one_pool(tmp_path: Path, settings: str, together: bool) -> None:
    (tmp_path / "dagster.yaml").write_text(f"telemetry:\n  enabled: false\n{settings}", encoding="utf-8")
    inside, leave = threading.Event(), threading.Event()
    second = threading.Event()

    @dg.asset(pool=pool_of(StoreSpec("esa_cci", "cciodp")))
    def long() -> None:
        inside.set()
        assert leave.wait(60)

    @dg.asset(pool=pool_of(StoreSpec("other", "cciodp")))
    def short() -> None:
        second.set()

    def run(asset: dg.AssetsDefinition) -> threading.Thread:
        thread = threading.Thread(target=dg.materialize, args=([asset],), kwargs={"instance": instance})
        thread.start()
        return thread

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        threads = [run(long)]
        try:
            assert inside.wait(60)
            threads.append(run(short))
            # Where nothing limits it, it is there in a fraction of a second.
            assert second.wait(60 if together else 4) is together
        finally:
            leave.set()
            for thread in threads:
                thread.join(60)
        assert second.is_set()


def test_assets_carry_their_pools() -> None:
    definitions = build_definitions(load_case(CHECKOUT / "configs/demo.yml"))
    pools = {
        asset.key.to_user_string(): asset.node_def.pools
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition) and asset.key.path[0] != "grids"
    }
    asking = {name: found for name, found in pools.items() if found}
    fetched = [name for name in asking if name.startswith("sources/")]
    # The archive that is ordered waits in CLMS's pool, and the cube made of it doesn't; a cube of the portal fetches.
    assert [asking[name] for name in fetched] == [{"clms"}]
    assert {name: found for name, found in asking.items() if name not in fetched} == {"esa_cci_biomass": {"cciodp"}}
    assert {"forest_type_2015", "gami", "efda"} <= pools.keys()
