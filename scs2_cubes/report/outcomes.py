"""The status table's rows after a run: what became of each cube and preload, and what lies in storage now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from scs2_cubes.core.specification import Case, DatasetSpec, PreloadSpec
from scs2_cubes.errors import StorageError
from scs2_cubes.report.cubes import CubeSummary, summarize
from scs2_cubes.report.tables import StatusRow

__all__ = ["Fetched", "Outcome", "preload_row", "status_rows"]


class Outcome(Protocol):
    """What became of one dataset: partition keys by what happened to them."""

    @property
    def dataset(self) -> DatasetSpec: ...
    @property
    def made(self) -> Sequence[str]: ...
    @property
    def current(self) -> Sequence[str]: ...
    @property
    def failed(self) -> Sequence[str]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def message(self) -> str: ...


class Fetched(Protocol):
    """What was preloaded, or couldn't be."""

    @property
    def preload(self) -> PreloadSpec: ...
    @property
    def size(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def message(self) -> str: ...


def preload_row(outcome: Fetched) -> StatusRow:
    """The row of what was fetched for the cubes, or couldn't be. No I/O."""
    preload = outcome.preload
    summary = CubeSummary(preload.data_id, preload.store.identifier, size=outcome.size)
    return StatusRow(summary, "failed" if outcome.message else "preloaded", outcome.seconds, outcome.message)


def status_rows(case: Case, outcome: Outcome) -> Iterator[StatusRow]:
    """A row for each cube of the outcome's dataset that the run looked at. Reads storage."""
    regions = {partition.key: partition.region.name for partition in outcome.dataset.partitions}
    touched = {regions.get(key) for key in (*outcome.made, *outcome.current, *outcome.failed)}
    try:
        summaries = [one for one in summarize(case, outcome.dataset) if one.region in touched]
    except StorageError as error:
        # The table must come; the cube that can't be read is one of its messages.
        yield StatusRow(CubeSummary(outcome.dataset.identifier, None), "failed", outcome.seconds, str(error))
        return
    for summary in summaries:
        mine = {key for key, region in regions.items() if region == summary.region} or set(
            outcome.dataset.partition_keys
        )
        failed = mine & set(outcome.failed)
        yield StatusRow(summary, _status(mine, outcome), outcome.seconds, outcome.message if failed else "")


def _status(mine: set[str], outcome: Outcome) -> str:
    made, failed = mine & set(outcome.made), mine & set(outcome.failed)
    if failed:
        return "partly made" if made or mine & set(outcome.current) else "failed"
    return "made" if made else "current"
