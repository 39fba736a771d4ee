"""Where everything lies on the map of the regions: outlines, graticule and names, in screen pixels. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer

from scs2_cubes.core.grid import Region, Window, partitions_of
from scs2_cubes.core.specification import Case, SiteSpec
from scs2_cubes.report.map_labels import Label, Placing
from scs2_cubes.report.map_panel import metres_along
from scs2_cubes.report.palette import round_step

__all__ = ["Dot", "Drawing", "Outline", "lay_out", "map_crs"]

Points = npt.NDArray[np.float64]

#: The CRS of a map of regions that don't share a projected one: Plate Carrée, one degree as long in both directions.
PLATE_CARREE = "EPSG:4326"

#: Points of an edge, so that its curve shows.
_POINTS = 33
#: Screen pixels below which a region is a dot, and a tile isn't drawn.
_SMALLEST_BOX, _SMALLEST_TILE = 7, 5
#: Partitions and lines between tiles that are drawn at most.
_MOST_PARTS = 400
#: Room around the map for degrees and the scale bar.
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 14, 14, 58
#: Distances between the lines of a graticule, in degrees; below one, decimal fractions.
_DEGREES = (45.0, 30.0, 20.0, 15.0, 10.0, 5.0, 2.0, 1.0)
#: Lines of a graticule in each direction, at least.
_LINES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A line, or an area's edge."""

    kind: str
    """``region``, ``partition``, ``tile`` or ``graticule``."""
    points: Points
    """(n, 2): x to the right and y downwards in screen pixels."""
    name: str = ""
    """Of the region or partition."""
    region: Region | None = None
    """What it is the outline of, where it's a region's."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A region that would be too small as a box, or a site."""

    kind: str
    """``region`` or ``site``."""
    place: tuple[float, float]
    """(x, y) in screen pixels."""
    name: str
    """Its name."""
    region: Region | None = None
    """The region, or None for a site."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The map of the regions, in screen pixels from the upper left."""

    width: int
    """Of all of it."""
    height: int
    """Of all of it."""
    frame: tuple[float, float, float, float]
    """(left, top, right, bottom) of the map itself; lines are cut there."""
    crs: str
    """The map's."""
    outlines: tuple[Outline, ...] = ()
    """From below to above."""
    dots: tuple[Dot, ...] = ()
    """Above the outlines."""
    labels: tuple[Label, ...] = ()
    """Names and degrees."""
    scale: tuple[float, str] = (0.0, "")
    """(length in screen pixels, text) of the scale bar."""
    unnamed: int = 0
    """Names that have no room."""
    unplaced: tuple[str, ...] = ()
    """Regions and sites that the map's CRS can't show."""


@dataclass
class _Work:
    """What has been laid out so far."""

    to_screen: _Screen
    outlines: list[Outline] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    boxes: list[tuple[str, Points]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Screen:
    """Map coordinates → screen pixels."""

    west: float
    north: float
    scale: float
    width: float
    height: float

    @classmethod
    def of(cls, places: Points, width: int, height: int, smallest: float) -> _Screen:
        """The largest map of ``places`` (n, 2), with a margin, in ``width`` x ``height`` pixels."""
        low, high = places.min(axis=0), places.max(axis=0)
        size = np.maximum(high - low, smallest) * 1.12
        # Not thinner than one to three, or there is no room for names.
        size = np.maximum(size, size.max() / 3)
        middle, scale = (low + high) / 2, min(width / size[0], height / size[1])
        west, north = middle[0] - size[0] / 2, middle[1] + size[1] / 2
        return cls(float(west), float(north), scale, float(size[0] * scale), float(size[1] * scale))

    @property
    def frame(self) -> tuple[float, float, float, float]:
        return _LEFT, _TOP, _LEFT + self.width, _TOP + self.height

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in units of the map's CRS."""
        return self.west, self.north - self.height / self.scale, self.west + self.width / self.scale, self.north

    def pixels(self, places: Points) -> Points:
        """(n, 2) → (n, 2)."""
        x, y = places[:, 0], places[:, 1]
        return np.stack([_LEFT + (x - self.west) * self.scale, _TOP + (self.north - y) * self.scale], axis=1)


def map_crs(case: Case) -> str:
    """The regions' own CRS where they share one that is projected, else Plate Carrée."""
    crs = {region.grid.crs: CRS.from_user_input(region.grid.crs) for region in case.regions}
    first = next(iter(crs.items()), None)
    if first is None or not first[1].is_projected or any(first[1] != other for other in crs.values()):
        return PLATE_CARREE
    return first[0]


def lay_out(case: Case, width: int, height: int) -> Drawing:
    """Lay out the map of ``case``'s regions and sites, at most ``width`` x ``height`` pixels for the map itself."""
    crs = map_crs(case)
    edges = {
        region.name: _placed(_edge(region, region.grid.lattice.window), region.grid.crs, crs) for region in case.regions
    }
    sites = [(site, _placed(np.array([[site.x, site.y]]), site.crs, crs)) for site in case.sites]
    shown = [places for places in (*edges.values(), *(place for _, place in sites)) if len(places)]
    world = np.array([[-170.0, -75.0], [170.0, 75.0]])
    factor = CRS.from_user_input(crs).axis_info[0].unit_conversion_factor if crs != PLATE_CARREE else 1.0
    smallest = 0.01 if crs == PLATE_CARREE else 1000 / factor
    screen = _Screen.of(np.concatenate(shown) if shown else world, width, height, smallest)
    work = _Work(screen)
    graticule = list(_graticule(screen, crs))
    work.outlines += [line for line, _ in graticule]
    for region in sorted(case.regions, key=lambda one: -_area(edges[one.name])):
        # The small above the large, or nobody could point at them.
        _lay_region(work, region, edges[region.name], crs)
    _lay_sites(work, sites)
    labels, unnamed = _names(work)
    degrees = [label for _, found in graticule for label in found]
    missing = [name for name, places in edges.items() if not len(places)]
    missing += [site.name for site, place in sites if not len(place)]
    return Drawing(
        width=math.ceil(screen.frame[2]) + _RIGHT,
        height=math.ceil(screen.frame[3]) + _BOTTOM,
        frame=screen.frame,
        crs=crs,
        outlines=tuple(work.outlines),
        dots=tuple(work.dots),
        labels=(*degrees, *labels),
        scale=_scale(screen, crs),
        unnamed=unnamed,
        unplaced=tuple(missing),
    )


def _edge(region: Region, window: Window) -> Points:
    """The closed edge of a window of the region's grid, densified, (n, 2) in units of its CRS."""
    lattice = region.grid.lattice
    xs = [lattice.x_origin + col * lattice.dx for col in (window.col_start, window.col_stop)]
    ys = [lattice.y_origin + row * lattice.dy for row in (window.row_start, window.row_stop)]
    corners = np.array([[xs[0], ys[0]], [xs[1], ys[0]], [xs[1], ys[1]], [xs[0], ys[1]], [xs[0], ys[0]]])
    return np.concatenate([np.linspace(*pair, _POINTS) for pair in pairwise(corners)])


def _area(edge: Points) -> float:
    return float(np.prod(np.ptp(edge, axis=0))) if len(edge) else 0.0


def _placed(points: Points, source: str, target: str) -> Points:
    """``points`` (n, 2) in another CRS; those that it can't show are left out."""
    x, y = points.T if source == target else _transformer(source, target).transform(*points.T)
    places: Points = np.stack([x, y], axis=1)
    places = places[np.isfinite(places).all(axis=1)]
    if target == PLATE_CARREE and len(places):
        # An outline across the antimeridian goes on beyond 180 degrees instead of around the world.
        places[:, 0] = np.unwrap(places[:, 0], period=360)
    return places


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> Transformer:
    # Kept because it takes longer to make than a map; several threads may use one since pyproj 3.1.
    return Transformer.from_crs(source, target, always_xy=True)


def _lay_region(work: _Work, region: Region, edge: Points, crs: str) -> None:
    if not len(edge):
        return
    screen = work.to_screen
    box = screen.pixels(edge)
    if np.ptp(box, axis=0).max() < _SMALLEST_BOX:
        middle = (box.min(axis=0) + box.max(axis=0)) / 2
        work.dots.append(Dot("region", (float(middle[0]), float(middle[1])), region.name, region))
        return
    work.outlines.append(Outline("region", box, region.name, region))
    work.boxes.append((region.name, box))
    parts = partitions_of(region)
    room = np.ptp(box, axis=0)
    if 1 < len(parts) <= _MOST_PARTS and room.max() / math.sqrt(len(parts)) >= _SMALLEST_BOX:
        for part in parts:
            inner = screen.pixels(_placed(_edge(region, part.window), region.grid.crs, crs))
            work.outlines.append(Outline("partition", inner, part.key))
    grid = region.grid
    if (
        max(grid.tile_rows, grid.tile_cols) * _SMALLEST_TILE <= room.max()
        and grid.tile_rows + grid.tile_cols <= _MOST_PARTS
    ):
        work.outlines += [
            Outline("tile", screen.pixels(_placed(line, grid.crs, crs))) for line in _between_tiles(region)
        ]


def _between_tiles(region: Region) -> Iterator[Points]:
    """The lines between the tiles of a region, (n, 2) in units of its CRS."""
    grid, lattice = region.grid, region.grid.lattice
    west, south, east, north = grid.bbox
    for col in range(1, grid.tile_cols):
        x = lattice.x_origin + col * grid.tile_nx * lattice.dx
        yield np.linspace((x, south), (x, north), _POINTS)
    for row in range(1, grid.tile_rows):
        y = lattice.y_origin + row * grid.tile_ny * lattice.dy
        yield np.linspace((west, y), (east, y), _POINTS)


def _lay_sites(work: _Work, sites: list[tuple[SiteSpec, Points]]) -> None:
    for site, place in sites:
        if len(place):
            ((x, y),) = work.to_screen.pixels(place)
            work.dots.append(Dot("site", (float(x), float(y)), site.name))


def _names(work: _Work) -> tuple[list[Label], int]:
    """(names of the regions and sites at places where they hide nothing, how many have no such place)."""
    placing = Placing.around([dot.place for dot in work.dots], work.to_screen.frame)
    wanted = [placing.beside(dot.place, dot.name, dot.kind) for dot in work.dots if dot.kind == "site"]
    wanted += [placing.within(box, name) for name, box in work.boxes]
    wanted += [placing.beside(dot.place, dot.name, dot.kind) for dot in work.dots if dot.kind == "region"]
    return [label for label in wanted if label is not None], wanted.count(None)


def _graticule(screen: _Screen, crs: str) -> Iterator[tuple[Outline, list[Label]]]:
    """Meridians and parallels, each with its labels at the map's lower and left edge."""
    degrees = _degrees_of(screen, crs)
    if not len(degrees):
        return
    (low_lon, low_lat), (high_lon, high_lat) = degrees.min(axis=0), degrees.max(axis=0)
    # A little more than is seen, so that lines reach the map's edge whatever the rounding.
    more_lon, more_lat = (high_lon - low_lon) / 100, (high_lat - low_lat) / 100
    low_lon, high_lon = float(low_lon - more_lon), float(high_lon + more_lon)
    low_lat, high_lat = max(-90.0, float(low_lat - more_lat)), min(90.0, float(high_lat + more_lat))
    for lon in _round_degrees(low_lon, high_lon):
        line = np.stack([np.full(_POINTS, lon), np.linspace(low_lat, high_lat, _POINTS)], axis=1)
        points = screen.pixels(_placed(line, PLATE_CARREE, crs))
        text = _degrees(lon, "E", "W")
        bottom = screen.frame[3]
        places = _crossings(points[:, 1], points[:, 0], bottom, screen.frame[0], screen.frame[2])
        yield Outline("graticule", points, text), [Label(x, bottom + 13, text, "degrees", "middle") for x in places]
    for lat in _round_degrees(low_lat, high_lat):
        line = np.stack([np.linspace(low_lon, high_lon, _POINTS), np.full(_POINTS, lat)], axis=1)
        points = screen.pixels(_placed(line, PLATE_CARREE, crs))
        text = _degrees(lat, "N", "S")
        left = screen.frame[0]
        places = _crossings(points[:, 0], points[:, 1], left, screen.frame[1], screen.frame[3])
        yield Outline("graticule", points, text), [Label(left - 5, y + 3, text, "degrees", "end") for y in places]


def _degrees_of(screen: _Screen, crs: str) -> Points:
    """Longitude and latitude of places all over the map, (n, 2); beyond 180 degrees across the antimeridian."""
    west, south, east, north = screen.bounds
    xs, ys = np.meshgrid(np.linspace(west, east, _POINTS), np.linspace(south, north, _POINTS))
    if crs == PLATE_CARREE:
        return np.stack([xs.ravel(), ys.ravel()], axis=1)
    lons, lats = _transformer(crs, PLATE_CARREE).transform(xs, ys)
    if np.isfinite(lons).all():
        # Along the rows, and from one row to the next.
        lons = np.unwrap(lons, period=360, axis=1)
        lons += (np.unwrap(lons[:, 0], period=360) - lons[:, 0])[:, np.newaxis]
    degrees = np.stack([lons.ravel(), lats.ravel()], axis=1)
    finite: Points = degrees[np.isfinite(degrees).all(axis=1)]
    return finite


def _crossings(across: Points, along: Points, edge: float, low: float, high: float) -> list[float]:
    """Where along an edge of the frame a line crosses it, between ``low`` and ``high``."""
    before, after = across[:-1] - edge, across[1:] - edge
    found = np.flatnonzero((before * after <= 0) & (before != after))
    places = along[found] + (along[found + 1] - along[found]) * before[found] / (before[found] - after[found])
    return [float(place) for place in np.unique(places.round(1)) if low <= place <= high]


def _round_degrees(low: float, high: float) -> list[float]:
    span = (high - low) / _LINES
    if span <= 0:
        return []
    step = next((step for step in _DEGREES if step <= span), round_step(span))
    return [round(index * step, 9) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _degrees(value: float, positive: str, negative: str) -> str:
    # Beyond 180 degrees where the map goes on across the antimeridian.
    value = (value + 180) % 360 - 180 if abs(value) > 180 else value  # noqa: PLR2004  half of the circle
    return f"{abs(value):.8g}°{positive if value > 0 else negative if value < 0 else ''}"


def _scale(screen: _Screen, crs: str) -> tuple[float, str]:
    """A bar of a round length along the middle of the map."""
    west, south, east, north = screen.bounds
    metres = metres_along(CRS.from_user_input(crs), west, east, (south + north) / 2)
    if metres is None:
        return 0.0, ""
    length = round_step(metres / 4)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"  # noqa: PLR2004  metres in a kilometre
    return length / metres * screen.width, text
