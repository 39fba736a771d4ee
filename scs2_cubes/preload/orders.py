"""Orders that are under way, remembered beside the cache, so that no run orders what an earlier one has ordered.

``<root>/orders/<name>.json`` is there from the moment in which the service has told the order's id until the cache is
whole; the name is the data id with unsafe characters percent-encoded. It holds no addresses and no secrets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from urllib.parse import quote

from scs2_cubes.storage.objects import Objects

__all__ = ["Journal", "RememberedOrder"]

_FOLDER = "orders"


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

    def url(self, data_id: str) -> str:
        """Where it is remembered, for people. No I/O."""
        return self.objects.shown(_key(data_id))


def _key(data_id: str) -> str:
    return f"{_FOLDER}/{quote(data_id, safe='')}.json"
