"""A picture's sheet: places in screen pixels from the upper left, one font, texts as they are meant.

Figures are matplotlib's own objects, made and drawn without pyplot and without its global settings, so that steps in
several threads can draw at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

__all__ = ["FONT", "Sheet", "fitted", "number", "printable"]

#: matplotlib brings it along.
FONT = "DejaVu Sans"
INK = "#1a1a1a"
_DPI = 100
#: Mean width of a letter of the font, as a part of its size.
_LETTER = 0.58


@dataclass(frozen=True, slots=True)
class Sheet:
    """White paper of a size in pixels."""

    figure: Figure
    """What is drawn on."""
    width: int
    """Columns of pixels."""
    height: int
    """Rows of pixels."""

    @classmethod
    def blank(cls, width: int, height: int) -> Sheet:
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white", edgecolor="white")
        FigureCanvasAgg(figure)
        return cls(figure, width, height)

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """Axes that cover just those pixels, with a line around them that hides none."""
        self.box(left - 1, top - 1, width + 2, height + 2, INK, outline=False)
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place, facecolor="white")
        axes.spines[:].set_visible(False)
        axes.tick_params(
            length=3, width=0.8, pad=2, labelsize=7, color=INK, labelcolor=INK, labelfontfamily=FONT, direction="out"
        )
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        return axes

    def text(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float = 8,
        weight: str = "normal",
        align: str = "left",
        rotation: float = 0,
        colour: str = INK,
    ) -> None:
        """Write ``text``, the middle of its line ``top`` pixels below the sheet's edge."""
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            printable(text),
            fontproperties=FontProperties(family=FONT, size=size, weight=weight),
            ha=align,
            va="center_baseline" if not rotation else "center",
            rotation=rotation,
            color=colour,
            parse_math=False,
        )

    def box(self, left: float, top: float, width: float, height: float, colour: str, *, outline: bool = True) -> None:
        """Draw an area, with a thin outline where that is wanted."""
        self.figure.add_artist(
            Rectangle(
                (left / self.width, 1 - (top + height) / self.height),
                width / self.width,
                height / self.height,
                transform=self.figure.transFigure,
                facecolor=colour,
                edgecolor=INK,
                linewidth=0.6 if outline else 0,
                antialiased=False,
                # Below any axes, whose line is a box under them.
                zorder=-1,
            )
        )

    def line(self, left: float, top: float, width: float, colour: str, marker: str = "None", style: str = "-") -> None:
        """Draw a horizontal piece of a line, as in a legend."""
        across = [left / self.width, (left + width / 2) / self.width, (left + width) / self.width]
        line = Line2D(across, [1 - top / self.height] * 3, transform=self.figure.transFigure, markevery=[1])
        line.set(color=colour, linewidth=1.6, marker=marker, markersize=5, linestyle=style)
        self.figure.add_artist(line)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Draw all of it: (rows, columns, 3), red, green, blue."""
        canvas = self.figure.canvas
        if not isinstance(canvas, FigureCanvasAgg):
            raise TypeError(f"a sheet is drawn by FigureCanvasAgg, not by {type(canvas).__name__}")
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib hasn't annotated it
        drawn: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # nor this
        return drawn[..., :3].copy()


def printable(text: str) -> str:
    """``text`` on one line, with a question mark where the font has no letter."""
    letters = get_font(findfont(FontProperties(family=FONT))).get_charmap()
    return "".join(letter if ord(letter) in letters else "?" for letter in " ".join(text.split()))


def fitted(text: str, width: float, size: float = 8) -> str:
    """``text``, shortened where it would be longer than ``width`` pixels."""
    letters = max(4, int(width / (_LETTER * size * _DPI / 72)))
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1].rstrip() + "…"


def number(value: float, digits: int = 10) -> str:
    """A number of an axis, without the last digits' rounding, and with a minus of the width of a plus."""
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")
