"""What is done, stale or missing: records against the version that would be made now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Partition
from scs2_cubes.core.versions import changed_components
from scs2_cubes.pipeline.claims import has_graves
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore

__all__ = [
    "STATE_DOCUMENT",
    "PartitionState",
    "finished_tiles",
    "is_concluded",
    "partition_state",
    "stale_reasons",
    "superseded_versions",
    "version_document",
]

#: The state of a whole cube, beside it.
STATE_DOCUMENT = "cube.json"
_VERSIONS = "versions"


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


def finished_tiles(store: CubeStore) -> frozenset[str]:
    """Keys of the tiles that are recorded as done, at whatever version. Lists the records, and reads none.

    Raises StorageError.
    """
    return frozenset(name.rpartition("/")[2].removesuffix(".json") for name in store.documents("tiles"))


def version_document(data_version: str) -> str:
    """Name of the document that says what ``data_version`` is made of."""
    return f"{_VERSIONS}/{data_version}.json"


def is_concluded(plan: CubePlan, store: CubeStore, records: Mapping[str, TileRecord]) -> bool:
    """True unless a crash has left something to be told of tiles that are all done. Reads storage.

    Between the last tile's record and the cube's own attributes there is a moment in which nothing is left to be made,
    and not everything is said; so there is where a cube has begun to become another version and went back. A run that
    was killed at its very end leaves its claim.
    """
    if not store.is_created(plan.schema):
        return False
    version = plan.data_version
    if any(key not in records or records[key].data_version != version for key in _keys(plan)):
        # The run that makes the last tile will tell.
        return True
    document = store.read_document(STATE_DOCUMENT) or {}
    is_told = document.get("data_version") == version and document.get("complete") is True
    return is_told and store.documents(_VERSIONS) == [version_document(version)] and not has_graves(store)


def superseded_versions(plan: CubePlan, store: CubeStore) -> tuple[str, ...]:
    """Documents of versions other than ``plan``'s. Reads storage."""
    mine = version_document(plan.data_version)
    return tuple(name for name in store.documents(_VERSIONS) if name != mine)


def _keys(plan: CubePlan) -> list[str]:
    return [tile.key for tile in plan.region.grid.tiles()]


def stale_reasons(
    plan: CubePlan, state: PartitionState, store: CubeStore, records: Mapping[str, TileRecord]
) -> tuple[str, ...]:
    """Why tiles are stale, for people, sorted: what differs between their versions and the present one. Reads storage.

    ``source``, ``function``, ``code``, or ``configuration`` with the parts of it.
    """
    reasons: set[str] = set()
    for version in {records[key].data_version for key in state.stale}:
        components = store.read_document(version_document(version))
        if components is None:
            reasons.add(f"made as version {version}, of which nothing is known")
        else:
            reasons.update(_reasons(components, plan.components))
    return tuple(sorted(reasons))


def _reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in changed_components(old, new):
        if name in _REASONS:
            yield _REASONS[name]
        elif name == "layers":
            yield from (f"configuration ({change})" for change in _changed_layers(old.get(name, []), new[name]))
        else:
            yield f"configuration ({name})"


def _changed_layers(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """``method of forest_age`` for what a layer is made with; ``layers`` where they are others or in another order."""
    if [layer["name"] for layer in old] != [layer["name"] for layer in new]:
        yield "layers"
        return
    for before, after in zip(old, new, strict=True):
        yield from (f"{part} of {after['name']}" for part in changed_components(before, after))


#: What people call a component; everything else is in the configuration.
_REASONS = {"source_version": "source", "processing": "function", "code_version": "code"}
