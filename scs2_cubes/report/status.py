"""What is done, partly done, stale and why, or missing: records against what the sources hold now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import NotPreloadedError, Scs2CubesError
from scs2_cubes.pipeline.cubes import describe_source, plan_partition, store_of
from scs2_cubes.pipeline.state import is_concluded, partition_state, stale_reasons

__all__ = ["PartitionStatus", "partition_statuses", "state_table"]

_STYLES = {"current": "green", "stale": "yellow", "partly done": "yellow", "missing": "yellow", "unknown": "red"}


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of one cube."""

    identifier: str
    """The dataset."""
    partition: str
    """The partition's key."""
    summary: str
    """``current``, ``stale``, ``partly done``, ``missing``, ``other cube``, or ``unknown`` where that can't be told."""
    current: int = 0
    """Tiles that are done at the present version."""
    stale: int = 0
    """Tiles that are done at another version."""
    missing: int = 0
    """Tiles that aren't done."""
    reason: str = ""
    """Why tiles are stale, or why nothing can be told."""


def partition_statuses(case: Case, dataset: DatasetSpec, keys: Iterable[str]) -> Iterator[PartitionStatus]:
    """The status of ``dataset``'s partitions ``keys``. Asks the source for its version and reads records.

    What was preloaded is asked for in its cache alone. What can't be told (a source that doesn't answer) is a status of
    its own, with the cause.
    """
    try:
        native = describe_source(dataset)
    except NotPreloadedError as error:
        yield from (_without_cache(case, dataset, key, error) for key in keys)
        return
    except Scs2CubesError as error:
        for key in keys:
            yield PartitionStatus(dataset.identifier, key, "unknown", reason=f"{type(error).__name__}: {error}")
        return
    for key in keys:
        try:
            yield _status(case, dataset, native, key)
        except Scs2CubesError as error:
            yield PartitionStatus(dataset.identifier, key, "unknown", reason=f"{type(error).__name__}: {error}")


def _without_cache(case: Case, dataset: DatasetSpec, key: str, error: NotPreloadedError) -> PartitionStatus:
    """What can be told before the source has been fetched: of a cube that is there, nothing."""
    region = {one.key: one.region.name for one in dataset.partitions}.get(key)
    summary = "unknown" if store_of(case.storage, dataset, region).exists() else "missing"
    return PartitionStatus(dataset.identifier, key, summary, reason=f"not preloaded yet: {error}")


def _status(case: Case, dataset: DatasetSpec, native: NativeDataset, key: str) -> PartitionStatus:
    planned = plan_partition(dataset, case.storage, native, key)
    plan, store = planned.plan, planned.store
    # Records without a cube are what is left where someone has removed it.
    records = store.records() if store.exists() else {}
    state = partition_state(plan, planned.partition, records)
    differences = store.differences(plan.schema)
    reasons = stale_reasons(plan, state, store, records)
    summary = "other cube" if differences else state.summary
    why = [*differences, *(reasons and [f"changed: {', '.join(reasons)}"])]
    if summary == "current" and not is_concluded(plan, store, records):
        summary = "partly done"
        why = ["a run ended before it could write the cube's attributes; run again"]
    return PartitionStatus(
        dataset.identifier, key, summary, len(state.current), len(state.stale), len(state.missing), "; ".join(why)
    )


def state_table(statuses: Iterable[PartitionStatus]) -> Table:
    """Cube, partition, status, tiles by state, reason."""
    table = Table(
        "cube", "partition", "status", "current", "stale", "missing", "why", title="Tiles", title_justify="left"
    )
    for status in statuses:
        table.add_row(
            Text(status.identifier),
            Text(status.partition),
            Text(status.summary, _STYLES.get(status.summary, "red")),
            str(status.current),
            str(status.stale),
            str(status.missing),
            Text(status.reason),
        )
    return table
