"""Stopped in the middle, by force or by hand: the same command goes on from there, to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from scs2_cubes.demo.faults import Delay
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import Trial, ended, wait_until

ALL = {f"y{row:02d}x{col:02d}" for row in range(3) for col in range(3)}
#: Members 10 to 14 north of 44.667 degrees: the tile in the north-east alone needs it.
NORTHERN_CHUNK = "forest_age/2.101.402.0"
NEEDS_IT = "y00x02"


def finished_chunks(trial: Trial) -> dict[str, int]:
    """Moments of the chunks and records of those GAMI tiles that are recorded as done."""
    done = trial.records("gami")
    names = {f"gami.zarr/forest_age/{int(key[1:3])}.{int(key[4:6])}" for key in done}
    names |= {f"gami.records/tiles/{key}.json" for key in done}
    return {name: moment for name, moment in trial.moments("gami").items() if name in names}


def require_honest(trial: Trial, undisturbed: Undisturbed) -> None:
    """Every record that there is tells the truth: the same record and the same pixels as in an undisturbed run."""
    tree, truth = trial.tree(), undisturbed.tree
    records = [name for name in tree if "/tiles/" in name]
    for name in records:
        assert tree[name] == truth[name]
        tile = json.loads(tree[name])["tile"]
        cube = name.partition(".records/")[0]
        variable = "forest_age" if cube == "gami" else "genus"
        chunk = f"{cube}.zarr/{variable}/{int(tile[1:3])}.{int(tile[4:6])}"
        assert tree.get(chunk) == truth.get(chunk)


def require_completed(trial: Trial, undisturbed: Undisturbed) -> None:
    """The same command once more: complete, equal, and what was finished wasn't written again."""
    before = finished_chunks(trial)
    trial.server.faults.clear()
    result = trial.run()
    assert result.code == 0, result.said
    assert trial.tree() == undisturbed.tree
    after = trial.moments("gami")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "finished",
    [1, pytest.param(4, marks=pytest.mark.full), pytest.param(7, marks=pytest.mark.full)],
)
def test_killed_run_is_completed_to_the_same_bytes(trial: Trial, undisturbed: Undisturbed, finished: int) -> None:
    # One tile is late, so that there is a middle to be killed in.
    trial.server.faults.add(Delay(10), NORTHERN_CHUNK)
    process = trial.start()
    wait_until(lambda: len(trial.records("gami")) >= finished, process)
    process.send_signal(signal.SIGKILL)
    assert ended(process).code == -signal.SIGKILL
    done = trial.records("gami")
    assert finished <= len(done) < len(ALL), "it wasn't in the middle"
    assert trial.records("forestpaths_genus") == set()
    require_honest(trial, undisturbed)
    require_completed(trial, undisturbed)
    assert not list((trial.root / ".partial").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_interrupted_run_ends_at_once_although_the_source_hangs(
    trial: Trial, undisturbed: Undisturbed, number: signal.Signals
) -> None:
    trial.data["general"]["retry"]["timeout"] = 100
    # As many threads as tiles: those that hang don't keep the others from their work.
    trial.data["dask"] = {"mode": "threads", "n_workers": 9}
    trial.server.faults.add(Delay(60), NORTHERN_CHUNK)
    process = trial.start()
    wait_until(lambda: trial.records("gami") == ALL - {NEEDS_IT}, process)
    process.send_signal(number)
    started = time.monotonic()
    result = ended(process, 30)
    assert time.monotonic() - started < 10
    assert result.code == 130
    assert "interrupted; finished tiles are kept" in result.err
    assert "Traceback" not in result.err
    assert trial.records("gami") == ALL - {NEEDS_IT}
    require_honest(trial, undisturbed)
    require_completed(trial, undisturbed)


def test_ctrl_c_in_a_terminal_is_one_line(trial: Trial) -> None:
    """The terminal sends it to all processes of the group, also to those that Dagster starts to capture output."""
    trial.data["datasets"] = trial.data["datasets"][:1]
    trial.data["dask"] = {"mode": "threads", "n_workers": 9}
    trial.server.faults.add(Delay(60), NORTHERN_CHUNK)
    process = trial.start(as_group=True)
    wait_until(lambda: trial.records("gami") == ALL - {NEEDS_IT}, process)
    os.killpg(process.pid, signal.SIGINT)
    result = ended(process, 30)
    assert result.code == 130
    assert "Traceback" not in result.out + result.err
    assert [line for line in result.err.splitlines() if line] == [
        "error: interrupted; finished tiles are kept, and so is what was fetched: the same command goes on from there"
    ]


@pytest.mark.full
@pytest.mark.parametrize("where", ["GAMI_v3.1.json", "GAMI_v3.1.zarr/.zmetadata", "latitude/1"])
def test_interrupted_while_metadata_hang(trial: Trial, undisturbed: Undisturbed, where: str) -> None:
    trial.data["general"]["retry"]["timeout"] = 100
    trial.server.faults.add(Delay(60), where)
    process = trial.start()
    wait_until(lambda: list(trial.home.rglob("*.db")), process)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    result = ended(process, 30)
    assert time.monotonic() - started < 10
    assert result.code == 130
    require_completed(trial, undisturbed)
