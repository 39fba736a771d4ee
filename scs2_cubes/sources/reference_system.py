"""How sources' coordinate reference systems are written down."""

from __future__ import annotations

from pyproj import CRS
from pyproj.exceptions import CRSError

__all__ = ["normal_crs"]


def normal_crs(text: str) -> str | None:
    """``EPSG:3035`` where what ``text`` says has such a code, else ``text``; None where it says no CRS."""
    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        return None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code is not None else text
