"""From ``data_stores`` to what is read from, what is written to, and where caches lie. Opens nothing."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from scs2_cubes.config.models import DataStore
from scs2_cubes.config.object_stores import s3_options, s3_place
from scs2_cubes.config.parameters import Parameters
from scs2_cubes.config.problems import Problems, nearest, rendered
from scs2_cubes.config.protocols import PROTOCOLS, STORAGE_OPTIONS, Protocol
from scs2_cubes.config.references import STORAGE
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.core.wording import counted

__all__ = ["small_cache_warnings", "storage_spec", "store_specs"]

_DEFAULT_ROOT = "data"
_CACHES = ".cache"
_S3, _S3_URL = "s3", "s3://"
#: Bytes below which a cache of windows can't be meant so: a single window of a tile has more.
_SMALL_CACHE = 10**6
#: A folder of this machine in fsspec's words.
_LOCAL_URL = re.compile(r"(?:file|local):(?://(?:localhost(?=/))?)?", re.IGNORECASE)


def store_specs(
    sections: Sections,
    folder: Path,
    working_directory: Path,
    storage: StorageSpec | None,
    retry: RetryPolicy,
    problems: Problems,
) -> Mapping[str, StoreSpec]:
    """Every store that is read from, by identifier.

    A local catalogue, folders of files and credentials lie relative to ``folder``, caches relative to
    ``working_directory``, by default below ``storage`` (None: unknown, which is a problem by itself).
    """
    specs: dict[str, StoreSpec] = {}
    taken: list[tuple[str, StorageSpec]] = [(STORAGE, storage)] if storage else []
    for index, store in sections.data_stores.items():
        protocol = PROTOCOLS.get(store.store_id)
        if store.identifier == STORAGE or protocol is None:
            continue
        parameters = Parameters(store.store_params, ("data_stores", index, "store_params"), problems)
        params = _patient(protocol.read(parameters, folder), retry)
        rewrite = parameters.prefixes("href_rewrite")
        cache = _cache_spec(store, protocol, parameters, working_directory, storage, retry)
        if cache:
            _report_shared(cache, parameters, taken)
            taken.append((store.identifier, cache))
        if params is not None:
            specs[store.identifier] = StoreSpec(store.identifier, store.store_id, params, rewrite, retry, cache)
    return specs


def storage_spec(
    sections: Sections, working_directory: Path, retry: RetryPolicy, problems: Problems
) -> StorageSpec | None:
    """The store called ``storage``; the ``root`` of a folder is relative to the working directory.

    ``retry`` is the policy for requests, where it lies on S3.
    """
    for index, store in sections.data_stores.items():
        if store.identifier != STORAGE:
            continue
        parameters = Parameters(store.store_params, ("data_stores", index, "store_params"), problems)
        if store.store_id == _S3:
            place = s3_place(parameters)
            return StorageSpec(place.url, s3_options(place.options, retry)) if place else None
        root = _root(parameters, working_directory)
        return StorageSpec(root) if root else None
    return None


def _patient(params: Mapping[str, Any] | None, retry: RetryPolicy) -> Mapping[str, Any] | None:
    """``params`` with all that s3fs needs, where it is what reads."""
    if params is None or STORAGE_OPTIONS not in params:
        return params
    # Whoever reads asks again by the policy itself.
    return {**params, STORAGE_OPTIONS: s3_options(params[STORAGE_OPTIONS], retry, attempts=1)}


def small_cache_warnings(sections: Sections, stores: Mapping[str, StoreSpec]) -> tuple[str, ...]:
    """A line for each store whose ``cache_size`` hardly holds anything."""
    named = ((index, stores.get(store.identifier)) for index, store in sections.data_stores.items())
    sizes = ((index, store.params.get("cache_size")) for index, store in named if store)
    return tuple(
        f"{rendered(('data_stores', index, 'store_params', 'cache_size'))}: {counted(size, 'byte')}, where less than "
        "1 MB has room for hardly a window; it is given in bytes"
        for index, size in sizes
        if size is not None and size < _SMALL_CACHE
    )


def _root(parameters: Parameters, working_directory: Path) -> str | None:
    root = parameters.text("root") if "root" in parameters.values else _DEFAULT_ROOT
    if root and "://" in root:
        parameters.add("root", "should be the path of a folder; for a bucket write store_id: s3, root: bucket/folder")
        return None
    return parameters.file("root", root, working_directory) if root else None


def _cache_spec(
    store: DataStore,
    protocol: Protocol,
    parameters: Parameters,
    working_directory: Path,
    storage: StorageSpec | None,
    retry: RetryPolicy,
) -> StorageSpec | None:
    """Where the store's cache lies: ``cache``, the same in the words of today's users, or below the storage."""
    if not protocol.is_cached:
        return None
    older = _older_cache(parameters) if "cache_store_params" in protocol.parameters else None
    if parameters.has("cache") and older:
        parameters.add("cache_store_params", "can't stand together with 'cache'; leave one of the two out")
    chosen = (parameters, "cache") if parameters.has("cache") else (older, "root") if older else None
    if chosen:
        root = _folder(*chosen, working_directory)
        return StorageSpec(root, _cache_options(root, storage, retry)) if root else None
    if storage is None:
        return None
    return StorageSpec(f"{storage.root}/{_CACHES}/{_as_folder(store.identifier)}", storage.options)


def _cache_options(root: str, storage: StorageSpec | None, retry: RetryPolicy) -> Mapping[str, Any]:
    """A cache on S3 is reached as the storage is, where that lies on S3, too; else by the usual AWS environment."""
    if not root.startswith(_S3_URL):
        return {}
    return storage.options if storage and storage.root.startswith(_S3_URL) else s3_options({}, retry)


def _folder(parameters: Parameters, key: str, working_directory: Path) -> str | None:
    """The folder, or fsspec URL, that ``key`` names; a folder has one spelling, also where it came as a URL."""
    root = parameters.address(key)
    local = _LOCAL_URL.match(root) if root else None
    if root and local:
        root = parameters.file(key, unquote(root[local.end() :]), working_directory)
    elif root and "://" not in root:
        root = parameters.file(key, root, working_directory)
    return root


def _older_cache(parameters: Parameters) -> Parameters | None:
    older = parameters.inner("cache_store_params")
    for key in older.values if older else ():
        if older and key != "root":
            older.add(key, f"isn't supported for a cache; {nearest(key, {'root'})}")
    return older


def _as_folder(identifier: str) -> str:
    """A name that stays a single folder, whatever the store is called."""
    name = quote(identifier, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _report_shared(cache: StorageSpec, parameters: Parameters, taken: list[tuple[str, StorageSpec]]) -> None:
    """Report a cache that has a place of something else in it, or lies in one: clearing it would take that away, too.

    The one exception is the folder for caches below the storage's root.
    """
    mine = _steps(cache.root)
    for owner, place in taken:
        theirs = _steps(place.root)
        if not (_is_within(mine, theirs) or _is_within(theirs, mine)):
            continue
        caches = (*theirs, _CACHES)
        if owner == STORAGE and _is_within(mine, caches) and mine != caches:
            continue
        what = "cubes are written there" if owner == STORAGE else f"the cache of {owner!r} lies there"
        parameters.add("cache", f"should be a folder of its own: {what}")
        return


def _is_within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return inner[: len(outer)] == outer


def _steps(root: str) -> tuple[str, ...]:
    """Protocol, host and folders of a path or URL, without users and redundant steps; the same for the same place."""
    parts = urlsplit(root if "://" in root else f"file://{quote(root)}")
    host, path = parts.netloc.rpartition("@")[2].lower(), unquote(parts.path) if parts.scheme == "file" else parts.path
    folders = posixpath.normpath(f"/{path}").strip("/").split("/")
    return (parts.scheme, host, *(folder for folder in folders if folder))
