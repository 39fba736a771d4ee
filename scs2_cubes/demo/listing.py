"""What the embedded catalogue lists: its themes, collections and versions, with descriptive texts of our own.

Identifiers, addresses, dates and band descriptions are those of the EO Forest catalogue; the data are synthetic, and
the texts say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from scs2_cubes.demo.efda import LEGEND as AGENTS
from scs2_cubes.demo.efda import efda_store
from scs2_cubes.demo.gami import MEMBERS, YEARS, gami_store
from scs2_cubes.demo.genus import LEGEND, genus_store
from scs2_cubes.demo.liu import liu_store
from scs2_cubes.demo.store import StoreSpec

__all__ = ["COLLECTIONS", "THEMES", "Collection"]

#: Identifier and title of each theme, in the order of the catalogue. Some of them are empty here.
THEMES: Final[Mapping[str, str]] = {
    "biomass-carbon": "Biomass & Carbon",
    "disturbance-change": "Disturbance & Change",
    "structure-demography": "Structure & Demography",
    "als-lidar": "ALS / ULS / LiDAR",
    "land-use-land-cover": "Land Use & Land Cover",
}


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection and what is particular to it; the rest of its JSON follows from the layout."""

    identifier: str
    """STAC id, for example ``GAMI``."""
    theme: str
    """Key into THEMES."""
    title: str
    """For people."""
    description: str
    """For people."""
    versions: tuple[str, ...]
    """Versions of the product, oldest first; each is one item with one store."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    start: str
    """First day, ISO 8601."""
    end: str
    """Last day, ISO 8601."""
    temporal_resolution: str
    """As in the items' properties."""
    bands: tuple[Mapping[str, Any], ...]
    """``raster:bands`` of the asset."""
    item_properties: Mapping[str, Any]
    """Properties that items of this collection have beyond the usual ones."""
    item_links: tuple[Mapping[str, str], ...]
    """``cite-as``, ``about`` and ``license`` links, which items have too."""
    related_links: tuple[Mapping[str, str], ...]
    """``related`` links, which only the collection has."""
    keywords: tuple[str, ...]
    """For searches."""
    summaries: Mapping[str, Any]
    """Summaries beyond the usual ones."""
    epsg: int
    """CRS of the store."""
    gsd: float
    """Ground sampling distance in metres."""
    store: Callable[[str, Callable[[int], datetime]], StoreSpec]
    """Makes the store of a version, given the moment at which each edition was created."""

    @property
    def variables(self) -> list[str]:
        return [band["name"] for band in self.bands]


COLLECTIONS: Final = (
    Collection(
        identifier="GAMI",
        theme="structure-demography",
        title="Synthetic GAMI - Forest age ensemble (100 m)",
        description=(
            "Synthetic forest age in the layout of the Global Age Mapping Integration: an ensemble of 20 members for "
            "two reference years. Made for demonstrations and tests; nothing in it was ever observed."
        ),
        versions=("3.0", "3.1"),
        bbox=(-180.0, -90.0, 180.0, 90.0),
        start="2010-01-01",
        end="2020-12-31",
        temporal_resolution="multi-epoch",
        bands=({"name": "forest_age", "unit": "years", "data_type": "int16", "nodata": -9999},),
        item_properties={},
        item_links=(
            {
                "rel": "cite-as",
                "href": "https://doi.org/10.5880/GFZ.1.4.2023.006",
                "type": "text/html",
                "title": "DOI of the product that is imitated",
            },
        ),
        related_links=(
            {
                "rel": "related",
                "href": "https://doi.org/10.5194/essd-13-4881-2021",
                "type": "text/html",
                "title": "Paper on the product that is imitated",
            },
        ),
        keywords=("forest age", "ensemble", "synthetic", "zarr", "stac"),
        summaries={
            "reference_years": list(YEARS),
            "ensemble_dimension": ["members"],
            "ensemble_members": [MEMBERS],
            "ensemble_notes": ["Members are alternative estimates of the same synthetic stands."],
            "units_by_variable": {"forest_age": "years"},
        },
        epsg=4326,
        gsd=100.0,
        store=gami_store,
    ),
    Collection(
        identifier="FORESTPATHS_GENUS",
        theme="structure-demography",
        title="Synthetic ForestPaths - Tree genera 2020 (10 m)",
        description=(
            "Synthetic tree genera in the layout of the European tree genus map for 2020. Made for demonstrations and "
            "tests; nothing in it was ever observed."
        ),
        versions=("0.0.1",),
        bbox=(-25.0, 34.0, 45.0, 72.0),
        start="2020-01-01",
        end="2020-12-31",
        temporal_resolution="single-epoch",
        bands=({"name": "genus", "data_type": "uint16", "nodata": 255},),
        item_properties={"units": "class"},
        item_links=(
            {
                "rel": "cite-as",
                "href": "https://doi.org/10.5281/zenodo.13341104",
                "type": "text/html",
                "title": "DOI of the product that is imitated",
            },
        ),
        related_links=(),
        keywords=("tree genus", "land cover", "synthetic", "zarr", "stac"),
        summaries={"classes": [{"value": code, "name": name} for code, name in LEGEND.items()]},
        epsg=3035,
        gsd=10.0,
        store=genus_store,
    ),
    Collection(
        identifier="LIU_BIOMASS",
        theme="biomass-carbon",
        title="Synthetic LIU - Canopy cover, height and biomass 2019 (30 m)",
        description=(
            "Synthetic canopies in the layout of the European maps of cover, height and aboveground biomass for 2019. "
            "Made for demonstrations and tests; nothing in it was ever observed."
        ),
        versions=("0.1",),
        bbox=(-25.0, 34.0, 45.0, 72.0),
        start="2019-01-01",
        end="2019-12-31",
        temporal_resolution="single-epoch",
        bands=(
            {"name": "canopy_cover", "unit": "percent", "data_type": "uint8", "nodata": 0},
            {"name": "canopy_height", "unit": "m", "data_type": "float32", "nodata": 0},
            # The store says kg: the real catalogue contradicts it, too.
            {"name": "aboveground_biomass", "unit": "Mg ha-1", "data_type": "float32", "nodata": 0},
        ),
        item_properties={},
        item_links=(),
        related_links=(),
        keywords=("biomass", "canopy height", "canopy cover", "synthetic", "zarr", "stac"),
        summaries={
            "units_by_variable": {"canopy_cover": "percent", "canopy_height": "m", "aboveground_biomass": "Mg ha-1"}
        },
        epsg=3035,
        gsd=30.0,
        store=liu_store,
    ),
    Collection(
        identifier="EFDA",
        theme="disturbance-change",
        title="Synthetic EFDA - Forest disturbances since 1985 (30 m)",
        description=(
            "Synthetic forest disturbances in the layout of the European Forest Disturbance Atlas, year by year. Made "
            "for demonstrations and tests; nothing in it was ever observed."
        ),
        # The older one has the names and axes of stores from before 2026, of which its item says nothing.
        versions=("2.0.0", "2.1.1"),
        bbox=(-25.0, 34.0, 45.0, 72.0),
        start="1985-01-01",
        end="2023-12-31",
        temporal_resolution="annual",
        bands=(
            {"name": "disturbance_agent", "data_type": "int16", "nodata": -9999},
            {"name": "disturbance_occurrence", "data_type": "int16", "nodata": -9999},
        ),
        item_properties={},
        item_links=(),
        related_links=(),
        keywords=("forest disturbance", "harvest", "fire", "wind", "synthetic", "zarr", "stac"),
        summaries={"classes": [{"value": code, "name": name} for code, name in AGENTS.items()]},
        epsg=3035,
        gsd=30.0,
        store=efda_store,
    ),
)
