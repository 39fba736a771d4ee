"""From ``data_stores`` to what is read from and what is written to. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scs2_cubes.config.masking import MASK, without_secrets
from scs2_cubes.config.models import DataStore
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.references import STORAGE
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec

__all__ = ["storage_spec", "store_specs"]

_DEFAULT_ROOT = "data"


def store_specs(sections: Sections, folder: Path, retry: RetryPolicy, problems: Problems) -> Mapping[str, StoreSpec]:
    """Every STAC store by identifier; a local catalogue lies relative to ``folder``."""
    specs: dict[str, StoreSpec] = {}
    for index, store in sections.data_stores.items():
        if store.identifier == STORAGE or store.store_id != "stac":
            continue
        path: KeyPath = ("data_stores", index, "store_params")
        url = _text(store.store_params, "url", path, problems)
        rewrite = _href_rewrite(store.store_params.get("href_rewrite"), (*path, "href_rewrite"), problems)
        if url and without_secrets(url) == MASK:
            problems.add((*path, "url"), "is no valid URL: a password in it, if any, needs percent-encoding")
        elif url:
            params = {"url": url if "://" in url else str((folder / Path(url).expanduser()).resolve())}
            specs[store.identifier] = StoreSpec(store.identifier, store.store_id, params, rewrite, retry)
    return specs


def storage_spec(sections: Sections, working_directory: Path, problems: Problems) -> StorageSpec | None:
    """The store called ``storage``; its ``root`` is relative to the working directory."""
    for index, store in sections.data_stores.items():
        if store.identifier != STORAGE:
            continue
        path: KeyPath = ("data_stores", index, "store_params")
        root = _root(store, path, problems)
        if root:
            return StorageSpec(str((working_directory / Path(root).expanduser()).resolve()))
    return None


def _root(store: DataStore, path: KeyPath, problems: Problems) -> str | None:
    if "root" not in store.store_params:
        return _DEFAULT_ROOT
    root = _text(store.store_params, "root", path, problems)
    if root and "://" in root:
        problems.add((*path, "root"), "should be the path of a folder; storage at a URL isn't supported yet")
        return None
    return root


def _text(params: Mapping[str, Any], key: str, path: KeyPath, problems: Problems) -> str | None:
    if key not in params:
        problems.add((*path, key), "required key is missing")
        return None
    value = params[key]
    if not isinstance(value, str) or not value:
        problems.add((*path, key), f"should be a string that isn't empty, not {problems.shown((*path, key))}")
        return None
    return value


def _href_rewrite(value: object, path: KeyPath, problems: Problems) -> tuple[tuple[str, str], ...]:
    """(prefix, replacement), longest prefix first, so that the most specific one wins."""
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(
        isinstance(prefix, str) and prefix and isinstance(replacement, str) for prefix, replacement in value.items()
    ):
        problems.add(path, "should be a mapping of URL prefixes to their replacements")
        return ()
    return tuple(sorted(value.items(), key=lambda pair: (-len(pair[0]), pair[0])))
