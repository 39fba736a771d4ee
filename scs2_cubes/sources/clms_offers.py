"""What the Copernicus Land Monitoring Service offers, read from the pages of its dataset search. Pure.

Nothing but a dataset's identifiers is sure to be there: older items lack ``file``, empty ones have a placeholder
instead of files, and what is a string in one item is an object with ``title`` and ``token`` in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scs2_cubes.core.versions import data_version
from scs2_cubes.errors import redact

__all__ = ["EDITION", "EEA", "GEOTIFF", "OfferedDataset", "OfferedFile", "read_dataset"]

#: The provider whose files are ordered; others have protocols of their own.
EEA = "EEA"
GEOTIFF = "Geotiff"
#: A delivery (``d04``) or version (``v020``, ``V1_1``, ``V01_R00``) as a word of a file's name; resolutions (``R10m``)
#: and codes of reference systems (``03035``) aren't any.
EDITION = re.compile(r"(?<![A-Za-z0-9])[dvV](?P<number>[0-9]+(?:_R?[0-9]{1,2}(?![A-Za-z0-9]))*)(?![A-Za-z0-9])")
#: What a file's content depends on, as far as the service tells. Not its address, and not its random id.
_CONTENT = ("file", "path", "size", "version", "format", "resolution", "year")


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that the service offers under a data id ``<product>|<file>``."""

    data_id: str
    """``<product>|<file>``, without ``.zarr``."""
    product: str
    """The dataset's short name, for example ``forest-type-2015``."""
    file: str
    """The file's name, without suffix."""
    title: str
    """The dataset's title, for people."""
    dataset_uid: str
    """The dataset's identifier: ``DatasetID`` of orders and tasks."""
    file_id: str
    """The file's identifier: ``FileID`` of orders and tasks."""
    version: str
    """The source version: fingerprint of what the service says about the file's content."""
    size: str
    """As the service words it, for example ``7 GB``; may be empty."""
    href: str
    """Public address of the dataset, without secrets."""


@dataclass(frozen=True, slots=True)
class OfferedDataset:
    """An item of the dataset search."""

    product: str
    """Short name."""
    title: str
    """For people."""
    uid: str
    """Identifier in orders."""
    provider: str
    """``full_source`` of its first download option; empty where it isn't told."""
    href: str
    """Public address, without secrets."""
    entries: tuple[Mapping[str, Any], ...]
    """``downloadable_files``, as they come."""

    def files(self) -> Iterator[OfferedFile]:
        """What can be ordered and read: GeoTIFFs with a name, of the provider whose files are ordered."""
        if self.provider == EEA:
            for entry in self.entries:
                if _word(entry.get("format")) == GEOTIFF and _word(entry.get("file")):
                    yield self._offered(entry)

    def other_formats(self, file: str) -> tuple[str, ...]:
        """The formats, GeoTIFF excepted, in which a file of that name is listed."""
        named = [_word(entry.get("format")) for entry in self.entries if _word(entry.get("file")) == file]
        return tuple(sorted({name for name in named if name not in {"", GEOTIFF}}))

    def _offered(self, entry: Mapping[str, Any]) -> OfferedFile:
        file = _word(entry.get("file"))
        return OfferedFile(
            data_id=f"{self.product}|{file}",
            product=self.product,
            file=file,
            title=self.title,
            dataset_uid=self.uid,
            file_id=_word(entry.get("@id")),
            version=data_version({name: _word(entry.get(name)) for name in _CONTENT}),
            size=_word(entry.get("size")),
            href=self.href,
        )


def read_dataset(item: Mapping[str, Any]) -> OfferedDataset:
    """An item of a page; without the parameter ``fullobjects`` its short name is the end of its address."""
    address = _word(item.get("@id"))
    options = _entries(item, "dataset_download_information")
    return OfferedDataset(
        product=_word(item.get("id")) or address.rstrip("/").rpartition("/")[2],
        title=_word(item.get("title")),
        uid=_word(item.get("UID")),
        provider=_word(options[0].get("full_source")) if options else "",
        href=redact(address),
        entries=_entries(item, "downloadable_files"),
    )


def _entries(item: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    listed = item.get(name)
    entries = listed.get("items") if isinstance(listed, Mapping) else None
    return tuple(entry for entry in entries if isinstance(entry, Mapping)) if isinstance(entries, list) else ()


def _word(value: Any) -> str:
    """The text of a field that may be a string, a number, a vocabulary's term or nothing."""
    if isinstance(value, Mapping):
        return _word(value.get("token") or value.get("title"))
    return str(value).strip() if isinstance(value, str | int | float) else ""
