"""Files beside a GeoTIFF that make GDAL read other values, or another validity, than the file itself has.

``x.tif.msk`` is a mask, ``x.tif.aux.xml`` GDAL's Persistent Auxiliary Metadata (PAM), which go before what stands in
the file: https://gdal.org/en/stable/drivers/raster/gtiff.html#georeferencing and
https://gdal.org/en/stable/development/rfc/rfc15_nodatabitmask.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["SIDECARS", "SIDECAR_BYTES", "changed_by"]

#: What is read of such a file: statistics and histograms of many bands take less.
SIDECAR_BYTES = 2**20
_MASK, _PAM = ".msk", ".aux.xml"
#: Suffixes of such files, after the GeoTIFF's own, and what they are.
SIDECARS: Mapping[str, str] = MappingProxyType({_MASK: "a mask", _PAM: "metadata of GDAL's"})

#: What many programs write of a file once it was looked at, and says nothing of what its pixels mean.
_STATISTICS = frozenset(
    {
        "PAMDataset",
        "PAMRasterBand",
        "Metadata",
        "MDI",
        "Histograms",
        "HistItem",
        "HistMin",
        "HistMax",
        "BucketCount",
        "IncludeOutOfRange",
        "Approximate",
        "HistCounts",
    }
)
_ELEMENT = re.compile(rb"<([A-Za-z][\w.:-]*)")
_ITEM = re.compile(rb"<MDI\s+key=[\"']([^\"']*)[\"']")
_HARMLESS_ITEM = b"STATISTICS_"


def changed_by(suffix: str, content: bytes) -> tuple[str, ...]:
    """What the file with ``suffix`` changes, for people; empty where it holds nothing but statistics."""
    if suffix != _PAM:
        return (SIDECARS[suffix],)
    if len(content) >= SIDECAR_BYTES:
        return (f"{SIDECAR_BYTES} bytes or more of metadata",)
    elements = {name.decode() for name in _ELEMENT.findall(content)} - _STATISTICS
    items = {name.decode(errors="replace") for name in _ITEM.findall(content) if not name.startswith(_HARMLESS_ITEM)}
    if b"<PAMDataset" not in content:
        elements.add("no PAMDataset")
    return tuple(sorted(elements | items))
