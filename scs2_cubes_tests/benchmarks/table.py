"""The results for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from scs2_cubes_tests.benchmarks.results import Entry, Sample, Verdict

__all__ = ["as_json", "as_text"]

_HEADER = (
    "cube",
    "contender",
    "n",
    "CPU s",
    "x limit",
    "wall s",
    "peak MB",
    "tasks",
    "graph KiB",
    "chunks",
    "requests",
    "MB read",
    "MB written",
    "% not exact",
)


def as_text(
    heading: str, entries: list[Entry], verdicts: Iterable[Verdict], caveats: Mapping[str, str], notes: Iterable[str]
) -> str:
    """A Markdown document: the table per cube, the sums, the goals, and what isn't the same."""
    lines = [f"# {heading}", "", *_table([_HEADER, *map(_cells, entries)]), "", "## Sums over the cubes", ""]
    lines += _table([("contender", "cubes", "CPU s", "wall s", "largest peak MB"), *_sums(entries)])
    lines += ["", "## Goals and floors", ""]
    lines += _table([("what", "figure", "goal", "floor", "met"), *map(_verdict_cells, verdicts)])
    lines += ["", "## In what contenders aren't the same as ours", ""]
    lines += [f"- {name}: {caveat}" for name, caveat in caveats.items() if caveat]
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)


def as_json(
    heading: str, entries: list[Entry], verdicts: Iterable[Verdict], samples: Iterable[Sample], notes: Iterable[str]
) -> str:
    """Everything that was measured, each repetition included."""
    document = {
        "heading": heading,
        "notes": list(notes),
        "entries": [asdict(entry) for entry in entries],
        "verdicts": [asdict(verdict) | {"met": verdict.word} for verdict in verdicts],
        "samples": [asdict(sample) for sample in samples],
    }
    return json.dumps(document, indent=1)


def _cells(entry: Entry) -> tuple[str, ...]:
    sample = entry.sample
    measured = sample.measurement
    return (
        entry.cube,
        entry.contender,
        str(entry.repetitions),
        f"{entry.cpu:.2f}",
        "" if entry.ratio is None else f"{entry.ratio:.2f}",
        f"{entry.wall:.2f}",
        f"{entry.peak_above_base / 1e6:.0f}",
        "" if measured.graph_tasks is None else str(measured.graph_tasks),
        "" if measured.graph_bytes is None else f"{measured.graph_bytes / 1024:.0f}",
        f"{sample.chunks_read} of {sample.chunks_needed}",
        str(sample.requests),
        f"{sample.bytes_read / 1e6:.1f}",
        f"{sample.bytes_written / 1e6:.1f}",
        "" if sample.different is None else f"{100 * sample.different:.3f}",
    )


def _sums(entries: list[Entry]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(entry.contender for entry in entries)
    rows: list[tuple[str, ...]] = []
    for name in names:
        mine = [entry for entry in entries if entry.contender == name]
        peak = max(entry.peak_above_base for entry in mine) / 1e6
        cpu, wall = sum(entry.cpu for entry in mine), sum(entry.wall for entry in mine)
        rows.append((name, str(len(mine)), f"{cpu:.2f}", f"{wall:.2f}", f"{peak:.0f}"))
    return rows


def _verdict_cells(verdict: Verdict) -> tuple[str, ...]:
    sign = "≥" if verdict.more_is_better else "≤"
    limits = [f"{sign} {number:.3g}" for number in (verdict.goal, verdict.floor)]
    return verdict.subject, f"{verdict.figure:.3g}", *limits, verdict.word


def _table(rows: list[tuple[Any, ...]]) -> list[str]:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
