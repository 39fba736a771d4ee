"""Where a partition stands: its plan, its records, and what follows from the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import DatasetSpec, StorageSpec
from scs2_cubes.pipeline.cubes import PlannedPartition, plan_partition
from scs2_cubes.pipeline.findings import noted_findings
from scs2_cubes.pipeline.state import PartitionState, is_concluded, partition_state, stale_reasons

__all__ = ["Standing", "standing_of"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition of one cube."""

    planned: PlannedPartition
    """How it would be made now, and where it lies."""
    records: Mapping[str, TileRecord]
    """Tile key → record, of the whole cube; empty where there is no cube."""
    state: PartitionState
    """Its tiles."""
    differences: tuple[str, ...]
    """In what another cube that lies there differs; empty where it is this one, or none."""
    reasons: tuple[str, ...]
    """Why tiles are stale."""
    is_unfinished: bool
    """True where all its tiles are done, and a crash has left something to be told of the cube."""

    findings: Mapping[str, str]
    """Blocking check → what it found when the partition was last looked at; empty where nothing blocks."""

    @property
    def summary(self) -> str:
        """``current``, ``wrong``, ``stale``, ``partly done``, ``missing`` or ``other cube``."""
        if self.differences:
            return "other cube"
        if self.findings and self.state.is_current:
            return "wrong"
        return "partly done" if self.is_unfinished else self.state.summary

    @property
    def is_current(self) -> bool:
        return self.summary == "current"


def standing_of(
    dataset: DatasetSpec,
    storage: StorageSpec,
    native: NativeDataset,
    key: str,
    known: dict[str, Mapping[str, TileRecord]] | None = None,
) -> Standing:
    """Where the partition ``key`` of ``dataset`` stands against what its source holds. Reads storage.

    ``known`` keeps the records of cubes, by their address, for the partitions that are asked for next. Raises PlanError
    where its cube can't be made from this source, StorageError.
    """
    planned = plan_partition(dataset, storage, native, key)
    plan, store = planned.plan, planned.store
    # Records without a cube are what is left where someone has removed it.
    records = (known or {}).get(store.url)
    if records is None:
        records = store.records() if store.exists() else {}
    if known is not None:
        known[store.url] = records
    state = partition_state(plan, planned.partition, records)
    return Standing(
        planned,
        records,
        state,
        differences=store.differences(plan.schema),
        reasons=stale_reasons(plan, state, store, records),
        is_unfinished=state.is_current and not is_concluded(plan, store, records),
        findings=noted_findings(store, key, plan.data_version) if records else {},
    )
