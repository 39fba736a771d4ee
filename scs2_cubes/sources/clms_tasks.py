"""Orders at the Copernicus Land Monitoring Service, which calls them tasks. Pure.

An account's list has every task that was ever made: custom ones (a part of a dataset, without ``FileID``), expired
ones, and whatever the service adds one day. Only what has no status at all isn't a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["Task", "read_task", "read_tasks"]

_FINISHED = frozenset({"Finished_ok"})
_FAILED = frozenset({"Finished_nok", "Rejected", "Cancelled"})


@dataclass(frozen=True, slots=True)
class Task:
    """An order as the service has it now."""

    task_id: str
    """The service's number for it."""
    status: str
    """``Queued``, ``In_progress``, ``Finished_ok``, ``Finished_nok``, ``Rejected``, ``Cancelled``, or another one."""
    dataset_uid: str | None
    """The dataset it is for; None where it's for several things at once."""
    file_id: str | None
    """The file it is for; None for a custom task, and where it's for several things at once."""
    registered: datetime | None
    """When it was ordered, with zone UTC; None where that isn't told."""
    finalized: datetime | None
    """When it came to its end, with zone UTC; None before."""
    download_url: str | None = field(repr=False)
    """Where the delivery lies, for whoever has the address; None before it is there."""
    size: int | None
    """Bytes of the delivery; None where that isn't told."""
    message: str
    """What the service says about it; may be empty."""

    @property
    def finished(self) -> bool:
        """The delivery is there, or was before its link expired."""
        return self.status in _FINISHED

    @property
    def failed(self) -> bool:
        """It came to its end without a delivery."""
        return self.status in _FAILED

    @property
    def pending(self) -> bool:
        """Neither: it's worth to ask again. So is a status that isn't known here."""
        return not (self.finished or self.failed)


def read_tasks(document: Mapping[str, Any]) -> tuple[Task, ...]:
    """The tasks of ``document``, an object keyed by their ids, in its order; what isn't a task is passed over."""
    found = (read_task(task_id, value) for task_id, value in document.items())
    return tuple(task for task in found if task is not None)


def read_task(task_id: str, value: Any) -> Task | None:
    """The task that ``value`` describes; None where it has no status."""
    if not isinstance(value, Mapping) or not isinstance(value.get("Status"), str):
        return None
    dataset_uid, file_id = _ordered(value.get("Datasets"))
    return Task(
        task_id=task_id,
        status=value["Status"],
        dataset_uid=dataset_uid,
        file_id=file_id,
        registered=_moment(value.get("RegistrationDateTime")),
        finalized=_moment(value.get("FinalizationDateTime")),
        download_url=_text(value.get("DownloadURL")),
        size=_count(value.get("FileSize")),
        message=_text(value.get("Message")) or "",
    )


def _ordered(datasets: Any) -> tuple[str | None, str | None]:
    """Dataset and file of a task for one thing; of one for several things the archive is another one."""
    if not isinstance(datasets, list) or len(datasets) != 1 or not isinstance(datasets[0], Mapping):
        return None, None
    return _text(datasets[0].get("DatasetID")), _text(datasets[0].get("FileID"))


def _moment(value: Any) -> datetime | None:
    """A date-time in ISO 8601; the service's older ones name no zone, and mean UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    """A number of bytes, which may come as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
