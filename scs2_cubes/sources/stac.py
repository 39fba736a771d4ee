"""A static STAC catalogue whose items hold Zarr stores.

Written against the EO Forest catalogue, whose traps shape this client: ``self`` and absolute ``root`` links point
elsewhere than where the documents lie, so relative links are resolved against the address that was asked; items carry
no ``proj:*`` fields, so the CRS and the shape come from the Zarr store; ``datetime`` is the end of the interval, so
time comes from the store, too; asset links are https or s3, with two media types for Zarr.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import pystac
import pystac.stac_io

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import DataIdNotFoundError, SourceError, SourceFormatError, redact
from scs2_cubes.sources.editions import VERSION_WORD, newer_data_ids
from scs2_cubes.sources.http import Documents, is_local, linked_address
from scs2_cubes.sources.missing import HASTY, unknown_data_id
from scs2_cubes.sources.zarr_group import content_version, describe_group

__all__ = ["StacSource"]

_ZARR_TYPES = frozenset({"application/vnd.zarr", "application/vnd+zarr", "application/x-zarr"})
#: Links that name addresses; an item that has only moved is the same item.
_ADDRESS_RELATIONS = frozenset({"self", "root", "parent", "collection"})


class _CatalogueIO(pystac.stac_io.StacIO):
    """pystac's way to documents: the same policy and the same rewritten addresses as ours."""

    def __init__(self, documents: Documents) -> None:
        super().__init__()
        self._documents = documents

    def read_text(self, source: pystac.link.HREF, *_: Any, **__: Any) -> str:
        document = self._documents.get(str(source))
        try:
            return document.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceFormatError(f"the document isn't text: {error}", url=str(source)) from error

    def write_text(self, dest: pystac.link.HREF, txt: str, *_: Any, **__: Any) -> None:
        raise NotImplementedError(f"a catalogue is only read here, so {len(txt)} characters don't go to {dest}")


@dataclass(frozen=True)
class StacSource:
    """Client for the catalogue at ``url``; data ids are item addresses relative to the catalogue's folder."""

    store: StoreSpec
    documents: Documents

    @classmethod
    def open(cls, store: StoreSpec) -> StacSource:
        """Client for ``store``, whose parameter ``url`` is the catalogue's address. No I/O."""
        return cls(store, Documents(store.retry, store.href_rewrite))

    @property
    def url(self) -> str:
        """Address of the catalogue, as configured."""
        return str(self.store.params["url"])

    def data_ids(self) -> Iterator[str]:
        """Walk the catalogue: one request for each catalogue, collection and item.

        Raises SourceFormatError where a document isn't STAC, or what asking for one raised.
        """
        try:
            yield from self._walk()
        except (pystac.STACError, ValueError, TypeError, LookupError, AttributeError) as error:
            # Not chained: pystac's messages hold addresses with their secrets.
            raise _walking_error(error, self.url) from None

    def _walk(self) -> Iterator[str]:
        catalogue = pystac.Catalog.from_file(self.url, stac_io=_CatalogueIO(self.documents))
        folder = self._href("")
        for item in catalogue.get_items(recursive=True):
            href = item.get_self_href()
            if href is not None:
                yield href.removeprefix(folder)

    def probe(self, data_id: str) -> str:
        """Fingerprint of the item and of its store's metadata: two small requests."""
        item = self._item(data_id)
        return self._version(item, content_version(self._location(item, data_id)))

    def newer_editions(self, data_id: str) -> tuple[str, ...]:
        """Items of the same collection whose addresses differ in higher version numbers alone: two requests.

        Asks for the item and its collection, no other collection and no item besides. An item without a collection has
        none. Raises as :meth:`probe` does, and SourceFormatError where the collection can't be read.
        """
        item = self._item(data_id)
        collection = self._collection_href(item, data_id)
        if collection is None:
            return ()
        folder = _normal(self._href(""))
        listed = (self._linked(link, collection, "item") for link in self._collection_links(collection, data_id))
        offered = (href.removeprefix(folder) for href in listed if href is not None)
        return newer_data_ids(data_id, offered, VERSION_WORD)

    def describe(self, data_id: str) -> NativeDataset:
        """See :meth:`scs2_cubes.sources.base.Source.describe`."""
        item = self._item(data_id)
        location = self._location(item, data_id)
        native = describe_group(
            location,
            href=redact(self._asset_href(item, data_id)),
            provenance={"stac_catalog_url": redact(self.url), "stac_item_id": str(item["id"])},
        )
        bands = _bands(item)
        arrays = tuple(replace(array, band=bands.get(array.name, {})) for array in native.arrays)
        return replace(native, arrays=arrays, version=self._version(item, native.version))

    def public_href(self, data_id: str) -> str:
        """Address of the item, without secrets."""
        return redact(self._href(data_id))

    def _href(self, data_id: str) -> str:
        if is_local(self.url):
            return f"{self.url.rpartition('/')[0]}/{data_id}"
        return urljoin(self.url, data_id or ".")

    def _item(self, data_id: str) -> dict[str, Any]:
        href = self._href(data_id)
        try:
            document = self.documents.get(href)
        except DataIdNotFoundError as error:
            hasty = replace(self, documents=Documents(HASTY, self.documents.rewrites))
            raise unknown_data_id(hasty, self.store.identifier, data_id) from error
        try:
            item = json.loads(document)
        except ValueError as error:
            raise SourceFormatError(f"the item of data_id {data_id!r} isn't JSON: {error}", url=href) from error
        if not _is_item(item):
            raise SourceFormatError(
                f"data_id {data_id!r} isn't a STAC item with id, links, and assets that have a href", url=href
            )
        checked: dict[str, Any] = item
        return checked

    def _collection_href(self, item: dict[str, Any], data_id: str) -> str | None:
        """Address of the item's collection, not yet rewritten; None where it has none."""
        hrefs = (self._linked(link, self._href(data_id), "collection") for link in item.get("links", ()))
        return next((href for href in hrefs if href is not None), None)

    def _collection_links(self, href: str, data_id: str) -> list[dict[str, Any]]:
        try:
            document = json.loads(self.documents.get(href))
        except DataIdNotFoundError as error:
            raise SourceFormatError(
                f"the item of data_id {data_id!r} names a collection that isn't there", url=href
            ) from error
        except ValueError as error:
            raise SourceFormatError(f"the collection of data_id {data_id!r} isn't JSON: {error}", url=href) from error
        links = document.get("links") if isinstance(document, dict) and document.get("type") == "Collection" else None
        if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
            raise SourceFormatError(f"the collection of data_id {data_id!r} isn't a STAC collection", url=href)
        return links

    @staticmethod
    def _linked(link: dict[str, Any], document: str, relation: str) -> str | None:
        """Where ``link``, found in the document at ``document``, leads to; None where it is no ``relation``."""
        href = link.get("href")
        if link.get("rel") != relation or not isinstance(href, str):
            return None
        if is_local(document):
            return _normal(urljoin(document, href) if document.startswith("file:") else _absolute(href, document))
        return linked_address(_absolute(href, document), document, f"a link {relation!r}")

    def _asset_href(self, item: dict[str, Any], data_id: str) -> str:
        assets: dict[str, dict[str, Any]] = item["assets"]
        usable = [
            key
            for key, asset in assets.items()
            if (asset.get("type") or "").split(";")[0].strip() in _ZARR_TYPES or asset["href"].endswith(".zarr")
        ]
        chosen = "zarr" if "zarr" in usable else (usable[0] if len(usable) == 1 else None)
        if chosen is None:
            offered = ", ".join(f"{key} ({asset.get('type', 'no type')})" for key, asset in assets.items()) or "none"
            problem = "several Zarr assets" if usable else "no Zarr asset"
            raise SourceFormatError(
                f"item of data_id {data_id!r} has {problem}; its assets: {offered}", url=self.public_href(data_id)
            )
        return _absolute(assets[chosen]["href"], self._href(data_id))

    def _location(self, item: dict[str, Any], data_id: str) -> Location:
        href = self.documents.resolve(self._asset_href(item, data_id))
        return Location(href, retry=self.store.retry)

    @staticmethod
    def _version(item: dict[str, Any], store_version: str) -> str:
        links = [link for link in item.get("links", ()) if link.get("rel") not in _ADDRESS_RELATIONS]
        content = json.dumps(item | {"links": links}, sort_keys=True)
        return hashlib.sha256(f"{content}\n{store_version}".encode()).hexdigest()[:16]


def _is_item(document: Any) -> bool:
    if not isinstance(document, dict) or document.get("type") != "Feature" or "id" not in document:
        return False
    assets, links = document.get("assets"), document.get("links", [])
    return (
        isinstance(assets, dict)
        and all(isinstance(asset, dict) and isinstance(asset.get("href"), str) for asset in assets.values())
        and isinstance(links, list)
        and all(isinstance(link, dict) for link in links)
    )


def _bands(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → ``raster:bands`` entry, over all assets; what isn't of that form says nothing."""
    listed = [asset.get("raster:bands", []) for asset in item["assets"].values()]
    bands = [band for entries in listed if isinstance(entries, list) for band in entries if isinstance(band, dict)]
    return {str(band["name"]): band for band in bands if "name" in band}


def _walking_error(error: BaseException, url: str) -> SourceError:
    """What a document's transport raised, which pystac wraps; or that the document isn't STAC."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SourceError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return SourceFormatError(f"a document of the catalogue isn't STAC: {type(error).__name__}", url=url)


def _normal(address: str) -> str:
    """``address``, where it is a path without ``..``: URLs lose these when they are joined."""
    if address.startswith(("https:", "http:", "file:")):
        return address
    return posixpath.normpath(address) + ("/" if address.endswith("/") else "")


def _absolute(href: str, item_url: str) -> str:
    """Address of an asset: relative ones belong to the item; s3 ones are read from the host that has the catalogue."""
    if href.startswith("s3://") and not is_local(item_url):
        host = urlsplit(item_url)
        return f"{host.scheme}://{host.netloc}/{href.removeprefix('s3://')}"
    if is_local(item_url) and is_local(href) and not href.startswith(("/", "file:")):
        return f"{item_url.rpartition('/')[0]}/{href.removeprefix('./')}"
    return urljoin(item_url, href) if not is_local(item_url) else href
