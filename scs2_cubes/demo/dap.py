"""A DAP2 server of datasets that are made on demand: DDS, DAS, data and errors, worded as THREDDS words them.

Source: The Data Access Protocol DAP 2.0, ESE-RFC-004.1.1. Data are in XDR (RFC 4506): big-endian, integers of two
bytes travel as four, the length of an array stands before it twice, bytes are packed and padded to whole fours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.dap_constraint import parse_constraint
from scs2_cubes.demo.dap_model import DapDataset, DapError, Projection
from scs2_cubes.demo.dap_text import das, dds

__all__ = ["dap_answer", "xdr"]

_SERVER: Final = {"XDODS-Server": "opendap/3.7"}
_VERSION: Final = b"Server Version: opendap/3.7\nDAP version: 2.0\n"
#: Values in one answer: int16 of 500 MB, which is where THREDDS stops unless it is told otherwise.
_MOST_VALUES: Final = 250_000_000
_WIRE_TYPES: Final[Mapping[str, str]] = {
    "i2": ">i4",
    "u2": ">u4",
    "i4": ">i4",
    "u4": ">u4",
    "f4": ">f4",
    "f8": ">f8",
}


def dap_answer(path: str, query: str, find: Callable[[str], DapDataset | None]) -> Answer:
    """Answer to a GET of ``path``, the dataset's name with its suffix; ``find`` knows the datasets by name."""
    try:
        return _answer(path, query, find)
    except DapError as error:
        return _error(error)


def xdr(values: npt.NDArray[Any]) -> bytes:
    """Bytes of an array, or of a scalar (shape ()), in C order, of one of the types that DapVariable has."""
    kind = values.dtype.str[1:]
    count = struct.pack(">I", values.size)
    if kind == "u1":
        if not values.shape:
            return struct.pack(">I", int(values))
        return count * 2 + values.tobytes() + bytes(-values.size % 4)
    data = values.astype(_WIRE_TYPES[kind]).tobytes()
    return count * 2 + data if values.shape else data


def _answer(path: str, query: str, find: Callable[[str], DapDataset | None]) -> Answer:
    name, _, suffix = path.rpartition(".")
    if suffix == "ver":
        return _success(_VERSION, "dods-version")
    dataset = find(name)
    if dataset is None:
        raise DapError(HTTPStatus.NOT_FOUND, f"Can't find a dataset for {path!r}")
    if suffix == "das":
        return _success(das(dataset).encode(), "dods-das")
    if suffix not in {"dds", "dods"}:
        raise DapError(HTTPStatus.BAD_REQUEST, f"Unrecognized request: .{suffix} is none of .dds, .das, .dods, .ver")
    projections = parse_constraint(query, dataset)
    header = dds(dataset.name, projections).encode()
    if suffix == "dds":
        return _success(header, "dods-dds")
    size = sum(projection.size for projection in projections)
    if size > _MOST_VALUES:
        raise DapError(HTTPStatus.FORBIDDEN, f"Request too big: {size} values, at most {_MOST_VALUES} are answered")
    return _success(b"".join([header, b"\nData:\n", *_data(projections)]), "dods-data")


def _data(projections: tuple[Projection, ...]) -> Iterator[bytes]:
    for projection in projections:
        for variable, indices in projection.members:
            yield xdr(np.asarray(variable.read(indices), dtype=variable.dtype))


def _success(body: bytes, description: str) -> Answer:
    kind = "application/octet-stream" if description == "dods-data" else "text/plain"
    return Answer(HTTPStatus.OK, _fields(kind, description), body, len(body))


def _error(error: DapError) -> Answer:
    text = error.message.replace("\\", "\\\\").replace('"', '\\"')
    body = f'Error {{\n    code = {int(error.status)};\n    message = "{text}";\n}};\n'.encode()
    return Answer(error.status, _fields("text/plain", "dods-error"), body, len(body))


def _fields(content_type: str, description: str) -> dict[str, str]:
    return {"Content-Type": content_type, "Content-Description": description, **_SERVER}
