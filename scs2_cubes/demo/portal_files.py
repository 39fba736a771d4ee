"""The portal's files: variables, coordinates and attributes in the layout of ESA CCI Biomass v6.0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo.dap_model import Attributes, DapDataset, DapVariable, Reader
from scs2_cubes.demo.portal_products import FINE, Granule, updated
from scs2_cubes.demo.portal_stands import FILL, Stands
from scs2_cubes.demo.spatial_reference import grid_mapping

__all__ = ["FileMaker", "Layout"]

_EPOCH: Final = date(1990, 1, 1)
_CHUNK: Final = 11_250
_DIMS: Final = ("time", "lat", "lon")


@dataclass(frozen=True, slots=True)
class Layout:
    """What isn't established of the real files, so that clients have to bear either."""

    edges: bool = False
    """Whether lat and lon are the outer (upper left) corners of pixels; otherwise their centres."""
    grids: bool = True
    """Whether the DDS calls ``agb`` a Grid; otherwise an Array."""
    south_up: bool = False
    """Whether the first row is the southernmost."""


class FileMaker:
    """Makes files as descriptions whose values are computed when they are read. Safe to use from several threads."""

    def __init__(self, stands: Stands) -> None:
        self._stands = stands
        # A second writer of the same one does no harm.
        self._crs: dict[Lattice, Mapping[str, Any]] = {}

    def dataset(self, granule: Granule, layout: Layout) -> DapDataset:
        """The file of a granule. Coordinates are float64 in degrees and days; pixels int16 in Mg/ha."""
        lattice = granule.product.lattice
        variables = [
            _latitude(lattice, layout),
            _longitude(lattice, layout),
            *_times(granule),
            DapVariable("crs", "i4", (), (), self._crs_attrs(lattice), lambda _: np.array(0)),
            self._layer(granule, layout, "agb", "Above-ground biomass", 0),
            self._layer(granule, layout, "agb_sd", "Above-ground biomass standard_deviation", 1),
        ]
        return DapDataset(granule.path.removeprefix("/"), tuple(variables), _globals(granule), layout.grids)

    def _crs_attrs(self, lattice: Lattice) -> Mapping[str, Any]:
        if lattice not in self._crs:
            attrs = grid_mapping("crs", lattice, geo_transform=True).attrs
            self._crs[lattice] = {
                name: value if isinstance(value, str) else np.float64(value) for name, value in attrs.items()
            }
        return self._crs[lattice]

    def _layer(self, granule: Granule, layout: Layout, name: str, long_name: str, which: int) -> DapVariable:
        lattice = granule.product.lattice
        attrs: Attributes = {
            "_FillValue": np.int16(FILL),
            "long_name": long_name,
            "units": "Mg/ha",
            "valid_min": np.float64(0.0),
            "valid_max": np.float64(10_000.0),
            "grid_mapping": "crs",
        }
        if granule.product.is_yearly:
            attrs = {**attrs, "_ChunkSizes": np.array([1, _CHUNK, _CHUNK], dtype=np.int32)}
        shape = (len(granule.years), lattice.ny, lattice.nx)
        return DapVariable(name, "i2", _DIMS, shape, attrs, self._reader(granule, layout, which))

    def _reader(self, granule: Granule, layout: Layout, which: int) -> Reader:
        def read(indices: Sequence[range]) -> npt.NDArray[Any]:
            times, rows, cols = (np.asarray(part) for part in indices)
            if layout.south_up:
                rows = granule.product.lattice.ny - 1 - rows[::-1]
            if not granule.product.is_yearly:
                coarse = granule.product.lattice
                rows, cols = _fine(rows, coarse.ny, FINE.lattice.ny), _fine(cols, coarse.nx, FINE.lattice.nx)
            steps = [self._stands.biomass(rows, cols, granule.years[i], granule.edition)[which] for i in times]
            stacked = np.stack(steps)
            return stacked[:, ::-1] if layout.south_up else stacked

        return read


def _fine(indices: npt.NDArray[np.int64], coarse: int, fine: int) -> npt.NDArray[np.int64]:
    """Fine pixels in which the centres of coarse ones lie."""
    return (2 * indices + 1) * fine // (2 * coarse)


def _latitude(lattice: Lattice, layout: Layout) -> DapVariable:
    offset = 0.0 if layout.edges else 0.5

    def read(indices: Sequence[range]) -> npt.NDArray[np.float64]:
        rows = np.asarray(indices[0])
        if layout.south_up:
            rows = lattice.ny - 1 - rows
        return lattice.y_origin + (rows + offset) * lattice.dy

    attrs = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"}
    return DapVariable("lat", "f8", ("lat",), (lattice.ny,), attrs, read)


def _longitude(lattice: Lattice, layout: Layout) -> DapVariable:
    offset = 0.0 if layout.edges else 0.5

    def read(indices: Sequence[range]) -> npt.NDArray[np.float64]:
        return lattice.x_origin + (np.asarray(indices[0]) + offset) * lattice.dx

    attrs = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"}
    return DapVariable("lon", "f8", ("lon",), (lattice.nx,), attrs, read)


def _times(granule: Granule) -> tuple[DapVariable, ...]:
    """``time``, and for a file of several years their bounds, from 1 January to 31 December."""
    first = np.array([(date(year, 1, 1) - _EPOCH).days for year in granule.years], dtype=np.float64)
    last = np.array([(date(year, 12, 31) - _EPOCH).days for year in granule.years], dtype=np.float64)
    attrs: dict[str, str] = {
        "standard_name": "time",
        "long_name": "time",
        "units": "days since 1990-01-01 00:00:00",
        "calendar": "standard",
        "axis": "T",
    }
    size = len(first)
    if granule.product.is_yearly:
        return (DapVariable("time", "f8", ("time",), (size,), attrs, lambda part: first[np.asarray(part[0])]),)
    bounds = np.stack([first, last], axis=1)
    return (
        DapVariable(
            "time", "f8", ("time",), (size,), {**attrs, "bounds": "time_bnds"}, lambda part: first[np.asarray(part[0])]
        ),
        DapVariable("time_bnds", "f8", ("time", "nv"), (size, 2), {}, lambda part: bounds[np.ix_(*part)]),
    )


def _globals(granule: Granule) -> Attributes:
    lattice = granule.product.lattice
    west, south, east, north = (np.float64(value) for value in lattice.bbox)
    return {
        "title": "Synthetic stand-in for the global above-ground biomass dataset of ESA CCI Biomass "
        f"v{granule.product.version}",
        "institution": "scs2_cubes demonstration (synthetic data)",
        "source": "Made for demonstrations and tests; nothing in it was ever observed",
        "id": granule.name,
        "product_version": granule.product.version,
        "project": "scs2_cubes demonstration",
        "license": "MIT, as the software that makes it",
        "Conventions": "CF-1.7",
        "date_created": f"{updated(granule.edition):%Y%m%dT%H%M%SZ}",
        "time_coverage_start": f"{granule.start:%Y%m%dT%H%M%SZ}",
        "time_coverage_end": f"{granule.end:%Y%m%dT%H%M%SZ}",
        "time_coverage_resolution": "P1Y",
        "geospatial_lat_min": south,
        "geospatial_lat_max": north,
        "geospatial_lon_min": west,
        "geospatial_lon_max": east,
        "geospatial_lat_units": "degrees_north",
        "geospatial_lon_units": "degrees_east",
        "geospatial_lat_resolution": np.float64(abs(lattice.dy)),
        "geospatial_lon_resolution": np.float64(lattice.dx),
        "spatial_resolution": granule.product.resolution,
    }
