"""The attributes by which the catalogue's stores tell their CRS: CF grid mapping plus WKT."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyproj import CRS
from pyproj.enums import WktVersion

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo.store import ArraySpec, whole

__all__ = ["grid_mapping"]


def grid_mapping(name: str, lattice: Lattice, *, geo_transform: bool) -> ArraySpec:
    """Scalar grid-mapping variable of a lattice with value 0, after CF 1.11 section 5.6.

    ``crs_wkt`` and ``spatial_ref`` are GDAL's WKT 1 with its axes in the order of the authority, as the writers of the
    catalogue leave it. ``geo_transform`` adds GDAL's GeoTransform as a string.
    """
    wkt = CRS.from_user_input(lattice.crs).to_wkt(WktVersion.WKT1_GDAL, output_axis_rule=True)
    # By way of WKT 1, whose names of datums don't change with the edition of the EPSG tables.
    attrs: dict[str, Any] = CRS.from_wkt(wkt).to_cf(wkt_version=WktVersion.WKT1_GDAL)
    attrs |= {"crs_wkt": wkt, "spatial_ref": wkt}
    if geo_transform:
        steps = (lattice.x_origin, lattice.dx, 0.0, lattice.y_origin, 0.0, lattice.dy)
        attrs["GeoTransform"] = " ".join(str(float(step)) for step in steps)
    return ArraySpec(name, (), (), (), "<i8", None, None, attrs, whole(np.array(0)))
