"""What has to be ordered and fetched first: what ``preload_datasets`` names, and what else the datasets need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scs2_cubes.config.data_ids import report_data_id
from scs2_cubes.config.models import PreloadDataset, PreloadParams
from scs2_cubes.config.problems import KeyPath, Problems, rendered
from scs2_cubes.config.protocols import PROTOCOLS, canonical_data_id
from scs2_cubes.config.references import STORAGE
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.specification import DatasetSpec, PreloadSpec, StoreSpec

__all__ = ["preload_specs"]


def preload_specs(
    sections: Sections, stores: Mapping[str, StoreSpec], datasets: tuple[DatasetSpec, ...], problems: Problems
) -> tuple[PreloadSpec, ...]:
    """Each once: first those of ``preload_datasets``, then, with default parameters, what else ``datasets`` read.

    Reports entries of stores that need no preloading, and data ids that stand there twice.
    """
    force = sections.general.force_preload is True
    specs: dict[tuple[str, str], PreloadSpec] = {}
    first: dict[tuple[str, str], KeyPath] = {}
    for index, entry in sections.preload_datasets.items():
        if not _can_be_preloaded(sections, entry, ("preload_datasets", index, "store"), problems):
            continue
        params = entry.preload_params or PreloadParams()
        for path, data_id in _data_ids(entry, ("preload_datasets", index, "data_ids")):
            report_data_id(_store_id(sections, entry.store), data_id, path, problems)
            name = canonical_data_id(_store_id(sections, entry.store), data_id)
            key = (entry.store, name)
            if first.setdefault(key, path) != path:
                problems.add(path, f"{name!r} is named already, by {rendered(first[key])}; with or without .zarr")
            elif entry.store in stores:
                specs[key] = PreloadSpec(stores[entry.store], name, params.max_wait, params.cleanup, force)
    for dataset in datasets:
        key = (dataset.store.identifier, dataset.data_id)
        if PROTOCOLS[dataset.store.protocol].is_preloaded and key not in specs:
            specs[key] = PreloadSpec(dataset.store, dataset.data_id, force=force)
    return tuple(specs.values())


def _data_ids(entry: PreloadDataset, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(entry.data_ids, str):
        yield path, entry.data_ids
    else:
        for number, name in enumerate(entry.data_ids):
            yield (*path, number), name


def _can_be_preloaded(sections: Sections, entry: PreloadDataset, path: KeyPath, problems: Problems) -> bool:
    """Whether datasets of the entry's store are fetched as a whole; reports where the store needs nothing of it."""
    store_id = _store_id(sections, entry.store)
    protocol = PROTOCOLS.get(store_id)
    if protocol is None or entry.store == STORAGE:
        # No such store, or one that isn't supported: both are told elsewhere.
        return False
    if not protocol.is_preloaded:
        able = " and ".join(name for name, one in PROTOCOLS.items() if one.is_preloaded)
        text = f"is a {store_id} store, which is read without preloading; only {able} needs it. Remove it"
        problems.add(path, f"{problems.shown(path)} {text}")
    return protocol.is_preloaded


def _store_id(sections: Sections, identifier: str) -> str:
    """``store_id`` of a store, empty where there is no such store."""
    return next((one.store_id for one in sections.data_stores.values() if one.identifier == identifier), "")
