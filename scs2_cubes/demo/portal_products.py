"""What the embedded portal offers: a collection for each edition, its two products and the files of each.

Identifiers, file names, years, dates and the size of the file of 2020 are those of ESA CCI Biomass v6.0; the folder is
inferred from other versions of it, the coarse product's file name from that of the fine one. Other editions are laid
out as that one is; their identifiers are made up.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo.portal_stands import LATTICE

__all__ = ["COARSE", "FINE", "PINNED", "YEARS", "Collection", "Granule", "Product", "updated"]

YEARS: Final = (2007, 2010, 2015, 2016, 2017, 2018, 2019, 2020, 2021, 2022)

_FIRST_EDITION: Final = datetime(2025, 4, 17, 15, 7, 2, tzinfo=UTC)
_BETWEEN_EDITIONS: Final = timedelta(days=30)
_SIZE_OF_2020: Final = 17_302_200_000
_COARSE_LATTICE: Final = Lattice("EPSG:4326", -180.0, 80.0, 0.5, -0.5, 720, 280)


@dataclass(frozen=True, slots=True)
class Product:
    """One dataset of the portal."""

    drs_id: str
    """Its identifier."""
    resolution: str
    """As in the names of its files."""
    lattice: Lattice
    """Its pixels, the first row in the north."""
    is_yearly: bool
    """Whether each year has a file; otherwise one holds them all."""

    @property
    def version(self) -> str:
        """Its edition, for example ``6.0``."""
        return self.drs_id.split(".")[8].replace("-", ".")

    @property
    def facets(self) -> Mapping[str, str]:
        """Value of each facet that searches may name."""
        _, ecv, _, level, data_type, sensor, platform, product, version, _ = self.drs_id.split(".")
        return {
            "ecv": ecv,
            "frequency": "year",
            "institute": "synthetic",
            "processingLevel": level,
            "productString": product,
            "productVersion": version,
            "dataType": data_type,
            "sensor": sensor,
            "platform": platform,
            "fileFormat": ".nc",
            "drsId": self.drs_id,
        }


@dataclass(frozen=True, slots=True)
class Collection:
    """One edition of the product, as the portal lists it."""

    version: str
    """For example ``6.0``."""
    uuid: str
    """Its identifier."""

    @classmethod
    def of(cls, version: str) -> Collection:
        """An edition that is made up."""
        return cls(version, uuid.uuid5(uuid.NAMESPACE_URL, f"scs2-cubes-demo/portal/{version}").hex)

    @property
    def title(self) -> str:
        """For people."""
        return f"Synthetic stand-in for ESA Biomass Climate Change Initiative: above-ground biomass, v{self.version}"

    @property
    def fine(self) -> Product:
        """The product of 100 m, a file for each year."""
        return Product(self._drs_id("100m"), "100m", LATTICE, is_yearly=True)

    @property
    def coarse(self) -> Product:
        """The product of 0.5 degrees, 562.5 fine pixels; one file for all years."""
        return Product(self._drs_id("50000m"), "50000m", _COARSE_LATTICE, is_yearly=False)

    def _drs_id(self, suffix: str) -> str:
        version = self.version.replace(".", "-")
        return f"esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.{version}.{suffix}"


@dataclass(frozen=True, slots=True)
class Granule:
    """One file of a product."""

    product: Product
    """What it is a file of."""
    years: tuple[int, ...]
    """Years that it holds, one time step each."""
    edition: int
    """Its present content."""

    @property
    def name(self) -> str:
        """File name."""
        year = f"-{self.years[0]}" if self.product.is_yearly else ""
        return f"ESACCI-BIOMASS-L4-AGB-MERGED-{self.product.resolution}{year}-fv{self.product.version}.nc"

    @property
    def directory(self) -> str:
        """Folder in the archive."""
        return f"/neodc/esacci/biomass/data/agb/maps/v{self.product.version}/netcdf"

    @property
    def path(self) -> str:
        """Path below ``thredds/dodsC`` and ``thredds/fileServer``."""
        return f"{self.directory.removeprefix('/neodc')}/{self.name}"

    @property
    def identifier(self) -> str:
        """Identifier of the search engine's document."""
        return hashlib.sha1(f"{self.directory}/{self.name}".encode(), usedforsecurity=False).hexdigest()

    @property
    def start(self) -> datetime:
        """First second (UTC)."""
        return datetime(self.years[0], 1, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Last second (UTC)."""
        return datetime(self.years[-1], 12, 31, 23, 59, 59, tzinfo=UTC)

    @property
    def announced_size(self) -> int:
        """Bytes of a yearly file: of nothing that is there, so it is only said; another edition has another."""
        return _SIZE_OF_2020 + 12_345_678 * (self.years[0] - 2020) + 4_096 * (self.edition - 1)


#: The edition that is always there.
PINNED: Final = Collection("6.0", "95913ffb6467447ca72c4e9d8cf30501")
FINE: Final = PINNED.fine
COARSE: Final = PINNED.coarse


def updated(edition: int) -> datetime:
    """Moment at which an edition was put into the archive (UTC)."""
    return _FIRST_EDITION + (edition - 1) * _BETWEEN_EDITIONS
