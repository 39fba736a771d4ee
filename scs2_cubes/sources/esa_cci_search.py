"""The ESA CCI Open Data Portal's catalogue: which data ids there are, and which files belong to one.

OpenSearch with GeoJSON answers. Traps of the real service that shape this client: the first page of a list of files
has a ``next`` link even where it is complete, and following it gives an empty page without one; numbered pages end at
10 000 files, so ``next`` is followed instead; the order is that of folders and names, not of time; the time filters let
files through that lie outside, so the selection by time is made here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from scs2_cubes.errors import DataIdNotFoundError, SourceFormatError
from scs2_cubes.sources.http import Documents, linked_address

__all__ = ["Catalogue", "Granule", "listing_version"]

_PARAMETER = "{http://a9.com/-/spec/opensearch/extensions/parameters/1.0/}Parameter"
_OPTION = "{http://a9.com/-/spec/opensearch/extensions/parameters/1.0/}Option"
_ACCEPT = "application/geo+json"
_PAGE_SIZE = 1000
#: A million files: more are a list that runs in circles.
_MAX_PAGES = 1000
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d))?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class Granule:
    """A file of a collection, or one time step of a file that has several."""

    name: str
    """Its file name."""
    start: str
    """Begin of the time that it stands for, ISO 8601 without zone."""
    end: str
    """End of that time, as the portal has it."""
    stamp: str
    """The step's time stamp: the middle of start and end, truncated to seconds, or the file's own time."""
    size: int | None
    """Size of the file in bytes; None where the portal doesn't say."""
    updated: str
    """When it was last changed, as the portal has it."""
    opendap_href: str
    """OPeNDAP address without suffix, before it is rewritten; empty where it can't be read that way."""
    download_href: str
    """Address of the whole file; empty where there is none."""
    identifier: str = ""
    """The portal's own identifier of its entry."""
    step: int = 0
    """Position of this step on the file's time axis."""


def listing_version(granules: Sequence[Granule]) -> str:
    """Fingerprint of what the portal says of its files: names, sizes, dates, changes; not their addresses."""
    said = sorted({(item.name, str(item.size), item.start, item.end, item.updated) for item in granules})
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue whose search is at ``endpoint`` and whose description is at ``description``."""

    documents: Documents
    endpoint: str
    description: str

    def data_ids(self) -> Iterator[str]:
        """The ids that the description document offers, each once: one request.

        Raises SourceFormatError where it isn't a description, and what asking raised.
        """
        document = self.documents.get(self.description)
        try:
            root = ET.fromstring(document)  # noqa: S314  (expat bounds what entities grow to, and loads nothing)
        except ET.ParseError as error:
            raise SourceFormatError(f"the description isn't XML: {error}", url=self.description) from error
        options = [
            option.get("value", "")
            for parameter in root.iter(_PARAMETER)
            if parameter.get("name") == "drsId"
            for option in parameter.iter(_OPTION)
        ]
        if not any(options):
            raise SourceFormatError(
                "the description offers no data ids: it has no parameter drsId with options", url=self.description
            )
        yield from dict.fromkeys(filter(None, options))

    def collections(self, data_id: str) -> tuple[str, ...]:
        """Identifiers of the collections that have files of ``data_id``; empty where nobody knows it. One request."""
        features = self._features({"parentIdentifier": "cci", "drsId": data_id})
        return tuple(dict.fromkeys(self._text(self._properties(item), "identifier") for item in features))

    def granules(self, collection: str, data_id: str) -> tuple[Granule, ...]:
        """The NetCDF files of ``data_id``, sorted by time, each once; a request for each 1000 of them.

        Raises SourceFormatError where a file has no date, or where fewer files are listed than there are said to be.
        """
        query = {"parentIdentifier": collection, "drsId": data_id, "fileFormat": ".nc"}
        found: dict[str, Granule] = {}
        for feature in self._features(query):
            granule = self._granule(feature)
            known = found.get(granule.identifier)
            # A file that changes while its list is read moves on to a later page.
            if known is None or known.updated < granule.updated:
                found[granule.identifier] = granule
        return tuple(sorted(found.values(), key=lambda item: (item.start, item.end, item.name)))

    def _features(self, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """All features of all pages."""
        address: str | None = self._search_url(query)
        features: list[Mapping[str, Any]] = []
        for _ in range(_MAX_PAGES):
            page = self._page(address or self.endpoint)
            features += page["features"]
            total = page.get("totalResults")
            is_full = len(page["features"]) >= _PAGE_SIZE
            complete = isinstance(total, int) and len(features) >= total and not is_full
            address = None if complete or not page["features"] else self._next(page)
            if address is None:
                self._require_all(len(features), total)
                return features
        raise SourceFormatError(f"the list doesn't end within {_MAX_PAGES} pages", url=self.endpoint)

    def _require_all(self, listed: int, total: Any) -> None:
        if isinstance(total, int) and listed < total:
            raise SourceFormatError(
                f"{listed} entries are listed of {total} that there are said to be; run again, the portal's index may "
                "be changing",
                url=self.endpoint,
            )

    def _search_url(self, query: Mapping[str, str]) -> str:
        whole = {**query, "startPage": "1", "maximumRecords": str(_PAGE_SIZE), "httpAccept": _ACCEPT}
        return f"{self.endpoint}{'&' if '?' in self.endpoint else '?'}{urlencode(whole)}"

    def _page(self, address: str) -> dict[str, Any]:
        try:
            document = json.loads(self.documents.get(address))
        except DataIdNotFoundError as error:
            raise DataIdNotFoundError(f"{error.args[0]}; is this the portal's search address?", url=address) from error
        except ValueError as error:
            raise SourceFormatError(f"the answer to a search isn't JSON: {error}", url=address) from error
        features = document.get("features") if isinstance(document, dict) else None
        if not isinstance(features, list) or not all(isinstance(item, dict) for item in features):
            raise SourceFormatError("the answer to a search isn't a FeatureCollection", url=address)
        page: dict[str, Any] = document
        return page

    def _next(self, page: Mapping[str, Any]) -> str | None:
        links = page.get("links")
        following = links.get("next") if isinstance(links, dict) else None
        for link in following if isinstance(following, list) else ():
            href = link.get("href") if isinstance(link, dict) else None
            if isinstance(href, str):
                return linked_address(href, self.endpoint, "'next' of an answer to a search")
        return None

    def _granule(self, feature: Mapping[str, Any]) -> Granule:
        properties = self._properties(feature)
        name = self._text(properties, "title")
        start, end = self._interval(properties, name)
        links = self._related(properties)
        size = properties.get("filesize")
        return Granule(
            name=name,
            start=start.isoformat(),
            end=end.isoformat(),
            stamp=(start + (end - start) / 2).replace(microsecond=0).isoformat(),
            size=size if isinstance(size, int) else None,
            updated=str(properties.get("updated", "")),
            opendap_href=links.get("Opendap", ""),
            download_href=links.get("Download", ""),
            identifier=str(properties.get("identifier") or links.get("Download") or name),
        )

    def _interval(self, properties: Mapping[str, Any], name: str) -> tuple[datetime, datetime]:
        """Start and end of ``date``; without it, the year in the file's name."""
        date = properties.get("date")
        if not date:
            years = set(_YEAR.findall(name))
            if len(years) != 1:
                raise SourceFormatError(
                    f"file {name!r} has no date, and its name has not just one year in it", url=self.endpoint
                )
            date = "{0}-01-01T00:00:00/{0}-12-31T23:59:59".format(*years)
        parts = [_MOMENT.fullmatch(part.strip()) for part in str(date).split("/")]
        try:
            moments = [datetime.fromisoformat(f"{part[1]}T{part[2] or '00:00:00'}") for part in parts if part]
        except ValueError:
            moments = []
        if len(parts) != 2 or len(moments) != len(parts) or moments[0] > moments[1]:  # noqa: PLR2004  (start and end)
            raise SourceFormatError(f"file {name!r} has the date {date!r}, not start/end", url=self.endpoint)
        return moments[0], moments[1]

    def _properties(self, feature: Mapping[str, Any]) -> Mapping[str, Any]:
        properties = feature.get("properties")
        if not isinstance(properties, dict):
            raise SourceFormatError("an entry of the answer to a search has no properties", url=self.endpoint)
        return properties

    def _text(self, properties: Mapping[str, Any], name: str) -> str:
        value = properties.get(name)
        if not isinstance(value, str) or not value:
            raise SourceFormatError(
                f"an entry of the answer to a search has the {name} {value!r}, not a text", url=self.endpoint
            )
        return value

    @staticmethod
    def _related(properties: Mapping[str, Any]) -> dict[str, str]:
        """Title → address of the entry's links."""
        links = properties.get("links")
        related = links.get("related") if isinstance(links, dict) else None
        return {
            link["title"]: link["href"]
            for link in (related if isinstance(related, list) else ())
            if isinstance(link, dict) and isinstance(link.get("title"), str) and isinstance(link.get("href"), str)
        }
