"""What one step does for a cube: makes its partitions, looks at what was made, and tells Dagster of each by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from scs2_cubes.core.checks import Verdict
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import ChecksFailedError, ConfigurationError, MaterializationError
from scs2_cubes.orchestration.checks import current_evaluation, evaluations
from scs2_cubes.orchestration.executors import require_run
from scs2_cubes.orchestration.metadata import mean_metadata, picture_metadata, report_metadata
from scs2_cubes.orchestration.provenance import cube_key, cube_tags, report_source
from scs2_cubes.orchestration.resources import ProgressSink
from scs2_cubes.pipeline.claims import PartitionClaim, claim_partition
from scs2_cubes.pipeline.compute import Compute
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition, window_fetch
from scs2_cubes.pipeline.findings import note_verdicts
from scs2_cubes.pipeline.inspection import Inspection, Look, inspect_partition, look_of
from scs2_cubes.pipeline.materialize import (
    Fetch,
    PartitionReport,
    Progress,
    fetch_due,
    materialize_partition,
    prepare_cube,
)
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.pipeline.state import partition_state
from scs2_cubes.pipeline.summaries import note_summary, region_partitions, region_scales, region_summary
from scs2_cubes.report.status import partition_statuses
from scs2_cubes.storage import sweep

__all__ = ["CubeRun"]

#: Seconds between two questions whether the run that a step belongs to is over.
_LOOK_SECONDS = 2.0
#: Pixels of a view's longer side: what a picture of less than 100 kB can show.
_VIEW_PIXELS = 480


@dataclass(frozen=True)
class CubeRun:
    """One step: the partitions of one cube that one Dagster run asks for."""

    context: dg.AssetExecutionContext
    """Dagster's."""
    dataset: DatasetSpec
    """Whose cube."""
    case: Case
    """The configuration that it's part of."""
    compute: Compute
    """What makes the tiles and looks at them."""
    progress: ProgressSink
    """Where progress goes besides the log."""

    def run(self) -> None:
        """Do it for each partition; raise at the end for those that failed.

        Where only checks were selected, nothing is made: what lies in the store is judged.
        """
        wanted = sorted(self.context.partition_keys)
        is_making = bool(self.context.selected_asset_keys)
        if is_making:
            sweep(self.case.storage)
        native = describe_source(self.dataset)
        report_source(self.context, self.dataset, native.version)
        failures: dict[str, Exception] = {}
        for key in wanted:
            require_run(self.context)
            try:
                planned = plan_partition(self.dataset, self.case.storage, native, key)
                if is_making:
                    native = self._make(planned, native)
                else:
                    self._check(planned)
            except ConfigurationError:
                # True of every partition: waiting for an absent scheduler once is enough.
                raise
            except Exception as error:  # noqa: BLE001  (whatever fails one partition mustn't stop the others)
                # The traceback comes with the step's failure; here the message is what helps.
                self.context.log.error(f"{self._name(key)}: {error}")  # noqa: TRY400  (see above)
                failures[key] = error
        self._tell_standing(native)
        if failures:
            raise _summary(self.dataset.identifier, failures, wanted) from next(iter(failures.values()))

    def _make(self, planned: PlannedPartition, native: NativeDataset) -> NativeDataset:
        """Make it, when no other run does; returns what the source holds by then."""
        key = planned.partition.key
        with claim_partition(
            planned.store, key, lambda line: self._tell(f"{self.dataset.identifier}, {line}")
        ) as claim:
            if claim.has_waited or _lies_at_another_version(planned):
                # Another run may have made a version newer than what this one was told when it began: hours ago, where
                # there were other partitions before.
                native = self._described_again(native)
                planned = plan_partition(self.dataset, self.case.storage, native, key)
            self._make_claimed(planned, window_fetch(self.dataset, native, self._tell), claim)
        return native

    def _described_again(self, before: NativeDataset) -> NativeDataset:
        native = describe_source(self.dataset)
        if native.version != before.version:
            report_source(self.context, self.dataset, native.version)
        return native

    def _make_claimed(self, planned: PlannedPartition, fetch: Fetch | None, claim: PartitionClaim) -> None:
        plan, partition, store = planned.plan, planned.partition, planned.store
        key = partition.key
        fetched = fetch_due(plan, partition, store, fetch) if fetch else None
        with claim.cube():
            prepare_cube(plan, store)
        report = materialize_partition(plan, partition, store, self.compute, self._listener(key), fetched, claim)
        self.context.log.info(f"{self._name(key)}: {report.made} tiles made, {report.kept} kept")
        look, inspection = self._inspect(planned)
        note_summary(store, plan, inspection, region_partitions(self.dataset, partition))
        self._report(planned, report, look, inspection)
        if any(verdict.blocks for verdict in inspection.verdicts):
            if self._is_remade(planned):
                self.context.log.warning(f"{self._name(key)}: another run makes it again, and is left to judge it")
                return
            # That run may have ended since.
            _, inspection = self._inspect(planned)
        self._conclude(planned, inspection.verdicts)

    @staticmethod
    def _is_remade(planned: PlannedPartition) -> bool:
        """True where not every tile is recorded at our version, although this run has just seen to that."""
        return not partition_state(planned.plan, planned.partition, planned.store.records()).is_current

    def _check(self, planned: PlannedPartition) -> None:
        _, inspection = self._inspect(planned)
        self._conclude(planned, inspection.verdicts)

    def _inspect(self, planned: PlannedPartition) -> tuple[Look, Inspection]:
        look = look_of(planned.plan, planned.partition, self.dataset.quicklook_times, self.case.sites, _VIEW_PIXELS)
        return look, inspect_partition(planned.plan, planned.partition, planned.store, self.compute, look)

    def _report(self, planned: PlannedPartition, report: PartitionReport, look: Look, inspection: Inspection) -> None:
        self.context.log_event(
            dg.AssetMaterialization(
                cube_key(self.dataset),
                partition=planned.partition.key,
                metadata={
                    **report_metadata(planned.plan, report, planned.store, self.compute.dashboard),
                    **mean_metadata(inspection),
                    **(self._pictures(planned, look, inspection) if self.case.visualize else {}),
                },
                tags=cube_tags(
                    self.context.instance,
                    self.dataset,
                    planned.plan.data_version,
                    planned.plan.source_version,
                    specification_version(self.dataset),
                ),
            )
        )

    def _pictures(
        self, planned: PlannedPartition, look: Look, inspection: Inspection
    ) -> Mapping[str, dg.MetadataValue]:
        """Draw and keep the pictures. A cube isn't wrong because it can't be drawn, and must be judged all the same."""
        from scs2_cubes.report.pictures import draw_pictures  # noqa: PLC0415  (a second of import, for what is drawn)

        try:
            keys = region_partitions(self.dataset, planned.partition)
            version = inspection.data_version
            region = region_summary(planned.store, keys, version)
            scales = region_scales(planned.store, keys, version)
            return picture_metadata(planned, draw_pictures(planned.plan, inspection, look, region, scales))
        except Exception as error:  # see above
            self.context.log.exception(f"{self._name(planned.partition.key)}: no pictures")
            return {"pictures": dg.MetadataValue.text(f"not drawn: {type(error).__name__}: {error}")}

    def _conclude(self, planned: PlannedPartition, verdicts: Iterable[Verdict]) -> None:
        """Tell what was found. Raises ChecksFailedError where nothing may be built on it."""
        key = planned.partition.key
        verdicts = tuple(verdicts)
        for evaluation in evaluations(self.dataset, key, verdicts):
            self.context.log_event(evaluation)
        wrong = note_verdicts(planned.store, key, verdicts, data_version=planned.plan.data_version)
        if wrong:
            found = "; ".join(f"{check}: {text}" for check, text in wrong.items())
            raise ChecksFailedError(f"{planned.store.url} isn't right: {found}")

    def _tell_standing(self, native: NativeDataset) -> None:
        statuses = list(partition_statuses(self.case, self.dataset, self.dataset.partition_keys, native=native))
        self.context.log_event(current_evaluation(self.dataset, statuses))

    def _listener(self, key: str) -> Callable[[Progress], None]:
        listen, last = self.progress.listener(self.context.log, self._name(key)), time.monotonic()

        def listen_and_look(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= _LOOK_SECONDS:
                require_run(self.context)
                last = time.monotonic()
            listen(progress)

        return listen_and_look

    def _tell(self, line: str) -> None:
        # This is heard while something is waited for, too.
        require_run(self.context)
        self.context.log.info(line)
        self.progress.tell(line)

    def _name(self, key: str) -> str:
        return f"{self.dataset.identifier} {key}"


def _lies_at_another_version(planned: PlannedPartition) -> bool:
    """True where a tile of the partition is recorded as of another version than the plan's. Reads storage."""
    return bool(partition_state(planned.plan, planned.partition, planned.store.records()).stale)


def _summary(identifier: str, failures: dict[str, Exception], wanted: Iterable[str]) -> MaterializationError:
    total = len(list(wanted))
    causes = "; ".join(f"{key}: {type(error).__name__}: {error}" for key, error in failures.items())
    return MaterializationError(f"{identifier}: {len(failures)} of {total} partitions failed: {causes}")
