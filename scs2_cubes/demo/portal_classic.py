"""Whole files in NetCDF's classic format with 64-bit offsets, for products that are small enough to be downloaded.

Source: NetCDF Classic Format Specification, https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html.
Everything is big-endian and padded to whole fours; there is no record dimension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.demo.dap_model import Attributes, DapDataset, DapVariable

__all__ = ["classic_file", "classic_size"]

_CHAR: Final = 2
_TYPES: Final[Mapping[str, int]] = {"i2": 3, "i4": 4, "f4": 5, "f8": 6}
_DIMENSIONS: Final = 0x0A
_VARIABLES: Final = 0x0B
_ATTRIBUTES: Final = 0x0C


def classic_file(dataset: DapDataset) -> bytes:
    """All of a dataset, whose values are made for it. Its types must be i2, i4, f4 or f8."""
    data = [_pad(_big_endian(np.asarray(v.read(v.whole), dtype=v.dtype))) for v in dataset.variables]
    return b"".join([_header(dataset), *data])


def classic_size(dataset: DapDataset) -> int:
    """Length of :func:`classic_file` in bytes, for which no values are made."""
    return len(_header(dataset)) + sum(map(_size, dataset.variables))


def _header(dataset: DapDataset) -> bytes:
    dims = {dim: size for v in dataset.variables for dim, size in zip(v.dims, v.shape, strict=True)}
    # A header's length doesn't depend on the offsets in it.
    begin = len(_header_at(dataset, dims, 0))
    return _header_at(dataset, dims, begin)


def _header_at(dataset: DapDataset, dims: Mapping[str, int], begin: int) -> bytes:
    variables = []
    for variable in dataset.variables:
        variables.append(_variable(variable, list(dims), begin))
        begin += _size(variable)
    return b"".join(
        [
            b"CDF\x02",
            _number(0),
            _list(_DIMENSIONS, [_name(dim) + _number(size) for dim, size in dims.items()]),
            _attributes(dataset.attrs),
            _list(_VARIABLES, variables),
        ]
    )


def _variable(variable: DapVariable, dims: Sequence[str], begin: int) -> bytes:
    ids = [_number(dims.index(dim)) for dim in variable.dims]
    kind = _number(_TYPES[variable.dtype]) + _number(_size(variable)) + struct.pack(">Q", begin)
    return b"".join([_name(variable.name), _number(len(ids)), *ids, _attributes(variable.attrs), kind])


def _attributes(attrs: Attributes) -> bytes:
    return _list(
        _ATTRIBUTES, [_name(name) + _attribute(value) for name, value in attrs.items() if name[:6] != "_Chunk"]
    )


def _attribute(value: str | np.generic | npt.NDArray[Any]) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return _number(_CHAR) + _number(len(text)) + _pad(text)
    numbers = np.atleast_1d(value)
    return _number(_TYPES[numbers.dtype.str[1:]]) + _number(numbers.size) + _pad(_big_endian(numbers))


def _list(tag: int, items: Sequence[bytes]) -> bytes:
    return b"".join([_number(tag), _number(len(items)), *items]) if items else bytes(8)


def _name(text: str) -> bytes:
    return _number(len(text.encode())) + _pad(text.encode())


def _size(variable: DapVariable) -> int:
    size = math.prod(variable.shape) * np.dtype(variable.dtype).itemsize
    return size + -size % 4


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _big_endian(values: npt.NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder(">")).tobytes()


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
