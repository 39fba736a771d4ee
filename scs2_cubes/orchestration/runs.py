"""Everything due, as Dagster runs: a probe run per source, then a run for each contiguous set of due partitions.

Where a source has to be preloaded there is no probe: its asset is part of the first run, before the cube, unless the
cache holds already what the source has now.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DatasetSpec, PreloadSpec
from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.orchestration.adoption import adoption
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.grids import tell_grids
from scs2_cubes.orchestration.jobs import CaseJob, RunEnd
from scs2_cubes.orchestration.partitions import contiguous_ranges
from scs2_cubes.orchestration.preload_runs import PreloadOutcome, PreloadRuns
from scs2_cubes.orchestration.provenance import cube_key, source_key
from scs2_cubes.orchestration.resources import ProgressSink
from scs2_cubes.pipeline.cubes import describe_source
from scs2_cubes.pipeline.standing import Standing, standing_of

__all__ = ["DatasetOutcome", "PreloadOutcome", "run_due"]


@dataclass(frozen=True, slots=True)
class DatasetOutcome:
    """What became of one dataset in a call of :func:`run_due`."""

    dataset: DatasetSpec
    """Which."""
    made: tuple[str, ...]
    """Partitions that were made."""
    current: tuple[str, ...]
    """Partitions that were current already."""
    failed: tuple[str, ...]
    """Partitions that failed."""
    seconds: float
    """Wall time."""
    message: str
    """Why something failed; empty otherwise."""


def run_due(
    case: Case,
    instance: dg.DagsterInstance,
    selection: Sequence[tuple[DatasetSpec, tuple[str, ...]]],
    preloads: Sequence[PreloadSpec] = (),
    *,
    progress: ProgressSink,
    log_level: str = "CRITICAL",
) -> Iterator[DatasetOutcome | PreloadOutcome]:
    """Make what is due of ``selection``, one dataset after the other; a failed one doesn't stop the others.

    What the datasets need is preloaded for them; ``preloads`` are wanted besides, and come first. Each is asked for
    once, however many datasets read it. Finished partitions that ``instance`` doesn't know of are reported to it, not
    made again. ``log_level`` is that of Dagster's own lines on the terminal; its event log has everything.
    """
    if case.visualize:
        tell_grids(instance, case)
    definitions = build_definitions(case, {"progress": progress})
    job = CaseJob(definitions.resolve_implicit_global_asset_job_def(), instance, log_level)
    fetching = PreloadRuns(case, job)
    for spec in preloads:
        yield from fetching.run(spec)
    for dataset, keys in selection:
        yield from _DatasetRun(case, job, fetching, dataset).run(keys)


@dataclass(frozen=True)
class _DatasetRun:
    """The runs of one dataset."""

    case: Case
    job: CaseJob
    fetching: PreloadRuns
    dataset: DatasetSpec

    def run(self, keys: tuple[str, ...]) -> Iterator[DatasetOutcome | PreloadOutcome]:
        started = time.monotonic()
        preload = self.fetching.of(self.dataset)
        problem = (
            self.fetching.problem(preload) if preload else self.job.materialize([source_key(self.dataset)]).problem
        )
        if problem is not None:
            yield DatasetOutcome(self.dataset, (), (), keys, time.monotonic() - started, problem)
            return
        native = self.fetching.native(preload) if preload else self._native()
        current = self._current(native, keys)
        due = [key for key in keys if key not in current]
        # What isn't here as the source has it now comes with the first run, before the cube.
        coming = preload if native is None else None
        problems: list[str] = []
        failed: list[str] = []
        for group in contiguous_ranges(self.dataset.partition_keys, due):
            first = [source_key(coming)] if coming else []
            end = self.job.materialize([*first, cube_key(self.dataset)], group)
            if coming:
                yield from self.fetching.conclude(coming, end, time.monotonic() - started)
                if problem := self.fetching.problem(coming):
                    problems, failed = [problem], due
                    break
                coming = None
            kept = self._kept(end) if preload else set[str]()
            current += [key for key in group if key in kept]
            if end.problem is not None:
                problems.append(end.problem)
                done = self._current(self._native(), group)
                failed += [key for key in group if key not in done]
        made = tuple(key for key in due if key not in failed and key not in current)
        seconds = time.monotonic() - started
        yield DatasetOutcome(self.dataset, made, tuple(current), tuple(failed), seconds, "; ".join(problems))

    def _native(self) -> NativeDataset | None:
        try:
            return describe_source(self.dataset)
        except Scs2CubesError:
            # Left to the run that makes the cube: it fails with the cause, visibly.
            return None

    def _kept(self, end: RunEnd) -> set[str]:
        """The partitions of which nothing had to be made: that couldn't be told before what they need was here."""
        return {
            one.partition
            for one in end.of(cube_key(self.dataset))
            if one.partition is not None and one.metadata["tiles_made"].value == 0
        }

    def _current(self, native: NativeDataset | None, keys: Iterable[str]) -> list[str]:
        """The partitions that are done at the present version; the instance is told of those it doesn't know.

        What can't be found out is left to the run that makes the partition: it fails with the cause, visibly.
        """
        current: list[str] = []
        if native is None:
            return current
        known: dict[str, Mapping[str, TileRecord]] = {}
        for key in keys:
            try:
                # Records say nothing of chunks or format: another cube at the same place is the run's to refuse, one
                # that was removed is the run's to make, and what a crash left unsaid is the run's to say.
                standing = standing_of(self.dataset, self.case.storage, native, key, known)
            except Scs2CubesError:
                continue
            if standing.is_current:
                current.append(key)
                self._adopt(standing)
        return current

    def _adopt(self, standing: Standing) -> None:
        event = adoption(self.job.instance, self.dataset, standing)
        if event is not None:
            self.job.instance.report_runless_asset_event(event)
