"""Zarr stores and GeoTIFFs in a folder: on disk, in a bucket, or behind a web server.

A data id is a path below the store's ``root``; its suffix says what lies there: ``.zarr``, ``.tif`` or ``.tiff``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import tenacity

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
    redact,
    redact_text,
)
from scs2_cubes.sources.editions import VERSION_WORD, newer_data_ids
from scs2_cubes.sources.geotiff import describe_tiff
from scs2_cubes.sources.http import Documents, Request, is_local, retry_arguments
from scs2_cubes.sources.missing import unknown_data_id
from scs2_cubes.sources.s3_answers import open_filesystem, refuse_answer, s3_failures
from scs2_cubes.sources.sidecars import SIDECAR_BYTES, SIDECARS, changed_by
from scs2_cubes.sources.transport import TransientAnswerError
from scs2_cubes.sources.zarr_group import METADATA_KEYS, content_version, describe_group

__all__ = ["FileSource"]

_ZARR, _TIFF = ".zarr", (".tif", ".tiff")
#: Folders within folders that are listed.
_DEPTH = 16
_WEB = ("http://", "https://")
#: What a server says of a file's present content, the best first.
_VALIDATORS = ("ETag", "Last-Modified")

_Said = TypeVar("_Said")


@dataclass(frozen=True)
class FileSource:
    """Client for what lies below ``root``."""

    store: StoreSpec

    @classmethod
    def open(cls, store: StoreSpec) -> FileSource:
        """Client for ``store``, whose parameter ``root`` is a path or URL; ``storage_options``: s3fs's. No I/O."""
        return cls(store)

    @property
    def root(self) -> str:
        """Path or URL of the folder, without a slash at its end."""
        return str(self.store.params["root"]).rstrip("/")

    def data_ids(self) -> Iterator[str]:
        """Walk the folder: one request for each folder that isn't a Zarr store.

        Raises SourceError where nothing can be listed: behind a web server.
        """
        if self.root.startswith(_WEB):
            raise SourceError(
                "behind a web server nothing can be listed: name data ids by what you know of them, as paths below "
                "root",
                url=self.root,
            )
        yield from self._walk("", _DEPTH)

    def probe(self, data_id: str) -> str:
        """Fingerprint of a Zarr store's metadata, or of what is said of a file: size, and ETag or date. One request.

        Raises SourceFormatError where a web server says neither.
        """
        location = self._location(data_id)
        if not data_id.endswith(_ZARR):
            return self._file_version(data_id, location)
        try:
            return content_version(location)
        except SourceFormatError as error:
            raise self._no_store(data_id, location, error) from error

    def newer_editions(self, data_id: str) -> tuple[str, ...]:
        """What lies in the same folder and differs in higher version numbers alone: one request.

        None behind a web server, where nothing can be listed. Raises as :meth:`probe` does.
        """
        self._location(data_id)
        if self.root.startswith(_WEB):
            return ()
        folder = data_id.rpartition("/")[0]
        return newer_data_ids(data_id, self._walk(folder, 0), VERSION_WORD)

    def describe(self, data_id: str) -> NativeDataset:
        """See :meth:`scs2_cubes.sources.base.DescribedSource.describe`.

        Raises SourceFormatError where something beside a GeoTIFF makes GDAL read other values than the file has.
        """
        version, location, href = self.probe(data_id), self._location(data_id), self.public_href(data_id)
        if data_id.endswith(_ZARR):
            return describe_group(location, href=href, provenance={}, version=version)
        self._require_alone(location)
        return describe_tiff(location, href=href, version=version)

    def public_href(self, data_id: str) -> str:
        """Path or URL of the store or file, without secrets."""
        return redact(f"{self.root}/{data_id}")

    @property
    def _options(self) -> dict[str, Any]:
        return dict(self.store.params.get("storage_options", {}))

    def _location(self, data_id: str) -> Location:
        """Raises DataIdNotFoundError for what can't be a data id."""
        parts = data_id.split("/")
        if not data_id.lower().endswith((_ZARR, *_TIFF)):
            raise self._refused(data_id, f"has to end in one of {', '.join((_ZARR, *_TIFF))}")
        if any(part in {"", ".", ".."} for part in parts) or "\\" in data_id or not data_id.isprintable():
            raise self._refused(data_id, "has to be a path below root")
        if self.root.startswith(_WEB) and ("?" in data_id or "#" in data_id):
            raise self._refused(data_id, "can't have a query or a fragment")
        return Location(f"{self.root}/{data_id}", self._options, self.store.retry)

    def _refused(self, data_id: str, why: str) -> DataIdNotFoundError:
        return DataIdNotFoundError(f"data_id {data_id!r} of store {self.store.identifier!r} {why}", url=self.root)

    def _walk(self, folder: str, depth: int) -> Iterator[str]:
        for name, is_folder in self._entries(folder):
            path = f"{folder}/{name}" if folder else name
            if name.endswith(_ZARR):
                yield path
            elif is_folder and depth:
                yield from self._walk(path, depth - 1)
            elif not is_folder and name.lower().endswith(_TIFF):
                yield path

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """(Name, whether it is a folder) of what lies in ``folder``, sorted."""
        url = f"{self.root}/{folder}".rstrip("/")

        def entries() -> list[tuple[str, bool]]:
            filesystem, path = open_filesystem(url, self._options)
            found = filesystem.ls(path, detail=True)
            return sorted((one["name"].rstrip("/").rpartition("/")[2], one["type"] == "directory") for one in found)

        return self._patiently(url, entries)

    def _require_alone(self, location: Location) -> None:
        """Raise where a mask or the like lies beside a GeoTIFF; one request each. Behind a web server none is made."""
        if location.url.startswith(_WEB):
            return
        for suffix in SIDECARS:
            content = self._beside(f"{location.url}{suffix}")
            changed = () if content is None else changed_by(suffix, content)
            if changed:
                name = f"{location.url.rpartition('/')[2]}{suffix}"
                raise SourceFormatError(
                    f"{name} lies beside it and changes what it means ({', '.join(changed)}), which isn't read. Write "
                    "it into the file, a mask as nodata (gdal_translate with -a_nodata), or remove it",
                    url=location.url,
                )

    def _beside(self, url: str) -> bytes | None:
        """The beginning of what lies at ``url``; None where nothing does."""

        def content() -> bytes:
            filesystem, path = open_filesystem(url, self._options)
            with filesystem.open(path, "rb", block_size=SIDECAR_BYTES, cache_type="none") as file:
                found: bytes = file.read(SIDECAR_BYTES)
            return found

        try:
            return self._patiently(url, content)
        except (DataIdNotFoundError, AccessDeniedError):
            # S3 says 403 of what isn't there to those who may not list, and GDAL takes it so, too.
            return None

    def _file_version(self, data_id: str, location: Location) -> str:
        try:
            said = self._version_of_web(location) if location.url.startswith(_WEB) else self._of_entry(location)
        except DataIdNotFoundError as error:
            raise unknown_data_id(self, self.store.identifier, data_id) from error
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def _version_of_web(self, location: Location) -> tuple[str, ...]:
        headers = self._of_web(location)
        validator = next((headers[name] for name in _VALIDATORS if headers.get(name)), None)
        if validator is None:
            # Of the same size, another file would be the same version for ever.
            raise SourceFormatError(
                f"the server says neither an {' nor a '.join(_VALIDATORS)} of it, so nobody could see that it changes. "
                "Have the server send one of them, or read a copy on disk",
                url=location.url,
            )
        return validator, headers.get("Content-Length", "")

    def _of_web(self, location: Location) -> Mapping[str, str]:
        """What a web server says of the file: one HEAD."""
        # Of what is compressed on its way the length would be another one.
        request = Request(location.url, "HEAD", {"Accept-Encoding": "identity"})
        return Documents(self.store.retry).send(request).headers

    def _of_entry(self, location: Location) -> tuple[str, ...]:
        """What the filesystem says of the file."""

        def info() -> tuple[str, ...]:
            filesystem, path = open_filesystem(location.url, self._options)
            found = filesystem.info(path)
            if found["type"] != "file":
                raise FileNotFoundError(2, "it is a folder")
            # S3 has the ETag, a disk the moment of the last change.
            return str(found.get("ETag") or found.get("mtime") or found.get("LastModified")), str(found["size"])

        return self._patiently(location.url, info)

    def _patiently(self, url: str, ask: Callable[[], _Said]) -> _Said:
        """What ``ask`` says, asked again by the policy. Raises as :meth:`probe` does."""

        def once() -> _Said:
            failures: tuple[type[Exception], ...] = (*s3_failures(), OSError)
            try:
                return ask()
            except FileNotFoundError as error:
                refuse_answer(error, url)
                raise DataIdNotFoundError("nothing lies there", url=url) from error
            except failures as error:
                refuse_answer(error, url)
                if isinstance(error, PermissionError):
                    raise AccessDeniedError(f"no permission to look at it: {error.strerror}", url=url) from error
                if is_local(url):
                    raise SourceUnavailableError(f"can't be looked at: {error}", url=url) from error
                raise TransientAnswerError(f"{type(error).__name__}: {redact_text(str(error))}") from error

        said: _Said = tenacity.Retrying(**retry_arguments(self.store.retry, url))(once)
        return said

    def _no_store(self, data_id: str, location: Location, error: SourceFormatError) -> SourceError:
        """``error``, or that nothing lies there: a store that isn't there and one without metadata look the same."""
        try:
            is_there = self._has_metadata(location) if location.url.startswith(_WEB) else bool(self._entries(data_id))
        except DataIdNotFoundError:
            is_there = False
        return error if is_there else unknown_data_id(self, self.store.identifier, data_id)

    def _has_metadata(self, location: Location) -> bool:
        """Whether a web server has any of a Zarr store's documents."""
        for key in METADATA_KEYS:
            try:
                self._of_web(replace(location, url=f"{location.url}/{key}"))
            except DataIdNotFoundError:
                continue
            return True
        return False
