"""Runs that a sensor asks for: which, and whether they may be asked for now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from scs2_cubes.core.specification import DatasetSpec, PreloadSpec
from scs2_cubes.orchestration.jobs import range_tags, tagged_range
from scs2_cubes.orchestration.partitions import contiguous_ranges
from scs2_cubes.orchestration.provenance import cube_key, source_key

__all__ = ["Launches"]

_CUBE, _VERSION, _ATTEMPT = "scs2_cubes/cube", "scs2_cubes/source_version", "scs2_cubes/attempt"
#: Failed attempts in a row after which a version is left to people; an attempt is a run for each range.
_ATTEMPTS = 3
#: Runs for one version that are looked at.
_REMEMBERED = 500
#: Seconds without an event after which a run that hasn't ended is taken for killed: Dagster may never hear of its end.
_SILENCE = 3600.0
_AT_WORK = frozenset({dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING})
_UNFINISHED = [*_AT_WORK, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.MANAGED]


@dataclass(frozen=True)
class Launches:
    """The runs that remake one cube because its source has the version ``version``."""

    instance: dg.DagsterInstance
    """Whose history tells what was tried."""
    dataset: DatasetSpec
    """Whose cube."""
    preload: PreloadSpec | None
    """What has to be fetched first, in the same run."""
    version: str
    """The source's version."""

    def begun(self) -> frozenset[str]:
        """Partitions for which such a run was asked for already, however it ended."""
        keys = self.dataset.partition_keys
        return frozenset(key for run in self._runs() for key in tagged_range(keys, run.tags))

    def obstacle(self) -> str | None:
        """Why no run may be asked for; None where one may. That none is under way is the caller's to know."""
        name = self.dataset.identifier
        attempts: dict[int, list[dg.DagsterRunStatus]] = {}
        for run in self._runs():
            attempts.setdefault(int(run.tags.get(_ATTEMPT, "0")), []).append(run.status)
        last = [attempts[number] for number in sorted(attempts, reverse=True)[:_ATTEMPTS]]
        if last and dg.DagsterRunStatus.CANCELED in last[0]:
            return (
                f"{name}: the run for version {self.version} of its source was stopped by hand; nothing is started by "
                "itself until there is another version. Materialize it to go on"
            )
        if len(last) == _ATTEMPTS and all(dg.DagsterRunStatus.FAILURE in statuses for statuses in last):
            return (
                f"{name}: {_ATTEMPTS} attempts in a row have failed for version {self.version} of its source; nothing "
                "more is started by itself. See the last run, and materialize the cube when its cause is mended"
            )
        return None

    def requests(self, keys: Sequence[str]) -> Iterator[dg.RunRequest]:
        """A run for each contiguous range of the partitions ``keys``.

        Dagster remembers a run's key for ever, so it holds what makes this request another one: version and attempt.
        """
        attempt = max((int(run.tags.get(_ATTEMPT, "0")) for run in self._runs()), default=0) + 1
        fetched = [source_key(self.preload)] if self.preload else []
        for group in contiguous_ranges(self.dataset.partition_keys, keys):
            yield dg.RunRequest(
                run_key=f"{self.dataset.identifier}/{group[0]}...{group[-1]}/{self.version}/{attempt}",
                asset_selection=[*fetched, cube_key(self.dataset)],
                tags={**self._tags, _ATTEMPT: str(attempt), **range_tags(group)},
            )

    @property
    def _tags(self) -> dict[str, str]:
        return {_CUBE: self.dataset.identifier, _VERSION: self.version}

    def _runs(self) -> Sequence[dg.DagsterRun]:
        """Those that were asked for this version, newest first."""
        return self.instance.get_runs(dg.RunsFilter(tags=self._tags), limit=_REMEMBERED)

    def run_under_way(self) -> str | None:
        """Id of a run, whoever started it, that works on this cube; None where there's none that gives sign of life."""
        key = cube_key(self.dataset)
        for run in self.instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
            if (run.asset_selection is None or key in run.asset_selection) and self._is_alive(run):
                return run.run_id
        return None

    def _is_alive(self, run: dg.DagsterRun) -> bool:
        if run.status not in _AT_WORK:
            # Waiting for its turn.
            return True
        records = self.instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        return bool(records) and time.time() - records[0].timestamp < _SILENCE
