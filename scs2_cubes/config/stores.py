"""From ``data_stores`` to what is read from, what is written to, and where caches lie. Opens nothing."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from scs2_cubes.config.models import DataStore
from scs2_cubes.config.parameters import Parameters
from scs2_cubes.config.problems import KeyPath, Problems, nearest, rendered
from scs2_cubes.config.protocols import PROTOCOLS, Protocol
from scs2_cubes.config.references import STORAGE
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.core.wording import counted

__all__ = ["small_cache_warnings", "storage_spec", "store_specs"]

_DEFAULT_ROOT = "data"
_CACHES = ".cache"
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

    A local catalogue and credentials lie relative to ``folder``, caches relative to ``working_directory``, by default
    below ``storage`` (None: unknown, which is a problem by itself).
    """
    specs: dict[str, StoreSpec] = {}
    taken: list[tuple[str, StorageSpec]] = [(STORAGE, storage)] if storage else []
    for index, store in sections.data_stores.items():
        protocol = PROTOCOLS.get(store.store_id)
        if store.identifier == STORAGE or protocol is None:
            continue
        parameters = Parameters(store.store_params, ("data_stores", index, "store_params"), problems)
        params = protocol.read(parameters, folder)
        rewrite = parameters.prefixes("href_rewrite")
        cache = _cache_spec(store, protocol, parameters, working_directory, storage)
        if cache:
            _report_shared(cache, parameters, taken)
            taken.append((store.identifier, cache))
        if params is not None:
            specs[store.identifier] = StoreSpec(store.identifier, store.store_id, params, rewrite, retry, cache)
    return specs


def storage_spec(sections: Sections, working_directory: Path, problems: Problems) -> StorageSpec | None:
    """The store called ``storage``; its ``root`` is relative to the working directory."""
    for index, store in sections.data_stores.items():
        if store.identifier != STORAGE:
            continue
        path: KeyPath = ("data_stores", index, "store_params")
        root = _root(Parameters(store.store_params, path, problems), working_directory)
        return StorageSpec(root) if root else None
    return None


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
        parameters.add("root", "should be the path of a folder; storage at a URL isn't supported yet")
        return None
    return parameters.file("root", root, working_directory) if root else None


def _cache_spec(
    store: DataStore,
    protocol: Protocol,
    parameters: Parameters,
    working_directory: Path,
    storage: StorageSpec | None,
) -> StorageSpec | None:
    """Where the store's cache lies: ``cache``, the same in the words of today's users, or below the storage."""
    if not protocol.is_cached:
        return None
    older = _older_cache(parameters) if "cache_store_params" in protocol.parameters else None
    if parameters.has("cache") and older:
        parameters.add("cache_store_params", "can't stand together with 'cache'; leave one of the two out")
    if parameters.has("cache"):
        return _folder(parameters, "cache", working_directory)
    if older:
        return _folder(older, "root", working_directory)
    return StorageSpec(f"{storage.root}/{_CACHES}/{_as_folder(store.identifier)}") if storage else None


def _folder(parameters: Parameters, key: str, working_directory: Path) -> StorageSpec | None:
    """The folder, or fsspec URL, that ``key`` names; a folder has one spelling, also where it came as a URL."""
    root = parameters.address(key)
    local = _LOCAL_URL.match(root) if root else None
    if root and local:
        root = parameters.file(key, unquote(root[local.end() :]), working_directory)
    elif root and "://" not in root:
        root = parameters.file(key, root, working_directory)
    return StorageSpec(root) if root else None


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
