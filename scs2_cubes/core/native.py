"""What a source holds, on its native grid, as plain values that travel to workers.

A :class:`NativeDataset` is found out once, on the client, from metadata and coordinates alone. Together with a
window it is all that a worker needs to read pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.errors import redact

__all__ = ["Location", "NativeArray", "NativeCoordinate", "NativeDataset", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long, and how patiently, something on the network is asked again."""

    deadline: float = 300.0
    """Seconds after the first attempt at which no further one is started."""
    max_attempts: int = 10
    """Attempts in all."""
    initial_wait: float = 0.5
    """Seconds before the second attempt; doubles from one attempt to the next, with full jitter."""
    max_wait: float = 30.0
    """Longest wait between two attempts in seconds, a server's ``Retry-After`` excepted."""
    timeout: float = 60.0
    """Seconds without a byte after which an attempt has failed."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where arrays can be read, and how: an fsspec URL with its options, for workers."""

    url: str
    """``https://…``, ``s3://…``, ``file://…``, or an absolute path."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """fsspec storage options, or for another form what its reader wants to know; never printed."""
    retry: RetryPolicy = RetryPolicy()
    """Policy for every request."""
    form: str = "zarr"
    """What lies there, which says who reads it: ``zarr``, or ``windows`` of a portal in a cache."""
    complete: bool = False
    """Whether every chunk is stored, so that one which isn't there is an error and never fill."""

    def __repr__(self) -> str:
        # Options and address may hold credentials, and clusters log what their tasks are given.
        return f"Location({redact(self.url)!r})"


@dataclass(frozen=True, slots=True)
class NativeArray:
    """One array of a source, as it is stored."""

    name: str
    """Name in the store."""
    dims: tuple[str, ...]
    """Names of its dimensions, in stored order."""
    shape: tuple[int, ...]
    """Sizes, in the order of ``dims``."""
    chunks: tuple[int, ...]
    """Sizes of a chunk, in the order of ``dims``."""
    dtype: str
    """numpy name of the stored dtype."""
    fill: float | None
    """The number that the store's metadata declares as "no value", or None."""
    absent: float | None = None
    """What a chunk that isn't stored reads as, by Zarr's definition; None: undefined, which is taken for no value."""
    scale: float = 1.0
    """CF scale_factor."""
    offset: float = 0.0
    """CF add_offset."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """The other attributes, as stored."""
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """The attributes that describe how numbers are stored (``_FillValue``, ``scale_factor``, ``coordinates`` …)."""
    band: Mapping[str, Any] = field(default_factory=dict)
    """What a catalogue says of it beside the store (STAC's ``raster:bands``: unit, nodata), for unknown products."""
    metadata: str = ""
    """The store's own metadata of the array (JSON), so that a worker opens it without asking again."""


@dataclass(frozen=True, slots=True, eq=False)
class NativeCoordinate:
    """A small array of a source that doesn't lie on its lattice: time, members, the grid mapping."""

    name: str
    """Name in the store."""
    dims: tuple[str, ...]
    """Names of its dimensions; empty for a scalar."""
    values: npt.NDArray[Any]
    """Its numbers, as stored."""
    attrs: Mapping[str, Any]
    """All its attributes, as stored."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NativeCoordinate):
            return NotImplemented
        mine, theirs = (self.name, self.dims, self.attrs), (other.name, other.dims, other.attrs)
        return mine == theirs and self.values.dtype == other.values.dtype and np.array_equal(self.values, other.values)

    # Arrays and attributes can't be hashed.
    __hash__ = None  # type: ignore[assignment]  # Python's own way of saying so


@dataclass(frozen=True, slots=True)
class NativeDataset:
    """A data id's arrays, lattice and time axis."""

    location: Location
    """Where its arrays lie."""
    href: str
    """Public address for the attributes: the original one, not a mirror's."""
    arrays: tuple[NativeArray, ...]
    """Those that lie on the lattice."""
    lattice: Lattice
    """The pixels; rows and columns in stored order, so dy or dx may have either sign."""
    y_dim: str
    """Name of the row dimension in ``NativeArray.dims``."""
    x_dim: str
    """Name of the column dimension."""
    version: str
    """The source version: what the source says about its present content."""
    time_dim: str | None = None
    """Name of the time dimension; None where time is a scalar or unknown."""
    times: tuple[str, ...] = ()
    """Time stamps, ISO 8601 without zone, in stored order; one for a scalar, empty where the source has none."""
    coordinates: tuple[NativeCoordinate, ...] = ()
    """Small arrays that don't lie on the lattice; for users' functions, which see what xarray would show them."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Global attributes, as stored."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Attributes that the source adds to a cube: ``stac_catalog_url``, ``stac_item_id`` …"""

    def array(self, name: str) -> NativeArray:
        """The array of that name. Raises KeyError where there is none."""
        for array in self.arrays:
            if array.name == name:
                return array
        raise KeyError(name)
