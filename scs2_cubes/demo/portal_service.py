"""The embedded ESA CCI Open Data Portal as a service: which path is answered by what.

Addresses inside the documents are those of the server that is asked, as its Host field names it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.dap import dap_answer
from scs2_cubes.demo.portal_archive import Portal
from scs2_cubes.demo.portal_documents import atom, description, iso_record, manifest
from scs2_cubes.demo.portal_listing import SearchError, search
from scs2_cubes.demo.services import HttpRequest

__all__ = ["SEARCH_PATH", "PortalService"]

#: Path of the search.
SEARCH_PATH: Final = "/opensearch/request"

_DODS: Final = "/thredds/dodsC"
_FILES: Final = "/thredds/fileServer"
_MANIFESTS: Final = "/manifest/"
_RECORDS: Final = "/export/xml/gemini2.3/"
_GEO_JSON: Final = "application/geo+json"
_ATOM: Final = "application/atom+xml"


class PortalService:
    """Search, documents, OPeNDAP and downloads. Answers from several threads at once."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def answer(self, request: HttpRequest) -> Answer | None:
        path = request.path
        if path.startswith(("/opensearch/", "/thredds/", _MANIFESTS, _RECORDS)):
            if request.method != "GET":
                return _text(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} isn't allowed here")
            return self._get(request)
        return None

    def _get(self, request: HttpRequest) -> Answer:
        path, base = request.path, f"http://{request.headers.get('host', '')}"
        if path.startswith(f"{_DODS}/"):
            return dap_answer(path.removeprefix(_DODS), request.query, self._portal.dataset)
        if path.startswith(f"{_FILES}/"):
            return self._file(path.removeprefix(_FILES))
        if path == SEARCH_PATH:
            return self._search(base, request.query)
        if path == "/opensearch/description.xml":
            parent = parse_qs(request.query).get("parentIdentifier", [""])[0]
            return _document(description(self._portal, base, parent), "application/xml", path)
        if path.startswith(_MANIFESTS) and path.endswith("/manifest.json"):
            uuid = path.removeprefix(_MANIFESTS).removesuffix("/manifest.json")
            return _document(manifest(self._portal, uuid), "application/json", path)
        uuid = path.removeprefix(_RECORDS).removesuffix(".xml")
        return _document(iso_record(self._portal, uuid), "application/xml", path)

    def _search(self, base: str, query: str) -> Answer:
        # A plus that wasn't escaped arrives as a space; the portal's own clients send both forms.
        accept = parse_qs(query).get("httpAccept", [""])[0].replace(" ", "+")
        if accept not in {_GEO_JSON, _ATOM}:
            return _text(HTTPStatus.NOT_ACCEPTABLE, f"httpAccept must be {_GEO_JSON} or {_ATOM}, not {accept!r}")
        try:
            found = search(self._portal, base, query)
        except SearchError as error:
            return _text(error.status, error.message)
        return _document(json.dumps(found).encode() if accept == _GEO_JSON else atom(found), accept, query)

    def _file(self, path: str) -> Answer:
        granule = self._portal.find(path)
        if granule is None:
            return _document(None, "", path)
        body = self._portal.download(granule)
        if body is None:
            return _text(HTTPStatus.NOT_IMPLEMENTED, f"{granule.name} is only served by OPeNDAP in the demonstration")
        return _document(body, "application/octet-stream", path)


def _document(body: bytes | None, content_type: str, path: str) -> Answer:
    if body is None:
        return _text(HTTPStatus.NOT_FOUND, f"Nothing at {path}")
    return Answer(HTTPStatus.OK, {"Content-Type": content_type}, body, len(body))


def _text(status: int, message: str) -> Answer:
    body = f"{message}\n".encode()
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8"}, body, len(body))
