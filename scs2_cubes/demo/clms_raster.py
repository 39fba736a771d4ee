"""The rasters of the embedded CLMS service: synthetic forest types as GeoTIFF, and the files that come along.

Layout of the European forest type layer of 2015: uint8 with nodata 255 and a colour table, EPSG:3035, LZW, striped,
rows from north to south. Values are those of :mod:`scs2_cubes.demo.world` at the centres of the pixels, so the product
agrees with the others of the demonstration.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import world
from scs2_cubes.demo.projected import mesh

__all__ = ["COLOURS", "NODATA", "UNCLASSIFIABLE", "RasterFile", "forest_types", "geotiff", "rasters_of", "sidecars"]

#: TIFF's ``Artist``, in the words of the demonstration's other products.
_ARTIST: Final = "scs2_cubes demonstration (synthetic data)"

UNCLASSIFIABLE: Final = 254
NODATA: Final = 255

COLOURS: Final[Mapping[int, tuple[int, int, int]]] = {
    0: (240, 240, 240),
    1: (70, 158, 74),
    2: (28, 92, 36),
    254: (153, 153, 153),
    255: (0, 0, 0),
}
_CLASSES: Final[Mapping[int, str]] = {
    0: "all non-forest areas",
    1: "broadleaved forest",
    2: "coniferous forest",
    254: "unclassifiable (no satellite image available, or clouds, shadows, or snow)",
    255: "outside area",
}

#: Forest type of each genus code from 0 (larch) to 7 (no trees); see the legend in ``genus.py``.
_TYPE_OF_GENUS: Final = (2, 2, 2, 1, 1, 2, 1, 0)

#: Blobs that no image shows: where the noise exceeds the threshold. The seed is of no other layer.
_SEED_CLOUD: Final = 50_000
_CLOUD_SCALE: Final = 2_000.0
_CLOUD_THRESHOLD: Final = 0.96

#: West, south, east, north of the clip around the demonstration's region, in metres. All lie a whole number of 20 m and
#: of 100 m away from the corners of block E30N20, hence on the lattices of the layer.
_CLIP: Final = (3_421_000.0, 2_435_000.0, 3_451_000.0, 2_465_000.0)
#: The mosaic of all blocks, in metres.
_MOSAIC_WEST: Final = 900_000.0
_MOSAIC_NORTH: Final = 5_500_000.0
_BLOCK: Final = 1_000_000.0
#: Edge of what the other blocks hold, and of the cells into which the full file is cut.
_CELL: Final = 10_000.0
#: Rows computed at once; their intermediate arrays stay in the processor's cache.
_STRIP: Final = 64

_BLOCK_NAME: Final = re.compile(r"FTY_2015_020m_eu_03035_d04_E([0-9])0N([0-9])0")


@dataclass(frozen=True, slots=True)
class RasterFile:
    """One GeoTIFF."""

    stem: str
    """File name without its suffix."""
    lattice: Lattice
    """Its pixels, in EPSG:3035."""


def rasters_of(file_name: str) -> tuple[RasterFile, ...]:
    """What a prepackaged file consists of; nothing where the demonstration has no data for it.

    Block E30N20 is one raster of the clip around the demonstration's region. The full file at 20 m holds the same
    pixels in the cells of the EEA's reference grid of 10 km (``E342N246``), of which those at the edge are cut.
    """
    if file_name == "FTY_2015_100m_eu_03035_d02_Full":
        # The real one spells its inner file so.
        return (RasterFile("FTY_2015_100m_eu_03035_d02_full", _lattice(_CLIP, 100.0)),)
    if file_name == "FTY_2015_020m_eu_03035_d04_Full":
        return _cells("FTY_2015_020m_eu_03035_d04")
    block = _BLOCK_NAME.fullmatch(file_name)
    if block is None:
        return ()
    if block.groups() == ("3", "2"):
        return (RasterFile(file_name, _lattice(_CLIP, 20.0)),)
    west = max(int(block[1]) * _BLOCK, _MOSAIC_WEST)
    north = min((int(block[2]) + 1) * _BLOCK, _MOSAIC_NORTH)
    return (RasterFile(file_name, _lattice((west, north - _CELL, west + _CELL, north), 20.0)),)


def forest_types(lattice: Lattice) -> npt.NDArray[np.uint8]:
    """Forest types (rows, columns): 0 none, 1 broadleaved, 2 coniferous, 254 unclassifiable, 255 in the sea."""
    x, y = mesh(lattice, slice(0, lattice.ny), slice(0, lattice.nx))
    return np.concatenate([_strip(x, y[start : start + _STRIP]) for start in range(0, lattice.ny, _STRIP)])


def geotiff(lattice: Lattice, types: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of a GeoTIFF of ``types`` (rows, columns)."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            dtype="uint8",
            count=1,
            height=lattice.ny,
            width=lattice.nx,
            crs=lattice.crs,
            transform=Affine(lattice.dx, 0.0, lattice.x_origin, 0.0, lattice.dy, lattice.y_origin),
            nodata=NODATA,
            compress="lzw",
            tiled=False,
        ) as raster:
            raster.write(types, 1)
            raster.write_colormap(1, COLOURS)
            # The real files don't say who made them; these do, because they aren't what they look like.
            raster.update_tags(AREA_OR_POINT="Area", TIFFTAG_ARTIST=_ARTIST)
        return bytes(memory.read())


def sidecars(raster: RasterFile, types: npt.NDArray[np.uint8]) -> dict[str, bytes]:
    """What lies beside a GeoTIFF, by file name: value table, colours (twice), world file, metadata."""
    colours = "".join(f"{value} {' '.join(map(str, COLOURS.get(value, (0, 0, 0))))}\r\n" for value in range(256))
    stem, lattice = raster.stem, raster.lattice
    centre = lattice.x_origin + lattice.dx / 2, lattice.y_origin + lattice.dy / 2
    world_file = "".join(f"{number:.10f}\r\n" for number in (lattice.dx, 0.0, 0.0, lattice.dy, *centre))
    return {
        f"{stem}.tif.vat.dbf": _value_table(types, abs(lattice.dx * lattice.dy)),
        f"{stem}.clr": colours.encode("ascii"),
        f"{stem}.clr.txt": colours.encode("ascii"),
        f"{stem}.tfw": world_file.encode("ascii"),
        f"{stem}.xml": _metadata(stem).encode(),
    }


def _strip(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    genus = world.genus(x, y)
    sea = genus == world.GENUS_NODATA
    types = np.array(_TYPE_OF_GENUS, dtype=np.uint8)[np.where(sea, world.GENUS_NO_TREES, genus)]
    clouded = world.noise(x, y, _CLOUD_SCALE, 1, _SEED_CLOUD) > _CLOUD_THRESHOLD
    types[clouded] = UNCLASSIFIABLE
    types[sea] = NODATA
    return types


def _lattice(bounds: tuple[float, float, float, float], step: float) -> Lattice:
    west, south, east, north = bounds
    return Lattice("EPSG:3035", west, north, step, -step, round((east - west) / step), round((north - south) / step))


def _cells(prefix: str) -> tuple[RasterFile, ...]:
    west, south, east, north = _CLIP
    cells = (
        (col, row)
        for row in range(int(north // _CELL), int(south // _CELL) - 1, -1)
        for col in range(int(west // _CELL), int(east // _CELL) + 1)
    )
    files = []
    for col, row in cells:
        bounds = (
            max(west, col * _CELL),
            max(south, row * _CELL),
            min(east, (col + 1) * _CELL),
            min(north, (row + 1) * _CELL),
        )
        files.append(RasterFile(f"{prefix}_E{col}N{row}", _lattice(bounds, 20.0)))
    return tuple(files)


def _value_table(types: npt.NDArray[np.uint8], pixel_area: float) -> bytes:
    """Counts and areas of the classes as a dBASE III table, whose layout is dBASE's own."""
    fields = (("Value", b"N", 10, 0), ("Count", b"F", 19, 11), ("Class_Name", b"C", 254, 0), ("AREA_KM2", b"F", 19, 11))
    counts = np.bincount(types.ravel(), minlength=256)
    rows = [
        b" "
        + f"{value:10d}{counts[value]:19.11e}".encode("ascii")
        + name.encode("ascii").ljust(254)
        + f"{counts[value] * pixel_area / 1e6:19.11e}".encode("ascii")
        for value, name in _CLASSES.items()
    ]
    width = 1 + sum(size for _, _, size, _ in fields)
    header = struct.pack("<4BIHH20x", 3, 118, 4, 24, len(rows), 32 + 32 * len(fields) + 1, width)
    columns = (struct.pack("<11sc4xBB14x", name.encode(), kind, size, digits) for name, kind, size, digits in fields)
    return b"".join((header, *columns, b"\r", *rows, b"\x1a"))


def _metadata(stem: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<gmd:MD_Metadata xmlns:gmd="http://www.isotc211.org/2005/gmd" xmlns:gco="http://www.isotc211.org/2005/gco">\n'
        f"<gmd:fileIdentifier><gco:CharacterString>{stem}</gco:CharacterString></gmd:fileIdentifier>\n"
        "<gmd:identificationInfo><gmd:MD_DataIdentification><gmd:abstract><gco:CharacterString>"
        "Synthetic forest types of the scs2_cubes demonstration: a clip, not the real layer."
        "</gco:CharacterString></gmd:abstract></gmd:MD_DataIdentification></gmd:identificationInfo>\n"
        "</gmd:MD_Metadata>\n"
    )
