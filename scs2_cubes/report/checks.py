"""Cubes that are done, inspected: what the checks found, as a table, and the records of wrong tiles removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from scs2_cubes.core.checks import Verdict
from scs2_cubes.core.specification import NATIVE_PARTITION, Case, DatasetSpec
from scs2_cubes.pipeline.compute import Compute
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition, store_of
from scs2_cubes.pipeline.findings import note_verdicts
from scs2_cubes.pipeline.inspection import Look, inspect_partition
from scs2_cubes.pipeline.state import STATE_DOCUMENT, finished_tiles

__all__ = ["CheckedPartition", "check_table", "checked_partitions", "forget_wrong_tiles"]


@dataclass(frozen=True, slots=True)
class CheckedPartition:
    """One partition of one cube, and what the checks found."""

    identifier: str
    """The dataset."""
    planned: PlannedPartition
    """The partition with its plan and its store."""
    verdicts: tuple[Verdict, ...]
    """One for each check."""

    @property
    def blocks(self) -> bool:
        """True where a blocking check failed."""
        return any(verdict.blocks for verdict in self.verdicts)

    @property
    def wrong_tiles(self) -> tuple[str, ...]:
        """Tiles that are done and that a blocking check found to be wrong, sorted.

        Not those that are merely missing, or at another version than the rest.
        """
        return tuple(sorted({tile for one in self.verdicts if one.blocks and one.lasts for tile in one.tiles}))


def checked_partitions(
    case: Case, dataset: DatasetSpec, keys: Iterable[str], compute: Compute
) -> Iterator[CheckedPartition]:
    """Inspect those of ``dataset``'s partitions ``keys`` of which at least one tile is done.

    Asks the source for what it holds, unless nothing is done, reads all pixels of the cube, and notes what is wrong
    beside it, so that a run doesn't take it for current. Raises what
    :func:`scs2_cubes.pipeline.cubes.describe_source` and :func:`~scs2_cubes.pipeline.cubes.plan_partition` raise.
    """
    if not _has_records(case, dataset):
        return
    native = describe_source(dataset)
    for key in keys:
        planned = plan_partition(dataset, case.storage, native, key)
        done = finished_tiles(planned.store)
        if any(tile.key in done for tile in planned.partition.tiles()):
            found = inspect_partition(planned.plan, planned.partition, planned.store, compute, Look())
            note_verdicts(planned.store, key, found.verdicts, data_version=planned.plan.data_version)
            yield CheckedPartition(dataset.identifier, planned, found.verdicts)


def _has_records(case: Case, dataset: DatasetSpec) -> bool:
    """Whether any tile of any of ``dataset``'s cubes is done."""
    names = [region.name for region in dataset.regions] or [NATIVE_PARTITION]
    return any(store_of(case.storage, dataset, name).documents("tiles") for name in names)


def forget_wrong_tiles(checked: CheckedPartition) -> int:
    """Remove the records of the tiles that are wrong, so that the next run makes them again; returns their number.

    Raises StorageError.
    """
    store = checked.planned.store
    if checked.wrong_tiles:
        # What it says of the whole cube holds no longer.
        store.remove_document(STATE_DOCUMENT)
    for tile in checked.wrong_tiles:
        store.remove_record(tile)
    return len(checked.wrong_tiles)


def check_table(checked: Sequence[CheckedPartition], *, verbose: bool = False) -> Table:
    """Cube, partition, check, passed, text: the checks that failed and a line for the others, or all of them."""
    table = Table(title="Checks", title_justify="left")
    for name in ("cube", "partition", "check", "passed", "found"):
        table.add_column(name, overflow="fold")
    for one in checked:
        for verdict in one.verdicts:
            if verbose or not verdict.passed:
                _add_row(table, one, verdict.check, _answer(verdict), verdict.text)
        passed = [verdict.check for verdict in one.verdicts if verdict.passed]
        if passed and not verbose:
            _add_row(table, one, f"{len(passed)} checks", Text("yes", "green"), ", ".join(passed))
    return table


def _answer(verdict: Verdict) -> Text:
    if verdict.passed:
        return Text("yes", "green")
    return Text("no", "red") if verdict.blocks else Text("warning", "yellow")


def _add_row(table: Table, one: CheckedPartition, check: str, answer: Text, text: str) -> None:
    # As Text, because a string's square brackets would be read as markup.
    table.add_row(Text(one.identifier), Text(one.planned.partition.key), Text(check), answer, Text(text))
