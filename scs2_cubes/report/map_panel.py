"""A partition's view as a map: screen pixels from cube pixels, axes in the region's CRS, scale bar, legend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from pyproj import CRS, Transformer

from scs2_cubes.core.grid import Partition
from scs2_cubes.report.palette import ClassColours, ScaleColours, round_step
from scs2_cubes.report.sheet import Sheet, fitted, number

__all__ = [
    "MapFrame",
    "draw_classes",
    "draw_colour_bar",
    "draw_scale_bar",
    "map_frame",
    "metres_along",
    "name_of_crs",
    "place_view",
]

#: Largest ratio of a map's sides; beyond it, it is drawn out of proportion.
_LONGEST = 8
#: Points of the line along which a map's width is measured.
_MEASURED = 33
#: Entries of a legend.
_MOST_CLASSES = 18
_ENTRY = 17
#: Ticks reach one pixel inwards, and would hide what is there.
_TOP = 3


@dataclass(frozen=True, slots=True)
class MapFrame:
    """Where a partition lies, in the units of its map's axes."""

    partition: Partition
    """What is shown."""
    bbox: tuple[float, float, float, float]
    """(west, south, east, north) in the axes' units."""
    unit: float
    """Units of the CRS in one unit of the axes: km, or degrees."""
    labels: tuple[str, str]
    """Of the x axis, which names the CRS, and of the y axis."""
    metres: float
    """Width along its middle."""
    ratio: float
    """Height by width, as it is drawn."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(columns, rows) of the largest map of these proportions in so many screen pixels."""
        cols = min(width, round(height / self.ratio))
        return max(40, cols), max(40, min(height, round(cols * self.ratio)))

    def place(self, row: float, col: float) -> tuple[float, float]:
        """(x, y) on the axes of the centre of a pixel of the region's grid."""
        lattice = self.partition.region.grid.lattice
        x, y = lattice.x_origin + (col + 0.5) * lattice.dx, lattice.y_origin + (row + 0.5) * lattice.dy
        return x / self.unit, y / self.unit

    def draw(self, axes: Axes, image: npt.NDArray[np.uint8]) -> None:
        """Put ``image`` (screen rows, screen columns, 3) on ``axes`` of just that size; labels no axis."""
        west, south, east, north = self.bbox
        extent = (west, east, south, north)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", origin="upper", zorder=_TOP)
        axes.set(xlim=(west, east), ylim=(south, north))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10], min_n_ticks=2))


def map_frame(partition: Partition) -> MapFrame:
    """The frame of a partition's map."""
    grid, window = partition.region.grid, partition.window
    crs, lattice = CRS.from_user_input(grid.crs), grid.lattice
    west, north = lattice.x_origin + window.col_start * lattice.dx, lattice.y_origin + window.row_start * lattice.dy
    east, south = west + window.width * lattice.dx, north + window.height * lattice.dy
    factor = crs.axis_info[0].unit_conversion_factor or 1.0
    middle = (south + north) / 2
    if crs.is_geographic:
        unit = math.radians(1) / factor
        names = ("Longitude (°)", "Latitude (°)")
        # As long as it looks in the middle: a degree of longitude shrinks towards the poles.
        ratio = (north - south) / (east - west) / max(0.05, math.cos(middle * factor))
    else:
        unit = 1000 / factor
        names = ("Easting (km)", "Northing (km)")
        ratio = (north - south) / (east - west)
    labels = f"{names[0]}, {name_of_crs(crs, grid.crs)}", names[1]
    bbox = (west / unit, south / unit, east / unit, north / unit)
    length = metres_along(crs, west, east, middle) or (east - west) * factor
    return MapFrame(partition, bbox, unit, labels, length, min(_LONGEST, max(1 / _LONGEST, ratio)))


def place_view(
    view: npt.NDArray[Any], stride: int, partition: Partition, size: tuple[int, int], cell: int = 1
) -> npt.NDArray[Any]:
    """The nearest of ``view``'s pixels for each of ``size`` = (columns, rows) screen pixels, (rows, columns).

    ``cell``: so many screen pixels in each direction show the same, which makes a smaller file.
    """
    height, width = partition.window.shape
    rows = _nearest(size[1], height, stride, view.shape[0], cell)
    cols = _nearest(size[0], width, stride, view.shape[1], cell)
    placed: npt.NDArray[Any] = view[np.ix_(rows, cols)]
    return placed


def draw_scale_bar(sheet: Sheet, frame: MapFrame, left: int, top: int, cols: int) -> None:
    """Draw a bar of a round length below a map that is ``cols`` screen pixels wide."""
    length = round_step(frame.metres * 0.45)
    text = f"{number(length / 1000)} km" if length >= 1000 else f"{number(length)} m"  # noqa: PLR2004  metres in a km
    wide = length / frame.metres * cols
    sheet.box(left, top, wide, 4, "#1a1a1a", outline=False)
    sheet.text(left + wide + 6, top + 3, text, size=7)


def draw_colour_bar(sheet: Sheet, scale: ScaleColours, label: str, left: int, top: int, height: int) -> None:
    """Draw the scale's colours upwards, 14 pixels wide, with numbers and ``label`` (units) beside them."""
    axes = sheet.axes(left, top, 14, height)
    values = scale.low + (np.arange(height)[::-1, np.newaxis] + 0.5) / height * (scale.high - scale.low)
    image = scale.paint(values, np.zeros(values.shape, dtype=bool))
    axes.imshow(
        image, extent=(0, 1, scale.low, scale.high), aspect="auto", interpolation="nearest", origin="upper", zorder=_TOP
    )
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.tick_right()
    inner = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(scale.low, scale.high)
    margin = (scale.high - scale.low) * 0.08
    ticks = [scale.low, *(float(one) for one in inner if scale.low + margin < one < scale.high - margin), scale.high]
    below, above = ("≤ " if scale.beyond[0] else ""), ("≥ " if scale.beyond[1] else "")
    texts = [below + number(ticks[0], 4), *(number(one, 4) for one in ticks[1:-1]), above + number(ticks[-1], 4)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter(texts))
    sheet.text(left + 74, top + height / 2, fitted(label, height), rotation=90, align="center")


def draw_classes(sheet: Sheet, classes: ClassColours, left: int, top: int, width: int) -> int:
    """Draw the classes' colours and labels, one below the other, then that of no value; return where that ends."""
    entries = [(entry.colour, entry.label) for entry in classes.shown[:_MOST_CLASSES]]
    for colour, label in [*entries, (classes.fill, "no value")]:
        sheet.box(left, top, 14, 11, colour)
        sheet.text(left + 20, top + 6, fitted(label, width - 22, 7.5), size=7.5)
        top += _ENTRY
    if len(classes.shown) > _MOST_CLASSES:
        sheet.text(left + 20, top + 6, f"… and {len(classes.shown) - _MOST_CLASSES} more classes", size=7.5)
        top += _ENTRY
    return top


def name_of_crs(crs: CRS, text: str) -> str:
    """The CRS's name and code, for people; ``text``, as it was asked for, where it has none."""
    authority = crs.to_authority()
    code = ":".join(authority) if authority else ""
    return f"{crs.name} ({code})" if code else (crs.name if crs.name != "unknown" else fitted(text, 300))


def metres_along(crs: CRS, west: float, east: float, y: float) -> float | None:
    """Geodesic length of the line at ``y`` from ``west`` to ``east``; None where it can't be found out."""
    geod = crs.get_geod()
    if geod is None or crs.geodetic_crs is None:
        return None
    xs = np.linspace(west, east, _MEASURED)
    lons, lats = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(xs, np.full(_MEASURED, y))
    length = float(geod.line_length(lons, lats))
    return length if math.isfinite(length) and length > 0 else None


def _nearest(screen: int, pixels: int, stride: int, stored: int, cell: int) -> npt.NDArray[np.intp]:
    """Index in a view of ``stored`` pixels for each of ``screen`` screen pixels along one direction."""
    centre = (np.arange(screen) // cell + 0.5) * cell
    # The last cell may reach beyond the map, and a view may lack the last, incomplete pixel.
    place = np.minimum(centre, screen - 0.5) / screen * pixels / stride
    index: npt.NDArray[np.intp] = np.minimum(place.astype(np.intp), stored - 1)
    return index
