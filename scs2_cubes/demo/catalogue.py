"""The embedded EO Forest catalogue: which object lies at which path, in which edition.

Objects are made when they are first asked for, by deterministic functions, and kept in bounded memory; making a
Catalogue costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import Final

from scs2_cubes.demo.listing import COLLECTIONS, Collection
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.stac import BUCKET, catalogue_documents
from scs2_cubes.demo.store import StoreSpec
from scs2_cubes.errors import ConfigurationError

__all__ = ["Catalogue", "Resource"]

_PREFIX: Final = f"/{BUCKET}/collections/"
_FIRST_EDITION: Final = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
_BETWEEN_EDITIONS: Final = timedelta(days=30)
_MEMORY: Final = 128 * 2**20
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
#: By how many editions of its content a published edition of the product is ahead of its collection: other pixels.
_AHEAD: Final = 10


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

    That is what clients see as another version of the same data id. An edition *of the product* (GAMI v3.2 beside
    v3.1) is a data id of its own: :meth:`publish_edition` adds one, and leaves all others as they are.
    """

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memo = BoundedMemo(memory)
        self._editions = {collection.identifier: 1 for collection in COLLECTIONS}
        self._listing = _Listing(COLLECTIONS)
        self._lock = Lock()

    def publish(self, collection: str, edition: int = 2) -> None:
        """Put the stores of a collection at an edition of their content, a later or an earlier one.

        No data id comes or goes, and each has another version afterwards; :meth:`publish_edition` is the other thing.
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

    def publish_edition(self, collection: str, version: str) -> None:
        """Add an edition of the product, for example ``3.2`` of GAMI, which there isn't otherwise.

        It is an item of its own at the end of its collection, with a store of its own, whose values are those of its
        neighbours ten editions of content on; nothing changes under the other items' ids. :meth:`publish` moves its
        store with the others of the collection.

        Raises ConfigurationError for an unknown collection, or a version that isn't numbers with dots between them or
        is there already.
        """
        with self._lock:
            self._listing = self._listing.with_edition(collection, version)

    def withdraw_editions(self) -> None:
        """Take away what :meth:`publish_edition` has added. Nothing else changes."""
        with self._lock:
            self._listing = _Listing(COLLECTIONS)

    def edition(self, collection: str) -> int:
        """Number of the edition of its content at which a collection is. Raises KeyError for an unknown collection."""
        with self._lock:
            return self._editions[collection]

    def read(self, path: str) -> Resource | None:
        """The object at an absolute, decoded URL path, or None where there is none. May compute for a second."""
        if not path.startswith(_PREFIX):
            return None
        key = path.removeprefix(_PREFIX)
        listing = self._listing
        document = listing.documents.get(key)
        if document is not None:
            return _resource(document, "application/json", _FIRST_EDITION)
        collection, _, rest = key.partition("/")
        name, _, inner = rest.partition("/")
        store = listing.stores.get(f"{collection}/{name}")
        if store is None:
            return None
        edition = self.edition(collection) + listing.ahead(collection, name)
        if not store.has(inner, edition):
            return None
        body = self._memo.get(f"{edition} {key}", lambda: store.read(inner, edition))
        return _resource(body, "binary/octet-stream", _created(edition))


class _Listing:
    """Documents and stores of some collections, made when they are first asked for; never changed."""

    def __init__(self, collections: tuple[Collection, ...]) -> None:
        self._collections = collections

    def with_edition(self, identifier: str, version: str) -> _Listing:
        """Another listing, with an edition more. Raises ConfigurationError."""
        known = {collection.identifier: collection for collection in self._collections}
        if identifier not in known:
            raise ConfigurationError(
                f"the embedded catalogue has no collection {identifier!r}, only {', '.join(known)}"
            )
        collection = known[identifier]
        if _VERSION.fullmatch(version) is None or version in collection.versions:
            there = ", ".join(collection.versions)
            raise ConfigurationError(
                f"{version!r} can't be another edition of {identifier}: it must be numbers with dots between them, and "
                f"there are {there} already"
            )
        known[identifier] = replace(collection, versions=(*collection.versions, version))
        return _Listing(tuple(known.values()))

    def ahead(self, identifier: str, store: str) -> int:
        """By how many editions of content the store of that name is ahead of its collection."""
        usual = {collection.identifier: collection.versions for collection in COLLECTIONS}[identifier]
        return 0 if store in {_store_name(identifier, version) for version in usual} else _AHEAD

    @cached_property
    def documents(self) -> dict[str, bytes]:
        documents = catalogue_documents(self._collections)
        return {key: json.dumps(document, indent=2).encode() for key, document in documents.items()}

    @cached_property
    def stores(self) -> dict[str, StoreSpec]:
        return {
            f"{collection.identifier}/{_store_name(collection.identifier, version)}": collection.store(
                version, _created
            )
            for collection in self._collections
            for version in collection.versions
        }


def _store_name(collection: str, version: str) -> str:
    return f"{collection}_v{version}.zarr"


def _created(edition: int) -> datetime:
    return _FIRST_EDITION + (edition - 1) * _BETWEEN_EDITIONS


def _resource(body: bytes, content_type: str, modified: datetime) -> Resource:
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Resource(body, content_type, f'"{tag}"', modified)
