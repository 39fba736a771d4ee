"""Whether a cube is right: judges what is given to it, reads nothing, repairs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["CHECKS", "CheckKind", "PlaneFacts", "TileFacts", "Verdict"]


@dataclass(frozen=True, slots=True)
class CheckKind:
    """One of the checks that every partition of every cube undergoes."""

    blocking: bool
    """True where wrong data would flow on: the run that finds it fails, and nothing that follows in it is made."""
    description: str
    """What it means to pass, for people."""


#: Name → kind, in the order in which they are judged and shown.
CHECKS: Mapping[str, CheckKind] = MappingProxyType(
    {
        "complete": CheckKind(True, "Every tile is recorded as done, all at one data version."),
        "layout": CheckKind(True, "Grid, CRS, coordinates, dtypes and chunks are as the configuration specifies."),
        "time_axis": CheckKind(True, "All time steps are there, in order, and none is empty where the others aren't."),
        "as_recorded": CheckKind(True, "Every tile can be read, and has as many values as its record says."),
        "legal_codes": CheckKind(True, "Class maps hold only codes of their legend, and fill."),
        "valid_share": CheckKind(
            True, "There are values where the source, or a function's result, has some, and only there."
        ),
        "no_empty_tiles": CheckKind(True, "No tile is empty where the source isn't."),
        "valid_range": CheckKind(False, "All values lie in the range that the product's description gives."),
        "description": CheckKind(False, "Legend, units, licence and citation are in the attributes."),
    }
)


@dataclass(frozen=True, slots=True)
class PlaneFacts:
    """What one stored plane of one tile holds."""

    valid: int
    """Pixels with a value."""
    minimum: float | None
    """Smallest value; None where there is none."""
    maximum: float | None
    """Largest value."""
    total: float
    """Sum of the values, each times its pixel's weight."""
    codes: Mapping[int, int]
    """Class code → pixels, fill excepted; empty unless the layer is categorical."""
    sampled_valid: int
    """Pixels with a value among the tile's sample."""
    weight: float = 0.0
    """Sum of the weights of the pixels with a value: their number, or where cells differ in area, that of the areas."""
    class_weights: Mapping[int, float] = field(default_factory=dict)
    """Class code → sum of its pixels' weights."""


@dataclass(frozen=True, slots=True)
class TileFacts:
    """What one stored tile holds."""

    tile: str
    """The tile's key."""
    planes: Mapping[tuple[str, int], PlaneFacts] = field(default_factory=dict)
    """(layer, step) → facts; lacks those that can't be read."""
    problem: str = ""
    """Why something of it can't be read; empty otherwise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found for one partition."""

    check: str
    """Which of :data:`CHECKS`."""
    passed: bool
    """Whether all is right."""
    text: str
    """What was found, for people: numbers where all is right; else what is wrong, where, and what to do."""
    tiles: tuple[str, ...] = ()
    """Keys of the tiles that are wrong, where it is a matter of tiles."""
    lasts: bool = True
    """False where what failed is no property of stored pixels: a run mends it, or the configuration is another one."""
    is_judged: bool = True
    """False where it couldn't be looked at, because another check failed."""

    @property
    def blocks(self) -> bool:
        """True where nothing may be built on the partition."""
        return not self.passed and CHECKS[self.check].blocking
