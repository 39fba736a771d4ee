"""The texts and bytes of DAP2, the protocol of OPeNDAP servers: read, not asked for.

After "The Data Access Protocol, DAP 2.0" (NASA ESE-RFC-004.1.2): the structure (``.dds``, section 7.1), the attributes
(``.das``, section 7.2), and the reply with data (``.dods``, section 7.3), which is a structure, the line ``Data:`` and
the values in XDR (RFC 4506): big-endian, an array preceded by its length twice, Int16 and UInt16 in four bytes, bytes
packed and padded to a multiple of four.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DapArray", "DapSyntaxError", "decode_reply", "find_array", "parse_das", "parse_dds", "reported_error"]

#: DAP2 type → (numpy dtype, numpy dtype in XDR). Strings have no fixed size, so they are declared but never read.
_TYPES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "byte": ("uint8", "u1"),
        "int16": ("int16", ">i4"),
        "uint16": ("uint16", ">u4"),
        "int32": ("int32", ">i4"),
        "uint32": ("uint32", ">u4"),
        "float32": ("float32", ">f4"),
        "float64": ("float64", ">f8"),
        "string": ("str", ""),
        "url": ("str", ""),
    }
)
_SEPARATOR = re.compile(rb"\r?\nData:\r?\n")
#: Bytes within which the separator must come: the structure of a projection is a few lines.
_MAX_STRUCTURE = 65_536
_MAX_DEPTH = 16
_DDS_TOKEN = re.compile(r"[{}\[\];:=]|[^\s{}\[\];:=]+")
_DAS_TOKEN = re.compile(r'[{};,]|"(?:[^"\\]|\\.)*"|[^\s{};,"]+', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\]|[0-7]{3})')
_ERROR = re.compile(r"\s*Error\s*\{(.*)\}", re.DOTALL)
_ERROR_CODE = re.compile(r"\bcode\s*=\s*(-?\d+)")
_ERROR_MESSAGE = re.compile(r'\bmessage\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
#: Characters of a server's message that are passed on.
_MESSAGE_LENGTH = 300


class DapSyntaxError(ValueError):
    """Something isn't DAP2; never leaves the client, which knows the address."""


@dataclass(frozen=True, slots=True)
class DapArray:
    """One array or scalar of a structure."""

    path: str
    """Name with those of what it lies in: ``agb.agb`` for the array of a Grid, ``lat`` for a plain array."""
    dtype: str
    """numpy name; ``str`` for strings."""
    dims: tuple[str, ...]
    """Names of the dimensions, in stored order; empty names where the server gives none."""
    shape: tuple[int, ...]
    """Sizes, in the order of ``dims``; empty for a scalar."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def encoded_size(self) -> int:
        """Bytes of its values in a reply. Raises DapSyntaxError for strings, whose size isn't known."""
        dtype = np.dtype(_encoding(self))
        size = math.prod(self.shape) * dtype.itemsize
        return (8 if self.shape else 0) + size + -size % 4


def find_array(structure: Sequence[DapArray], name: str) -> DapArray | None:
    """The array ``name``: that of a Grid (or of a Structure around it), or the plain one; None where there is none."""
    by_path = {array.path: array for array in structure}
    return by_path.get(f"{name}.{name}", by_path.get(name))


def parse_dds(text: str) -> tuple[DapArray, ...]:
    """Every array and scalar of a DDS in the order of declaration, which is the order of the values in a reply.

    Raises DapSyntaxError where it isn't a DDS, and for Sequences, whose length it doesn't tell.
    """
    tokens = iter(_tokens(_DDS_TOKEN, text))
    _expect(tokens, "dataset")
    _expect(tokens, "{")
    arrays = tuple(_declarations(tokens, 0))
    next(tokens)  # The file's name, which servers write in several ways.
    return arrays


def _declarations(tokens: Iterator[str], depth: int) -> Iterator[DapArray]:
    """Declarations up to the closing brace."""
    if depth > _MAX_DEPTH:
        raise DapSyntaxError(f"structures within each other, deeper than {_MAX_DEPTH}")
    for token in tokens:
        kind = token.lower()
        if kind == "}":
            return
        if kind in {"array", "maps"}:
            _expect(tokens, ":")
        elif kind in {"grid", "structure"}:
            _expect(tokens, "{")
            members = list(_declarations(tokens, depth + 1))
            name, dims, _ = _declarator(tokens)
            if dims:
                raise DapSyntaxError(f"{name} is an array of structures")
            yield from (DapArray(f"{name}.{part.path}", part.dtype, part.dims, part.shape) for part in members)
        elif kind in _TYPES:
            name, dims, shape = _declarator(tokens)
            yield DapArray(name, _TYPES[kind][0], dims, shape)
        else:
            raise DapSyntaxError(f"{token[:40]!r} where a type of DAP2 is expected")
    raise DapSyntaxError("the structure ends within a declaration")


def _declarator(tokens: Iterator[str]) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """``name[dim = size][size];``."""
    name = next(tokens)
    dims: list[str] = []
    shape: list[int] = []
    for mark in tokens:
        if mark == ";":
            return name, tuple(dims), tuple(shape)
        if mark != "[":
            break
        parts: list[str] = []
        while (part := next(tokens)) != "]":
            parts.append(part)
        if not parts[-1:] or not parts[-1].isdecimal() or not parts[-1].isascii() or len(parts) not in {1, 3}:
            raise DapSyntaxError(f"{name} has the dimension {' '.join(parts)[:40]!r}")
        dims.append(parts[0] if len(parts) > 1 else "")
        shape.append(int(parts[-1]))
    raise DapSyntaxError(f"the declaration of {name[:40]!r} doesn't end in a semicolon")


def parse_das(text: str) -> dict[str, Any]:
    """Attributes by variable, containers as nested dicts; several values of one attribute as a list.

    Integers become int, Float32 and Float64 float, anything else str, with the escapes of quotes taken back. Raises
    DapSyntaxError where it isn't a DAS.
    """
    tokens = iter(_tokens(_DAS_TOKEN, text))
    _expect(tokens, "attributes")
    _expect(tokens, "{")
    root: dict[str, Any] = {}
    open_containers = [root]
    while open_containers:
        first = next(tokens)
        if first == "}":
            open_containers.pop()
            continue
        second = next(tokens)
        container = open_containers[-1]
        if second == "{":
            inner = container.setdefault(_unquoted(first), {})
            if not isinstance(inner, dict):
                raise DapSyntaxError(f"{first[:40]!r} is an attribute and a container")
            open_containers.append(inner)
        else:
            container[_unquoted(second)] = _attribute(first, second, tokens)
    return root


def _attribute(kind: str, name: str, tokens: Iterator[str]) -> Any:
    values: list[Any] = []
    for word in tokens:
        if word == ";":
            return values[0] if len(values) == 1 else values
        if word in {"{", "}"}:
            break
        if word != ",":
            values.append(_attribute_value(kind.lower(), word))
    raise DapSyntaxError(f"attribute {name[:40]!r} doesn't end in a semicolon")


def _attribute_value(kind: str, token: str) -> Any:
    text = _unquoted(token)
    try:
        if kind in {"byte", "int16", "uint16", "int32", "uint32"}:
            return int(text)
        if kind == "float64":
            return float(text)
        if kind == "float32":
            with np.errstate(over="ignore"):
                # By way of float32, so that a fill value written with few digits equals the stored number.
                return float(np.float32(text))
    except ValueError:
        # One odd attribute is no reason to refuse a file; whoever needs a number finds that it is none.
        return text
    return text


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    return _ESCAPE.sub(lambda match: match[1] if len(match[1]) == 1 else chr(int(match[1], 8)), token[1:-1])


def decode_reply(reply: bytes | bytearray) -> dict[str, npt.NDArray[Any]]:
    """Path → values of a whole reply to ``.dods``, in the declared dtypes and shapes.

    One copy of the values is made. Raises DapSyntaxError where the reply isn't what its own structure declares: without
    structure, cut, longer, with other lengths, or with numbers that don't fit in 16 bits, or in a
    scalar's 8.
    """
    match = _SEPARATOR.search(reply, 0, _MAX_STRUCTURE)
    if match is None:
        raise DapSyntaxError(f"no structure and no line 'Data:' in {len(reply)} bytes, {bytes(reply[:40])!r}")
    try:
        structure = parse_dds(reply[: match.start() + 1].decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DapSyntaxError("the structure isn't text") from error
    declared = sum(array.encoded_size for array in structure)
    received = len(reply) - match.end()
    if declared != received:
        raise DapSyntaxError(f"{received} bytes of data, where the structure declares {declared}")
    values, position = {}, match.end()
    for array in structure:
        values[array.path] = _decode_array(array, reply, position)
        position += array.encoded_size
    return values


def _decode_array(array: DapArray, reply: bytes | bytearray, position: int) -> npt.NDArray[Any]:
    count = math.prod(array.shape)
    if array.shape:
        lengths = np.frombuffer(reply, ">u4", 2, position).tolist()
        if lengths != [count, count]:
            raise DapSyntaxError(f"{array.path} has the lengths {lengths}, its shape {array.shape} needs {count}")
        position += 8
    encoded = np.frombuffer(reply, _encoding(array), count, position)
    if count and encoded.itemsize > np.dtype(array.dtype).itemsize:
        limits, low, high = np.iinfo(array.dtype), int(encoded.min()), int(encoded.max())
        if low < limits.min or high > limits.max:
            raise DapSyntaxError(f"{array.path} has numbers from {low} to {high}, which aren't {array.dtype}")
    return encoded.astype(array.dtype).reshape(array.shape)


def _encoding(array: DapArray) -> str:
    if array.dtype == "uint8" and not array.shape:
        # Only arrays of bytes are packed (DAP 2.0, section 7.3; netCDF-C reads it so): alone it is an XDR integer.
        return ">u4"
    for dtype, encoding in _TYPES.values():
        if dtype == array.dtype and encoding:
            return encoding
    raise DapSyntaxError(f"{array.path} is of type {array.dtype}, which isn't read")


def reported_error(content: bytes | bytearray) -> tuple[int | None, str] | None:
    """(code, message) of an error document (DAP 2.0, section 7.4); None where it is none."""
    text = bytes(content[:_MAX_STRUCTURE]).decode("utf-8", "replace")
    body = _ERROR.match(text)
    if body is None:
        return None
    code, message = _ERROR_CODE.search(body[1]), _ERROR_MESSAGE.search(body[1])
    said = " ".join(_unquoted(f'"{message[1]}"').split()) if message else "no message"
    return (int(code[1]) if code else None), said[:_MESSAGE_LENGTH]


def _tokens(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """The tokens of ``text``; anything between them but white space, and its end, raise DapSyntaxError."""
    end = 0
    for match in pattern.finditer(text):
        if text[end : match.start()].strip():
            break
        end = match.end()
        yield match[0]
    rest = text[end:].strip()
    raise DapSyntaxError(f"{rest[:40]!r} can't be read" if rest else "the text ends too early")


def _expect(tokens: Iterator[str], token: str) -> None:
    found = next(tokens)
    if found.lower() != token:
        raise DapSyntaxError(f"{found[:40]!r} where {token!r} is expected")
