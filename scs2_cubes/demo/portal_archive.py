"""The embedded portal's archive: which files it has, in which edition, and what is in them."""

from __future__ import annotations

import re
from functools import cached_property
from threading import Lock
from typing import Final

from scs2_cubes.demo.dap_model import DapDataset
from scs2_cubes.demo.portal_classic import classic_file, classic_size
from scs2_cubes.demo.portal_files import FileMaker, Layout
from scs2_cubes.demo.portal_products import PINNED, YEARS, Collection, Granule
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.errors import ConfigurationError

__all__ = ["Portal"]


_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
#: The content of files of editions other than the one that is always there: other pixels than the first ones of that.
_AHEAD: Final = 11


class Portal:
    """Files of two products: of 100 m, one for each year, and of 0.5 degrees, one for all years.

    There is one edition of them, v6.0, until :meth:`publish_edition` adds one. Making a portal costs nothing; pixels
    are made when they are asked for. Safe to use from several threads.
    """

    def __init__(self) -> None:
        #: May be replaced by another one at any time, for all files.
        self.layout = Layout()
        self._editions = dict.fromkeys(YEARS, 1)
        self._withdrawn: frozenset[int] = frozenset()
        self._collections: tuple[Collection, ...] = (PINNED,)
        self._lock = Lock()

    def publish(self, edition: int = 2, year: int | None = None) -> None:
        """Put the file of a year, or of all years, of v6.0 at an edition of its content, a later or an earlier one.

        To clients it is another version under the same data id; :meth:`publish_edition` is the other thing. Editions
        differ in their pixels, in ``updated`` and ``filesize`` of the granule and in ``date_created``, never in lattice
        or extent of the forest; the same number always means the same bytes. The coarse product is at the highest
        edition of the years. Raises ConfigurationError for an edition below 1 or a year that isn't there.
        """
        if edition < 1:
            raise ConfigurationError(f"editions of the embedded portal are counted from 1, not {edition}")
        years = YEARS if year is None else (_known(year),)
        with self._lock:
            self._editions |= dict.fromkeys(years, edition)

    def publish_edition(self, version: str = "7.0") -> None:
        """Add an edition of the product: a collection with data ids and files of its own, of the same years.

        Nothing changes under the ids that are there, and neither :meth:`publish` nor :meth:`withdraw` is about the new
        ones. Raises ConfigurationError for a version that isn't numbers with dots between them or is there already.
        """
        with self._lock:
            known = [collection.version for collection in self._collections]
            if _VERSION.fullmatch(version) is None or version in known:
                raise ConfigurationError(
                    f"{version!r} can't be another edition of the embedded portal's product: it must be numbers with "
                    f"dots between them, and there are {', '.join(known)} already"
                )
            self._collections += (Collection.of(version),)

    def withdraw(self, year: int) -> None:
        """Take the file of a year out of listing and archive. Raises ConfigurationError where there is no such year."""
        with self._lock:
            self._withdrawn |= {_known(year)}

    def restore(self) -> None:
        """Put back what was withdrawn."""
        with self._lock:
            self._withdrawn = frozenset()

    def collections(self) -> tuple[Collection, ...]:
        """All editions, in the order in which they were published."""
        with self._lock:
            return self._collections

    def granules(self, collection: Collection | None = None) -> tuple[Granule, ...]:
        """All files, or those of a collection, by folder and name, as the search engine sorts them."""
        chosen = self.collections() if collection is None else (collection,)
        granules = [granule for one in chosen for granule in self._granules(one)]
        return tuple(sorted(granules, key=lambda granule: (granule.directory, granule.name)))

    def _granules(self, collection: Collection) -> list[Granule]:
        if collection != PINNED:
            yearly = [Granule(collection.fine, (year,), _AHEAD) for year in YEARS]
            return [*yearly, Granule(collection.coarse, YEARS, _AHEAD)]
        with self._lock:
            editions, withdrawn = dict(self._editions), self._withdrawn
        yearly = [Granule(PINNED.fine, (year,), editions[year]) for year in YEARS if year not in withdrawn]
        return [*yearly, Granule(PINNED.coarse, YEARS, max(editions.values()))]

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
