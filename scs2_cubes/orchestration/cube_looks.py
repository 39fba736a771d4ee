"""What a tick finds out about one cube: what its partitions are, what is due, what the instance doesn't know."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import dagster as dg

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import Case, DatasetSpec, PreloadSpec
from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.orchestration.adoption import adoption
from scs2_cubes.orchestration.checks import current_evaluation
from scs2_cubes.orchestration.launches import Launches
from scs2_cubes.pipeline.cubes import describe_source
from scs2_cubes.pipeline.standing import Standing, standing_of
from scs2_cubes.report.status import PartitionStatus, status_of, unknown_statuses

__all__ = ["CubeLook", "Event", "Found", "Place"]

Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tick had to stop; the sensor's cursor."""

    source: str = ""
    """The source's asset; empty: nowhere."""
    dataset: str = ""
    """The dataset, of those that read it; empty: the first."""
    version: str = ""
    """The source's version for which ``seen`` holds."""
    seen: tuple[PartitionStatus, ...] = ()
    """The dataset's partitions that were looked at."""

    @property
    def text(self) -> str:
        """For people."""
        where = f"{self.dataset}, partition {len(self.seen) + 1}" if self.seen else self.dataset
        return ", ".join(filter(None, [self.source, where]))

    @property
    def cursor(self) -> str:
        # Never empty: Dagster would keep the last one.
        return json.dumps(asdict(self) if self.source else {})

    @classmethod
    def parse(cls, cursor: str | None) -> Place:
        """What :attr:`cursor` says; nowhere, where it isn't one."""
        try:
            document = json.loads(cursor or "{}")
            seen = tuple(PartitionStatus(**{**one, "causes": tuple(one["causes"])}) for one in document.pop("seen", ()))
            return cls(**document, seen=seen)
        except (ValueError, TypeError, KeyError, AttributeError):
            # Another release may have written it: a look that begins anew loses nothing.
            return cls()


@dataclass
class Found:
    """What a look at a cube came to."""

    events: list[Event] = field(default_factory=list)
    requests: list[dg.RunRequest] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    stopped: Place | None = None
    """Where it had to stop, without the source; None where all was looked at."""


@dataclass(frozen=True)
class CubeLook:
    """A look at one dataset's cube."""

    case: Case
    instance: dg.DagsterInstance
    dataset: DatasetSpec
    preload: PreloadSpec | None
    version: str
    """The source's version now."""
    patience: RetryPolicy
    """Policy for what is asked of the source."""

    def look(self, before: Place, is_late: Callable[[], bool]) -> Found:
        """Look at the partitions that ``before`` hasn't seen, as long as it isn't late; at one of them at least."""
        found = Found()
        launches = Launches(self.instance, self.dataset, self.preload, self.version)
        if busy := launches.run_under_way():
            # What it makes is in flux, and it will tell of it by itself: a look from before mustn't have the last word.
            found.troubles.append(f"{self.dataset.identifier}: run {busy} is at work on it; looked at again later")
            return found
        statuses, due = list(before.seen), list[str]()
        keys = self.dataset.partition_keys[len(statuses) :]
        try:
            native = describe_source(replace(self.dataset, store=replace(self.dataset.store, retry=self.patience)))
        except Scs2CubesError as error:
            unknown = unknown_statuses(self.case, self.dataset, self.dataset.partition_keys, error)
            found.events.append(current_evaluation(self.dataset, list(unknown)))
            return found
        begun = launches.begun() if self.dataset.remade_on_new_version else frozenset[str]()
        known: dict[str, Mapping[str, TileRecord]] = {}
        for position, key in enumerate(keys):
            if position and is_late():
                seen = tuple(statuses)
                found.stopped = Place(dataset=self.dataset.identifier, version=self.version, seen=seen)
                break
            try:
                standing = standing_of(self.dataset, self.case.storage, native, key, known)
            except Scs2CubesError as error:
                statuses += unknown_statuses(self.case, self.dataset, [key], error)
                continue
            statuses.append(status_of(self.dataset, standing, latest=self.version))
            event = adoption(self.instance, self.dataset, standing)
            if event is not None:
                found.events.append(event)
            if self.dataset.remade_on_new_version and _is_due(standing, self.version, begun):
                due.append(key)
        if found.stopped is None:
            found.events.append(current_evaluation(self.dataset, statuses))
        self._ask_for(due, launches, found)
        return found

    @staticmethod
    def _ask_for(due: Sequence[str], launches: Launches, found: Found) -> None:
        if due and (obstacle := launches.obstacle()):
            found.troubles.append(obstacle)
        elif due:
            found.requests += launches.requests(due)


def _is_due(standing: Standing, version: str, begun: Collection[str]) -> bool:
    """True where tiles are done at another version of the source than ``version``, or where remaking them was begun.

    Not what was never made, what another configuration made, or what was interrupted by hand: that is for people.
    """
    done = (*standing.state.current, *standing.state.stale)
    is_outdated = any(standing.records[key].source_version != version for key in done)
    was_begun = standing.planned.partition.key in begun and not standing.state.is_current
    return not standing.differences and (is_outdated or was_begun)
