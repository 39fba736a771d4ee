"""Everything due, as Dagster runs: a probe run per source, then a run for each contiguous set of due partitions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.partitions import contiguous_ranges
from scs2_cubes.orchestration.provenance import cube_key, cube_tags, is_known, source_key
from scs2_cubes.orchestration.resources import ProgressSink
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.pipeline.state import is_concluded, partition_state

__all__ = ["DatasetOutcome", "run_due"]

_INTERRUPTIONS = frozenset({dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__})
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


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
    *,
    progress: ProgressSink,
    log_level: str = "CRITICAL",
) -> Iterator[DatasetOutcome]:
    """Make what is due of ``selection``, one dataset after the other; a failed one doesn't stop the others.

    Finished partitions that ``instance`` doesn't know of are reported to it, not made again. ``log_level`` is that of
    Dagster's own lines on the terminal; its event log has everything.
    """
    definitions = build_definitions(case, {"progress": progress})
    job = definitions.resolve_implicit_global_asset_job_def()
    for dataset, keys in selection:
        yield _DatasetRun(case, job, instance, dataset, log_level).run(keys)


@dataclass(frozen=True)
class _DatasetRun:
    """The runs of one dataset."""

    case: Case
    job: dg.JobDefinition
    instance: dg.DagsterInstance
    dataset: DatasetSpec
    log_level: str

    def run(self, keys: tuple[str, ...]) -> DatasetOutcome:
        started = time.monotonic()
        problem = self._execute(source_key(self.dataset), {})
        if problem is not None:
            return DatasetOutcome(self.dataset, (), (), keys, time.monotonic() - started, problem)
        current = self._current(keys)
        problems: list[str] = []
        failed: list[str] = []
        due = [key for key in keys if key not in current]
        for group in contiguous_ranges(self.dataset.partition_keys, due):
            tags = {_RANGE_START: group[0], _RANGE_END: group[-1]}
            problem = self._execute(cube_key(self.dataset), tags)
            if problem is not None:
                problems.append(problem)
                done = self._current(group)
                failed += [key for key in group if key not in done]
        made = tuple(key for key in due if key not in failed)
        seconds = time.monotonic() - started
        return DatasetOutcome(self.dataset, made, tuple(current), tuple(failed), seconds, "; ".join(problems))

    def _current(self, keys: Iterable[str]) -> list[str]:
        """The partitions that are done at the present version; the instance is told of those it doesn't know.

        What can't be found out is left to the run that makes the partition: it fails with the cause, visibly.
        """
        current: list[str] = []
        try:
            native = describe_source(self.dataset)
        except Scs2CubesError:
            return current
        for key in keys:
            try:
                planned = plan_partition(self.dataset, self.case.storage, native, key)
                records = planned.store.records()
                state = partition_state(planned.plan, planned.partition, records)
                # Records say nothing of chunks or format: another cube at the same place is the run's to refuse, one
                # that was removed is the run's to make, and what a crash left unsaid is the run's to say.
                is_current = state.is_current and is_concluded(planned.plan, planned.store, records)
            except Scs2CubesError:
                continue
            if is_current:
                current.append(key)
                self._adopt(planned)
        return current

    def _adopt(self, planned: PlannedPartition) -> None:
        key, partition = cube_key(self.dataset), planned.partition.key
        plan = planned.plan
        code_version = specification_version(self.dataset)
        if is_known(self.instance, self.dataset, partition, plan.data_version, plan.source_version, code_version):
            return
        tags = cube_tags(self.instance, self.dataset, plan.data_version, plan.source_version, code_version)
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                partition=partition,
                metadata={"adopted": True, "cube": planned.store.url, "source_version": planned.plan.source_version},
                tags=tags,
            )
        )

    def _execute(self, key: dg.AssetKey, tags: Mapping[str, str]) -> str | None:
        """Materialize ``key`` in a run of its own; the cause where that fails, else None.

        Raises KeyboardInterrupt where the run was interrupted.
        """
        result = self.job.execute_in_process(
            asset_selection=[key],
            instance=self.instance,
            tags=dict(tags),
            run_config={"loggers": {"console": {"config": {"log_level": self.log_level}}}},
            raise_on_error=False,
        )
        if result.success:
            return None
        if any(_is_interruption(event) for event in result.all_events):
            # Dagster has recorded it as a failure of the step; it is meant for everything that would follow, too.
            raise KeyboardInterrupt
        causes = [_innermost(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]
        return "; ".join(causes) or f"run {result.run_id} failed before its first step"


def _is_interruption(event: dg.DagsterEvent) -> bool:
    if event.is_step_failure:
        error = event.step_failure_data.error
    elif event.is_job_failure:
        error = event.job_failure_data.error
    else:
        return False
    return error is not None and error.cls_name in _INTERRUPTIONS


def _innermost(error: Any) -> str:
    """The first of our own errors in Dagster's record of a failure, as one line."""
    while error.cause is not None and not error.message.startswith("scs2_cubes."):
        error = error.cause
    message: str = error.message.strip().removeprefix("scs2_cubes.errors.")
    return message
