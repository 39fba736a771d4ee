"""The portal's search: collections and granules as the OpenSearch service of CEDA lists them.

Traps that it keeps: the first page of granules has a link ``next`` even where it has them all, and following that
gives an empty page; ``+`` in a query string is a space; pages beyond the 10 000th record fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode

from scs2_cubes.demo.portal_archive import Portal
from scs2_cubes.demo.portal_products import FINE, Collection, Granule, updated

__all__ = ["FACETS", "ROOT", "SearchError", "search"]

#: Identifier under which all collections are found.
ROOT: Final = "cci"
FACETS: Final = tuple(FINE.facets)

_DEFAULT_SIZE: Final = 10
_DEEPEST: Final = 10_000
_KEYS: Final[Mapping[str, str]] = {"parentIdentifier": "eo:parentIdentifier", "maximumRecords": "count"}


class SearchError(Exception):
    """A search that can't be answered; it never leaves the server."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    size: int
    after: tuple[str, ...]

    def part(self, collections: Sequence[Collection]) -> Sequence[Collection]:
        """Those on this page."""
        return collections[(self.number - 1) * self.size : self.number * self.size]

    def cut(self, granules: Sequence[Granule]) -> list[Granule]:
        start = (self.number - 1) * self.size
        if self.after:
            granules, start = [g for g in granules if (g.directory, g.name) > self.after], 0
        if start + self.size > _DEEPEST:
            raise SearchError(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"Result window is too large: {start + self.size} > {_DEEPEST}"
            )
        return list(granules[start : start + self.size])


def search(portal: Portal, base: str, query: str) -> dict[str, Any]:
    """Answer to ``<base>/opensearch/request?<query>`` as GeoJSON. Raises SearchError."""
    asked = parse_qs(query, keep_blank_values=True)
    page = _page(asked)
    parent = asked.get("parentIdentifier", [""])[0]
    if parent == ROOT:
        found = [one for one in portal.collections() if one.uuid in asked.get("uuid", [one.uuid])]
        found = [one for one in found if _matching(portal.granules(one), asked)]
        return _envelope(asked, page, len(found), [_collection(base, portal, one) for one in page.part(found)], {})
    collection = next((one for one in portal.collections() if one.uuid == parent), None)
    if collection is None:
        raise SearchError(HTTPStatus.NOT_FOUND, f"No collection {parent!r}")
    matching = [
        g
        for g in _matching(portal.granules(collection), asked)
        if _overlaps(g, asked) and asked.get("uuid", [g.identifier])[0] == g.identifier
    ]
    granules = page.cut(matching)
    links = {}
    if granules and page.number == 1:
        links = {"next": [{"href": _next(base, asked, granules[-1]), "title": "next"}]}
    return _envelope(asked, page, len(matching), [_granule(base, portal, parent, g) for g in granules], links)


def _matching(granules: Sequence[Granule], asked: Mapping[str, list[str]]) -> list[Granule]:
    """Granules by exact terms; several values of one facet are alternatives."""
    wanted = {name: values for name, values in asked.items() if name in FACETS}
    return [g for g in granules if all(g.product.facets[name] in values for name, values in wanted.items())]


def _overlaps(granule: Granule, asked: Mapping[str, list[str]]) -> bool:
    start, end = _moment(asked, "startDate"), _moment(asked, "endDate")
    return (end is None or granule.start <= end) and (start is None or granule.end >= start)


def _moment(asked: Mapping[str, list[str]], name: str) -> datetime | None:
    text = asked.get(name, [""])[0]
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SearchError(HTTPStatus.BAD_REQUEST, f"{name} is no date: {text!r}") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _page(asked: Mapping[str, list[str]]) -> _Page:
    number, size = (_count(asked, name, usual) for name, usual in (("startPage", 1), ("maximumRecords", _DEFAULT_SIZE)))
    after = asked.get("searchAfter", [""])[0]
    return _Page(number, size, tuple(after.split(",", 1)) if after else ())


def _count(asked: Mapping[str, list[str]], name: str, usual: int) -> int:
    text = asked.get(name, [str(usual)])[0]
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise SearchError(HTTPStatus.BAD_REQUEST, f"{name} must be a positive number, not {text!r}")
    return int(text)


def _envelope(
    asked: Mapping[str, list[str]],
    page: _Page,
    total: int,
    features: list[dict[str, Any]],
    links: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "type": "FeatureCollection",
        "title": "Opensearch Response",
        "totalResults": total,
        "itemsPerPage": page.size,
        "startRecord": (page.number - 1) * page.size + 1,
        "startPage": page.number,
        "queries": {"request": [{_KEYS.get(name, name): values[0] for name, values in asked.items()}]},
        "subtitle": f"Showing {len(features)} results ({total} total)",
        "links": links,
        "features": features,
    }


def _next(base: str, asked: Mapping[str, list[str]], last: Granule) -> str:
    kept = [(name, value) for name, values in asked.items() if name != "searchAfter" for value in values]
    return f"{base}/opensearch/request?{urlencode(kept)}&searchAfter={quote(f'{last.directory},{last.name}')}"


def _collection(base: str, portal: Portal, collection: Collection) -> dict[str, Any]:
    granules, uuid = portal.granules(collection), collection.uuid
    start, end = min(g.start for g in granules), max(g.end for g in granules)
    return {
        "type": "FeatureCollection",
        "id": f"{base}/opensearch/request?parentIdentifier={ROOT}&uuid={uuid}",
        "properties": {
            "title": collection.title,
            "identifier": uuid,
            "date": f"{_stamp(start)}/{_stamp(end)}",
            "versionStatus": "current",
            "publicationDate": _stamp(updated(1)),
            "links": {
                "search": [
                    {
                        "title": "Opensearch Description Document",
                        "href": f"{base}/opensearch/description.xml?parentIdentifier={uuid}",
                        "type": "application/opensearchdescription+xml",
                    }
                ],
                "describedby": [
                    {"title": "ISO19115", "href": f"{base}/export/xml/gemini2.3/{uuid}.xml", "type": "application/xml"},
                    {"title": "Dataset Information", "href": f"{base}/uuid/{uuid}", "type": "text/html"},
                ],
                "via": [
                    {
                        "title": "Dataset Manifest",
                        "href": f"{base}/manifest/{uuid}/manifest.json",
                        "type": "application/json",
                    }
                ],
            },
        },
    }


def _granule(base: str, portal: Portal, uuid: str, granule: Granule) -> dict[str, Any]:
    kind = "application/octet-stream"
    links = [
        {"title": title, "href": f"{base}/thredds/{service}{granule.path}", "type": kind}
        for title, service in (("Download", "fileServer"), ("Opendap", "dodsC"))
    ]
    west, south, east, north = granule.product.lattice.bbox
    return {
        "type": "Feature",
        "id": f"{base}/opensearch/request?parentIdentifier={uuid}&uuid={granule.identifier}",
        "bbox": [west, south, east, north],
        "properties": {
            "title": granule.name,
            "identifier": granule.identifier,
            "updated": _stamp(updated(granule.edition)),
            "filesize": portal.size(granule),
            "date": f"{_stamp(granule.start)}/{_stamp(granule.end)}",
            "links": {"related": links},
        },
    }


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}"
