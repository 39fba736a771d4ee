"""Sensors: one for each kind of source. They ask what version it has now, without spending a run.

A tick reports versions and newer editions on the source's asset, tells what that means for the cubes (check
``current``), makes finished partitions known that the instance hasn't seen, and asks for runs where a dataset says
``automation: on_new_version``. It makes nothing itself, and reads metadata alone.

Whether a cube is due follows from its records, not from events: so a version that moves while a run is under way isn't
lost, one that comes back to where it was makes nothing due, and a history that was lost starts nothing anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import dagster as dg

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import Case, DatasetSpec, PreloadSpec, StoreSpec
from scs2_cubes.orchestration.checks import is_news
from scs2_cubes.orchestration.cube_looks import CubeLook, Event, Place
from scs2_cubes.orchestration.editions import edition_check, edition_evaluation
from scs2_cubes.orchestration.provenance import cube_key, latest_version, source_event, source_key
from scs2_cubes.sources import Source, open_source

__all__ = ["version_sensors"]

#: Seconds after which a tick leaves what is left to the next one: Dagster ends a tick after 60 s.
_BUDGET = 30.0
#: A source that doesn't answer is asked again at the next tick, not now.
_PATIENCE = RetryPolicy(deadline=6.0, max_attempts=3, timeout=6.0)


def version_sensors(case: Case, clock: Callable[[], float] = time.monotonic) -> list[dg.SensorDefinition]:
    """One sensor for each protocol that some dataset or preload is read by. No I/O."""
    watched: dict[str, list[_Watched]] = {}
    for source in _watched_sources(case):
        watched.setdefault(source.store.protocol, []).append(source)
    return [_sensor(case, protocol, sources, clock) for protocol, sources in sorted(watched.items())]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A source's asset, and what depends on it."""

    key: dg.AssetKey
    store: StoreSpec
    data_id: str
    preload: PreloadSpec | None
    datasets: tuple[DatasetSpec, ...]


def _watched_sources(case: Case) -> Iterator[_Watched]:
    preloads = {source_key(spec): spec for spec in case.preloads}
    readers: dict[dg.AssetKey, list[DatasetSpec]] = {key: [] for key in preloads}
    for dataset in case.datasets:
        readers.setdefault(source_key(dataset), []).append(dataset)
    for key, datasets in readers.items():
        named = preloads.get(key) or datasets[0]
        yield _Watched(key, named.store, named.data_id, preloads.get(key), tuple(datasets))


def _sensor(case: Case, protocol: str, sources: Sequence[_Watched], clock: Callable[[], float]) -> dg.SensorDefinition:
    status = dg.DefaultSensorStatus.RUNNING if case.automation.running else dg.DefaultSensorStatus.STOPPED
    keys = [key for source in sources for key in (source.key, *map(cube_key, source.datasets))]

    @dg.sensor(
        name=f"{protocol}_versions",
        # Not ``target``, which makes a job of them: its assets would all have to have the same partitions.
        asset_selection=dg.AssetSelection.assets(*dict.fromkeys(keys)),
        minimum_interval_seconds=case.automation.interval,
        default_status=status,
        description=f"Asks the {protocol} sources which version they have now, and reports what is new. Runs are "
        "asked for only where a dataset says automation: on_new_version.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _Tick(case, context, clock, clock() + _BUDGET).look(sources)

    return look


@dataclass
class _Tick:
    """One look at the sources of one protocol."""

    case: Case
    context: dg.SensorEvaluationContext
    clock: Callable[[], float]
    deadline: float
    events: list[Event] = field(default_factory=list)
    requests: list[dg.RunRequest] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def look(self, sources: Sequence[_Watched]) -> dg.SensorResult:
        """Look at each source in turn, from where the last tick had to stop."""
        place = Place.parse(self.context.cursor)
        names = [source.key.to_user_string() for source in sources]
        start = names.index(place.source) if place.source in names else 0
        for offset in range(len(sources)):
            source = sources[(start + offset) % len(sources)]
            if offset and self._is_late():
                return self._result(Place(source.key.to_user_string()))
            stopped = self._look_at(source, place if offset == 0 else Place())
            if stopped is not None:
                return self._result(stopped)
        return self._result(Place())

    def _is_late(self) -> bool:
        return self.clock() >= self.deadline

    def _result(self, stopped: Place) -> dg.SensorResult:
        if stopped.source:
            self.troubles.append(f"no time left: the next look goes on with {stopped.text}")
        for trouble in self.troubles:
            self.context.log.warning(trouble)
        # Dagster takes a reason or run requests, not both; the log has the reasons anyway.
        reason = "; ".join(self.troubles) or "nothing is new"
        return dg.SensorResult(
            asset_events=self.events,
            run_requests=self.requests,
            skip_reason=None if self.requests else dg.SkipReason(reason),
            cursor=stopped.cursor,
        )

    def _look_at(self, source: _Watched, place: Place) -> Place | None:
        """Look at a source and its cubes, from ``place`` on; returns where it had to stop, or None."""
        name = source.key.to_user_string()
        store = replace(source.store, retry=_PATIENCE)
        try:
            client = open_source(store)
            version = client.probe(source.data_id)
        except Exception as error:  # noqa: BLE001  (whatever is the matter with one source, the others are looked at)
            # No answer is no new version: what is known stays known, and what is current stays so.
            self.troubles.append(f"{name}: {type(error).__name__}: {error}")
            return None
        if latest_version(self.context.instance, source.key) != version:
            self.events.append(source_event(source.key, version))
        self._look_for_editions(client, source)
        cubes = [dataset.identifier for dataset in source.datasets]
        first = cubes.index(place.dataset) if place.dataset in cubes else 0
        for position, dataset in enumerate(source.datasets[first:]):
            if position and self._is_late():
                return Place(name, dataset.identifier)
            try:
                look = CubeLook(self.case, self.context.instance, dataset, source.preload, version, store.retry)
                before = place if position == 0 and place.version == version else Place()
                found = look.look(before, self._is_late)
            except Exception as error:  # noqa: BLE001  (as above)
                self.troubles.append(f"{dataset.identifier}: {type(error).__name__}: {error}")
                continue
            self._add(found.events)
            self.requests += found.requests
            self.troubles += found.troubles
            if found.stopped is not None:
                return replace(found.stopped, source=name)
        return None

    def _look_for_editions(self, client: Source, source: _Watched) -> None:
        try:
            self._add(
                [edition_evaluation(source.key, edition_check(client.newer_editions(source.data_id), source.data_id))]
            )
        except Exception as error:  # noqa: BLE001  (what was found before stays known)
            self.troubles.append(f"{source.key.to_user_string()}: newer editions: {type(error).__name__}: {error}")

    def _add(self, events: Iterable[Event]) -> None:
        """Take what is new: a check that says what it said is no event."""
        for event in events:
            if not isinstance(event, dg.AssetCheckEvaluation) or is_news(self.context.instance, event):
                self.events.append(event)
