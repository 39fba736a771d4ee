"""The colours of a layer's values: a legend's own for classes, a perceptual scale for quantities."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from scs2_cubes.core.variables import Kind, LegendEntry, Variable

__all__ = ["ClassColours", "Colours", "ScaleColours", "class_colours", "line_colour", "missing", "rgb_of", "round_step"]

#: Light and neutral; the one that is farthest from a legend's colours means "no value".
_FILLS = ("#f0f0f0", "#ffffff", "#d0d0d0", "#bdbdbd")
_SCALE_FILL = "#ececec"

#: Okabe and Ito's colours, which can be told apart with any colour vision; yellow, too light for a line, excepted.
_LINES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#6b4c1e")

#: Up to so many classes all are in a picture's legend, beyond those that occur.
_ALL_CLASSES = 10

#: A limit of a scale is rounded to about such a part of the scale's length.
_ROUNDING = 20


@dataclass(frozen=True, slots=True)
class ClassColours:
    """Colours of class codes."""

    entries: tuple[LegendEntry, ...]
    """Every class that is known or occurs, in order of codes."""
    shown: tuple[LegendEntry, ...]
    """Those of the picture's legend: all if they are few, else those that occur."""
    fill: str
    """``#rrggbb`` of pixels without a value."""

    def exact(self) -> npt.NDArray[np.uint8]:
        """The colours that a picture mustn't change, (colours, 3): fill, then the classes'."""
        return np.array([rgb_of(self.fill), *(rgb_of(entry.colour) for entry in self.entries)], dtype=np.uint8)

    def paint(self, values: npt.NDArray[Any], absent: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """``values`` (…) as red, green, blue (…, 3); where ``absent``, and where a code isn't known, fill."""
        painted = np.empty((*values.shape, 3), dtype=np.uint8)
        painted[...] = rgb_of(self.fill)
        for entry in self.entries:
            painted[(values == entry.code) & ~absent] = rgb_of(entry.colour)
        return painted

    def colour(self, code: int) -> str:
        """``#rrggbb`` of one class; fill where it isn't known."""
        return next((entry.colour for entry in self.entries if entry.code == code), self.fill)


@dataclass(frozen=True, slots=True)
class ScaleColours:
    """Colours of a quantity, from ``low`` to ``high`` and the same beyond."""

    low: float
    """Value of the first colour."""
    high: float
    """Value of the last colour."""
    beyond: tuple[bool, bool]
    """Whether values lie (below ``low``, above ``high``)."""
    name: str = "viridis"
    """matplotlib's name of the scale."""
    levels: int = 128
    """Number of colours."""
    fill: str = _SCALE_FILL
    """``#rrggbb`` of pixels without a value."""

    @classmethod
    def of(
        cls,
        values: npt.NDArray[Any],
        kind: Kind,
        extremes: tuple[float, float] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> ScaleColours:
        """Scale for ``values`` (n,), all of them valid: from their 2nd to their 98th percentile, rounded outwards.

        ``extremes``: smallest and largest value of what the values were picked from, for what lies beyond the scale;
        ``limits``: first and last value, before rounding, instead of the percentiles.
        """
        name = "cividis" if kind is Kind.STANDARD_DEVIATION else "viridis"
        numbers = values.astype(np.float64)
        ends = ([float(numbers.min()), float(numbers.max())] if numbers.size else []) + list(extremes or ())
        low, high = limits or _bulk(numbers)
        step = round_step((high - low) / _ROUNDING)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(low, high, (min(ends, default=low) < low, max(ends, default=high) > high), name)

    def colours(self) -> npt.NDArray[np.uint8]:
        """The scale's colours from ``low`` to ``high``, (levels, 3)."""
        scale = mpl.colormaps[self.name].resampled(self.levels)
        colours: npt.NDArray[np.uint8] = scale(np.arange(self.levels), bytes=True)[:, :3]
        return colours

    def exact(self) -> npt.NDArray[np.uint8]:
        """The colours that a picture mustn't change, (colours, 3): fill, then the scale's."""
        return np.concatenate([np.array([rgb_of(self.fill)], dtype=np.uint8), self.colours()])

    def paint(self, values: npt.NDArray[Any], absent: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """``values`` (…) as red, green, blue (…, 3); fill where ``absent``."""
        known = np.where(absent, self.low, values.astype(np.float64))
        place = (known - self.low) / (self.high - self.low) * self.levels
        painted = self.colours()[np.clip(place, 0, self.levels - 1).astype(np.intp)]
        painted[absent] = rgb_of(self.fill)
        return painted


Colours = ClassColours | ScaleColours


def class_colours(variable: Variable, attrs: Mapping[str, Any], codes: Iterable[int]) -> ClassColours:
    """Colours of a categorical ``variable``: its legend's, or chosen ones where it has none.

    ``attrs``: the layer's CF attributes, for ``flag_meanings`` where no product describes it; ``codes``: those that
    occur. One that occurs and isn't in the legend has a colour of its own, so that it is seen.
    """
    known = variable.legend or _flagged(attrs)
    described = {entry.code for entry in known}
    present = {int(code) for code in codes}
    strange = [
        LegendEntry(code, f"code_{code}", f"{code} (not in the legend)" if known else str(code), _chosen(code))
        for code in sorted(present - described)
    ]
    entries = tuple(sorted((*known, *strange), key=lambda entry: entry.code))
    shown = entries if len(entries) <= _ALL_CLASSES else tuple(one for one in entries if one.code in present)
    return ClassColours(entries, shown, _farthest([rgb_of(entry.colour) for entry in entries]))


def missing(values: npt.NDArray[Any], fill: float) -> npt.NDArray[np.bool_]:
    """Where ``values`` (…) of a layer hold none: its fill, and what isn't a number."""
    absent: npt.NDArray[np.bool_] = values == fill
    if values.dtype.kind == "f":
        absent = absent | ~np.isfinite(values)
    return absent


def line_colour(index: int) -> str:
    """``#rrggbb`` of the line of the site with that number; they recur."""
    return _LINES[index % len(_LINES)]


def rgb_of(colour: str) -> tuple[int, int, int]:
    """(red, green, blue), 0 to 255, of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def round_step(length: float) -> float:
    """The largest of …, 0.5, 1, 2, 5, 10, … that isn't longer than ``length``, which is positive."""
    power = 10.0 ** math.floor(math.log10(length))
    return max((factor * power for factor in (1, 2, 5) if factor * power <= length * (1 + 1e-9)), default=power)


def _bulk(numbers: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Two different numbers between which most of ``numbers`` (n,) lie; 0 and 1 for none."""
    if numbers.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(numbers, (2, 98)))
    if low == high:
        low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        margin = abs(low) / 10 or 0.5
        low, high = low - margin, high + margin
    return low, high


def _flagged(attrs: Mapping[str, Any]) -> tuple[LegendEntry, ...]:
    values, meanings = attrs.get("flag_values"), str(attrs.get("flag_meanings", "")).split()
    if values is None or isinstance(values, str):
        return ()
    codes = [int(code) for code in np.atleast_1d(values)]
    if len(codes) != len(meanings):
        return ()
    return tuple(
        LegendEntry(code, name, name.replace("_", " "), _chosen(code))
        for code, name in zip(codes, meanings, strict=True)
    )


def _chosen(code: int) -> str:
    """A colour for a class that has none: hues a golden section apart, so that neighbours differ."""
    hue, tone = (code * 0.618034 + 0.08) % 1, code % 3
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.6, 0.95)[tone], (0.85, 0.7, 0.55)[tone])
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _farthest(colours: list[tuple[int, int, int]]) -> str:
    """Of the colours for "no value", the one whose nearest class is farthest."""
    return max(_FILLS, key=lambda fill: min((math.dist(rgb_of(fill), colour) for colour in colours), default=0))
