"""What is done, partly done, stale and why, or missing: records against what the sources hold now."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.core.wording import counted
from scs2_cubes.errors import NotPreloadedError, Scs2CubesError
from scs2_cubes.pipeline.cubes import describe_source, store_of
from scs2_cubes.pipeline.standing import Standing, standing_of
from scs2_cubes.pipeline.state import finished_tiles
from scs2_cubes.preload import ARCHIVES
from scs2_cubes.sources import open_source

__all__ = [
    "PartitionStatus",
    "latest_version",
    "partition_statuses",
    "probed_statuses",
    "state_summary",
    "state_table",
    "state_text",
    "status_of",
    "unknown_statuses",
]

#: Status → its colour, in the order in which they are counted.
_STYLES = {
    "current": "green",
    "partly done": "yellow",
    "stale": "yellow",
    "missing": "yellow",
    "wrong": "red",
    "other cube": "red",
    "unknown": "red",
}
#: Columns of the plain text.
_TEXT_WIDTH = 120
#: What changes are called in short; of any other nothing is known but that the version is another one.
_CAUSES = ("source", "configuration", "function", "code")


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of one cube."""

    identifier: str
    """The dataset."""
    partition: str
    """The partition's key."""
    summary: str
    """``current``, ``wrong``, ``stale``, ``partly done``, ``missing``, ``other cube``; ``unknown``: can't be told."""
    current: int = 0
    """Tiles that are done at the present version."""
    stale: int = 0
    """Tiles that are done at another version."""
    missing: int = 0
    """Tiles that aren't done."""
    reason: str = ""
    """Why tiles are stale, or why nothing can be told."""
    causes: tuple[str, ...] = ()
    """Why tiles are stale, in short: ``source``, ``configuration``, ``function``, ``code``, ``unknown version``."""


def partition_statuses(
    case: Case,
    dataset: DatasetSpec,
    keys: Iterable[str],
    latest: str | None = None,
    *,
    native: NativeDataset | None = None,
) -> Iterator[PartitionStatus]:
    """The status of ``dataset``'s partitions ``keys``. Asks the source for its version and reads records.

    Of what was preloaded only the cache is asked; ``latest`` is the version that its source has now, see
    :func:`latest_version`, and None where that isn't known. What can't be told (a source that doesn't answer) is a
    status of its own, with the cause.
    """
    try:
        native = native or describe_source(dataset)
    except Scs2CubesError as error:
        yield from unknown_statuses(case, dataset, keys, error)
        return
    known: dict[str, Mapping[str, TileRecord]] = {}
    for key in keys:
        try:
            yield status_of(dataset, standing_of(dataset, case.storage, native, key, known), latest=latest)
        except Scs2CubesError as error:
            yield from unknown_statuses(case, dataset, [key], error)


def probed_statuses(case: Case, dataset: DatasetSpec, keys: Iterable[str]) -> Iterator[PartitionStatus]:
    """The status of ``dataset``'s partitions ``keys`` by what every source says now, a preload's source, too.

    As :func:`partition_statuses` with the version that :func:`latest_version` tells. A source that doesn't answer is a
    status of its own, with the cause, whatever lies in the cache.
    """
    try:
        latest = latest_version(dataset)
    except Scs2CubesError as error:
        yield from unknown_statuses(case, dataset, keys, error)
        return
    yield from partition_statuses(case, dataset, keys, latest)


def latest_version(dataset: DatasetSpec) -> str | None:
    """The version that the source of ``dataset`` has now, where a cache of whole archives stands for it: a probe.

    None where the source is read in place, and so tells by itself, and where nothing lies in the cache that could be
    outdated. Raises as :meth:`scs2_cubes.sources.base.Source.probe` does, and StorageError where the cache can't be
    read.
    """
    if dataset.store.protocol not in ARCHIVES:
        return None
    try:
        describe_source(dataset)
    except NotPreloadedError:
        return None
    return open_source(dataset.store).probe(dataset.data_id)


def status_of(dataset: DatasetSpec, standing: Standing, *, latest: str | None = None) -> PartitionStatus:
    """The status that follows from where a partition stands. No I/O.

    ``latest`` is the version that the source says it has now. Where that isn't the one in the cache which the partition
    would be made from, its tiles are stale, whatever their records say.
    """
    state, summary = standing.state, standing.summary
    current, stale = len(state.current), len(state.stale)
    causes = {_cause(reason) for reason in standing.reasons}
    why = [*standing.differences, *(standing.reasons and [f"changed: {', '.join(standing.reasons)}"])]
    is_outdated = latest not in {None, standing.planned.plan.source_version} and summary != "other cube"
    if is_outdated and current + stale:
        why.append(f"source: {dataset.store.identifier} has a newer version ({latest}), to be fetched first")
        causes.add("source")
        current, stale = 0, current + stale
        # Also where a run has ended too early: the next one makes everything anew.
        summary = "partly done" if state.missing else "stale"
    elif summary == "wrong":
        why = [f"{check}: {text}" for check, text in standing.findings.items()]
    elif standing.is_unfinished and not standing.differences:
        why = ["a run ended before it could write the cube's attributes; run again"]
    return PartitionStatus(
        dataset.identifier,
        standing.planned.partition.key,
        summary,
        current,
        stale,
        len(state.missing),
        "; ".join(why),
        tuple(sorted(causes)),
    )


def _cause(reason: str) -> str:
    return next((cause for cause in _CAUSES if reason == cause or reason.startswith(f"{cause} (")), "unknown version")


def unknown_statuses(
    case: Case, dataset: DatasetSpec, keys: Iterable[str], error: Scs2CubesError
) -> Iterator[PartitionStatus]:
    """The status of partitions of which ``error`` lets nothing be told. Reads storage."""
    for key in keys:
        if isinstance(error, NotPreloadedError):
            yield _without_cache(case, dataset, key, error)
        else:
            yield PartitionStatus(dataset.identifier, key, "unknown", reason=f"{type(error).__name__}: {error}")


def _without_cache(case: Case, dataset: DatasetSpec, key: str, error: NotPreloadedError) -> PartitionStatus:
    """What can be told before the source has been fetched: which tiles are made, and not at which version."""
    partition = next((one for one in dataset.partitions if one.key == key), None)
    store = store_of(case.storage, dataset, partition.region.name if partition else None)
    # Records without a cube are what is left where someone has removed it.
    done = finished_tiles(store) if store.exists() else frozenset()
    # On its native grid only the source knows how many tiles a cube has.
    tiles = {tile.key for tile in partition.tiles()} if partition else done
    made, missing = len(tiles & done), len(tiles - done)
    if not made:
        return PartitionStatus(
            dataset.identifier, key, "missing", missing=missing, reason=f"not preloaded yet: {error}"
        )
    are, they = ("is", "it is") if made == 1 else ("are", "they are")
    reason = f"{counted(made, 'tile')} {are} made; whether {they} current can't be told without the cache: {error}"
    return PartitionStatus(dataset.identifier, key, "unknown", missing=missing, reason=reason)


def state_summary(statuses: Sequence[PartitionStatus]) -> str:
    """One line: ``5 partitions: 3 current, 1 stale (source), 1 missing``; with the causes where tiles are stale."""
    counts = Counter(status.summary for status in statuses)
    parts = [f"{counts[name]} {name}{_causes_of(statuses, name)}" for name in _STYLES if name in counts]
    number = counted(len(statuses), "partition")
    return f"{number}: {', '.join(parts)}" if parts else number


def _causes_of(statuses: Iterable[PartitionStatus], summary: str) -> str:
    causes = {cause for status in statuses if status.summary == summary for cause in status.causes}
    return f" ({', '.join(sorted(causes))})" if causes else ""


def state_text(statuses: Iterable[PartitionStatus]) -> str:
    """What ``scs2-cubes status`` prints of ``statuses``, as plain text of 120 columns at most, without colours."""
    # Nothing that the environment says of terminals may get into Dagster's history.
    console = Console(file=io.StringIO(), width=_TEXT_WIDTH, color_system=None, force_terminal=False, _environ={})
    with console.capture() as captured:
        console.print(state_table(statuses))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def state_table(statuses: Iterable[PartitionStatus]) -> Table:
    """Cube, partition, status, tiles by state, reason."""
    table = Table(title="Tiles", title_justify="left")
    for name in ("cube", "partition", "status", "current", "stale", "missing", "why"):
        # Broken rather than shortened: reasons hold addresses.
        table.add_column(name, overflow="fold")
    for status in statuses:
        table.add_row(
            Text(status.identifier),
            Text(status.partition),
            Text(status.summary, _STYLES[status.summary]),
            str(status.current),
            str(status.stale),
            str(status.missing),
            Text(status.reason),
        )
    return table
