"""Rows, texts and progress lines."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.pipeline.materialize import Progress
from scs2_cubes.report.cubes import CubeSummary, summarize
from scs2_cubes.report.outcomes import status_rows
from scs2_cubes.report.progress import TerminalProgress
from scs2_cubes.report.tables import StatusRow, status_table
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import Ended, Trial, squeezed


def printed(rows: list[StatusRow], width: int = 200) -> Ended:
    out = io.StringIO()
    Console(file=out, width=width).print(status_table(rows))
    return Ended(0, out.getvalue(), "")


@dataclass(frozen=True)
class Happened:
    dataset: DatasetSpec
    made: tuple[str, ...] = ()
    current: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 1.25
    message: str = ""


@pytest.mark.parametrize("width", [80, 120, 200])
def test_message_is_shown_in_full(width: int) -> None:
    message = (
        "SourceUnavailableError: no answer [http://127.0.0.1:8765/dog.atlaseo-glm.eo-gridded-data/collections/GAMI/"
        "GAMI_v3.1.zarr/forest_age/2.101.402.0]; [/data/x] [bold]not markup[/bold]"
    )
    result = printed([StatusRow(CubeSummary("gami", "demo"), "failed", 3.0, message)], width)
    assert result.message_column == squeezed(message)
    assert "…" not in result.out


def test_row_tells_what_lies_in_storage() -> None:
    summary = CubeSummary(
        "gami", "demo", ("age", "spread"), (2, 640, 700), ("float32", "uint8"), (0.5, 0.25), 1_500_000, 9
    )
    result = printed([StatusRow(summary, "made", 12.34, "")])
    rows = [line for line in result.out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    assert cells == [
        ["gami (demo)", "made", "age", "2 x 640 x 700", "float32", "0.500", "1.5 MB", "12.3", ""],
        ["", "", "spread", "", "uint8", "0.250", "", "", ""],
    ]
    assert printed([StatusRow(CubeSummary("gami", None), "missing", 0, "")]).status_of("gami") == "missing"


def test_summary_of_a_cube_and_of_none(trial: Trial, undisturbed: Undisturbed) -> None:
    case = trial.case()
    assert list(summarize(case, case.dataset("gami"))) == [CubeSummary("gami", "demo")]
    undisturbed.copy_to(trial)
    (summary,) = summarize(case, case.dataset("forestpaths_genus"))
    assert (summary.variables, summary.shape, summary.dtypes) == (("genus",), (640, 700), ("uint8",))
    assert summary.tiles_done == 9
    assert summary.size == sum(
        len(content) for name, content in undisturbed.part("forestpaths_genus").items() if ".zarr/" in name
    )
    assert 0.5 < summary.valid_fraction[0] < 1


def test_status_of_each_cube(trial: Trial) -> None:
    trial.data["grid_mappings"].append({**trial.data["grid_mappings"][0], "identifier": "other"})
    trial.data["datasets"][0]["grid_mapping"] = ["demo", "other"]
    case = trial.case()
    gami = case.dataset("gami")

    def rows(**what: object) -> list[tuple[str | None, str, str]]:
        outcome = Happened(gami, **what)  # type: ignore[arg-type]  # fields by name
        return [(row.summary.region, row.status, row.message) for row in status_rows(case, outcome)]

    assert rows(made=("demo",), current=("other",)) == [("demo", "made", ""), ("other", "current", "")]
    assert rows(made=("demo",), failed=("other",), message="no") == [("demo", "made", ""), ("other", "failed", "no")]
    assert rows(current=("other",)) == [("other", "current", "")]


def test_region_in_several_partitions_is_partly_made(trial: Trial) -> None:
    trial.data["grid_mappings"][0] |= {"bbox": [3000000, 2000000, 3300000, 2030000], "tile_size": 1024}
    case = trial.case()
    gami = case.dataset("gami")
    assert gami.partition_keys == ("demo-y00x00", "demo-y00x01")
    outcome = Happened(gami, made=("demo-y00x00",), failed=("demo-y00x01",), message="no")
    assert [(row.status, row.message) for row in status_rows(case, outcome)] == [("partly made", "no")]
    outcome = Happened(gami, made=("demo-y00x00",), current=("demo-y00x01",))
    assert [row.status for row in status_rows(case, outcome)] == ["made"]


def test_unreadable_cube_is_a_row_not_an_end(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    (trial.root / "gami.records/tiles/y00x00.json").write_text("{")
    case = trial.case()
    (row,) = status_rows(case, Happened(case.dataset("gami"), failed=("demo",)))
    assert row.status == "failed"
    assert "y00x00.json isn't a tile record" in row.message


def test_progress_lines_come_at_the_end_where_it_is_quick() -> None:
    out = io.StringIO()
    with TerminalProgress(Console(file=out, width=200)) as progress:
        listen = progress.listener(None, "gami [demo]")
        for done in (1, 2, 3):
            listen(Progress(done, 3, done / 10, 0))
    assert out.getvalue() == "gami [demo]: 3/3 tiles, 10.00 tiles/s, about 0 s left\n"


def test_progress_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with TerminalProgress(Console(file=out, width=120, force_terminal=True)) as progress:
        listen = progress.listener(None, "gami [demo]")
        listen(Progress(1, 2, 1.0, 0))
        listen(Progress(2, 2, 2.0, 0))
    assert "gami [demo]" in out.getvalue()
    assert "2/2 tiles" in out.getvalue()
