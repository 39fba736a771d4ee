"""A source that fails, in every way: a clear error, the other cube finished, nothing made up, complete afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import Behaviour, CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.stac import ORIGIN
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import Ended, Trial, squeezed

NORTHERN_CHUNK = "GAMI_v3.1.zarr/forest_age/2.101.402.0"
NEEDS_IT = "y00x02"
ITEM = "GAMI/GAMI_v3.1/GAMI_v3.1.json"


@dataclass(frozen=True)
class Trouble:
    """A fault, and how it is to be told."""

    behaviour: Behaviour
    where: str | re.Pattern[str]
    """The paths that it befalls; a string is also what the message has to name."""
    error: str
    words: str = ""


TROUBLES = {
    "server error on a chunk": Trouble(Status(500), NORTHERN_CHUNK, "SourceUnavailableError", "HTTP 500"),
    "server error on all chunks": Trouble(Status(503), "GAMI_v3.1.zarr/forest_age/", "SourceUnavailableError", "503"),
    "cut chunk": Trouble(CutBody(), NORTHERN_CHUNK, "SourceUnavailableError", "no answer after 2 attempts"),
    "garbled chunk": Trouble(GarbledBody(), NORTHERN_CHUNK, "SourceFormatError", "chunk can't be decoded"),
    "denied chunk": Trouble(Status(403), NORTHERN_CHUNK, "AccessDeniedError", "HTTP 403: access denied"),
    "denied item": Trouble(Status(403), ITEM, "AccessDeniedError", "HTTP 403: access denied"),
    "server error on the item": Trouble(Status(500), ITEM, "SourceUnavailableError", "HTTP 500"),
    "garbled metadata": Trouble(GarbledBody(), re.compile("GAMI_v3.1.zarr/.zmetadata"), "SourceFormatError"),
}


#: Those that take the way of another one through most rooms.
ALIKE = {"server error on all chunks", "server error on the item"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in ALIKE else []) for name in TROUBLES]
)
def test_one_source_in_trouble(trial: Trial, undisturbed: Undisturbed, name: str) -> None:
    trouble = TROUBLES[name]
    trial.server.faults.add(trouble.behaviour, trouble.where)
    result = trial.run()

    assert result.code == 1
    assert result.status_of("gami (demo)") == "failed"
    assert result.status_of("forestpaths_genus (demo)") == "made"
    require_told(trial, result, trouble)
    assert trial.tree("forestpaths_genus") == undisturbed.part("forestpaths_genus")
    require_nothing_made_up(trial, undisturbed)

    trial.server.faults.clear()
    again = trial.run()
    assert again.code == 0, again.said
    assert (again.status_of("gami (demo)"), again.status_of("forestpaths_genus (demo)")) == ("made", "current")
    assert trial.tree() == undisturbed.tree


def require_told(trial: Trial, result: Ended, trouble: Trouble) -> None:
    """The typed error with its URL, in full, in the table and in the failure of the Dagster run."""
    failures = run_failures(trial)
    assert len(failures) == 1
    for text in (result.message_column, failures[0]):
        assert trouble.error in text
        assert squeezed(trouble.words) in text
        assert f"[{trial.server.url}/" in text
        assert (trouble.where if isinstance(trouble.where, str) else "GAMI_v3.1.zarr") in text


def run_failures(trial: Trial) -> list[str]:
    """What the failed steps of all runs say, their causes included, without white space."""
    texts = []
    with trial.instance() as instance:
        for run in instance.get_runs():
            for entry in instance.all_logs(run.run_id):
                event = entry.dagster_event
                if event is not None and event.is_step_failure:
                    texts.append(squeezed(str(event.step_failure_data.error)))
    return texts


def require_nothing_made_up(trial: Trial, undisturbed: Undisturbed) -> None:
    """Whatever lies there is the truth, and no record speaks for the tile whose source failed."""
    assert NEEDS_IT not in trial.records("gami")
    for name, content in trial.tree("gami").items():
        if "/tiles/" in name or "/forest_age/" in name:
            assert content == undisturbed.tree[name], name
    assert "gami.zarr/forest_age/0.2" not in trial.tree("gami")
    document = trial.root / "gami.records/cube.json"
    assert not document.exists() or not json.loads(document.read_text())["complete"]


def test_source_that_is_down(trial: Trial, undisturbed: Undisturbed) -> None:
    with DemoServer(catalogue=trial.server.catalogue) as other:
        params = trial.data["data_stores"][1]["store_params"]
        store = {
            "identifier": "other",
            "store_id": "stac",
            "store_params": {**params, "href_rewrite": {ORIGIN: other.url}},
        }
        trial.data["data_stores"].append(store)
        trial.data["datasets"][1]["store"] = "other"
        trial.server.stop()
        result = trial.run()
        assert result.code == 1
        assert "SourceUnavailableError:noanswerafter2attempts" in result.message_column
        assert f"[{trial.server.url}/" in result.message_column
        assert "ConnectError" in result.message_column
        assert result.status_of("forestpaths_genus (demo)") == "made"
        assert trial.tree("gami") == {}
        assert len(run_failures(trial)) == 1

        trial.server.start()
        again = trial.run()
    assert again.code == 0, again.said
    assert trial.tree() == undisturbed.tree


def test_source_that_goes_down_in_the_middle(trial: Trial, undisturbed: Undisturbed) -> None:
    def refuse(path: str, make: Callable[[], Answer]) -> Answer:
        raise ConnectionResetError

    trial.server.faults.add(refuse, NORTHERN_CHUNK)
    result = trial.run("--dataset", "gami")
    assert result.code == 1
    assert "SourceUnavailableError" in result.message_column
    assert NORTHERN_CHUNK in result.message_column
    require_nothing_made_up(trial, undisturbed)
    trial.server.faults.clear()
    assert trial.run("--dataset", "gami").code == 0
    assert trial.tree("gami") == undisturbed.part("gami")


def test_brief_trouble_is_nothing_to_talk_about(trial: Trial, undisturbed: Undisturbed) -> None:
    trial.server.faults.add(Status(503), NORTHERN_CHUNK, times=1)
    trial.server.faults.add(Status(429, retry_after="0"), ITEM, times=1)
    result = trial.run()
    assert result.code == 0, result.said
    assert trial.tree() == undisturbed.tree


def test_absent_chunk_is_fill_and_is_counted(trial: Trial, undisturbed: Undisturbed) -> None:
    # All members of the northern chunk: without any of them there is no mean.
    trial.server.faults.add(Status(404), "101.402.0")
    result = trial.run("--dataset", "gami")
    assert result.code == 0, result.said
    records = {key: json.loads(trial.tree()[f"gami.records/tiles/{key}.json"]) for key in trial.records("gami")}
    truth = json.loads(undisturbed.tree[f"gami.records/tiles/{NEEDS_IT}.json"])
    assert {
        key: record["source_chunks_absent"] for key, record in records.items() if record["source_chunks_absent"]
    } == {NEEDS_IT: 4}
    assert 0 < records[NEEDS_IT]["valid"]["forest_age"] < truth["valid"]["forest_age"]
    with trial.instance() as instance:
        (event,) = [
            entry.dagster_event.step_materialization_data.materialization
            for run in instance.get_runs()
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None
            and entry.dagster_event.is_step_materialization
            and entry.dagster_event.partition == "demo"
        ]
    assert event.metadata["source_chunks_absent"].value == 4


def without_assets(path: str, make: Callable[[], Answer]) -> Answer:
    answer = make()
    item: dict[str, Any] = json.loads(answer.body)
    item["assets"] = {"thumbnail": {"href": "./thumbnail.png", "type": "image/png"}}
    body = json.dumps(item).encode()
    return replace(answer, body=body, content_length=len(body))


def test_item_without_a_usable_asset(trial: Trial) -> None:
    trial.server.faults.add(without_assets, ITEM)
    result = trial.run("--dataset", "gami")
    assert result.code == 1
    assert squeezed("has no Zarr asset; its assets: thumbnail (image/png)") in result.message_column
    assert ITEM in result.message_column
    assert not trial.root.exists()
