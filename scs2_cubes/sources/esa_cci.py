"""Client of the ESA CCI Open Data Portal: collections of NetCDF files, searched by OpenSearch, read by OPeNDAP.

A data id's files are the steps of one stack: each stands for a span of time, or has a time axis of its own. They're
huge, and coarsely chunked, so windows of them are asked for once, and cached: that is ``preload``'s business.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.data_ids import CCI_PARTS
from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import Location, NativeArray, NativeCoordinate, NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import ConfigurationError, DataIdNotFoundError, SourceFormatError, redact
from scs2_cubes.sources.dap import DapClient, DapFile
from scs2_cubes.sources.dap_layout import (
    FileHeader,
    Layout,
    agreeing_array,
    native_arrays,
    read_header,
    read_layout,
    read_times,
    steps_of,
)
from scs2_cubes.sources.editions import newer_data_ids
from scs2_cubes.sources.esa_cci_search import Catalogue, Granule, listing_version
from scs2_cubes.sources.http import Documents, rewrite
from scs2_cubes.sources.missing import HASTY, unknown_data_id

__all__ = ["PRODUCT_VERSION", "EsaCciSource", "Granule", "listing_version"]

#: ``6-0`` of the product version, the ninth part; letters around it (``v7-2``, ``04-01-seg``) are text.
PRODUCT_VERSION = re.compile(r"^(?:[^.]*\.){8}[A-Za-z]*(?P<number>[0-9]+(?:-[0-9]+)*)")
#: Global attributes that describe one file of several.
_FILE_ATTRS = frozenset(
    {
        "creation_date",
        "date_created",
        "date_modified",
        "history",
        "id",
        "time_coverage_duration",
        "time_coverage_end",
        "time_coverage_start",
        "tracking_id",
    }
)


@dataclass(frozen=True)
class EsaCciSource:
    """Client for a portal. Data ids are as the portal lists them; ``~<text>`` after one keeps files with it in a URL.

    Safe to share between threads; a copy that was sent to another process has connections of its own.
    """

    store: StoreSpec
    catalogue: Catalogue
    files: DapClient
    _headers: dict[tuple[str, str], FileHeader] = field(default_factory=dict, init=False, repr=False, compare=False)
    _asking: dict[tuple[str, str], threading.Lock] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, store: StoreSpec) -> EsaCciSource:
        """Client for ``store``. No I/O.

        Parameters: ``endpoint_url`` (search), ``endpoint_description_url``, and ``max_connections`` to the data server.
        Raises ConfigurationError where one is missing; defaults are the configuration's matter.
        """
        endpoint, description = (str(_required(store, f"endpoint_{name}")) for name in ("url", "description_url"))
        return cls(
            store,
            Catalogue(Documents(store.retry, store.href_rewrite), endpoint, description),
            DapClient(store.retry, store.href_rewrite, int(_required(store, "max_connections"))),
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).open, (self.store,)

    def data_ids(self) -> Iterator[str]:
        """See :meth:`scs2_cubes.sources.base.Source.data_ids`: one request."""
        return self.catalogue.data_ids()

    def probe(self, data_id: str) -> str:
        """Fingerprint of the list of files (names, sizes, dates, changes): two requests to the catalogue."""
        return listing_version(self._listed(data_id))

    def newer_editions(self, data_id: str) -> tuple[str, ...]:
        """Ids that differ from ``data_id`` in a higher product version alone; its ``~<text>`` is kept: one request.

        Every edition is a collection of its own, and a search for collections, however narrow, tells titles and no
        data ids. These are in the portal's description, which is asked instead. Where ``data_id`` itself isn't in it,
        a second request tells whether the portal knows it all the same. Raises as :meth:`probe` does.
        """
        drs_id, filtered, part = data_id.partition("~")
        self._require_form(drs_id)
        listed = tuple(self.catalogue.data_ids())
        if drs_id not in listed and not self.catalogue.collections(drs_id):
            raise self._unknown(drs_id)
        return tuple(f"{newer}{filtered}{part}" for newer in newer_data_ids(drs_id, listed, PRODUCT_VERSION))

    def describe(self, data_id: str) -> NativeDataset:
        """See :meth:`scs2_cubes.sources.base.DescribedSource.describe`.

        Asks for the list of files, and for structure, attributes and coordinates of the first one, taken for all: the
        others are compared with it when they are read. Every array has the dimensions (time, y, x), whether or not
        the files have a time axis; its steps are those of :meth:`granules`.
        """
        return self.described(data_id)[0]

    def described(self, data_id: str) -> tuple[NativeDataset, tuple[Granule, ...]]:
        """What :meth:`describe` and :meth:`granules` say, from one list of files, by the former's requests."""
        listed = self._readable(data_id, self._listed(data_id))
        file = self.files.open(listed[0].opendap_href)
        layout = read_layout(self.files, file)
        granules = self._steps(listed, file, layout.steps)
        arrays = native_arrays(file, layout, len(granules))
        attrs = file.attributes.get("NC_GLOBAL", {})
        dropped = _FILE_ATTRS if len(listed) > 1 else frozenset()
        native = NativeDataset(
            location=Location(rewrite(file.url, self.store.href_rewrite), retry=self.store.retry),
            href=self.public_href(data_id),
            arrays=arrays,
            lattice=layout.lattice,
            y_dim=layout.y_dim,
            x_dim=layout.x_dim,
            version=listing_version(listed),
            time_dim="time",
            times=tuple(granule.stamp for granule in granules),
            coordinates=(_time_coordinate(granules), *layout.scalars),
            attrs={key: value for key, value in attrs.items() if key not in dropped and not isinstance(value, dict)},
            provenance=_registration(layout),
        )
        return native, granules

    def granules(self, data_id: str) -> tuple[Granule, ...]:
        """The steps of ``data_id`` in the order of its ``NativeDataset.times``: where each is read.

        Asks for the list of files and the first one's structure, and for the time axes of files with several steps.
        Between two calls the list may change: :func:`listing_version` of the result is the source version.
        """
        listed = self._readable(data_id, self._listed(data_id))
        url = listed[0].opendap_href
        return self._steps(listed, None, steps_of(DapFile(url, self.files.structure(url), {})))

    def read_window(self, granule: Granule, array: NativeArray, window: Window) -> npt.NDArray[Any]:
        """``window`` of the lattice at the step ``granule``, shape (rows, columns), native dtype, undecoded.

        One request; before the first one to a file, two small ones that tell whether its arrays lie in it as was
        described. Memory: three times the window's size in its dtype Int16. Raises GridError for a window that is empty
        or beyond the lattice, SourceFormatError where the file differs, and otherwise as :class:`DapClient` does.
        """
        declared = agreeing_array(self._header(granule), array)
        return self.files.read_window(granule.opendap_href, declared, window, granule.step)

    def public_href(self, data_id: str) -> str:
        """Address of the collection's entry in the portal's catalogue. No I/O."""
        query = {"parentIdentifier": "cci", "drsId": data_id.partition("~")[0], "httpAccept": "application/geo+json"}
        return f"{redact(self.catalogue.endpoint).partition('?')[0]}?{urlencode(query)}"

    def _header(self, granule: Granule) -> FileHeader:
        key = (granule.opendap_href, granule.updated)
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        # One after the other for a file, several windows of which are often asked for at once.
        with asking:
            known = self._headers.get(key)
            if known is None:
                known = self._headers[key] = read_header(self.files, granule.opendap_href)
            return known

    def _listed(self, data_id: str) -> tuple[Granule, ...]:
        drs_id, filtered, part = data_id.partition("~")
        self._require_form(drs_id)
        collections = self.catalogue.collections(drs_id)
        if not collections:
            raise self._unknown(drs_id)
        files = [item for collection in collections for item in self.catalogue.granules(collection, drs_id)]
        chosen = [item for item in files if not filtered or part in item.opendap_href or part in item.download_href]
        if not chosen:
            what = (
                f"none of its {len(files)} NetCDF files has {part!r} in its URL" if files else "it has no NetCDF files"
            )
            raise DataIdNotFoundError(
                f"store {self.store.identifier!r}, data_id {data_id!r}: {what}", url=self.public_href(data_id)
            )
        return tuple(sorted(chosen, key=lambda item: (item.start, item.end, item.name)))

    def _readable(self, data_id: str, listed: tuple[Granule, ...]) -> tuple[Granule, ...]:
        without = [granule.name for granule in listed if not granule.opendap_href]
        if without:
            what = (
                f"none of its {len(listed)} files has an OPeNDAP address, so they can't be read in windows"
                if len(without) == len(listed)
                else f"no OPeNDAP address for {', '.join(without[:3])} ({len(without)} of {len(listed)} files)"
            )
            raise SourceFormatError(
                f"store {self.store.identifier!r}, data_id {data_id!r}: {what}", url=self.public_href(data_id)
            )
        return listed

    def _steps(self, listed: Sequence[Granule], first: DapFile | None, steps: int) -> tuple[Granule, ...]:
        """One granule for each time step, sorted by time; ``steps`` is how many the first file has."""
        if steps == 1:
            granules = list(listed)
        else:
            opened = [first if first and first.url == item.opendap_href else None for item in listed]
            granules = [
                replace(item, stamp=stamp, step=step)
                for item, file in zip(listed, opened, strict=True)
                for step, stamp in enumerate(read_times(self.files, file or self.files.open(item.opendap_href)))
            ]
        granules.sort(key=lambda item: item.stamp)
        for one, other in itertools.pairwise(granules):
            if one.stamp == other.stamp:
                raise SourceFormatError(
                    f"{one.name} and {other.name} both stand for {one.stamp}; ~<text> after the data id keeps the "
                    "files with that text in their URL",
                    url=other.opendap_href,
                )
        return tuple(granules)

    def _unknown(self, drs_id: str) -> DataIdNotFoundError:
        documents = Documents(HASTY, self.catalogue.documents.rewrites)
        hasty = replace(self, catalogue=replace(self.catalogue, documents=documents))
        return unknown_data_id(hasty, self.store.identifier, drs_id)

    def _require_form(self, drs_id: str) -> None:
        parts = drs_id.split(".")
        problem = ""
        if len(parts) != len(CCI_PARTS):
            problem = f"it has {len(parts)} parts"
        elif parts[0] != CCI_PARTS[0]:
            problem = f"its first part is {parts[0]!r}"
        elif not all(parts):
            problem = "without " + ", ".join(name for name, part in zip(CCI_PARTS, parts, strict=True) if not part)
        if problem:
            raise DataIdNotFoundError(
                f"store {self.store.identifier!r}: data_id {drs_id!r} isn't of the portal's form: {problem}. There "
                f"must be {len(CCI_PARTS)} with dots between them: {', '.join(CCI_PARTS)}",
                url=self.public_href(drs_id),
            )


def _time_coordinate(granules: Sequence[Granule]) -> NativeCoordinate:
    """The stamps as a CF time axis; no single file has it."""
    seconds = np.array([granule.stamp for granule in granules], dtype="datetime64[s]").astype(np.int64)
    attrs = {"standard_name": "time", "units": "seconds since 1970-01-01", "calendar": "standard"}
    return NativeCoordinate("time", ("time",), seconds, attrs)


def _registration(layout: Layout) -> dict[str, str]:
    if not layout.edges:
        return {}
    return {"source_coordinates": f"edges of cells, not centres: {', '.join(layout.edges)}"}


def _required(store: StoreSpec, name: str) -> Any:
    value = store.params.get(name)
    if not value:
        raise ConfigurationError(f"data store {store.identifier!r}: store_params.{name} is missing")
    return value
