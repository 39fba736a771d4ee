"""What the schema knows and this version can't do yet: refused in so many words, never ignored.

To support one of these, remove its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scs2_cubes.config.models import OpenParams, PreloadParams
from scs2_cubes.config.object_stores import S3_PARAMETERS
from scs2_cubes.config.problems import KeyPath, Problems, nearest
from scs2_cubes.config.protocols import PROTOCOLS
from scs2_cubes.config.references import STORAGE
from scs2_cubes.config.validation import Sections

__all__ = ["report_unsupported"]

#: Key path → what isn't supported yet, wherever the key has a value at all.
_REFUSED_KEYS: Mapping[str, str] = {
    "datasets[].variables": "a cube from several sources",
    "datasets[].temporal_resample_params": "resampling in time",
    "datasets[].xr_merge_params": "merging several sources",
}
#: Key path → value → what isn't supported yet.
_REFUSED_VALUES: Mapping[str, Mapping[str, str]] = {
    "datasets[].format_id": {"netcdf": "the format netcdf", "levels": "the format levels"},
}
#: What can be a source, what can be the storage, and the parameters of each that have an effect.
_SOURCES: Mapping[str, frozenset[str]] = {name: protocol.parameters for name, protocol in PROTOCOLS.items()}
_STORAGES: Mapping[str, frozenset[str]] = {"file": frozenset({"root"}), "s3": S3_PARAMETERS}
_OPEN_PARAMS = frozenset(OpenParams.model_fields)
#: Parameters of stores in the schema that people have.
_OTHER_OPEN_PARAMS = frozenset({"spatial_res", "point", "bbox_width", "tile_size"})
_PRELOAD_PARAMS = frozenset(PreloadParams.model_fields)
#: Parameters of preloads in the schema that people have.
_OTHER_PRELOAD_PARAMS = frozenset({"tile_size"})


def report_unsupported(values: Mapping[str, Any], sections: Sections, problems: Problems) -> None:
    """Add everything in ``values`` (plain data, after substitution) that isn't supported yet to ``problems``."""
    for pattern, what in _REFUSED_KEYS.items():
        for path, _ in _matches(values, pattern.replace("[]", ".[]").split(".")):
            problems.add(path, f"{what} isn't supported yet; remove it")
    for pattern, refused in _REFUSED_VALUES.items():
        for path, value in _matches(values, pattern.replace("[]", ".[]").split(".")):
            if isinstance(value, str) and value in refused:
                problems.add(path, f"{refused[value]} isn't supported yet; only zarr is")
    _report_stores(sections, problems)
    for path, params in _matches(values, ["datasets", "[]", "open_params"]):
        _report_params(path, params, _OPEN_PARAMS, _OTHER_OPEN_PARAMS, problems)
    for path, params in _matches(values, ["preload_datasets", "[]", "preload_params"]):
        _report_params(path, params, _PRELOAD_PARAMS, _OTHER_PRELOAD_PARAMS, problems)
    for index, entry in sections.preload_datasets.items():
        if entry.preload_params and not entry.preload_params.blocking:
            text = "false isn't supported: a run waits for its order, at most for max_wait seconds. Leave it out"
            problems.add(("preload_datasets", index, "preload_params", "blocking"), text)


def _matches(values: Any, pattern: list[str], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Key paths and values that a pattern such as ``datasets[].variables`` stands for; null counts as absent."""
    if not pattern:
        if values is not None:
            yield path, values
    elif pattern[0] == "[]":
        for index, item in enumerate(values if isinstance(values, list) else ()):
            yield from _matches(item, pattern[1:], (*path, index))
    elif isinstance(values, dict) and pattern[0] in values:
        yield from _matches(values[pattern[0]], pattern[1:], (*path, pattern[0]))


def _report_stores(sections: Sections, problems: Problems) -> None:
    for index, store in sections.data_stores.items():
        path: KeyPath = ("data_stores", index)
        role, supported = (STORAGE, _STORAGES) if store.identifier == STORAGE else ("source", _SOURCES)
        if store.store_id not in supported:
            only = ", ".join(sorted(supported))
            shown = problems.shown((*path, "store_id"))
            problems.add((*path, "store_id"), f"{shown} isn't supported yet as {role}; supported: {only}")
            continue
        known = supported[store.store_id]
        for key in store.store_params:
            if key not in known:
                text = f"isn't supported for a {store.store_id} {role}; {nearest(key, known)}"
                problems.add((*path, "store_params", key), text)


def _report_params(
    path: KeyPath, params: object, known: frozenset[str], others: frozenset[str], problems: Problems
) -> None:
    """Report keys that aren't ``known``; ``others``: those that the schema has, and that can't be done yet."""
    for key in params if isinstance(params, dict) else ():
        if key in others:
            problems.add((*path, key), f"isn't supported yet; supported: {', '.join(sorted(known))}")
        elif key not in known:
            hint = nearest(key, known | others)
            problems.add((*path, key), f"unknown parameter, or not supported yet; {hint}")
