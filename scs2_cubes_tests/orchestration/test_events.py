"""What a run reports: metadata, versions, provenance, and what a failed partition leaves of the others."""

from __future__ import annotations

import dagster as dg
import numpy as np

from scs2_cubes.api import open_cube
from scs2_cubes.demo.faults import Status
from scs2_cubes_tests.end_to_end.trial import Trial
from scs2_cubes_tests.orchestration.sites import (
    GENUS_KEY,
    SITES,
    TILES,
    events,
    materialize,
    record,
    source_key_of,
    tags,
    with_sites,
)

CODE, VERSION = "dagster/code_version", "dagster/data_version"


def values(event: dg.AssetMaterialization) -> dict[str, object]:
    return {name: value.value for name, value in event.metadata.items()}


def test_metadata_tell_what_was_made(trial: Trial) -> None:
    case = with_sites(trial, "first", "at_sea", "far_out").case()
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, span=("first", "far_out")).success
        by_site = {event.partition: values(event) for event in events(instance, GENUS_KEY)}
    assert set(by_site) == {"first", "at_sea", "far_out"}
    cube = open_cube(case, "genus", "first")
    told = by_site["first"]
    assert told["shape"] == "1 x 64 x 64 (time, y, x)"
    assert told["crs"] == "EPSG:3035"
    assert told["chunks"] == "1 x 32 x 32"
    assert told["resolution"] == "30.0 x 30.0"
    assert told["cube"] == str(trial.root / "first/genus.zarr")
    assert told["source_version"] == record(trial, "first/genus", "y00x00")["source_version"]
    assert (told["tiles_made"], told["tiles_kept"], told["tiles_empty"]) == (TILES, 0, 0)
    assert told["source_chunks_absent"] == 0
    fraction = float((cube["genus"].to_numpy() != 255).mean())
    assert told["valid_fraction_genus"] == round(fraction, 6)
    assert fraction > 0
    chunks = [path for path in (trial.root / "first/genus.zarr/genus").iterdir() if not path.name.startswith(".")]
    assert told["bytes_written"] == sum(path.stat().st_size for path in chunks)
    assert told["bytes_on_disk"] == sum(
        path.stat().st_size for path in (trial.root / "first/genus.zarr").rglob("*") if path.is_file()
    )
    assert isinstance(told["seconds"], float)
    assert 0 < told["seconds"] < 300
    at_sea, far_out = by_site["at_sea"], by_site["far_out"]
    assert (at_sea["tiles_empty"], at_sea["source_chunks_absent"], at_sea["valid_fraction_genus"]) == (TILES, 0, 0)
    # Each of its tiles touches one chunk, which isn't there.
    assert (far_out["tiles_empty"], far_out["source_chunks_absent"]) == (TILES, TILES)
    assert bool(np.all(open_cube(case, "genus", "far_out")["genus"].to_numpy() == 255))


def test_each_partition_of_a_range_has_its_own_event_and_provenance(trial: Trial) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    source = source_key_of(case)
    with trial.instance() as instance:
        assert materialize(case, instance, source).success
        result = materialize(case, instance, GENUS_KEY, span=("first", "third"))
        assert result.success
        found = events(instance, GENUS_KEY)
        source_records = instance.fetch_materializations(source, limit=10).records
    assert [event.partition for event in found] == ["first", "second", "third"]
    # The probe's; the cube's run has seen the same version, so it reports none.
    (probed,) = source_records
    version = tags(probed.asset_materialization)[VERSION] if probed.asset_materialization else ""
    assert len({tags(event)[VERSION] for event in found}) == 3  # other anchors are other pixels
    for event in found:
        assert event.partition
        assert tags(event)[VERSION] == record(trial, f"{event.partition}/genus", "y01x01")["data_version"]
        assert tags(event)["dagster/data_version_is_user_provided"] == "true"
        assert tags(event)[f"dagster/input_data_version/{source.to_user_string()}"] == version
        assert tags(event)[f"dagster/input_event_pointer/{source.to_user_string()}"] == str(probed.storage_id)
        assert tags(event)[CODE] == case_code_version(result)


def case_code_version(result: dg.ExecuteInProcessResult) -> str:
    """What Dagster itself takes for the code version of the asset."""
    return str(result._job_def.asset_layer.asset_graph.get(GENUS_KEY).code_version)


def test_failed_partition_stops_neither_the_others_nor_their_reports(trial: Trial) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    source = source_key_of(case)
    trial.server.faults.add(Status(403), SITES["second"][1])
    with trial.instance() as instance:
        result = materialize(case, instance, GENUS_KEY, span=("first", "third"))
        assert not result.success
        assert sorted(str(event.partition) for event in events(instance, GENUS_KEY)) == ["first", "third"]
        assert len({tags(event)[VERSION] for event in events(instance, GENUS_KEY)}) == 2
        for event in events(instance, GENUS_KEY):
            assert tags(event)[CODE]
            assert tags(event)[f"dagster/input_data_version/{source.to_user_string()}"]
            assert tags(event)[f"dagster/input_event_pointer/{source.to_user_string()}"].isdigit()
        (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        assert failure is not None
        assert failure.cause is not None
        assert "genus: 1 of 3 partitions failed: second: TileError" in failure.cause.message
        assert "AccessDeniedError" in failure.cause.message
        assert SITES["second"][1] in failure.cause.message
        assert {name: len(trial.records(f"{name}/genus")) for name in ("first", "second", "third")} == {
            "first": TILES,
            "second": 0,
            "third": TILES,
        }

        trial.server.faults.clear()
        trial.server.requests.clear()
        runs_before = instance.get_runs_count()
        before = trial.moments("first/genus") | trial.moments("third/genus")
    ended = trial.run()
    assert ended.code == 0, ended.said
    assert {path.rpartition(".zarr/")[2] for path in trial.chunk_requests()} == {SITES["second"][1]}
    assert trial.moments("first/genus") | trial.moments("third/genus") == before
    with trial.instance() as instance:
        found = events(instance, GENUS_KEY)
        assert [event.partition for event in found] == ["first", "third", "second"]
        assert values(found[-1])["tiles_made"] == TILES
        # One that probes the source, one that makes the partition.
        assert instance.get_runs_count() == runs_before + 2


def test_range_that_is_current_makes_nothing_and_says_so(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, span=("first", "second")).success
        before = trial.moments("*/genus")
        trial.server.requests.clear()
        assert materialize(case, instance, GENUS_KEY, partition="second").success
        last = events(instance, GENUS_KEY)[-1]
    assert (values(last)["tiles_made"], values(last)["tiles_kept"]) == (0, TILES)
    assert trial.chunk_requests() == []
    changed = {name for name, moment in trial.moments("*/genus").items() if before[name] != moment}
    assert not {name for name in changed if ".zarr/" in name or "/tiles/" in name}


def test_region_outside_the_source_fails_by_itself(trial: Trial) -> None:
    case = with_sites(trial, "first", "outside", "third").case()
    with trial.instance() as instance:
        result = materialize(case, instance, GENUS_KEY, span=("first", "third"))
        assert not result.success
        assert sorted(str(event.partition) for event in events(instance, GENUS_KEY)) == ["first", "third"]
        (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    assert "outside: PlanError" in failure.cause.message
    assert not (trial.root / "outside").exists()
