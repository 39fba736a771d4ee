"""Orders that are under way, remembered beside the cache, so that no run orders what an earlier one has ordered.

``<root>/orders/<name>.json`` is there from the moment in which the service has told the order's id until the cache is
whole; the name is the data id with unsafe characters percent-encoded. ``<root>/orders/damaged/<name>.json`` lists the
orders whose delivery has proved bad, until the cache is whole. Neither holds addresses or secrets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from urllib.parse import quote

from scs2_cubes.storage.objects import Objects

__all__ = ["Journal", "RememberedOrder"]

_FOLDER = "orders"
_DAMAGED = f"{_FOLDER}/damaged"


@dataclass(frozen=True, slots=True)
class RememberedOrder:
    """An order that was made, or found among the account's, for the cache."""

    data_id: str
    """Which of the store's datasets."""
    version: str
    """The source version that was offered when it was ordered."""
    task_id: str
    """The service's number for it."""
    since: str
    """When it was remembered first: ISO 8601, UTC."""
    forced: bool
    """Whether it was ordered although the cache was good."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The orders of one cache. Every method but :meth:`url` does I/O, and raises StorageError where that fails."""

    objects: Objects

    def get(self, data_id: str) -> RememberedOrder | None:
        """What is under way for ``data_id``; None where nothing is, or nothing that can be understood."""
        content = self.objects.get(_key(data_id))
        try:
            order = None if content is None else RememberedOrder(**json.loads(content))
        except (ValueError, TypeError):
            # Not one of these: ordering anew costs the service a moment, guessing might fetch something else.
            return None
        return order if order is not None and order.data_id == data_id and isinstance(order.task_id, str) else None

    def put(self, order: RememberedOrder) -> None:
        """Remember ``order``, instead of what was remembered for its data id."""
        self.objects.put(_key(order.data_id), json.dumps(asdict(order), sort_keys=True, indent=1).encode())

    def remove(self, data_id: str) -> None:
        """Forget what was remembered for ``data_id``."""
        self.objects.delete(_key(data_id))

    def damaged(self, data_id: str) -> frozenset[str]:
        """Task ids of ``data_id`` whose delivery has proved bad; none where that can't be understood."""
        content = self.objects.get(_key(data_id, _DAMAGED))
        try:
            found = [] if content is None else json.loads(content)
        except ValueError:
            return frozenset()
        return (
            frozenset(task_id for task_id in found if isinstance(task_id, str))
            if isinstance(found, list)
            else frozenset()
        )

    def discard(self, data_id: str, task_id: str) -> None:
        """Forget what was remembered for ``data_id``, and remember that the delivery of ``task_id`` is bad."""
        known = sorted({*self.damaged(data_id), task_id})
        self.objects.put(_key(data_id, _DAMAGED), json.dumps(known).encode())
        self.remove(data_id)

    def clear(self, data_id: str) -> None:
        """Forget everything about ``data_id``; last of all the order that is under way."""
        self.objects.delete(_key(data_id, _DAMAGED))
        self.remove(data_id)

    def url(self, data_id: str) -> str:
        """Where it is remembered, for people. No I/O."""
        return self.objects.shown(_key(data_id))


def _key(data_id: str, folder: str = _FOLDER) -> str:
    return f"{folder}/{quote(data_id, safe='')}.json"
