"""The download queue of the embedded CLMS service: tasks, from ``Queued`` to their end.

A task moves on when somebody looks: half of the waiting time it is ``Queued``, the other half ``In_progress``.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from threading import Lock
from typing import Any, Final

from scs2_cubes.demo.clms_delivery import Archive

__all__ = ["FINISHED", "PENDING", "STATUSES", "TaskQueue"]

FINISHED: Final = "Finished_ok"
PENDING: Final = ("Queued", "In_progress")
STATUSES: Final = (*PENDING, FINISHED, "Finished_nok", "Rejected", "Cancelled")

_DONE: Final = "Download process finished successfully"
_FIRST_NUMBER: Final = 4050
_TASK_IDS: Final = 10**11

Make = Callable[[Sequence[str]], Archive | None]


@dataclass(slots=True)
class _Task:
    """One task; changed under the lock of its queue."""

    number: int
    """``FMETaskId``."""
    user_id: str
    """Whose it is."""
    entries: tuple[Mapping[str, Any], ...]
    """``Datasets``."""
    file_names: tuple[str, ...]
    """What is delivered; nothing for an order by area."""
    registered: float
    """POSIX seconds."""
    outcome: tuple[str, str]
    """Status with which it will end, and the message."""
    status: str = "Queued"
    """As it was when somebody last looked."""
    finalised: float | None = None
    """POSIX seconds; None while it is pending."""
    message: str = ""
    """With which it ended."""
    archive: Archive | None = field(default=None, repr=False)
    """Its delivery."""
    gone: int | None = None
    """Status code that its link answers after it has expired."""


class TaskQueue:
    """The tasks of all users. Safe to use from several threads.

    ``make`` gives the delivery for names of files, ``results_url`` the folder in which links lie.
    """

    def __init__(self, make: Make, results_url: Callable[[], str]) -> None:
        #: From order to end. It holds for tasks that are pending, too.
        self.seconds = 0.5
        #: Whether dates are written without their offset from UTC, as they were in former years.
        self.naive_dates = False
        self._make = make
        self._results_url = results_url
        self._tasks: dict[str, _Task] = {}
        self._outcomes: deque[tuple[str, str]] = deque()
        self._numbers = count(_FIRST_NUMBER)
        self._lock = Lock()

    def next_outcome(self, status: str, message: str) -> None:
        """Let the next task that is ordered, and that has no such instruction yet, end so."""
        with self._lock:
            self._outcomes.append((status, message))

    def order(self, user_id: str, entries: Sequence[Mapping[str, Any]], file_names: Sequence[str]) -> str:
        """Register a task; return its TaskID. Without names of files it is an order by area."""
        with self._lock:
            outcome = self._outcomes.popleft() if self._outcomes else (FINISHED, _DONE)
            return self._add(self._new(user_id, entries, file_names, outcome, 0.0))

    def add_finished(
        self, user_id: str, entries: Sequence[Mapping[str, Any]], file_names: Sequence[str], age: float
    ) -> str:
        """Register a task that was ordered, and was finished, ``age`` seconds ago; return its TaskID."""
        with self._lock:
            task = self._new(user_id, entries, file_names, (FINISHED, _DONE), age)
            self._finish(task, task.registered)
            return self._add(task)

    def documents(self, user_id: str, status: str | None = None) -> dict[str, dict[str, Any]]:
        """Tasks of a user by TaskID, all or those with a status. May compute deliveries."""
        with self._lock:
            mine = {task_id: task for task_id, task in self._tasks.items() if task.user_id == user_id}
            for task in mine.values():
                self._advance(task)
            return {
                task_id: self._document(task)
                for task_id, task in mine.items()
                if status is None or task.status == status
            }

    def cancel(self, task_id: str) -> None:
        """End a task as ``Cancelled``. Raises KeyError where there is none."""
        with self._lock:
            task = self._tasks[task_id]
            self._advance(task)
            task.status, task.message, task.finalised = "Cancelled", "", time.time()

    def owner(self, task_id: str) -> str | None:
        """Whose task it is; None where there is none."""
        with self._lock:
            task = self._tasks.get(task_id)
            return None if task is None else task.user_id

    def expire_links(self, status: int) -> None:
        """Let the links of all tasks that have ended answer ``status`` from now on."""
        with self._lock:
            for task in self._tasks.values():
                self._advance(task)
                if task.status not in PENDING:
                    task.gone = status

    def delivery(self, file_name: str) -> Archive | int | None:
        """What lies at a link: its archive, the status code of an expired one, or None."""
        with self._lock:
            task = next((task for task in self._tasks.values() if f"{task.number}.zip" == file_name), None)
            return None if task is None else task.gone or task.archive

    def _new(
        self,
        user_id: str,
        entries: Sequence[Mapping[str, Any]],
        file_names: Sequence[str],
        outcome: tuple[str, str],
        age: float,
    ) -> _Task:
        return _Task(next(self._numbers), user_id, tuple(entries), tuple(file_names), time.time() - age, outcome)

    def _add(self, task: _Task) -> str:
        task_id = str(secrets.randbelow(_TASK_IDS))
        self._tasks[task_id] = task
        return task_id

    def _advance(self, task: _Task) -> None:
        if task.status not in PENDING:
            return
        waited = time.time() - task.registered
        if waited < self.seconds:
            task.status = PENDING[0] if waited < self.seconds / 2 else PENDING[1]
        else:
            self._finish(task, task.registered + self.seconds)

    def _finish(self, task: _Task, moment: float) -> None:
        task.status, task.message = task.outcome
        task.finalised = moment
        if task.status == FINISHED:
            task.archive = self._make(task.file_names)
            if task.archive is None:
                task.status, task.message = "Finished_nok", "The demonstration has no data for this order"

    def _document(self, task: _Task) -> dict[str, Any]:
        document: dict[str, Any] = {
            "Status": task.status,
            "UserID": task.user_id,
            "RegistrationDateTime": self._date(task.registered),
            "FMETaskId": task.number,
            "Datasets": [dict(entry) for entry in task.entries],
        }
        if task.finalised is not None:
            document |= {"FinalizationDateTime": self._date(task.finalised), "Message": task.message}
        if task.archive is not None:
            link = f"{self._results_url()}/{task.number}.zip"
            document |= {"FileSize": task.archive.size, "DownloadURL": link}
        return document

    def _date(self, moment: float) -> str:
        date = datetime.fromtimestamp(moment, UTC)
        return (date.replace(tzinfo=None) if self.naive_dates else date).isoformat(timespec="microseconds")
