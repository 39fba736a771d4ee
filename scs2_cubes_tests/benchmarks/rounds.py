"""Runs the contenders, interleaved, each in a process of its own, and gathers what server, process and disk tell."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks import contenders
from scs2_cubes_tests.benchmarks.contenders.base import Contender
from scs2_cubes_tests.benchmarks.contenders.limit import needed_chunks
from scs2_cubes_tests.benchmarks.exactness import judge, source_of
from scs2_cubes_tests.benchmarks.results import Sample
from scs2_cubes_tests.benchmarks.server import FileServer
from scs2_cubes_tests.benchmarks.tasks import Extent, Task, plan_of
from scs2_cubes_tests.benchmarks.workers import Workers

__all__ = ["Rounds", "describe_plan"]


@dataclass(frozen=True)
class Rounds:
    """A whole run's settings; measurements happen in :meth:`samples`."""

    cubes: tuple[str, ...]
    """Which cubes."""
    names: tuple[str, ...]
    """Which contenders."""
    extent: Extent
    """The target."""
    repetitions: int
    """How often each is measured."""
    threads: int
    """Threads of each contender."""
    patience: float
    """Seconds of wall time beyond which a contender isn't measured again on that cube."""
    sources: Path
    """Folder of the catalogue."""
    folder: Path
    """Folder for cubes and for the processes' files."""
    wraps_window: bool
    """True: contenders that wrap the whole store in a Dask array get the window only."""
    steps: Callable[[str], int | None]
    """Cube → how many of the last time steps."""

    def samples(self, server: FileServer, on_sample: Callable[[Sample], None]) -> list[Sample]:
        """Measure. In each round every contender makes every cube, beginning with another one each time."""
        found: list[Sample] = []
        tired: set[tuple[str, str]] = set()
        with Workers(self.folder) as workers:
            for number, cube, contender in self._order():
                if (cube, contender.name) in tired:
                    continue
                sample = self._sample(server, workers, cube, contender, number)
                found.append(sample)
                on_sample(sample)
                if sample.measurement.wall > self.patience:
                    tired.add((cube, contender.name))
        return sorted(found, key=self._place)

    def _place(self, sample: Sample) -> tuple[int, int]:
        return self.cubes.index(sample.cube), contenders.NAMES.index(sample.contender)

    def _order(self) -> Iterator[tuple[int, str, Contender]]:
        """(round, cube, contender) of every measurement."""
        chosen = [contenders.find(name) for name in self.names]
        for number, cube in product(range(self.repetitions), self.cubes):
            # The limit writes what ours made, so ours comes first in the first round.
            turn = number % len(chosen)
            for contender in chosen[turn:] + chosen[:turn]:
                if contender.makes(self._task("http://127.0.0.1", cube, contender.name)):
                    yield number, cube, contender

    def _task(self, url: str, cube: str, contender: str) -> Task:
        return Task(
            contender=contender,
            cube=cube,
            url=url,
            output=str(self.folder.absolute() / contender),
            reference=str(self.folder.absolute() / "ours"),
            extent=self.extent,
            steps=self.steps(cube),
            threads=self.threads,
            wraps_window=self.wraps_window,
        )

    def _sample(self, server: FileServer, workers: Workers, cube: str, contender: Contender, number: int) -> Sample:
        session = f"{contender.name}-{cube}-{number}"
        task = self._task(server.url(session), cube, contender.name)
        for folder in (Path(task.output), Path(f"{task.output}-warm-up")):
            for name in (f"{cube}.zarr", f"{cube}.records"):
                shutil.rmtree(folder / name, ignore_errors=True)
        measurement = workers.measure(task)
        tally = server.tally(session)
        plan = plan_of(self._task(server.url("plan"), cube, contender.name))
        needed = needed_chunks(plan)
        made = Path(task.output) / f"{cube}.zarr"
        source = source_of(plan.native, self.sources)
        is_first = number == 0 and contender.is_judged
        return Sample(
            cube=cube,
            contender=contender.name,
            measurement=measurement,
            chunks_needed=len(needed),
            chunks_read=len(tally.keys),
            requests=tally.chunk_gets + tally.chunk_heads,
            other_requests=tally.other_requests,
            bytes_read=tally.chunk_bytes,
            bytes_needed=sum(_size(source / name / ".".join(map(str, index))) for name, index in needed),
            bytes_written=sum(_folder_size(made / layer.variable.name) for layer in plan.layers),
            different=judge(plan, source, made).share if is_first else None,
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def describe_plan(plan: CubePlan) -> str:
    """For the notes: what the cube is made of."""
    methods = ", ".join(dict.fromkeys(str(layer.method) for layer in plan.layers))
    return f"{plan.identifier}: {plan.schema.n_steps} of {max(len(plan.native.times), 1)} steps, {methods}"
