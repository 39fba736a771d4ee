"""``python -m scs2_cubes_tests.benchmarks``: ours beside everything that a user could pick instead, in one run."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from scs2_cubes_tests.benchmarks import contenders, fields, layouts, pixels, stores
from scs2_cubes_tests.benchmarks.layouts import LAYOUTS
from scs2_cubes_tests.benchmarks.results import Sample, summarise, verdicts
from scs2_cubes_tests.benchmarks.rounds import Rounds, describe_plan
from scs2_cubes_tests.benchmarks.server import FileServer
from scs2_cubes_tests.benchmarks.stores import ensure_source, step_numbers, write_catalogue
from scs2_cubes_tests.benchmarks.table import as_json, as_text
from scs2_cubes_tests.benchmarks.tasks import Extent, Task, extent_of, plan_of

_PACKAGES = ("numpy", "numba", "zarr", "numcodecs", "dask", "rasterio", "odc-geo", "xcube-resampling")


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate the sources where they aren't yet, measure, and write the table as text and JSON."""
    options = _parser().parse_args(arguments)
    extent = extent_of("quick" if options.quick else options.scale)
    sources = options.data / f"sources-{_fingerprint()}"
    folder = options.data / f"cubes-{extent.name}"
    folder.mkdir(parents=True, exist_ok=True)
    rounds = Rounds(
        cubes=tuple(options.cubes),
        names=_with_ours(options.only),
        extent=extent,
        repetitions=1 if options.quick else options.repetitions,
        threads=options.threads,
        patience=options.patience,
        sources=sources,
        folder=folder,
        wraps_window=options.quick or options.wrap_window,
        steps=partial(_steps, 1 if options.quick else options.steps),
    )
    _generate(rounds)
    started = datetime.now(UTC)
    with FileServer(sources, options.latency / 1000) as server:
        samples = rounds.samples(server, _tell)
        notes = [*_notes(samples, options, started), *_cube_notes(rounds, server, extent)]
    _report(rounds, samples, notes, started, folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one tile of 1024, one step, once: does it work?")
    parser.add_argument("--cubes", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS), metavar="CUBE")
    parser.add_argument("--only", nargs="+", choices=contenders.NAMES, default=contenders.NAMES, metavar="CONTENDER")
    parser.add_argument("--scale", default="landes", help="landes, or the edge of a square in pixels, up to 25000")
    parser.add_argument("--steps", type=int, help="last time steps of EFDA and CCI (default: 5 of 39, 3 of 10)")
    parser.add_argument("--wrap-window", action="store_true", help="xcube: a Dask array over the window, not the store")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each of the server's answers")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements of which the median is told")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after which nobody is measured again")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each contender")
    parser.add_argument("--data", type=Path, default=Path("build/benchmarks"), help="folder for sources and cubes")
    return parser


def _steps(asked: int | None, cube: str) -> int | None:
    """How many of the last time steps; None where that isn't ours to choose."""
    default = LAYOUTS[cube].default_steps
    return None if default is None else asked or default


def _with_ours(names: Sequence[str]) -> tuple[str, ...]:
    # The limit writes the pixels that ours made.
    return tuple(name for name in contenders.NAMES if name in names or (name == "ours" and "limit" in names))


def _fingerprint() -> str:
    """Of the code that makes the sources: other code, other sources."""
    digest = hashlib.sha256()
    for module in (fields, pixels, layouts, stores):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:8]


def _generate(rounds: Rounds) -> None:
    write_catalogue(rounds.sources, tuple(LAYOUTS.values()))
    for cube in rounds.cubes:
        layout = LAYOUTS[cube]
        steps = rounds.steps(cube)
        # A product that takes the last step only needs no other; the chunks of GAMI hold both anyway.
        ensure_source(rounds.sources, layout, rounds.extent.grid, step_numbers(layout, steps or 1))
        _say(f"source of {cube} is there\n")


def _notes(samples: list[Sample], options: argparse.Namespace, started: datetime) -> list[str]:
    loads = [sample.measurement.load for sample in samples]
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    notes = [
        f"{started:%Y-%m-%d}, {platform.machine()}, {cores} cores, Python {platform.python_version()}; {versions}",
        f"{options.threads} threads each; {options.latency:g} ms of latency; the server's own CPU isn't in the times",
        "imports, compilation and connecting aren't in the times, either: they happen in a small task before",
        f"the machine's load over the last minute, at the starts: {min(loads):.1f} to {max(loads):.1f}, own included",
        "the limit's output pixels are those that ours made; its time is reading and writing alone",
        "asking the source what there is, and planning, count for ours only",
        "exact or not: a block of 256 x 256 of each tile, first and last step; quantities to 0.1 % of their range",
        "peak memory is resident memory above what the process had after that small task",
    ]
    if options.quick or options.wrap_window:
        notes.append("xcube got a Dask array over the window instead of the whole store: resampling and writing alone")
    if any(sample.measurement.wall > options.patience for sample in samples):
        notes.append(f"what took more than {options.patience:g} s was measured once")
    return notes


def _cube_notes(rounds: Rounds, server: FileServer, extent: Extent) -> list[str]:
    """Which methods and how many steps; the target's size."""
    grid = extent.grid
    notes = [f"target {extent.name}: {grid.nx} x {grid.ny} pixels of 30 m, tiles of {grid.tile_nx}"]
    for cube in rounds.cubes:
        task = Task(
            "ours", cube, server.url("plan"), "", None, extent, rounds.steps(cube), rounds.threads, rounds.wraps_window
        )
        notes.append(describe_plan(plan_of(task)))
    return notes


def _report(rounds: Rounds, samples: list[Sample], notes: list[str], started: datetime, folder: Path) -> None:
    entries = summarise(samples)
    judged = verdicts(entries, rounds.threads)
    caveats = {name: contenders.find(name).caveat for name in rounds.names}
    heading = f"Benchmark of {started:%Y-%m-%d %H:%M} UTC, {rounds.extent.name}"
    text = as_text(heading, entries, judged, caveats, notes)
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_text(as_json(heading, entries, judged, samples, notes))
    _say(f"\n{text}\nwritten to {folder}/results.md and results.json\n")


def _tell(sample: Sample) -> None:
    measured = sample.measurement
    _say(f"{sample.cube} {sample.contender}: {measured.cpu:.2f} s CPU, {measured.wall:.2f} s\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
