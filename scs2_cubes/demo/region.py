"""Where the demonstration takes place: one small region by the sea, and the window around it that holds data.

All coordinates are EPSG:3035 (ETRS89-extended / LAEA Europe) in metres, in the order west, south, east, north.
"""

from __future__ import annotations

from typing import Final

from scs2_cubes.core.grid import Grid, Region

__all__ = ["BBOX", "CRS", "NAME", "RESOLUTION", "TILE_SIZE", "WINDOW", "demo_region"]

CRS: Final = "EPSG:3035"
NAME: Final = "demo"

#: Its lower-left corner lies on the 30 m lattice of the region ``landes`` (anchor 3401404, 2346797), with which no
#: source's lattice coincides. East and north are no multiple of 30 m away: the grid grows beyond the box.
BBOX: Final = (3425404.0, 2440817.0, 3446390.0, 2460000.0)
RESOLUTION: Final = 30.0
TILE_SIZE: Final = 256

#: A window that a tile needs reaches a few source pixels beyond the region; 10 km are ample, even at 300 m.
_MARGIN: Final = 10_000.0

#: Source chunks that touch this box exist; all others don't.
WINDOW: Final = (BBOX[0] - _MARGIN, BBOX[1] - _MARGIN, BBOX[2] + _MARGIN, BBOX[3] + _MARGIN)


def demo_region() -> Region:
    """The region on its 30 m grid: 640 rows x 700 columns, 3 x 3 tiles of which the eastern and southern are cut."""
    return Region(NAME, Grid.from_bbox(BBOX, CRS, RESOLUTION, TILE_SIZE))
