"""``scs2-cubes status``: every state by its name, with counts and reasons; it makes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from scs2_cubes.cli import main
from scs2_cubes.report.status import (
    PartitionStatus,
    latest_version,
    partition_statuses,
    probed_statuses,
    state_summary,
    state_table,
    state_text,
)
from scs2_cubes_tests.pipeline.editions import TILES, Archive, World

ADDING = "def change(dataset):\n    return dataset.assign(height=dataset.height + {number})\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    archive = Archive(tmp_path / "archive")
    archive.publish()
    return World(tmp_path / "world", archive)


def status(world: World) -> PartitionStatus:
    case = world.case()
    (one,) = partition_statuses(case, case.dataset("forest"), ["here"])
    return one


def counts(one: PartitionStatus) -> tuple[str, int, int, int]:
    return one.summary, one.current, one.stale, one.missing


def remove_records(world: World, *keys: str) -> None:
    for key in keys:
        (world.root / f"forest.records/tiles/{key}.json").unlink()


class TestStates:
    def test_missing(self, world: World) -> None:
        assert counts(status(world)) == ("missing", 0, 0, TILES)

    def test_current(self, world: World) -> None:
        world.make()
        one = status(world)
        assert counts(one) == ("current", TILES, 0, 0)
        assert (one.identifier, one.partition, one.reason) == ("forest", "here", "")

    def test_partly_done(self, world: World) -> None:
        world.make()
        remove_records(world, "y00x01", "y01x01")
        assert counts(status(world)) == ("partly done", TILES - 2, 0, 2)

    def test_stale_because_of_the_source(self, world: World) -> None:
        world.make()
        world.archive.publish(2)
        one = status(world)
        assert counts(one) == ("stale", 0, TILES, 0)
        assert one.reason == "changed: source"

    def test_stale_because_of_the_function(self, world: World) -> None:
        module = world.folder / "mine.py"
        module.write_text(ADDING.format(number=1), encoding="utf-8")
        world.dataset["custom_processing"] = {"module_path": "mine", "function_name": "change"}
        world.make()
        assert status(world).summary == "current"
        module.write_text(ADDING.format(number=2), encoding="utf-8")
        assert (status(world).summary, status(world).reason) == ("stale", "changed: function")

    def test_stale_because_of_the_configuration_and_what_of_it(self, world: World) -> None:
        world.make()
        world.dataset["open_params"] = {"time_range": ["1999-12-31", None]}
        world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "nearest"}}
        expected = "changed: configuration (method of height), configuration (time_range)"
        assert (status(world).summary, status(world).reason) == ("stale", expected)

    def test_stale_because_of_the_code(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.make()
        monkeypatch.setattr("scs2_cubes.pipeline.plan.KERNEL_CODE_VERSION", 99)
        assert (status(world).summary, status(world).reason) == ("stale", "changed: code")

    def test_of_everything_a_little(self, world: World) -> None:
        world.make()
        kept = (world.root / "forest.records/tiles/y00x00.json").read_bytes()
        documents = list((world.root / "forest.records/versions").iterdir())
        old = {path.name: path.read_bytes() for path in documents}
        world.archive.publish(2)
        world.make()
        # As a run leaves it that is killed: one tile of version 1, one that was begun, four of version 2.
        (world.root / "forest.records/tiles/y00x00.json").write_bytes(kept)
        for name, content in old.items():
            (world.root / "forest.records/versions" / name).write_bytes(content)
        remove_records(world, "y00x01")
        one = status(world)
        assert counts(one) == ("partly done", TILES - 2, 1, 1)
        assert one.reason == "changed: source"

    def test_another_cube(self, world: World) -> None:
        world.make()
        world.data["grid_mappings"][0]["tile_size"] = 8
        one = status(world)
        assert one.summary == "other cube"
        assert "kind chunk" in one.reason

    def test_a_year_more_and_a_year_less(self, world: World) -> None:
        world.make()
        world.archive.publish(1, years=3)
        assert (status(world).summary, status(world).reason) == ("stale", "changed: source")
        world.make()
        world.archive.publish(1, years=2)
        one = status(world)
        assert one.summary == "other cube"
        assert one.reason.startswith("time: 3 steps there, 2 here, and time can only grow")

    def test_a_cube_that_was_removed_by_hand(self, world: World) -> None:
        world.make()
        shutil.rmtree(world.root / "forest.zarr")
        assert counts(status(world)) == ("missing", 0, 0, TILES)

    @pytest.mark.parametrize("left_out", ["cube.json", "zarr"])
    def test_what_a_crash_left_unsaid(self, world: World, left_out: str) -> None:
        world.make()
        if left_out == "zarr":
            (world.root / "forest.zarr/time/.zarray").unlink()
        else:
            (world.root / "forest.records/cube.json").unlink()
        one = status(world)
        assert counts(one) == ("partly done", TILES, 0, 0)
        assert "run again" in one.reason
        world.make()
        assert status(world).summary == "current"

    def test_a_source_that_does_not_answer(self, world: World) -> None:
        world.make()
        shutil.rmtree(world.archive.folder)
        one = status(world)
        assert one.summary == "unknown"
        assert "DataIdNotFoundError" in one.reason

    def test_a_region_beside_the_source(self, world: World) -> None:
        world.data["grid_mappings"][0]["bbox"] = [0, 0, 300, 300]
        one = status(world)
        assert one.summary == "unknown"
        assert one.reason.startswith("PlanError: ")

    def test_a_damaged_record(self, world: World) -> None:
        world.make()
        (world.root / "forest.records/tiles/y00x00.json").write_text("{", encoding="utf-8")
        one = status(world)
        assert one.summary == "unknown"
        assert "y00x00.json isn't a tile record" in one.reason

    def test_partitions_by_themselves(self, world: World) -> None:
        grid = world.data["grid_mappings"][0]
        grid |= {"tile_size": 8}
        world.data["grid_mappings"].append({**grid, "identifier": "there"})
        world.dataset["grid_mapping"] = ["here", "there"]
        world.make()
        case = world.case()
        found = {one.partition: one.summary for one in partition_statuses(case, case.datasets[0], ["here", "there"])}
        assert found == {"here": "current", "there": "missing"}


class TestCauses:
    def test_a_word_each(self, world: World) -> None:
        world.make()
        assert status(world).causes == ()
        world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "nearest"}}
        world.archive.publish(2)
        assert status(world).causes == ("configuration", "source")

    def test_a_version_of_which_nothing_is_known(self, world: World) -> None:
        world.make()
        world.archive.publish(2)
        for document in (world.root / "forest.records/versions").iterdir():
            document.unlink()
        assert status(world).causes == ("unknown version",)


class TestNewerVersionToBeFetched:
    """What the source has and the cache hasn't: told by whoever asks the source."""

    def news(self, world: World, latest: str | None = "v2") -> PartitionStatus:
        case = world.case()
        (one,) = partition_statuses(case, case.dataset("forest"), ["here"], latest)
        return one

    def present(self, world: World) -> str:
        return world.plan().plan.source_version

    def test_the_same_version_is_no_news(self, world: World) -> None:
        world.make()
        assert self.news(world, self.present(world)) == status(world)
        assert self.news(world, None) == status(world)

    def test_current_is_stale(self, world: World) -> None:
        world.make()
        one = self.news(world)
        assert counts(one) == ("stale", 0, TILES, 0)
        assert one.reason == "source: archive has a newer version (v2), to be fetched first"
        assert one.causes == ("source",)

    def test_partly_done_stays_so(self, world: World) -> None:
        world.make()
        remove_records(world, "y00x01", "y01x01")
        one = self.news(world)
        assert counts(one) == ("partly done", 0, TILES - 2, 2)
        assert one.reason.startswith("source: archive has a newer version")

    def test_what_is_stale_already_has_both_reasons(self, world: World) -> None:
        world.make()
        world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "nearest"}}
        one = self.news(world)
        assert counts(one) == ("stale", 0, TILES, 0)
        assert one.reason.startswith("changed: configuration (method of height); source: archive has a newer version")
        assert one.causes == ("configuration", "source")

    def test_what_a_crash_left_unsaid_is_made_anew(self, world: World) -> None:
        world.make()
        (world.root / "forest.records/cube.json").unlink()
        one = self.news(world)
        assert counts(one) == ("stale", 0, TILES, 0)
        assert "run again" not in one.reason

    def test_missing_stays_missing(self, world: World) -> None:
        assert self.news(world) == status(world)
        assert counts(self.news(world)) == ("missing", 0, 0, TILES)

    def test_another_cube_stays_one(self, world: World) -> None:
        world.make()
        world.data["grid_mappings"][0]["tile_size"] = 8
        assert self.news(world) == status(world)
        assert self.news(world).summary == "other cube"

    def test_unknown_stays_unknown(self, world: World) -> None:
        world.make()
        shutil.rmtree(world.archive.folder)
        assert self.news(world).summary == "unknown"

    def test_sources_that_are_read_in_place_tell_by_themselves(self, world: World) -> None:
        world.make()
        case = world.case()
        assert latest_version(case.dataset("forest")) is None
        assert list(probed_statuses(case, case.dataset("forest"), ["here"])) == [status(world)]


STATUSES = [
    PartitionStatus("forest", "a", "current", 6),
    PartitionStatus("forest", "b", "current", 6),
    PartitionStatus("forest", "c", "stale", 0, 6, 0, "changed: source", ("source",)),
    PartitionStatus("forest", "d", "stale", 0, 6, 0, "changed: code", ("code",)),
    PartitionStatus("forest", "e", "partly done", 3, 2, 1, "changed: source", ("source",)),
    PartitionStatus("forest", "f", "partly done", 5, 0, 1),
    PartitionStatus("forest", "g", "missing", 0, 0, 6),
    PartitionStatus("forest", "h", "other cube", 0, 0, 6, "kind chunk: 8 there, 4 here"),
    PartitionStatus("forest", "i", "unknown", reason="SourceUnavailableError: no answer [https://host/a]"),
]


class TestSummary:
    def test_of_everything(self) -> None:
        assert state_summary(STATUSES) == (
            "9 partitions: 2 current, 2 partly done (source), 2 stale (code, source), 1 missing, 1 other cube, "
            "1 unknown"
        )

    def test_in_the_order_of_urgency(self) -> None:
        three = [PartitionStatus("forest", key, "current", 6) for key in "xyz"]
        assert state_summary([*three, STATUSES[2], STATUSES[6]]) == (
            "5 partitions: 3 current, 1 stale (source), 1 missing"
        )
        assert state_summary(three[:1]) == "1 partition: 1 current"
        assert state_summary([]) == "0 partitions"


class TestText:
    def test_it_holds_what_the_table_holds(self) -> None:
        rows = [line for line in state_text(STATUSES).splitlines() if line.startswith("│ forest")]
        cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
        assert cells == [
            ["forest", one.partition, one.summary, str(one.current), str(one.stale), str(one.missing), one.reason]
            for one in STATUSES
        ]

    @pytest.mark.parametrize(
        "environment", [{}, {"FORCE_COLOR": "1"}, {"COLUMNS": "40", "LINES": "3"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}]
    )
    def test_it_is_the_same_on_every_terminal(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
    ) -> None:
        for name in ("FORCE_COLOR", "COLUMNS", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        expected = state_text(STATUSES)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert state_text(STATUSES) == expected
        assert "\x1b" not in expected
        assert all(len(line) <= 120 and line == line.rstrip() for line in expected.splitlines())

    def test_nothing_is_shortened(self) -> None:
        address = f"https://host/{'a-long-address/' * 12}end"
        text = state_text(
            [PartitionStatus("forest/of/" + "x" * 60, "here", "unknown", reason=f"no answer [{address}]")]
        )
        assert "…" not in text
        rows = [line for line in text.splitlines() if line.startswith("│")]
        assert re.sub(r"\s", "", "".join(row.strip("│").rpartition("│")[2] for row in rows)) == f"noanswer[{address}]"

    def test_brackets_are_no_markup(self) -> None:
        assert "[bold]x[/bold]" in state_text([PartitionStatus("forest", "here", "unknown", reason="[bold]x[/bold]")])


def test_the_table_shows_it_all() -> None:
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(state_table([PartitionStatus("forest", "here", "partly done", 3, 2, 1, "changed: source [a]")]))
    (row,) = [line for line in console.export_text().splitlines() if "forest" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["forest", "here", "partly done", "3", "2", "1", "changed: source [a]"]


# The command.


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def command(*arguments: str) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Path → size and moment of the last change, of all files and folders below ``folder``."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


class TestCommand:
    def test_exit_codes(self, world: World) -> None:
        path = str(world.write())
        assert command("status", "--config", path).code == 1
        world.make()
        ended = command("status", "--config", path)
        assert ended.code == 0
        assert re.search(r"forest +│ here +│ current +│ 6 +│ 0 +│ 0 ", ended.out)
        world.archive.publish(2)
        ended = command("status", "--config", path)
        assert ended.code == 1
        assert re.search(r"stale +│ 0 +│ 6 +│ 0 +│ changed: source ", ended.out)
        assert command("status", "--config", path, "--dataset", "forst").code == 2
        assert command("status", "--config", path, "--region", "nowhere").code == 2

    @pytest.mark.parametrize("state", ["missing", "current", "stale", "partly", "other", "unknown"])
    def test_it_changes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
        monkeypatch.setenv("DAGSTER_HOME", str(world.folder / "history"))
        if state != "missing":
            world.make()
        if state == "stale":
            world.archive.publish(2)
        if state == "partly":
            remove_records(world, "y00x00")
        if state == "other":
            world.data["grid_mappings"][0]["tile_size"] = 8
        if state == "unknown":
            shutil.rmtree(world.archive.folder)
        path = str(world.write())
        before = snapshot(world.folder.parent)
        command("status", "--config", path)
        assert snapshot(world.folder.parent) == before
        assert not (world.folder / "history").exists()

    def test_one_source_that_is_down_does_not_hide_the_others(self, world: World) -> None:
        world.make()
        world.data["datasets"].append({**world.dataset, "identifier": "other", "data_id": "nothing/here.json"})
        ended = command("status", "--config", str(world.write()))
        assert ended.code == 1
        assert re.search(r"forest +│ here +│ current", ended.out)
        assert re.search(r"other +│ here +│ unknown .* DataIdNotFoundError", ended.out)
        only = command("status", "--config", str(world.path), "--dataset", "forest")
        assert only.code == 0
        assert "other" not in only.out

    def test_reasons_are_those_of_the_records(self, world: World) -> None:
        """Not of ``cube.json``, which tells what was made last."""
        world.make()
        document = world.root / "forest.records/cube.json"
        document.write_text(json.dumps({"data_version": "other", "complete": True}), encoding="utf-8")
        assert counts(status(world))[1:] == (TILES, 0, 0)
