"""The embedded EO Forest catalogue: which object lies at which path, in which edition.

Objects are made when they are first asked for, by deterministic functions, and kept in bounded memory; making a
Catalogue costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import Final

from scs2_cubes.demo.listing import COLLECTIONS
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.stac import BUCKET, catalogue_documents
from scs2_cubes.demo.store import StoreSpec
from scs2_cubes.errors import ConfigurationError

__all__ = ["Catalogue", "Resource"]

_PREFIX: Final = f"/{BUCKET}/collections/"
_FIRST_EDITION: Final = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
_BETWEEN_EDITIONS: Final = timedelta(days=30)
_MEMORY: Final = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Resource:
    """One object, as an HTTP server needs it."""

    body: bytes
    """Its content."""
    content_type: str
    """MIME type."""
    etag: str
    """Entity tag, in its quotes."""
    last_modified: datetime
    """Moment of its last change (UTC)."""


class Catalogue:
    """All objects of the bucket. Safe to use from several threads.

    Each collection is at one edition at a time, 1 to begin with. An edition is the content of a product's stores:
    another one has other values and another ``creation_date`` under the same addresses, and the same number always
    means the same bytes. An object that is being read while another edition is published comes from either of them,
    whole.
    """

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memo = BoundedMemo(memory)
        self._editions = {collection.identifier: 1 for collection in COLLECTIONS}
        self._lock = Lock()

    def publish(self, collection: str, edition: int = 2) -> None:
        """Put the stores of a collection at an edition, a later or an earlier one.

        Every number exists, from 1. Those of one collection differ in their pixels and in ``creation_date``, never in
        names, lattice or the extent of the forest; of FORESTPATHS_GENUS, GAMI and LIU_BIOMASS in nothing else. EFDA
        has the years 1985 to 2023 in editions 1 and 2. Edition 3 is edition 1 with 2024 appended at the end of time:
        the shapes grow, all chunks that were there keep their bytes. Later ones have 2024 and other pixels. The
        catalogue's documents stay as they are.

        Raises ConfigurationError for an unknown collection or an edition below 1.
        """
        if collection not in self._editions:
            known = ", ".join(self._editions)
            raise ConfigurationError(f"the embedded catalogue has no collection {collection!r}, only {known}")
        if edition < 1:
            raise ConfigurationError(f"editions of {collection} are counted from 1, not {edition}")
        with self._lock:
            self._editions[collection] = edition

    def edition(self, collection: str) -> int:
        """Number of the edition at which a collection is. Raises KeyError for an unknown collection."""
        with self._lock:
            return self._editions[collection]

    def read(self, path: str) -> Resource | None:
        """The object at an absolute, decoded URL path, or None where there is none. May compute for a second."""
        if not path.startswith(_PREFIX):
            return None
        key = path.removeprefix(_PREFIX)
        document = self._documents.get(key)
        if document is not None:
            return _resource(document, "application/json", _FIRST_EDITION)
        collection, _, rest = key.partition("/")
        name, _, inner = rest.partition("/")
        store = self._stores.get(f"{collection}/{name}")
        if store is None:
            return None
        edition = self.edition(collection)
        if not store.has(inner, edition):
            return None
        body = self._memo.get(f"{edition} {key}", lambda: store.read(inner, edition))
        return _resource(body, "binary/octet-stream", _created(edition))

    @cached_property
    def _documents(self) -> dict[str, bytes]:
        return {key: json.dumps(document, indent=2).encode() for key, document in catalogue_documents().items()}

    @cached_property
    def _stores(self) -> dict[str, StoreSpec]:
        return {
            f"{collection.identifier}/{collection.identifier}_v{version}.zarr": collection.store(version, _created)
            for collection in COLLECTIONS
            for version in collection.versions
        }


def _created(edition: int) -> datetime:
    return _FIRST_EDITION + (edition - 1) * _BETWEEN_EDITIONS


def _resource(body: bytes, content_type: str, modified: datetime) -> Resource:
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Resource(body, content_type, f'"{tag}"', modified)
