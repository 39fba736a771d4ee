"""What is done, stale or missing: records against the version that would be made now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Partition
from scs2_cubes.core.versions import changed_components
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore

__all__ = ["PartitionState", "partition_state", "stale_reasons"]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The tiles of one partition, by their keys, row-major."""

    partition: Partition
    """Which."""
    current: tuple[str, ...]
    """Done, at the present data version."""
    stale: tuple[str, ...]
    """Done, at another data version."""
    missing: tuple[str, ...]
    """Not done."""

    @property
    def is_current(self) -> bool:
        return not self.stale and not self.missing

    @property
    def summary(self) -> str:
        """One word for people: current, stale, partly done, or missing."""
        if self.is_current:
            return "current"
        if not self.current and not self.stale:
            return "missing"
        return "stale" if not self.missing and not self.current else "partly done"


def partition_state(plan: CubePlan, partition: Partition, records: Mapping[str, TileRecord]) -> PartitionState:
    """Compare ``records`` (of the whole cube) with ``plan``'s data version."""
    keys = [tile.key for tile in partition.tiles()]
    version = plan.data_version
    return PartitionState(
        partition,
        current=tuple(key for key in keys if key in records and records[key].data_version == version),
        stale=tuple(key for key in keys if key in records and records[key].data_version != version),
        missing=tuple(key for key in keys if key not in records),
    )


def stale_reasons(plan: CubePlan, state: PartitionState, store: CubeStore, records: Mapping[str, TileRecord]) -> str:
    """In which components the stale tiles' versions differ from the present one, for people. Reads storage."""
    reasons: set[str] = set()
    for version in {records[key].data_version for key in state.stale}:
        components = store.read_document(f"versions/{version}.json")
        if components is None:
            reasons.add(f"made as version {version}, of which nothing is known")
        else:
            reasons.update(changed_components(components, plan.components))
    return ", ".join(sorted(reasons))
