"""Names on a map: each at the first place beside its dot where it hides neither another name nor a dot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Label", "Placing"]

#: Size of the letters, and their mean width, in screen pixels.
SIZE, _LETTER = 10, 6.0
#: Half of a dot, with a margin.
_DOT = 5.0
#: Longest name, in letters.
_LONGEST = 28

Align = Literal["start", "middle", "end"]

#: By the side of the dot: to the right of it, above or below, to the left.
_ALIGNED: Mapping[int, Align] = MappingProxyType({1: "start", 0: "middle", -1: "end"})


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text."""

    x: float
    """Of its start, middle or end, in screen pixels."""
    y: float
    """Of its baseline."""
    text: str
    """What it says."""
    kind: str
    """``name``, ``site`` or ``degrees``."""
    align: Align = "start"
    """Which part of the text lies at ``x``."""


@dataclass
class Placing:
    """The areas that are taken, each (left, top, right, bottom)."""

    frame: tuple[float, float, float, float]
    """Labels lie within."""
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    """By dots and labels."""

    @classmethod
    def around(cls, dots: list[tuple[float, float]], frame: tuple[float, float, float, float]) -> Placing:
        return cls(frame, [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in dots])

    def beside(self, place: tuple[float, float], name: str, kind: str) -> Label | None:
        """Place a name beside a dot; None where there is no room."""
        text = _short(name)
        wide = len(text) * _LETTER
        for far in (0, 5):
            for right, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
                middle = (
                    place[0] + right * (_DOT + 2 + wide / 2 + (0 if down else far)),
                    place[1] + down * (_DOT + SIZE / 2 + far),
                )
                if self._take(middle, wide):
                    # What is written may be narrower than what was kept free for it, so it begins at the dot.
                    align = _ALIGNED[right]
                    start = middle[0] - right * wide / 2
                    return Label(start, middle[1] + 3.5, text, "site" if kind == "site" else "name", align)
        return None

    def within(self, box: npt.NDArray[np.float64], name: str) -> Label | None:
        """Place a name in an outline (n, 2), else above or below it; None where there is no room."""
        text = _short(name)
        wide = len(text) * _LETTER
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
        inside = [(float(left + right) / 2, float(top + (bottom - top) * part)) for part in (0.5, 0.3, 0.7, 0.15, 0.85)]
        fits = wide < right - left and bottom - top > SIZE
        outside = [(inside[0][0], float(top) - 7), (inside[0][0], float(bottom) + 7)]
        outside += [(float(right) + wide / 2 + 3, inside[0][1]), (float(left) - wide / 2 - 3, inside[0][1])]
        for middle in [*(inside if fits else []), *outside]:
            if self._take(middle, wide):
                return Label(middle[0], middle[1] + 3.5, text, "name", "middle")
        return None

    def _take(self, middle: tuple[float, float], wide: float) -> bool:
        left, top = middle[0] - wide / 2, middle[1] - SIZE / 2
        right, bottom = left + wide, top + SIZE
        west, north, east, south = self.frame
        if left < west or top < north or right > east or bottom > south:
            return False
        taken = np.array(self.taken).reshape(-1, 4)
        apart = (taken[:, 0] >= right) | (taken[:, 2] <= left) | (taken[:, 1] >= bottom) | (taken[:, 3] <= top)
        if not apart.all():
            return False
        self.taken.append((left, top, right, bottom))
        return True


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
