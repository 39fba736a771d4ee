from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import dask.array
import numpy as np
import pytest
import xarray as xr

from scs2_cubes.core.specification import Case
from scs2_cubes.errors import CubeNotFoundError, StorageError
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.io_managers import CubeIOManager
from scs2_cubes_tests.end_to_end.trial import GENUS, Trial, dataset, region
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, events, materialize, staleness, tags, with_sites


def consumer_of(seen: list[Any], partitions: list[str] | None) -> dg.AssetsDefinition:
    """A downstream asset that keeps what it is given."""

    @dg.asset(
        ins={"cube": dg.AssetIn("genus", input_manager_key="cubes")},
        partitions_def=dg.StaticPartitionsDefinition(partitions) if partitions else None,
    )
    def consumer(cube: Any) -> dg.MaterializeResult[None]:
        seen.append(cube)
        return dg.MaterializeResult()

    return consumer


def run_both(
    case: Case, instance: dg.DagsterInstance, consumer: dg.AssetsDefinition, keys: list[dg.AssetKey], **how: Any
) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(build_definitions(case), dg.Definitions(assets=[consumer]))
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(asset_selection=keys, instance=instance, raise_on_error=False, **how)


def test_asset_in_the_same_run_gets_the_cube_lazily_as_integers(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    seen: list[Any] = []
    with trial.instance() as instance:
        consumer = consumer_of(seen, ["first", "second"])
        result = run_both(case, instance, consumer, [GENUS_KEY, consumer.key], partition_key="first")
        assert result.success
        assert not [event for event in result.all_events if event.is_step_skipped]
        (event,) = events(instance, GENUS_KEY)
        assert staleness(case, instance, "first").value == "FRESH"
    assert event.partition == "first"
    (cube,) = seen
    assert isinstance(cube, xr.Dataset)
    assert cube["genus"].dtype == np.uint8
    assert isinstance(cube["genus"].data, dask.array.Array)
    assert cube["genus"].shape == (64, 64)
    assert int(cube["genus"].max()) > 0


def test_several_partitions_are_a_mapping_and_are_reported_once_each(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    seen: list[Any] = []
    span = {"dagster/asset_partition_range_start": "first", "dagster/asset_partition_range_end": "second"}
    with trial.instance() as instance:
        consumer = consumer_of(seen, ["first", "second"])
        assert run_both(case, instance, consumer, [GENUS_KEY, consumer.key], tags=span).success
        found = events(instance, GENUS_KEY)
        assert [event.partition for event in found] == ["first", "second"]
        assert len({tags(event)["dagster/data_version"] for event in found}) == 2
    (cubes,) = seen
    assert isinstance(cubes, Mapping)
    assert list(cubes) == ["first", "second"]
    assert all(cube["genus"].dtype == np.uint8 for cube in cubes.values())
    assert float(cubes["second"]["x"][0]) == 3441015.0


def test_partition_of_a_larger_region_is_its_part(trial: Trial) -> None:
    # 80 tiles of 128 pixels in one row: 64 of them, 8192 pixels, are the first partition, the rest the second.
    trial.data["grid_mappings"] = [region("strip", [3200000, 2450000, 3200000 + 80 * 128 * 30, 2450030], 128)]
    trial.data["datasets"] = [dataset("genus", GENUS, "strip")]
    case = trial.case()
    seen: list[Any] = []
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, partition="strip-y00x01").success
        consumer = consumer_of(seen, ["strip-y00x00", "strip-y00x01"])
        assert run_both(case, instance, consumer, [consumer.key], partition_key="strip-y00x01").success
        refused = run_both(case, instance, consumer, [consumer.key], partition_key="strip-y00x00")
    (cube,) = seen
    assert cube["genus"].shape == (1, 16 * 128)
    assert float(cube["x"][0]) == 3200000 + 8192 * 30 + 15
    assert not refused.success
    (failure,) = [event.step_failure_data.error for event in refused.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    assert "CubeNotFoundError" in failure.cause.message
    assert "partition strip-y00x00 has 64 unfinished tiles" in failure.cause.message


def test_unfinished_or_absent_cube_is_refused(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    manager = CubeIOManager(case)

    def load(key: str) -> object:
        context = dg.build_input_context(
            asset_key=GENUS_KEY,
            partition_key=key,
            asset_partitions_def=dg.StaticPartitionsDefinition(["first", "second"]),
        )
        return manager.load_input(context)

    with pytest.raises(CubeNotFoundError, match="first/genus"):
        load("first")
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, partition="first").success
    assert isinstance(load("first"), xr.Dataset)
    (trial.root / "first/genus.records/tiles/y01x00.json").unlink()
    with pytest.raises(CubeNotFoundError, match=r"1 unfinished tiles \(y01x00"):
        load("first")


def test_it_writes_nothing(trial: Trial) -> None:
    manager = CubeIOManager(trial.case())
    with pytest.raises(StorageError, match="asset forest/map returned Dataset; the IO manager 'cubes' only opens"):
        manager.handle_output(dg.build_output_context(asset_key=dg.AssetKey(["forest", "map"])), xr.Dataset())
