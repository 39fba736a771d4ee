"""What an OPeNDAP server serves: datasets of arrays over named dimensions, whose values are made on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["TYPE_NAMES", "Attributes", "DapDataset", "DapError", "DapVariable", "Projection", "Reader"]

#: Attribute values are strings, or numpy scalars and arrays of one dimension, whose dtype is the attribute's type.
Attributes = Mapping[str, "str | np.generic | npt.NDArray[Any]"]
#: Values at the indices of one range per dimension, of the ranges' lengths.
Reader = Callable[[Sequence[range]], npt.NDArray[Any]]

#: numpy type to its DAP2 name: The Data Access Protocol DAP 2.0, ESE-RFC-004.1.1, table 4.
TYPE_NAMES: Final[Mapping[str, str]] = {
    "u1": "Byte",
    "i2": "Int16",
    "u2": "UInt16",
    "i4": "Int32",
    "u4": "UInt32",
    "f4": "Float32",
    "f8": "Float64",
}


class DapError(Exception):
    """A request that can't be answered; it never leaves the server, which turns it into an error document."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class DapVariable:
    """One array or scalar."""

    name: str
    """Its name."""
    dtype: str
    """numpy type without byte order: u1, i2, u2, i4, u4, f4 or f8."""
    dims: tuple[str, ...]
    """Names of its dimensions, the slowest first; empty for a scalar."""
    shape: tuple[int, ...]
    """Sizes, in the order of ``dims``."""
    attrs: Attributes
    """Its attributes."""
    read: Reader
    """Makes its values."""

    @property
    def type_name(self) -> str:
        """Name of its type in DDS and DAS."""
        return TYPE_NAMES[self.dtype]

    @property
    def whole(self) -> tuple[range, ...]:
        """All its indices."""
        return tuple(range(size) for size in self.shape)


@dataclass(frozen=True, slots=True)
class DapDataset:
    """One file of the archive."""

    name: str
    """Path of it, which the DDS ends with."""
    variables: tuple[DapVariable, ...]
    """In the order of the DDS."""
    attrs: Attributes
    """Those of the file itself."""
    grids: bool = True
    """Whether an array whose dimensions all have a coordinate variable is a Grid, with these as its maps."""

    def find(self, name: str) -> DapVariable:
        """The variable of that name. Raises DapError, 400."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise DapError(400, f"Unknown variable: {name!r} isn't in {self.name}")

    def maps(self, variable: DapVariable) -> tuple[DapVariable, ...]:
        """The maps of a variable that is a Grid, in the order of its dimensions; none where it is no Grid."""
        if not self.grids or len(variable.dims) < 2:  # noqa: PLR2004 - a coordinate is no Grid over itself
            return ()
        known = {candidate.name: candidate for candidate in self.variables}
        return tuple(known[dim] for dim in variable.dims) if known.keys() >= set(variable.dims) else ()


@dataclass(frozen=True, slots=True)
class Projection:
    """One declaration of a constrained dataset: arrays with the indices that are asked for."""

    kind: str
    """``Array``, for a scalar too, ``Grid``, or ``Structure``: a Grid of which only members are asked for."""
    name: str
    """Name of the declaration."""
    members: tuple[tuple[DapVariable, tuple[range, ...]], ...] = field(default=())
    """Variables with the indices of each, in the order in which they are sent; a Grid's array is the first."""

    @property
    def size(self) -> int:
        """Values that it has in all."""
        return sum(math.prod(len(part) for part in indices) for _, indices in self.members)
