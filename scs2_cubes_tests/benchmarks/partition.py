"""``python -m scs2_cubes_tests.benchmarks.partition``: one partition of France, ours alone, for its memory.

The cube is created at its full size, and one partition of it is made, as a run of that partition does. The sources
declare the global shapes and hold what that partition needs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from scs2_cubes_tests.benchmarks.layouts import LAYOUTS
from scs2_cubes_tests.benchmarks.server import FileServer, Tally
from scs2_cubes_tests.benchmarks.stores import ensure_source, step_numbers, write_catalogue
from scs2_cubes_tests.benchmarks.tasks import Task, extent_of
from scs2_cubes_tests.benchmarks.worker import Measurement
from scs2_cubes_tests.benchmarks.workers import Workers

_HEADER = (
    "| cube | steps | threads | tiles | wall s | CPU s | MB above the base | MB per thread | tasks | graph MiB | "
    "chunks | requests per chunk | load |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate the sources where they aren't yet, measure, and print a table line by line."""
    options = _parser().parse_args(arguments)
    folder = options.data / "partition"
    folder.mkdir(parents=True, exist_ok=True)
    write_catalogue(options.data / "sources", tuple(LAYOUTS.values()))
    _say(f"{options.region}, {options.partition}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n{_HEADER}")
    with FileServer(options.data / "sources") as server, Workers(folder) as workers:
        for task in _tasks(options, folder):
            layout = task.layout
            ensure_source(options.data / "sources", layout, task.made_grid, step_numbers(layout, task.steps or 1))
            session = f"{task.cube}-{task.threads}"
            # The cubes may be large, and only one is looked at a time.
            shutil.rmtree(task.output, ignore_errors=True)
            measured = workers.measure(replace(task, url=server.url(session)))
            _say(_row(task, measured, server.tally(session)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.partition", description=__doc__)
    parser.add_argument("--cubes", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS), metavar="CUBE")
    parser.add_argument("--region", default="france", help="france, landes, or the edge of a square in pixels")
    parser.add_argument("--partition", default="france-y01x01", help="its key, such as france-y01x01, or landes")
    parser.add_argument("--steps", type=int, help="last time steps of EFDA and CCI (default: 5 of 39, 3 of 10)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, len(os.sched_getaffinity(0))])
    parser.add_argument("--data", type=Path, default=Path("build/benchmarks/france"), help="for sources and cubes")
    return parser


def _tasks(options: argparse.Namespace, folder: Path) -> Iterator[Task]:
    for cube in options.cubes:
        default = LAYOUTS[cube].default_steps
        steps = None if default is None else options.steps or default
        for threads in options.threads:
            yield Task(
                contender="ours",
                cube=cube,
                url="",
                output=str(folder.absolute() / "ours"),
                reference=None,
                extent=extent_of(options.region),
                steps=steps,
                threads=threads,
                wraps_window=False,
                partition=options.partition,
            )


def _row(task: Task, measured: Measurement, tally: Tally) -> str:
    megabytes = measured.peak_above_base / 1e6
    grid = task.made_grid
    cells = (
        task.cube,
        task.steps or 1,
        task.threads,
        grid.tile_rows * grid.tile_cols,
        f"{measured.wall:.1f}",
        f"{measured.cpu:.1f}",
        f"{megabytes:.0f}",
        f"{megabytes / task.threads:.0f}",
        measured.graph_tasks,
        f"{(measured.graph_bytes or 0) / 2**20:.2f}",
        len(tally.keys),
        f"{tally.chunk_gets / max(1, len(tally.keys)):.2f}",
        f"{measured.load:.1f}",
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
