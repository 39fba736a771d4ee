"""OPeNDAP files and a portal written by hand: an encoder after the DAP2 specification that shares nothing with ours."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import numpy as np

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.services import HttpRequest

#: DAP2 type → struct code of one element of an array, by RFC 4506 and the specification's table. A scalar Byte is an
#: integer of four bytes, as in RFC 4506, 4.1; netCDF-C reads it so.
CODES = {
    "Byte": "B",
    "Int16": "i",
    "UInt16": "I",
    "Int32": "i",
    "UInt32": "I",
    "Float32": "f",
    "Float64": "d",
}


def encode(kind: str, values: list[Any] | None, scalar: Any = None) -> bytes:
    """XDR of an array (``values``) or of a scalar."""
    if values is None:
        return struct.pack(f">{'I' if kind == 'Byte' else CODES[kind]}", scalar)
    packed = struct.pack(f">{len(values)}{CODES[kind]}", *values)
    return struct.pack(">II", len(values), len(values)) + packed + b"\0" * (-len(packed) % 4)


@dataclass
class Variable:
    kind: str
    dims: tuple[str, ...]
    values: np.ndarray[Any, Any]
    attrs: dict[str, str] = field(default_factory=dict)
    """Name → ``<type> … <values>`` as the DAS has it: (``Int16``, ``-32768``)."""
    grid: bool = False


class HandFile:
    """A file behind OPeNDAP: projections with bounds, Grids whose array is wrapped or bare."""

    def __init__(self, variables: Mapping[str, Variable], globals_: str = "", *, wrapped: bool = True) -> None:
        self.variables = dict(variables)
        self.globals = globals_
        self.wrapped = wrapped

    def dds(self) -> str:
        parts = []
        for name, variable in self.variables.items():
            array = self._declared(name, variable, variable.values.shape)
            if variable.grid:
                maps = "".join(
                    f"        {self._declared(dim, self.variables[dim], self.variables[dim].values.shape)}\n"
                    for dim in variable.dims
                )
                array = f"Grid {{\n     ARRAY:\n        {array}\n     MAPS:\n{maps}    }} {name};"
            parts.append(f"    {array}\n")
        return "Dataset {\n" + "".join(parts) + "} path/file.nc;\n"

    @staticmethod
    def _declared(name: str, variable: Variable, shape: tuple[int, ...]) -> str:
        sizes = "".join(f"[{dim} = {size}]" for dim, size in zip(variable.dims, shape, strict=True))
        return f"{variable.kind} {name}{sizes};"

    def das(self) -> str:
        blocks = "".join(
            f"    {name} {{\n" + "".join(f"        {line};\n" for line in _lines(variable.attrs)) + "    }\n"
            for name, variable in self.variables.items()
        )
        return "Attributes {\n" + blocks + "    NC_GLOBAL {\n" + self.globals + "    }\n}\n"

    def dods(self, query: str) -> bytes:
        text, data = "Dataset {\n", b""
        for part in unquote(query).split(","):
            path = part.partition("[")[0]
            name = path.rpartition(".")[2]
            variable = self.variables[name]
            bounds = [(int(a), int(b)) for a, b in re.findall(r"\[(\d+):1:(\d+)\]", part)]
            values = variable.values[tuple(slice(a, b + 1) for a, b in bounds)]
            line = self._declared(name, variable, values.shape)
            text += (
                f"    Structure {{\n        {line}\n    }} {name};\n" if "." in path and self.wrapped else line + "\n"
            )
            data += encode(variable.kind, values.ravel().tolist() if values.shape else None, values[()])
        return (text + "} path/file.nc;\n\nData:\n").encode() + data


def _lines(attrs: Mapping[str, str]) -> Iterator[str]:
    for name, typed in attrs.items():
        kind, _, value = typed.partition(" ")
        yield f"{kind} {name} {value}"


Document = bytes | Callable[[str], tuple[int, bytes]]


class HandService:
    """Answers from a table; notes what was asked, with its query."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.asked: list[str] = []

    def put_file(self, path: str, file: HandFile) -> None:
        self.documents[f"{path}.dds"] = file.dds().encode()
        self.documents[f"{path}.das"] = file.das().encode()
        self.documents[f"{path}.dods"] = lambda query: (200, file.dods(query))

    def answer(self, request: HttpRequest) -> Answer:
        self.asked.append(f"{request.path}?{unquote(request.query)}")
        document = self.documents.get(request.path)
        status, body = (
            (404, b"none")
            if document is None
            else (200, document)
            if isinstance(document, bytes)
            else (document(request.query))
        )
        return Answer(status, {"Content-Type": "application/octet-stream"}, body, len(body))


@contextmanager
def hand_server() -> Iterator[tuple[DemoServer, HandService]]:
    service = HandService()
    server = DemoServer()
    server.services = (service,)
    with server:
        yield server, service


def axis(first: float, step: float, count: int) -> np.ndarray[Any, Any]:
    return first + np.arange(count) * step


def biomass_file(
    *,
    year: int = 2010,
    rows: int = 30,
    cols: int = 40,
    edges: bool = False,
    wrapped: bool = True,
    grid: bool = True,
    ascending: bool = False,
) -> HandFile:
    """A file of the portal's layout: 1/25 degree, from 80 north and 180 west; values say year, row and column."""
    step, half = 0.04, 0.0 if edges else 0.02
    lat, lon = axis(80 - half, -step, rows), axis(-180 + half, step, cols)
    values = ((year - 2000) * 1000 + np.arange(rows)[:, None] * 17 + np.arange(cols)).astype("int16")[None]
    values[0, 3, 5] = -32768
    fill = {"_FillValue": "Int16 -32768", "units": 'String "Mg/ha"', "_ChunkSizes": "Int32 1, 10, 10"}
    return HandFile(
        {
            "lat": Variable("Float64", ("lat",), lat[::-1] if ascending else lat, {"units": 'String "degrees_north"'}),
            "lon": Variable("Float64", ("lon",), lon, {"units": 'String "degrees_east"'}),
            "time": Variable("Float64", ("time",), np.array([7305.0]), {"units": 'String "days since 1990-01-01"'}),
            "crs": Variable("Int32", (), np.array(0), {"grid_mapping_name": 'String "latitude_longitude"'}),
            "agb": Variable("Int16", ("time", "lat", "lon"), values, fill, grid=grid),
            "agb_sd": Variable("Int16", ("time", "lat", "lon"), values // 10, fill, grid=grid),
        },
        '        String title "Biomass, \\"all\\" of it";\n        String tracking_id "1";\n',
        wrapped=wrapped,
    )


DATA_ID = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
OTHER_ID = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.1000m"
UUID = "95913ffb6467447ca72c4e9d8cf30501"
ORIGIN = "https://data.portal.test"
SEARCH = "/opensearch/request"


def description(*ids: str) -> bytes:
    namespace = "http://a9.com/-/spec/opensearch/extensions/parameters/1.0/"
    options = "".join(f'<p:Option value="{one}" label="{one} (3)"/>' for one in ids)
    url = f'<Url rel="results" template="x"><p:Parameter name="drsId" value="{{x}}">{options}</p:Parameter></Url>'
    return (
        f'<OpenSearchDescription xmlns="http://a9.com/-/spec/opensearch/1.1/" xmlns:p="{namespace}">{url}{url}'
        "</OpenSearchDescription>"
    ).encode()


def granule(year: int, **changes: Any) -> dict[str, Any]:
    """The portal's entry of a year's file; ``changes`` to its properties, None takes one away."""
    name = f"ESACCI-BIOMASS-L4-AGB-MERGED-100m-{year}-fv6.0.nc"
    properties = {
        "title": name,
        "identifier": f"doc-{year}",
        "updated": "2025-04-17T00:00:00",
        "filesize": 17_000_000_000 + year,
        "date": f"{year}-01-01T00:00:00.000000+00:00/{year}-12-31T23:59:59",
        "links": {
            "related": [
                {"title": "Download", "href": f"{ORIGIN}/thredds/fileServer/{name}"},
                {"title": "Opendap", "href": f"{ORIGIN}/thredds/dodsC/{name}"},
            ]
        },
        **changes,
    }
    return {"type": "Feature", "properties": {key: value for key, value in properties.items() if value is not None}}


class HandPortal:
    """A portal's search over a list of entries, with the ``next`` link of its first page; and its files."""

    def __init__(self, service: HandService, url: str, entries: list[dict[str, Any]]) -> None:
        self.service = service
        self.url = url
        self.entries = entries
        self.page_size = 1000
        self.total: int | str | None = "honest"
        service.documents["/opensearch/description.xml"] = description(DATA_ID, OTHER_ID)
        service.documents[SEARCH] = self.search

    def search(self, query: str) -> tuple[int, bytes]:
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        if asked["httpAccept"] != "application/geo+json":
            return 406, b"no"
        if asked["parentIdentifier"] == "cci":
            known = [{"type": "FeatureCollection", "properties": {"title": "AGB", "identifier": UUID}}]
            return 200, self._envelope(known if asked["drsId"] == DATA_ID else [], None, None)
        if asked["parentIdentifier"] != UUID:
            return 404, b"no such parent"
        hits = self.entries if asked.get("fileFormat") == ".nc" and asked["drsId"] == DATA_ID else []
        first = int(asked.get("searchAfter", "0"))
        page = hits[first : first + self.page_size]
        return 200, self._envelope(page, query if page else None, first + len(page), len(hits))

    def _envelope(self, page: list[Any], query: str | None, after: int | None, total: int | None = None) -> bytes:
        links = {"next": [{"href": f"{ORIGIN}{SEARCH}?{query}&searchAfter={after}", "title": "next"}]} if query else {}
        told = len(page) if total is None else total if self.total == "honest" else self.total
        return json.dumps(
            {"type": "FeatureCollection", "totalResults": told, "links": links, "features": page}
        ).encode()
