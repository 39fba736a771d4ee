"""What verdicts rest on: what must hold for a partition, and all that was found of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scs2_cubes.core.checks import PlaneFacts, TileFacts
from scs2_cubes.core.cube import TileRecord

__all__ = ["CubeSight", "Evidence", "Found", "LayerRule", "described"]


def described(value: Any) -> str:
    """An attribute's value as text: the same for what is written and for what formats make of it."""
    return str(np.asarray(value).tolist())


@dataclass(frozen=True, slots=True)
class LayerRule:
    """What must hold for a layer's values."""

    name: str
    """Its name in the cube."""
    is_categorical: bool
    """Whether its values are class codes."""
    dtype: str
    """numpy name of the stored dtype."""
    codes: frozenset[int] = frozenset()
    """The codes of its legend; empty where there is none."""
    valid_range: tuple[float, float] | None = None
    """Smallest and largest value that may occur; None where nothing is known."""
    is_exact: bool = True
    """Whether a pixel has a value where the source pixel under its centre has, and not by the parts of a footprint."""
    is_comparable: bool = True
    """False where the method gives values where the source has none."""
    at_most: bool = False
    """True where values may be lost on the way rightly, so that there may be less of them than in the source."""
    attrs: Mapping[str, str] = field(default_factory=dict)
    """Attribute that says what its values mean → how it was written, as :func:`described` has it."""


@dataclass(frozen=True, slots=True)
class CubeSight:
    """A cube as its readers see it when they open it."""

    layout: tuple[str, ...] = ()
    """In what it isn't as specified, one phrase each."""
    times: tuple[str, ...] = ()
    """Its time stamps, ISO 8601 without zone."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Its global attributes."""
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Layer → its attributes."""
    unfinished: tuple[str, ...] = ()
    """What a crash has left undone in its metadata, and the next run will do, one phrase each."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a partition must be, and all that is known of it beside its pixels."""

    data_version: str
    """The present one."""
    tiles: tuple[str, ...]
    """Keys of the partition's tiles, row-major."""
    records: Mapping[str, TileRecord]
    """Tile key → record, of the whole cube."""
    layers: tuple[LayerRule, ...]
    """In the cube's order."""
    times: tuple[str, ...]
    """The time stamps that the cube must have; empty where the source has none.

    Those of its own metadata, where the source has got more since.
    """
    n_steps: int
    """Planes of each layer."""
    sight: CubeSight
    """The opened cube."""
    newer_times: tuple[str, ...] = ()
    """Time stamps that the source has by now, and that the next run adds."""


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence and facts together."""

    evidence: Evidence
    """What is known beside the pixels."""
    tiles: Mapping[str, TileFacts]
    """Tile key → what lies there, of the tiles that have a record."""

    def record(self, tile: str) -> TileRecord:
        """The tile's record."""
        return self.evidence.records[tile]

    def planes(self, tile: str, layer: str) -> list[PlaneFacts]:
        """The layer's planes that could be read."""
        facts = self.tiles[tile].planes
        return [facts[layer, step] for step in range(self.evidence.n_steps) if (layer, step) in facts]

    def is_read(self, tile: str) -> bool:
        """True where all of the tile could be read."""
        return not self.tiles[tile].problem

    def layer_tiles(self) -> Iterator[tuple[LayerRule, str]]:
        """(layer, tile) of all that could be read."""
        for layer in self.evidence.layers:
            for tile in self.tiles:
                if self.is_read(tile):
                    yield layer, tile
