"""A cube's values against what they were made from, step by step, by the samples of its tiles.

Records hold for each step under how many pixels of the sample the source, or what a user's function returned, has a
value; the facts of a stored plane hold how many of the same pixels have one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.evidence import Found, LayerRule

__all__ = ["StepCounts", "compared", "differing", "lost_in_function", "origin_of", "unjudged_because"]

#: Of a tile's sample, the share that may differ from the source, and the pixels that may as well, in each step: a
#: centre that lies on the edge of two source pixels within rounding may be taken for the one or the other.
_SLACK_SHARE, _SLACK_PIXELS = 0.005, 2
#: … and where a footprint was judged by 9 x 9 of its points instead of by area. Of white noise, the worst of masks (a
#: tenth to nine tenths valid; 3 to 29 m to 30 m, shifted by fractions), 4096 samples were off by 0.0093 at most; of
#: patches by 0.0056, and of 10 m to 30 m on a common lattice by nothing. This is twice that, and one more deviation of
#: a count of single pixels, for tiles with few.
_FOOTPRINT_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class StepCounts:
    """The sample of one tile in one step of one layer."""

    step: int
    """Which."""
    stored: int
    """Samples with a value in the cube."""
    expected: int
    """Samples with a value in what it was made from."""
    size: int
    """All samples."""


def compared(found: Found, layer: LayerRule, tile: str) -> list[StepCounts]:
    """The steps of ``tile`` that can be compared; none where the method, or the record's age, forbids it."""
    record = found.record(tile)
    counts = _expected(record, layer.name)
    if not layer.is_comparable or record.sampled == 0 or counts is None or not found.is_read(tile):
        return []
    planes = found.planes(tile, layer.name)
    # A tile that was recorded before time grew has counts of its own steps alone.
    return [
        StepCounts(step, plane.sampled_valid, expected, record.sampled)
        for step, (plane, expected) in enumerate(zip(planes, counts, strict=False))
    ]


def _expected(record: TileRecord, layer: str) -> Sequence[int] | None:
    """Samples by step with a value in what the cube's pixels were resampled from."""
    return record.function_valid.get(layer, record.source_valid.get(layer))


def differing(found: Found, layer: LayerRule, tile: str) -> list[StepCounts]:
    """The steps in which there are values where there should be none, or none where there should be some."""
    return [
        one
        for one in compared(found, layer, tile)
        if one.stored > one.expected + _allowed(layer, one.size)
        or (not layer.at_most and one.stored < one.expected - _allowed(layer, one.size))
    ]


def _allowed(layer: LayerRule, size: int) -> float:
    """By how many of ``size`` samples cube and source may differ in one step."""
    more = 0.0 if layer.is_exact else _FOOTPRINT_SHARE * size + math.sqrt(size)
    return _SLACK_SHARE * size + _SLACK_PIXELS + more


def lost_in_function(found: Found, layer: LayerRule, tile: str) -> bool:
    """True where the source has values in ``tile``, and what the user's function returned has none."""
    record = found.record(tile)
    source, returned = (counts.get(layer.name, ()) for counts in (record.source_valid, record.function_valid))
    return layer.name in record.function_valid and not any(returned) and _is_more(layer, source, record.sampled)


def _is_more(layer: LayerRule, counts: Sequence[int], size: int) -> bool:
    return any(count > _allowed(layer, size) for count in counts)


def origin_of(found: Found, layer: LayerRule) -> str:
    """What the layer's pixels are compared with, for people."""
    records: Mapping[str, TileRecord] = found.evidence.records
    made = any(layer.name in records[tile].function_valid for tile in found.tiles)
    return "in what the function returned" if made else "in the source"


def unjudged_because(found: Found, layer: LayerRule) -> str:
    """Why no tile of ``layer`` could be compared, for people."""
    return next(_reasons(found, layer))


def _reasons(found: Found, layer: LayerRule) -> Iterator[str]:
    if not layer.is_comparable:
        yield "this method gives values where the source has none"
    if any(map(found.is_read, found.tiles)):
        yield "its records are older than this check"
    yield "no tile was read"
