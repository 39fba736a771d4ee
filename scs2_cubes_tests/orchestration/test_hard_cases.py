"""What a run must stand: failures of another kind, odd names, selections that hold nothing, secrets in addresses."""

from __future__ import annotations

import threading
from typing import Any

import dagster as dg
import pytest

from scs2_cubes.core.native import Location
from scs2_cubes.errors import CubeNotFoundError
from scs2_cubes.orchestration.assets import source_assets
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.io_managers import open_partition
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.graph import build_graph
from scs2_cubes.pipeline.materialize import prepare_cube
from scs2_cubes.pipeline.tile import Workshop
from scs2_cubes_tests.end_to_end.trial import GENUS, Trial, dataset, region
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, SITES, TILES, events, materialize, with_sites


def test_a_failure_that_isnt_ours_doesnt_stop_the_other_partitions(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    run = Workshop.run
    second = plan_partition(case.datasets[0], case.storage, describe_source(case.datasets[0]), "second").plan

    def out_of_memory(self: Workshop, *args: Any) -> Any:
        if self.__reduce__()[1][0].region == second.region:
            raise MemoryError("no room for a window")
        return run(self, *args)

    monkeypatch.setattr(Workshop, "run", out_of_memory)
    with trial.instance() as instance:
        result = materialize(case, instance, GENUS_KEY, span=("first", "third"))
        reported = [event.partition for event in events(instance, GENUS_KEY)]
    assert not result.success
    assert reported == ["first", "third"]
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    assert "1 of 3 partitions failed: second: MemoryError: no room for a window" in str(error.to_string())


@pytest.mark.parametrize("names", [("my cube", "gämi"), ("a-b", "a_b"), ("v3.1", "v3_1"), ("a/b", "a__b")])
def test_identifiers_that_dagster_couldnt_name_its_ops_after(trial: Trial, names: tuple[str, str]) -> None:
    with_sites(trial, "first")
    trial.data["datasets"] = [dataset(name, GENUS, "first") for name in names]
    definitions = build_definitions(trial.case())
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {dg.AssetKey(name.split("/")) for name in names} <= keys


def test_a_store_with_a_name_of_two_words(trial: Trial) -> None:
    with_sites(trial, "first")
    for store in trial.data["data_stores"]:
        if store["store_id"] == "stac":
            store["identifier"] = "eo forest"
    trial.data["datasets"][0]["store"] = "eo forest"
    case = trial.case()
    (source,) = source_assets(case)
    with trial.instance() as instance:
        assert materialize(case, instance, source.key).success


def test_a_selection_without_a_partition_is_told(trial: Trial) -> None:
    with_sites(trial, "first", "second")
    trial.data["datasets"][0]["grid_mapping"] = "first"
    ended = trial.run("--dataset", "genus", "--region", "second")
    assert ended.code == 2
    assert "nothing to do for region second: genus is made for first" in ended.out + ended.err


def test_unfinished_cube_on_its_native_grid_isnt_handed_on(trial: Trial) -> None:
    with_sites(trial, "first")
    del trial.data["datasets"][0]["grid_mapping"]
    case = trial.case()
    (spec,) = case.datasets
    planned = plan_partition(spec, case.storage, describe_source(spec), "native")
    prepare_cube(planned.plan, planned.store)
    with pytest.raises(CubeNotFoundError, match="isn't complete"):
        open_partition(case.storage, spec, "native")
    with pytest.raises(CubeNotFoundError, match="no partition 'elsewhere'"):
        open_partition(case.storage, spec, "elsewhere")


def test_no_secret_in_what_clusters_log_of_a_location() -> None:
    text = repr(Location("https://user:hunter2@mirror.example/store.zarr?signature=abcdef"))
    assert "hunter2" not in text
    assert "abcdef" not in text


def test_two_runs_at_once_in_one_process_hear_their_own_tiles(trial: Trial) -> None:
    trial.data["grid_mappings"] = [region(name, SITES[name][0], 32) for name in ("first", "third")]
    trial.data["datasets"] = [dataset("genus", GENUS, ["first", "third"])]
    case = trial.case()
    (spec,) = case.datasets
    native = describe_source(spec)
    heard: dict[str, list[str]] = {"first": [], "third": []}
    barrier = threading.Barrier(2)

    def make(name: str) -> None:
        planned = plan_partition(spec, case.storage, native, name)
        prepare_cube(planned.plan, planned.store)
        graph = build_graph(planned.plan, planned.store, planned.partition.tiles())
        barrier.wait()
        ThreadCompute(1).run(graph, lambda result: heard[name].append(result.record.tile))

    threads = [threading.Thread(target=make, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(heard[name]) for name in heard] == [TILES, TILES]
