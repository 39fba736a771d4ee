from __future__ import annotations

import runpy
import socket
from pathlib import Path

import dagster as dg
import pytest
from pytest_socket import SocketBlockedError

from scs2_cubes.errors import ConfigurationError
from scs2_cubes.orchestration.assets import source_assets
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.partitions import contiguous_ranges
from scs2_cubes.pipeline.due import select_datasets
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, GAMI, GENUS, Trial, dataset, region


def definitions_of(config: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("SCS2_CONFIG", str(config))
    loaded = runpy.run_module("scs2_cubes.definitions")["defs"]
    assert isinstance(loaded, dg.Definitions)
    return loaded


@pytest.mark.parametrize(("config", "partition"), [("scs2.yml", "landes"), ("demo.yml", "demo")])
@pytest.mark.usefixtures("socket_disabled")
def test_loading_asks_nothing_of_any_network(
    config: str, partition: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Where warnings are errors, the guard's warning comes first.
    with pytest.raises((SocketBlockedError, UserWarning), match="tried to use socket"):
        socket.socket()
    monkeypatch.chdir(tmp_path)
    # Nor of any credentials: the service key's file isn't there.
    for name in ("SCS2_DEMO_CLMS_CREDENTIALS", "CLMS_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    assert not list((CHECKOUT / "configs").glob("*credentials*"))
    definitions = definitions_of(CHECKOUT / "configs" / config, monkeypatch)
    graph = definitions.resolve_asset_graph()
    names = ("forest_type_2015", "gami", "forestpaths_genus", "liu", "esa_cci_biomass", "efda")
    cubes = {dg.AssetKey(name) for name in names}
    grids = {dg.AssetKey(["grids", "regions"])}
    assert grids <= graph.get_all_asset_keys()
    sources = graph.get_all_asset_keys() - cubes - grids
    assert cubes <= graph.get_all_asset_keys()
    assert len(sources) == len(cubes)
    # A probe for each that is read where it is, and the one that is preloaded.
    kinds = sorted((key.path[1], *sorted(graph.get(key).kinds)) for key in sources)
    assert kinds == [("clms", "clms", "zarr"), *[("eoforest_stac", "stac")] * 4, ("esa_cci", "cciodp")]
    assert {key.path[0] for key in sources} == {"sources"}
    assert {graph.get(key).group_name for key in sources} == {"sources"}
    assert {graph.get(key).group_name for key in cubes} == {"cubes"}
    for key in cubes:
        partitions = graph.get(key).partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys() == [partition]
        assert len(graph.get(key).parent_keys) == 1
        assert graph.get(key).parent_keys <= sources
    assert not any(graph.get(key).is_partitioned for key in sources)
    definitions.resolve_implicit_global_asset_job_def()
    assert list(tmp_path.iterdir()) == []


def test_identifier_with_folders_is_a_key_with_parts(trial: Trial) -> None:
    trial.data["datasets"] = [dataset("forest/age/mean", GAMI, "demo")]
    graph = build_definitions(trial.case()).resolve_asset_graph()
    assert dg.AssetKey(["forest", "age", "mean"]) in graph.get_all_asset_keys()


def test_datasets_with_the_same_source_share_its_asset(trial: Trial) -> None:
    trial.data["grid_mappings"].append(region("other", [3425404, 2440817, 3427404, 2442817]))
    trial.data["datasets"] = [
        dataset("one", GAMI, "demo"),
        dataset("two", GAMI, "other"),
        dataset("three", GENUS, "demo"),
    ]
    case = trial.case()
    assert len(source_assets(case)) == 2
    graph = build_definitions(case).resolve_asset_graph()
    one, two, three = (graph.get(dg.AssetKey(name)).parent_keys for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_sources_of_the_same_name_stay_apart(trial: Trial) -> None:
    trial.data["datasets"] = [dataset("one", "here/A_v1.json", "demo"), dataset("two", "there/A_v1.json", "demo")]
    assert len({asset.key for asset in source_assets(trial.case())}) == 2


def test_large_region_has_several_partitions(trial: Trial) -> None:
    # 10 000 x 9 000 pixels: two columns and two rows of at most 8192.
    trial.data["grid_mappings"] = [region("large", [3000000, 2000000, 3300000, 2270000], 1024)]
    trial.data["datasets"] = [dataset("gami", GAMI, "large")]
    partitions = build_definitions(trial.case()).resolve_asset_graph().get(dg.AssetKey("gami")).partitions_def
    assert partitions is not None
    assert partitions.get_partition_keys() == ["large-y00x00", "large-y00x01", "large-y01x00", "large-y01x01"]


def test_ranges_are_contiguous_and_in_order() -> None:
    assert list(contiguous_ranges("abcdef", {"f", "b", "c"})) == [("b", "c"), ("f",)]
    assert list(contiguous_ranges("abc", "cba")) == [("a", "b", "c")]
    assert list(contiguous_ranges("abc", "")) == []


def test_selection_keeps_the_order_of_the_file_and_refuses_strangers(trial: Trial) -> None:
    trial.data["grid_mappings"].append(region("other", [3425404, 2440817, 3427404, 2442817]))
    trial.data["datasets"].append(dataset("both", GAMI, ["demo", "other"]))
    case = trial.case()

    def names(datasets: tuple[str, ...], regions: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        return [(one.identifier, keys) for one, keys in select_datasets(case, datasets, regions)]

    assert names((), ("other",)) == [("both", ("other",))]
    assert names(("both", "gami"), ()) == [("gami", ("demo",)), ("both", ("demo", "other"))]
    with pytest.raises(ConfigurationError, match="nothing to do for region other: gami is made for demo"):
        names(("gami",), ("other",))
    with pytest.raises(ConfigurationError, match="no dataset 'gamy'; did you mean 'gami'"):
        names(("gamy",), ())
    with pytest.raises(ConfigurationError, match="no region 'othre'; did you mean 'other'"):
        names((), ("othre",))
