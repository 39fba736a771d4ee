"""From ``sites`` to points of which time series are drawn, checked against their CRS and the regions. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pyproj import CRS, Transformer

from scs2_cubes.config.models import Site
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.grid import Region
from scs2_cubes.core.specification import DatasetSpec, SiteSpec

__all__ = ["outside_warnings", "site_specs"]

_WGS84 = "EPSG:4326"
#: Metres by which the way to longitude and latitude and back may miss: PROJ's series hold to millimetres where they
#: hold at all, and miss by kilometres where they don't.
_WAY_BACK = 10.0


def site_specs(sections: Sections, problems: Problems) -> tuple[SiteSpec, ...]:
    """The sites in the order of the file; a point that isn't on Earth in its CRS goes to ``problems``."""
    for index, site in sections.sites.items():
        path: KeyPath = ("sites", index, "point")
        reason = _reason_against(site)
        if reason:
            problems.add(path, f"{problems.shown(path)} {reason}")
    return tuple(SiteSpec(site.identifier, *_x_y(site), site.crs) for site in sections.sites.values())


def outside_warnings(
    sites: Iterable[SiteSpec], regions: Iterable[Region], datasets: Iterable[DatasetSpec]
) -> tuple[str, ...]:
    """One line for each site that no region holds; none where a dataset has a grid that only its source knows."""
    if not all(dataset.regions for dataset in datasets):
        return ()
    known = tuple(regions)
    names = ", ".join(region.name for region in known)
    return tuple(
        f"sites[{index}].point: {site.name!r} at [{site.x:.10g}, {site.y:.10g}] ({site.crs}) lies in none of the "
        f"regions ({names}), so nothing is drawn of it; is it in the order x, y, and in that CRS?"
        for index, site in enumerate(sites)
        if not any(_holds(region, site) for region in known)
    )


def _x_y(site: Site) -> tuple[float, float]:
    return site.point[0], site.point[1]


def _reason_against(site: Site) -> str:
    """Why there can't be such a point; empty where there can."""
    crs = CRS.from_user_input(site.crs)
    x, y = _x_y(site)
    if crs.is_geographic:
        # Degrees or grads: what one unit is in radians stands in the axis.
        half_turn = math.pi / crs.axis_info[0].unit_conversion_factor
        if abs(x) <= half_turn and abs(y) <= half_turn / 2:
            return ""
        bounds = f"longitude from {-half_turn:g} to {half_turn:g}, then latitude from {-half_turn / 2:g} to"
        return f"isn't a point in {site.crs}: should be {bounds} {half_turn / 2:g}; or say the point's own crs"
    transformer = Transformer.from_crs(crs, _WGS84, always_xy=True)
    lon, lat = transformer.transform(x, y)
    back = transformer.transform(lon, lat, direction="INVERSE")
    slack = _WAY_BACK / crs.axis_info[0].unit_conversion_factor
    if math.isfinite(lon) and math.isfinite(lat) and math.dist(back, (x, y)) <= slack:
        return ""
    return f"isn't a place on Earth in {site.crs}; should be x, y in its units, or say the point's own crs"


def _holds(region: Region, site: SiteSpec) -> bool:
    """Whether the site lies in a pixel of the region's grid; pixels have their western and northern edge."""
    x, y = Transformer.from_crs(site.crs, region.grid.crs, always_xy=True).transform(site.x, site.y)
    west, south, east, north = region.grid.bbox
    # Written so that a site beyond the region's CRS, which has infinite coordinates, lies outside.
    return bool(west <= x < east and south < y <= north)
