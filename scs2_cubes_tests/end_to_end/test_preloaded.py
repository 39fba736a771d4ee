"""The cube that has to be ordered first: the real clip, a second run, a service that is off, an interruption."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from scs2_cubes.api import open_cube
from scs2_cubes_tests.end_to_end.forest_type import (
    CODES,
    FILE,
    FOREST,
    clip_of,
    delivered,
    majority,
    orders,
    with_forest_type,
)
from scs2_cubes_tests.end_to_end.trial import Ended, Trial, ended, in_process, wait_until

#: 240 x 180 pixels in the middle of the demonstration's region, not on the lattice of the source.
BBOX = [3430007, 2450011, 3437207, 2455411]


def command(trial: Trial, *arguments: str) -> Ended:
    return in_process(*arguments, "--config", str(trial.write()), home=trial.home)


def require_majority(trial: Trial, picture_bbox: list[int]) -> None:
    west, south, east, north = picture_bbox
    x, y = np.arange(west + 15.0, east, 30), np.arange(north - 15.0, south, -30)
    cube = open_cube(trial.case(), "forest")
    np.testing.assert_array_equal(cube["x"], x)
    np.testing.assert_array_equal(cube["y"], y)
    np.testing.assert_array_equal(cube[FILE].to_numpy(), majority(delivered(trial.server), x, y))


def test_the_real_clip_from_zip_to_cube(trial: Trial, recorded: Path) -> None:
    archive, picture = clip_of(recorded, trial.folder / "clip")
    trial.server.clms.deliver(FILE, archive)
    # All of the clip and its surroundings, off its lattice by a third of a pixel and more.
    west, north = picture.west - 1193, picture.north + 1207
    x = west + 15 + 30 * np.arange(1760)
    y = north - 15 - 30 * np.arange(1410)
    bbox = [int(west), int(north) - 30 * len(y), int(west) + 30 * len(x), int(north)]
    result = with_forest_type(trial, bbox, 256).run()
    assert result.code == 0, result.said
    expected = majority(picture, x, y)
    cube = open_cube(trial.case(), "forest")
    np.testing.assert_array_equal(cube["x"], x)
    np.testing.assert_array_equal(cube["y"], y)
    found = cube[FILE].to_numpy()
    assert found.dtype == np.uint8
    for code in (*CODES, 255):
        np.testing.assert_array_equal(found == code, expected == code)
    assert {0, 1, 2, 255} == set(np.unique(found))
    assert cube[FILE].attrs["flag_values"] == list(CODES)


def test_second_run_orders_nothing(trial: Trial) -> None:
    first = with_forest_type(trial, BBOX).run()
    assert first.code == 0, first.said
    assert first.status_of("forest (here)") == "made"
    assert "preloaded" in first.out
    assert orders(trial.server) == 1
    require_majority(trial, BBOX)
    before = trial.moments()
    trial.server.requests.clear()
    second = trial.run()
    assert second.code == 0, second.said
    assert "All current: nothing to do." in second.out
    assert "preloaded" not in second.out
    asked = [request.path.rstrip("/").rpartition("/")[2] for request in trial.server.requests.entries()]
    assert set(asked) == {"@search"}
    assert len(asked) <= 3, "more than one walk through its pages"
    assert trial.moments() == before
    assert command(trial, "status").code == 0


def test_with_the_service_off_the_cache_still_makes_cubes(trial: Trial) -> None:
    assert with_forest_type(trial, BBOX).run().code == 0
    before = trial.tree()
    # Anybody's key, who isn't asked for it either.
    (trial.folder / "key.json").unlink()
    trial.server.stop()
    # Whether there is a newer version nobody can say now.
    result = command(trial, "status")
    assert result.code == 1
    assert "SourceUnavailableError" in result.said
    assert command(trial, "retire", "forest").code == 0
    run = trial.start_python(
        ["-m", "dagster"],
        *["asset", "materialize", "-m", "scs2_cubes.definitions", "--select", "forest", "--partition", "here"],
        extra={"SCS2_CONFIG": str(trial.write())},
    )
    result = ended(run)
    assert result.code == 0, result.err
    assert {name: content for name, content in trial.tree().items() if name.startswith("forest.zarr/")} == {
        name: content for name, content in before.items() if name.startswith("forest.zarr/")
    }
    # What is asked of the service is an error, and takes nothing away.
    result = trial.run()
    assert result.code == 1
    assert "SourceUnavailableError" in result.message_column


def test_before_anything_is_preloaded(trial: Trial) -> None:
    with_forest_type(trial, BBOX)
    result = command(trial, "status")
    assert result.code == 1
    assert result.status_of("forest") == "here"
    assert "missing" in result.out
    assert "notpreloadedyet:" in result.message_column
    assert trial.server.requests.count() == 0
    # Its id is known; the rest can be told once it is here.
    result = in_process("config", "check", "--online", str(trial.path), home=trial.home)
    assert result.code == 0, result.said
    assert orders(trial.server) == 0
    trial.data["preload_datasets"] = [{"store": "clms", "data_ids": [FOREST.replace("E30N20", "E30N21")]}]
    result = in_process("config", "check", "--online", str(trial.write()), home=trial.home)
    assert result.code == 1
    assert "nearest: " in result.err
    assert FOREST in result.err.partition("nearest: ")[2]


def test_interrupted_while_waiting_for_the_queue(trial: Trial) -> None:
    trial.server.clms.queue_seconds = 600
    process = with_forest_type(trial, BBOX).start()
    wait_until(lambda: orders(trial.server) == 1, process)
    # It has the answer, and looks after its task.
    wait_until(lambda: any("status_get" in one.path for one in trial.server.requests.entries()), process)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    result = ended(process, 30)
    assert time.monotonic() - started < 10
    assert result.code == 130
    assert "interrupted" in result.err
    assert "Traceback" not in result.err
    assert not list(trial.root.glob("forest.*"))

    trial.server.clms.queue_seconds = 0.1
    again = trial.run()
    assert again.code == 0, again.said
    assert orders(trial.server) == 1
    require_majority(trial, BBOX)


@pytest.mark.parametrize("known", [True, False])
def test_service_key_that_isnt_there(trial: Trial, *, known: bool) -> None:
    with_forest_type(trial, BBOX)
    key = trial.folder / "key.json"
    if known:
        key.write_text("{}")
    else:
        key.unlink()
    result = trial.run()
    assert result.code == 1
    assert result.status_of("forest (here)") == "failed"
    assert "key.json" in result.message_column
    assert orders(trial.server) == 0
