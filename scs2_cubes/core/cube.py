"""What a cube is: its layers, grid, time axis and layout, independent of the version of its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scs2_cubes.core.grid import Grid
from scs2_cubes.errors import GridError

__all__ = ["CubeLayer", "CubeSchema", "TileRecord"]


@dataclass(frozen=True, slots=True)
class CubeLayer:
    """One data variable of a cube; dimensions (time, y, x), or (y, x) where the cube has one scalar time."""

    name: str
    """Name of the variable."""
    dtype: str
    """numpy name of the stored dtype."""
    fill: float
    """Stored where there is no value, and what an unwritten chunk reads as."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """CF attributes, ``grid_mapping`` excepted."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)


@dataclass(frozen=True, slots=True)
class CubeSchema:
    """The identity of a cube: what makes it this cube and no other, with attributes that depend on nothing else."""

    layers: tuple[CubeLayer, ...]
    """Its data variables."""
    grid: Grid
    """Its pixels; a chunk is one tile."""
    times: tuple[str, ...]
    """Time stamps, ISO 8601 without zone; empty where the source has none."""
    time_is_dim: bool
    """True where time is a dimension, chunked by 1; False where it is a scalar coordinate."""
    zarr_format: int = 2
    """2 or 3."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Global attributes that don't depend on the version of the content."""
    chunk: tuple[int, int] | None = None
    """(rows, columns) of a chunk, of which a tile is a multiple; None: one chunk is one tile."""

    def __post_init__(self) -> None:
        rows, cols = self.chunk_shape
        if rows < 1 or cols < 1 or self.grid.tile_ny % rows or self.grid.tile_nx % cols:
            # Chunks that two tiles share lose pixels where both are written at once.
            raise GridError(
                f"a tile of {self.grid.tile_ny} x {self.grid.tile_nx} pixels isn't a multiple of a chunk of {rows} x "
                f"{cols} (rows x columns)"
            )

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """(rows, columns) of a chunk."""
        return self.chunk or (self.grid.tile_ny, self.grid.tile_nx)

    def layer(self, name: str) -> CubeLayer:
        """The layer of that name. Raises KeyError where there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    @property
    def n_steps(self) -> int:
        """Number of planes of each layer."""
        return len(self.times) if self.time_is_dim else 1


@dataclass(frozen=True, slots=True)
class TileRecord:
    """A tile is done, at one data version, with these counts: the only meaning of done.

    Holds no time stamp and no host, so that an interrupted and resumed cube equals an undisturbed one.
    """

    tile: str
    """The tile's key."""
    data_version: str
    """Fingerprint of what its pixels were made from."""
    source_version: str
    """What the source said about its content when the tile was made."""
    pixels: int
    """Pixels of one plane."""
    valid: Mapping[str, int]
    """Layer → pixels with a value, over all steps."""
    chunks_written: int
    """Chunks that hold a value."""
    chunks_empty: int
    """Chunks that hold none and so aren't stored."""
    source_chunks: int
    """Source chunks that its windows touch."""
    source_chunks_absent: int
    """Those that the source doesn't store, which means fill."""
    source_valid: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Layer → pixels of the tile's sample, by step, under which the source has a value.

    Under its centre, or where the method takes the footprint under at least half of that; see
    :mod:`scs2_cubes.core.facts`. Before a user's function, where there is one; without the layers that only the
    function makes. Empty in records that are older than this.
    """
    sampled: int = 0
    """Pixels of one plane's sample; 0 in records that are older than this."""
    function_valid: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """As ``source_valid``, of what a user's function returned; empty where there is none."""
