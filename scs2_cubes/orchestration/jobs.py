"""The case's job, run in this process, and how such a run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

__all__ = ["CaseJob", "RunEnd", "range_tags", "tagged_range"]

_INTERRUPTIONS = frozenset({dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__})
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended."""

    problem: str | None
    """Why it failed; None where it didn't."""
    materializations: tuple[dg.AssetMaterialization, ...]
    """What it reported, in the order of the run."""

    def of(self, key: dg.AssetKey) -> list[dg.AssetMaterialization]:
        """The materializations of one asset."""
        return [one for one in self.materializations if one.asset_key == key]


@dataclass(frozen=True)
class CaseJob:
    """All assets of a case as a job, of which each run takes some."""

    job: dg.JobDefinition
    """The job."""
    instance: dg.DagsterInstance
    """Whose history it adds to."""
    log_level: str
    """Of Dagster's own lines on the terminal."""

    def materialize(self, keys: Sequence[dg.AssetKey], partitions: Sequence[str] = ()) -> RunEnd:
        """Materialize the assets ``keys`` in one run; ``partitions`` are contiguous, and those of the partitioned ones.

        Raises KeyboardInterrupt where the run was interrupted.
        """
        result = self.job.execute_in_process(
            asset_selection=list(keys),
            instance=self.instance,
            tags=range_tags(partitions),
            run_config={"loggers": {"console": {"config": {"log_level": self.log_level}}}},
            raise_on_error=False,
        )
        if not result.success and any(_is_interruption(event) for event in result.all_events):
            # Dagster has recorded it as a failure of the step; it is meant for everything that would follow, too.
            raise KeyboardInterrupt
        reported = tuple(
            event.step_materialization_data.materialization
            for event in result.all_events
            if event.is_step_materialization
        )
        return RunEnd(None if result.success else _causes(result), reported)


def range_tags(partitions: Sequence[str]) -> dict[str, str]:
    """The tags by which a run takes the contiguous ``partitions``; none where there are none."""
    return {_RANGE_START: partitions[0], _RANGE_END: partitions[-1]} if partitions else {}


def tagged_range(all_keys: Sequence[str], tags: Mapping[str, str]) -> Sequence[str]:
    """The partitions that a run with ``tags`` takes, of ``all_keys``; none where it takes no range of them."""
    first, last = tags.get(_RANGE_START), tags.get(_RANGE_END)
    if first not in all_keys or last not in all_keys:
        return ()
    return all_keys[all_keys.index(first) : all_keys.index(last) + 1]


def _causes(result: dg.ExecuteInProcessResult) -> str:
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
