"""Is it this cube? What lies in storage against what a schema describes, document by document.

Attributes are no part of a cube's identity. Time may grow at its end; nothing else may change. What readers go by is
the consolidated metadata: where they are there, other documents that say otherwise are what a crash left behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import zarr
from pyproj import CRS
from zarr.storage import MemoryStore

from scs2_cubes.storage import zarr_layout

__all__ = ["Comparison", "compare"]

_TIME = "time"
_DIMENSIONS = "_ARRAY_DIMENSIONS"
_ROOT_DOCUMENTS = (".zmetadata", "zarr.json")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What lies there against what is wanted."""

    differences: tuple[str, ...]
    """In what it is another cube, one phrase each."""
    is_behind: bool
    """True where it is this cube, but with fewer steps at its end, or with documents that a crash left half-changed."""
    is_whole: bool
    """True where no document is missing."""


def compare(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> Comparison:
    """Compare two sets of documents, ``found`` possibly incomplete.

    Raises what zarr, json and pyproj raise at metadata that isn't any.
    """
    if not found:
        return Comparison((), is_behind=False, is_whole=False)
    # A crash while it was created may have left out any document: the group's own and attributes are taken as wanted.
    supplied = {key: value for key, value in wanted.items() if "/" not in key or key.endswith("/.zattrs")}
    behind = [key for key, value in found.items() if _without_texts(key, value) != _without_texts(key, wanted[key])]
    there, here = _memory_group({**supplied, **found, **_consolidated(found)}), _memory_group(wanted)
    differences = [
        difference
        for name, array in here.arrays()
        if name in there
        for difference in _differences(name, there[name], array, found)
    ]
    return Comparison(
        (*differences, *_other_names(found, wanted)), is_behind=bool(behind), is_whole=wanted.keys() <= found.keys()
    )


def _differences(
    name: str, there: zarr.Array[Any] | zarr.Group, here: zarr.Array[Any], found: Mapping[str, bytes]
) -> list[str]:
    if not isinstance(there, zarr.Array):
        return [f"{name}: a group"]
    if _changes_in_length(there, here) and there.shape[0] > here.shape[0]:
        # Said once, of the coordinate, and not of every variable.
        steps = f"time: {there.shape[0]} steps there, {here.shape[0]} here, and time can only grow"
        return [steps] if name == _TIME else []
    changed = _array_differences(there, here)
    # A step that is there must stay where it is; those behind it are new.
    if not changed and name in _coordinates(here) and _chunks(there) <= found.keys() and not _starts_with(here, there):
        changed = [f"{name}: other coordinates"]
    return changed + (_crs_differences(there, here) if name == zarr_layout.GRID_MAPPING else [])


def _consolidated(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Document of each array, as the consolidated metadata have it; nothing where there are none yet."""
    if ".zmetadata" in found:
        entries = json.loads(found[".zmetadata"])["metadata"]
        return {key: json.dumps(entry).encode() for key, entry in entries.items()}
    if "zarr.json" in found:
        entries = (json.loads(found["zarr.json"]).get("consolidated_metadata") or {}).get("metadata", {})
        return {f"{name}/zarr.json": json.dumps(entry).encode() for name, entry in entries.items()}
    return {}


def _without_texts(key: str, value: bytes) -> Any:
    """What ``value`` says of the layout: all of a chunk, and of a document what isn't an attribute for people."""
    if not zarr_layout.is_metadata(key):
        return value
    document = json.loads(value)
    return document.get(_DIMENSIONS) if key.endswith(".zattrs") else _without_attributes(document)


def _without_attributes(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {
        key: _without_attributes(value)
        for key, value in node.items()
        if key != "attributes" and not key.endswith(".zattrs")
    }


def _other_names(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> tuple[str, ...]:
    """Variables and coordinates that only one of the two has; nothing where a crash left no list of them."""
    root = next((key for key in _ROOT_DOCUMENTS if key in found), None)
    if root is None:
        return ()
    document = json.loads(found[root])
    consolidated = document.get("metadata") or (document.get("consolidated_metadata") or {}).get("metadata", {})
    names = {key.rpartition("/")[0] if key.endswith((".zarray", ".zattrs")) else key for key in consolidated}
    names -= {"", ".zgroup"}
    expected = {key.partition("/")[0] for key in wanted if "/" in key}
    return (
        *(f"{name}: not in this cube" for name in sorted(names - expected)),
        *(f"{name}: only in this cube" for name in sorted(expected - names)),
    )


def _changes_in_length(there: zarr.Array[Any], here: zarr.Array[Any]) -> bool:
    """True where the two differ in the number of steps alone, as far as shapes go."""
    dims = _layout(here)["dimensions"] or [None]
    return dims[0] == _TIME and there.ndim == here.ndim and there.shape[1:] == here.shape[1:]


def _coordinates(array: zarr.Array[Any]) -> tuple[str, ...]:
    """Names of the arrays whose values belong to a cube's identity."""
    return (_TIME, zarr_layout.GRID_MAPPING, *(_layout(array)["dimensions"] or ()))


def _chunks(array: zarr.Array[Any]) -> set[str]:
    """Keys of the chunks of ``array``."""
    indices = product(*(range(count) for count in array.cdata_shape))
    return {f"{array.basename}/{array.metadata.encode_chunk_key(index)}" for index in indices}


def _starts_with(array: zarr.Array[Any], beginning: zarr.Array[Any]) -> bool:
    values, first = np.asarray(array[...]), np.asarray(beginning[...])
    return np.array_equal(values[: len(first)] if values.ndim else values, first)


def _array_differences(there: zarr.Array[Any], here: zarr.Array[Any]) -> list[str]:
    old, new = _layout(there), _layout(here)
    keys = [key for key in new if not (key == "shape" and _changes_in_length(there, here))]
    return [f"{here.basename} {key}: {old.get(key)} there, {new[key]} here" for key in keys if old.get(key) != new[key]]


def _crs_differences(there: zarr.Array[Any], here: zarr.Array[Any]) -> list[str]:
    # As CRS and not as text: releases of PROJ word the same CRS differently.
    old, new = (CRS.from_user_input(array.attrs.get("crs_wkt", "")) for array in (there, here))
    return [] if old == new else [f"{here.basename}: {old.to_string()} there, {new.to_string()} here"]


def _layout(array: zarr.Array[Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    attributes = metadata.pop("attributes", {})
    return {**metadata, "dimensions": metadata.get("dimension_names") or attributes.get(_DIMENSIONS)}


def _memory_group(documents: Mapping[str, bytes]) -> zarr.Group:
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    store = MemoryStore({key: buffer.from_bytes(value) for key, value in documents.items()})
    # Not the consolidated copy: a crash may have left it older than the documents, or out altogether.
    return zarr.open_group(store, mode="r", use_consolidated=False)
