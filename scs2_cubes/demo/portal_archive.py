"""The embedded portal's archive: which files it has, in which edition, and what is in them."""

from __future__ import annotations

from functools import cached_property
from threading import Lock

from scs2_cubes.demo.dap_model import DapDataset
from scs2_cubes.demo.portal_classic import classic_file, classic_size
from scs2_cubes.demo.portal_files import FileMaker, Layout
from scs2_cubes.demo.portal_products import COARSE, FINE, YEARS, Granule
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.errors import ConfigurationError

__all__ = ["Portal"]


class Portal:
    """Files of two products: of 100 m, one for each year, and of 0.5 degrees, one for all years.

    Making one costs nothing; pixels are made when they are asked for. Safe to use from several threads.
    """

    def __init__(self) -> None:
        #: May be replaced by another one at any time, for all files.
        self.layout = Layout()
        self._editions = dict.fromkeys(YEARS, 1)
        self._withdrawn: frozenset[int] = frozenset()
        self._lock = Lock()

    def publish(self, edition: int = 2, year: int | None = None) -> None:
        """Put the file of a year, or of all years, at an edition, a later or an earlier one.

        Editions differ in their pixels, in ``updated`` and ``filesize`` of the granule and in ``date_created``, never
        in lattice or extent of the forest; the same number always means the same bytes. The coarse product is at the
        highest edition of the years. Raises ConfigurationError for an edition below 1 or a year that isn't there.
        """
        if edition < 1:
            raise ConfigurationError(f"editions of the embedded portal are counted from 1, not {edition}")
        years = YEARS if year is None else (_known(year),)
        with self._lock:
            self._editions |= dict.fromkeys(years, edition)

    def withdraw(self, year: int) -> None:
        """Take the file of a year out of listing and archive. Raises ConfigurationError where there is no such year."""
        with self._lock:
            self._withdrawn |= {_known(year)}

    def restore(self) -> None:
        """Put back what was withdrawn."""
        with self._lock:
            self._withdrawn = frozenset()

    def granules(self) -> tuple[Granule, ...]:
        """All files that are there, by folder and name, as the search engine sorts them."""
        with self._lock:
            editions, withdrawn = dict(self._editions), self._withdrawn
        yearly = [Granule(FINE, (year,), editions[year]) for year in YEARS if year not in withdrawn]
        granules = [*yearly, Granule(COARSE, YEARS, max(editions.values()))]
        return tuple(sorted(granules, key=lambda granule: (granule.directory, granule.name)))

    def find(self, path: str) -> Granule | None:
        """The file at a path below ``thredds/dodsC`` or ``thredds/fileServer``, with its leading slash."""
        return next((granule for granule in self.granules() if granule.path == path), None)

    def dataset(self, path: str) -> DapDataset | None:
        """The file at a path as OPeNDAP shows it; None where there is none."""
        granule = self.find(path)
        return None if granule is None else self._files.dataset(granule, self.layout)

    def size(self, granule: Granule) -> int:
        """Bytes of a file."""
        if granule.product.is_yearly:
            return granule.announced_size
        return classic_size(self._files.dataset(granule, self.layout))

    def download(self, granule: Granule) -> bytes | None:
        """The whole file, in NetCDF's classic format; None where it is too large for a demonstration."""
        return None if granule.product.is_yearly else classic_file(self._files.dataset(granule, self.layout))

    @cached_property
    def _files(self) -> FileMaker:
        return FileMaker(Stands())


def _known(year: int) -> int:
    if year not in YEARS:
        raise ConfigurationError(f"the embedded portal has no year {year}, only {', '.join(map(str, YEARS))}")
    return year
