"""Asset checks: what is judged of each partition, and ``current``, which looks at all of them. Judging is core's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from scs2_cubes.core.checks import CHECKS, Verdict
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.orchestration.partitions import partitions_definition
from scs2_cubes.orchestration.provenance import cube_key, op_name
from scs2_cubes.report.status import PartitionStatus, state_summary, state_text

__all__ = ["CURRENT", "check_outputs", "check_specs", "current_evaluation", "evaluations", "is_news"]

#: Partitions that one evaluation of ``current`` lists: it goes into the history whenever one of them changes.
_LISTED = 50
#: Name of the check that lists a cube's partitions as ``scs2-cubes status`` does.
CURRENT = "current"


class _CheckSpec(dg.AssetCheckSpec):
    """A check whose output has a name that Dagster takes, whatever the asset's identifier holds."""

    def get_python_identifier(self) -> str:
        """Name of the step's output."""
        return f"{op_name(self.asset_key)}_{self.name}"


def check_specs(dataset: DatasetSpec) -> list[dg.AssetCheckSpec]:
    """The checks of ``dataset``'s cube: those of each partition, and ``current``."""
    key, partitions = cube_key(dataset), partitions_definition(dataset)
    with warnings.catch_warnings():
        # Dagster calls checks by partition a preview, at every loading of the definitions.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            _CheckSpec(name, asset=key, description=kind.description, blocking=kind.blocking, partitions_def=partitions)
            for name, kind in CHECKS.items()
        ]
    current = _CheckSpec(
        CURRENT,
        asset=key,
        description="Every partition is done at the present version. Dagster itself shows a partitioned asset as fresh "
        "unless one opens the partition; this is what `scs2-cubes status` says.",
    )
    return [*specs, current]


def check_outputs(keys: Iterable[dg.AssetCheckKey]) -> Iterator[Any]:
    """The step's outputs (``dg.Output``) of checks whose evaluations it has logged itself, one for each partition.

    What depends on a blocking check waits for its output. Any, because Dagster takes a step's annotation for its word.
    """
    for key in sorted(keys):
        yield dg.Output(None, output_name=_CheckSpec(key.name, asset=key.asset_key).get_python_identifier())


def evaluations(dataset: DatasetSpec, partition: str, verdicts: Iterable[Verdict]) -> Iterator[dg.AssetCheckEvaluation]:
    """What Dagster is told of one partition's verdicts."""
    for verdict in verdicts:
        blocking = CHECKS[verdict.check].blocking
        yield dg.AssetCheckEvaluation(
            asset_key=cube_key(dataset),
            check_name=verdict.check,
            passed=verdict.passed,
            partition=partition,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            blocking=blocking,
            description=verdict.text,
            metadata={"tiles": ", ".join(verdict.tiles)} if verdict.tiles else {},
        )


def current_evaluation(dataset: DatasetSpec, statuses: Sequence[PartitionStatus]) -> dg.AssetCheckEvaluation:
    """What Dagster is told of the state of all of a cube's partitions."""
    return dg.AssetCheckEvaluation(
        asset_key=cube_key(dataset),
        check_name=CURRENT,
        passed=all(status.summary == "current" for status in statuses),
        severity=dg.AssetCheckSeverity.WARN,
        description=state_summary(statuses),
        metadata={"status": dg.MetadataValue.md(f"```\n{_text(statuses)}\n```")},
    )


def _text(statuses: Sequence[PartitionStatus]) -> str:
    """What ``scs2-cubes status`` says; of many partitions those that aren't current, and not all of these."""
    if len(statuses) <= _LISTED:
        return state_text(statuses)
    others = [status for status in statuses if status.summary != "current"]
    left = f"\nand {len(others) - _LISTED} more that aren't current" if len(others) > _LISTED else ""
    return f"{state_text(others[:_LISTED])}{left}"


def is_news(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation) -> bool:
    """False where the latest evaluation of that check, of no partition, says the same. Reads the instance's history."""
    history = instance.event_log_storage.get_asset_check_execution_history(evaluation.asset_check_key, limit=10)
    for record in history:
        event = record.event.dagster_event if record.event else None
        last = event.event_specific_data if event else None
        if isinstance(last, dg.AssetCheckEvaluation):
            said = (last.passed, last.description, last.metadata)
            return said != (evaluation.passed, evaluation.description, evaluation.metadata)
    return True
