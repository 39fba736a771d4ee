"""Asset checks: each partition's own evaluations, what a blocking one holds up, and pictures beside them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import zarr

from scs2_cubes.core.checks import CHECKS
from scs2_cubes.core.specification import Case
from scs2_cubes.errors import ChecksFailedError
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.grids import GRIDS_KEY
from scs2_cubes.orchestration.io_managers import open_partition
from scs2_cubes.pipeline.materialize import Progress
from scs2_cubes_tests.end_to_end.trial import Trial, in_process
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, events, materialize, with_sites

#: Between the first two of the alphabet in the order of the configuration, so that a range of all has three.
SPAN = ("first", "third")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def evaluations(instance: dg.DagsterInstance, name: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """Partition → the latest evaluation of the cube's check ``name``."""
    history = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(GENUS_KEY, name), limit=100)
    found: dict[str | None, dg.AssetCheckEvaluation] = {}
    for record in reversed(history):
        if record.event and record.event.dagster_event:
            evaluation = record.event.dagster_event.event_specific_data
            # Of a check that was planned and never evaluated the plan is all there is.
            if isinstance(evaluation, dg.AssetCheckEvaluation):
                found[evaluation.partition] = evaluation
    return found


def spoil(trial: Trial, region: str, code: int = 99) -> None:
    """Put a code that no class has into one pixel of the first tile, behind everybody's back."""
    array = zarr.open_group(trial.root / f"{region}/genus.zarr", mode="r+")["genus"]
    assert isinstance(array, zarr.Array)
    array[0, 0] = code


def check_alone(case: Case, instance: dg.DagsterInstance, partition: str) -> dg.ExecuteInProcessResult:
    """A run of the cube's checks without the cube, as the UI starts it."""
    job = build_definitions(case).resolve_implicit_global_asset_job_def()
    only = job.get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(GENUS_KEY, name) for name in CHECKS}
    )
    return only.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)


def test_each_partition_of_a_range_has_its_own_evaluations(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    assert materialize(case, instance, GENUS_KEY, span=SPAN).success
    for name, kind in CHECKS.items():
        found = evaluations(instance, name)
        assert sorted(found, key=str) == ["first", "second", "third"], name
        assert all(one.passed and one.blocking is kind.blocking for one in found.values()), name
    (current,) = evaluations(instance, "current").values()
    assert current.partition is None
    assert current.passed
    assert current.description == "3 partitions: 3 current"


def test_damaged_partition_fails_alone_and_names_the_check(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    assert materialize(case, instance, GENUS_KEY, span=SPAN).success
    spoil(trial, "second")
    result = materialize(case, instance, GENUS_KEY, span=SPAN)
    assert not result.success
    found = evaluations(instance, "legal_codes")
    assert {key: one.passed for key, one in found.items()} == {"first": True, "second": False, "third": True}
    assert found["second"].severity is dg.AssetCheckSeverity.ERROR
    assert "y00x00" in str(found["second"].metadata["tiles"].value)
    (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    assert "legal_codes" in failure.cause.message
    assert "1 of 3 partitions failed: second" in failure.cause.message


def test_nothing_is_built_on_a_cube_that_fails_a_blocking_check(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = with_sites(trial, "first").case()
    partitions = dg.StaticPartitionsDefinition(["first"])
    built: list[str] = []

    @dg.asset(deps=[GENUS_KEY], partitions_def=partitions)
    def built_on_it() -> None:
        built.append("first")

    definitions = dg.Definitions.merge(build_definitions(case), dg.Definitions(assets=[built_on_it]))
    job = definitions.resolve_implicit_global_asset_job_def()

    def run(*keys: dg.AssetKey) -> bool:
        return job.execute_in_process(
            asset_selection=keys, instance=instance, partition_key="first", raise_on_error=False
        ).success

    assert run(GENUS_KEY, built_on_it.key)
    assert built == ["first"]
    spoil(trial, "first")
    assert not run(GENUS_KEY, built_on_it.key)
    assert built == ["first"]
    # Later, and without the cube's own step, it's the IO manager that knows.
    with pytest.raises(ChecksFailedError, match="legal_codes"):
        open_partition(case.storage, case.dataset("genus"), "first")


def test_checks_alone_make_nothing(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = with_sites(trial, "first").case()
    assert not check_alone(case, instance, "first").success
    assert not trial.root.exists()
    assert "there is no cube" in str(evaluations(instance, "layout")["first"].description)
    assert materialize(case, instance, GENUS_KEY, partition="first").success
    before, told = trial.moments("*/genus"), len(events(instance, GENUS_KEY))
    assert check_alone(case, instance, "first").success
    spoil(trial, "first")
    moments = trial.moments("*/genus")
    assert not check_alone(case, instance, "first").success
    # What is wrong is noted beside the cube; nothing else is touched.
    note = "first/genus.records/wrong/first.json"
    assert {name: at for name, at in trial.moments("*/genus").items() if name != note} == moments
    assert before.keys() == moments.keys()
    assert len(events(instance, GENUS_KEY)) == told
    assert trial.records("first/genus") == {"y00x00", "y00x01", "y01x00", "y01x01"}


def test_partition_that_is_wrong_stays_so_until_its_tiles_are_made_again(trial: Trial) -> None:
    with_sites(trial, "first")
    assert trial.run().code == 0
    undamaged = trial.tree("*/genus")
    spoil(trial, "first")
    # One of its tiles has to be made, or the command has no reason to look.
    (trial.root / "first/genus.records/tiles/y01x01.json").unlink()
    for _ in range(2):
        ended = trial.run()
        assert ended.code == 1
        assert ended.status_of("genus (first)") == "failed"
        assert "legal_codes" in ended.message_column
    status = in_process("status", "--config", str(trial.path), home=trial.home)
    assert status.code == 1
    assert "wrong" in status.out
    assert in_process("check", "--config", str(trial.path), "--forget", home=trial.home).code == 1
    assert trial.run().code == 0
    assert trial.tree("*/genus") == undamaged


def test_partition_that_another_run_makes_again_is_left_to_that_run(trial: Trial, instance: dg.DagsterInstance) -> None:
    class Rival:
        """Removes a record as soon as the last tile is made, as a run does that begins to make that tile again."""

        def listener(self, _log: object, _name: str) -> Callable[[Progress], None]:
            def listen(progress: Progress) -> None:
                if progress.done == progress.total:
                    (trial.root / "first/genus.records/tiles/y00x00.json").unlink()

            return listen

        def tell(self, line: str) -> None:
            raise AssertionError(line)

    case = with_sites(trial, "first").case()
    result = materialize(case, instance, GENUS_KEY, partition="first", resources={"progress": Rival()})
    assert result.success
    assert evaluations(instance, "complete") == {}
    assert not (trial.root / "first/genus.records/wrong/first.json").exists()
    (current,) = evaluations(instance, "current").values()
    assert "partly done" in str(current.description)


def test_pictures_and_means_are_in_the_metadata_and_beside_the_cube(trial: Trial, instance: dg.DagsterInstance) -> None:
    trial.data["general"]["visualize"] = True
    case = with_sites(trial, "first").case()
    assert materialize(case, instance, GENUS_KEY, partition="first").success
    (event,) = events(instance, GENUS_KEY)
    text = str(event.metadata["quicklook_genus"].value)
    picture = base64.b64decode(text.partition("base64,")[2].rstrip(")"))
    assert picture.startswith(b"\x89PNG")
    path = Path(str(event.metadata["quicklook_genus_file"].value))
    assert path == trial.root / "first/genus.quicklooks/first.quicklook_genus.png"
    assert path.read_bytes() == picture
    # Of class codes there is no mean.
    assert not [name for name in event.metadata if name.startswith("mean_")]
    assert trial.run().code == 0
    with trial.instance() as history:
        (grids,) = events(history, GRIDS_KEY)
        assert "data:image/png;base64," in str(grids.metadata["map"].value)
    assert trial.run().code == 0
    with trial.instance() as history:
        assert len(events(history, GRIDS_KEY)) == 1


def test_cube_that_cant_be_drawn_is_judged_all_the_same(
    trial: Trial, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, bytes]:
        raise RuntimeError("no font")

    monkeypatch.setattr("scs2_cubes.report.pictures.draw_pictures", broken)
    trial.data["general"]["visualize"] = True
    case = with_sites(trial, "first").case()
    assert materialize(case, instance, GENUS_KEY, partition="first").success
    (event,) = events(instance, GENUS_KEY)
    assert event.metadata["pictures"].value == "not drawn: RuntimeError: no font"
    assert evaluations(instance, "legal_codes")["first"].passed
    spoil(trial, "first")
    assert not materialize(case, instance, GENUS_KEY, partition="first").success
    assert not evaluations(instance, "legal_codes")["first"].passed
