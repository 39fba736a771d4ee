"""Which order a CLMS delivery comes from, and waiting for it: resumed, found among the account's, or made anew."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from scs2_cubes.core.specification import PreloadSpec
from scs2_cubes.errors import (
    DataIdNotFoundError,
    OrderFailedError,
    OrderPendingError,
    SourceError,
    SourceFormatError,
    redact,
    redact_text,
)
from scs2_cubes.preload.base import Tell
from scs2_cubes.preload.claims import Claim
from scs2_cubes.preload.orders import Journal, RememberedOrder
from scs2_cubes.preload.telling import span
from scs2_cubes.sources.clms import ClmsSource, OfferedFile, Task

__all__ = ["Ordering", "Polling", "reusable"]

#: How old a delivery may be that an earlier order left: links are promised for three days, and don't always last.
_FRESH = timedelta(hours=24)
#: An order that has been pending for longer than this has been forgotten by the service.
_FORGOTTEN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Polling:
    """How often the service is asked for an order, and people are told; seconds."""

    first: float = 1.0
    """Before the second question; half as much again from one question to the next."""
    longest: float = 30.0
    """Longest time between two questions."""
    told_every: float = 60.0
    """From one line to the next, where the status doesn't change."""


def reusable(
    tasks: Iterable[Task], file: OfferedFile, now: datetime, *, finished: bool = True, damaged: Collection[str] = ()
) -> Task | None:
    """The best of the account's orders of ``file``: the latest delivery that is fresh, else the latest pending order.

    ``finished`` False leaves deliveries out; ``damaged`` are ids of orders that are left out. Pure; ``now`` has a zone.
    """
    wanted = (file.dataset_uid, file.file_id)
    mine = [task for task in tasks if (task.dataset_uid, task.file_id) == wanted and task.task_id not in damaged]
    epoch = datetime.fromtimestamp(0, UTC)
    fresh = [task for task in mine if finished and task.finished and now - (task.finalized or epoch) <= _FRESH]
    # One whose date isn't told is pending as far as anybody knows.
    pending = [task for task in mine if task.pending and now - (task.registered or now) <= _FORGOTTEN]
    if fresh:
        return max(fresh, key=lambda task: task.finalized or epoch)
    return max(pending, key=lambda task: task.registered or epoch, default=None)


class Ordering:
    """The order of ``file``, for whoever holds its ``claim``. Making it does no I/O; its methods do.

    They raise OrderFailedError, OrderPendingError, StorageError, PreloadError where the claim is lost, and what asking
    the service raises.
    """

    def __init__(
        self,
        source: ClmsSource,
        journal: Journal,
        file: OfferedFile,
        spec: PreloadSpec,
        claim: Claim,
        polling: Polling,
        tell: Tell,
    ) -> None:
        self._source = source
        self._journal = journal
        self._file = file
        self._spec = spec
        self._claim = claim
        self._polling = polling
        self._tell = tell
        self._task_id: str | None = None
        self._is_reused = False
        self._waited = 0.0
        self._status = "not known"
        # A second failure of the same kind won't be the last one.
        self._is_second = False

    @property
    def task_id(self) -> str | None:
        """The order's id, as far as it is known."""
        return self._task_id

    @property
    def is_reused(self) -> bool:
        """Whether the order wasn't made by this run."""
        return self._is_reused

    @property
    def waited(self) -> float:
        """Seconds for which this run has waited."""
        return self._waited

    def resume(self) -> str | None:
        """Take up the order that an earlier run remembered, and return its id; None where there is none."""
        known = self._journal.get(self._file.data_id)
        if known is None or known.version != self._file.version or (self._spec.force and not known.forced):
            return None
        self._task_id, self._is_reused = known.task_id, True
        self._say(f"going on with task {known.task_id} of {known.since}")
        return known.task_id

    def ready(self) -> Task:
        """The order with its delivery: waits for it, and makes it first where there is none.

        An order that the service doesn't know any more is made anew, once.
        """
        while True:
            task_id = self._task_id or self._begin()
            try:
                task = self._wait(task_id)
            except DataIdNotFoundError as error:
                self.again(error)
                continue
            if task.download_url is not None:
                return task
            self.again(SourceFormatError(f"task {task_id} is {task.status}, but has no link", url=self._url(task_id)))

    def again(self, error: SourceError) -> None:
        """Forget the order, whose delivery can't be had because of ``error``, so that :meth:`ready` makes another.

        Raises OrderFailedError at the second time.
        """
        task_id = self._task_id
        self._journal.remove(self._file.data_id)
        if self._is_second:
            raise OrderFailedError(
                f"task {task_id} of {self._file.data_id} ({self._status}) is of no use, although it was ordered anew: "
                f"{error}. Run again later to order once more"
            ) from error
        self._say(f"task {task_id} ({self._status}) is of no use: {error}; ordering anew")
        self._is_second = True
        self._task_id = None

    def discard(self) -> None:
        """Forget the order, whose delivery has proved bad, for good: the next run takes another one."""
        if self._task_id is not None:
            self._journal.discard(self._file.data_id, self._task_id)

    def keep(self) -> None:
        """Remember the order, whose delivery is refused, as one that runs go on with, but none that forces."""
        known = self._journal.get(self._file.data_id)
        if known is not None and known.forced:
            self._journal.put(replace(known, forced=False))

    def _begin(self) -> str:
        """Find or make an order, and remember it."""
        self._claim.check()
        # A delivery of before isn't one of now: who forces, or has seen a link fail, wants a new one.
        found = None
        if not self._is_second:
            now = datetime.now(UTC)
            damaged = self._journal.damaged(self._file.data_id)
            found = reusable(self._source.tasks(), self._file, now, finished=not self._spec.force, damaged=damaged)
        task_id = self._source.order(self._file) if found is None else found.task_id
        since = datetime.now(UTC).isoformat(timespec="seconds")
        known = RememberedOrder(self._file.data_id, self._file.version, task_id, since, self._spec.force)
        self._journal.put(known)
        self._task_id, self._is_reused = task_id, found is not None
        if found is None:
            self._say(f"ordered as task {task_id}; waiting for it, at most {span(self._spec.max_wait)}")
        else:
            self._say(f"re-using task {task_id} of this account, which is {found.status}")
        return task_id

    def _wait(self, task_id: str) -> Task:
        started, before = time.monotonic(), self._waited
        pause = self._polling.first
        told = -self._polling.told_every
        while True:
            self._claim.check()
            task = self._source.task(task_id)
            self._waited = before + time.monotonic() - started
            before_status, self._status = self._status, task.status
            if task.finished:
                self._say(f"task {task_id} is ready after {span(self._waited)}")
                return task
            if task.failed:
                raise self._failure(task)
            if task.status != before_status or self._waited - told >= self._polling.told_every:
                told = self._waited
                self._say(f"task {task_id} is {task.status} after {span(self._waited)}")
            left = self._spec.max_wait - self._waited
            if left <= 0:
                raise self._overdue(task)
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, self._polling.longest)

    def _failure(self, task: Task) -> OrderFailedError:
        # What isn't remembered is ordered anew by the next run.
        self._journal.remove(self._file.data_id)
        return OrderFailedError(
            f"task {task.task_id} of {self._file.data_id} has ended as {task.status}: "
            f"{_line(task.message) or 'the service gives no reason'}. Run again to order anew "
            f"[{self._url(task.task_id)}]"
        )

    def _overdue(self, task: Task) -> OrderPendingError:
        return OrderPendingError(
            f"task {task.task_id} of {self._file.data_id} is still {task.status} after {span(self._waited)}, "
            f"which is as long as preload_params.max_wait lets a run wait. It is remembered: the next run goes on "
            f"waiting for it instead of ordering again [{self._url(task.task_id)}]"
        )

    def _url(self, task_id: str) -> str:
        """Where the service tells about an order, for people."""
        return f"{redact(self._source.url)}/@datarequest_status_get?TaskID={task_id}"

    def _say(self, text: str) -> None:
        self._tell(f"{self._file.data_id}: {text}")


def _line(message: str) -> str:
    # The service knows where deliveries lie. Cut last: half a URL may hold a password that doesn't look like one.
    return redact_text(" ".join(message.split()))[:300].rstrip(".")
