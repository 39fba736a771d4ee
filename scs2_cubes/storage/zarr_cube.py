"""A Zarr cube with its records beside it.

``<name>.zarr`` holds the cube; ``<name>.records/tiles/<tile>.json`` one record for each finished tile,
``<name>.records/versions/<data version>.json`` what that version is made of, and ``<name>.records/cube.json`` the state
of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from pyproj import CRS
from pyproj.exceptions import CRSError
from zarr.storage import MemoryStore

from scs2_cubes.core.cube import CubeSchema, TileRecord
from scs2_cubes.core.grid import Tile
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import CubeIdentityError, CubeNotFoundError, StorageError
from scs2_cubes.storage import zarr_layout
from scs2_cubes.storage.objects import Objects, open_objects

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ZarrCube"]

_ROOT_DOCUMENTS = (".zmetadata", "zarr.json")


@dataclass(frozen=True)
class ZarrCube:
    """The cube called ``name`` (folders before it, no suffix) below the storage's root."""

    name: str
    storage: StorageSpec
    objects: Objects

    @classmethod
    def at(cls, storage: StorageSpec, name: str) -> ZarrCube:
        """The cube ``name`` in ``storage``. No I/O."""
        return cls(name, storage, open_objects(storage.root, storage.options))

    def __reduce__(self) -> tuple[Any, ...]:
        # File systems and their connections stay in their process.
        return ZarrCube.at, (self.storage, self.name)

    @property
    def url(self) -> str:
        return self.objects.url(f"{self.name}.zarr")

    def differences(self, schema: CubeSchema) -> tuple[str, ...]:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        wanted = zarr_layout.describe(schema)
        lying = {key: self.objects.get(f"{self.name}.zarr/{key}") for key in wanted}
        other = ".zgroup" if schema.zarr_format != 2 else "zarr.json"  # noqa: PLR2004  (Zarr format 2)
        if self.objects.get(f"{self.name}.zarr/{other}") is not None:
            return (f"zarr_format: not {schema.zarr_format}",)
        found = {key: value for key, value in lying.items() if value is not None}
        try:
            return _compare(found, wanted) + _other_names(found, wanted)
        except (ValueError, TypeError, KeyError, CRSError) as error:
            # What zarr and json raise at metadata that isn't any.
            raise StorageError(
                f"the metadata of {self.url} can't be read: {type(error).__name__}: {error}. Move that cube aside and "
                "run again"
            ) from error

    def create(self, schema: CubeSchema) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        differences = self.differences(schema)
        if differences:
            raise CubeIdentityError(
                f"another cube lies at {self.url}; it differs in {'; '.join(differences)}. Nothing was written. Choose "
                "another identifier, move that cube aside, or change the configuration back"
            )
        for key, value in zarr_layout.describe(schema).items():
            if self.objects.get(f"{self.name}.zarr/{key}") is None:
                self.objects.put(f"{self.name}.zarr/{key}", value)

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        description = schema.layer(layer)
        index = (*((step,) if schema.time_is_dim else ()), tile.row, tile.col)
        key = f"{self.name}.zarr/{zarr_layout.chunk_key(schema, description, index)}"
        if values is None:
            self.objects.delete(key)
            return 0
        if values.shape != tile.window.shape or values.dtype != description.numpy_dtype:
            raise StorageError(
                f"plane of {layer}, tile {tile.key}: {values.dtype} {values.shape} instead of {description.dtype} "
                f"{tile.window.shape}"
            )
        encoded = zarr_layout.encode_chunk(schema, description, values)
        self.objects.put(key, encoded)
        return len(encoded)

    def complete(self, schema: CubeSchema, attrs: Mapping[str, Any]) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        for key, value in zarr_layout.with_attributes(schema, attrs).items():
            if self.objects.get(f"{self.name}.zarr/{key}") != value:
                self.objects.put(f"{self.name}.zarr/{key}", value)

    def records(self) -> dict[str, TileRecord]:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        found = {}
        for key in self.objects.keys(f"{self.name}.records/tiles"):
            document = self.objects.get(key)
            # Between listing and reading another run may have begun to make the tile again.
            if document is not None:
                record = self._parse_record(key, document)
                found[record.tile] = record
        return found

    def write_record(self, record: TileRecord) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        self.write_document(f"tiles/{record.tile}.json", asdict(record))

    def remove_record(self, tile: str) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        self.objects.delete(f"{self.name}.records/tiles/{tile}.json")

    def read_document(self, name: str) -> dict[str, Any] | None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        key = f"{self.name}.records/{name}"
        document = self.objects.get(key)
        if document is None:
            return None
        try:
            parsed = json.loads(document)
        except ValueError as error:
            raise StorageError(f"{self.objects.url(key)} isn't JSON: {error}. Remove it and run again") from error
        if not isinstance(parsed, dict):
            raise StorageError(f"{self.objects.url(key)} isn't a JSON object. Remove it and run again")
        return parsed

    def write_document(self, name: str, document: Mapping[str, Any]) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        text = json.dumps(document, indent=1, sort_keys=True)
        self.objects.put(f"{self.name}.records/{name}", text.encode())

    def exists(self) -> bool:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        return any(self.objects.get(f"{self.name}.zarr/{key}") is not None for key in _ROOT_DOCUMENTS)

    def size(self) -> int:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        return self.objects.size(f"{self.name}.zarr")

    def open(self) -> xr.Dataset:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        if not self.exists():
            raise CubeNotFoundError(f"there is no cube at {self.url}; materialize it first")
        import xarray as xr  # noqa: PLC0415  (a second of import, for those who open a cube)

        # mask_and_scale=False: class codes stay integers; the fill of floats is NaN, which needs no mask.
        dataset: xr.Dataset = xr.open_zarr(
            self.url,
            mask_and_scale=False,
            decode_coords="all",
            consolidated=True,
            storage_options=dict(self.storage.options) or None,
        )
        return dataset

    def _parse_record(self, key: str, document: bytes) -> TileRecord:
        try:
            return TileRecord(**json.loads(document))
        except (ValueError, TypeError) as error:
            raise StorageError(
                f"{self.objects.url(key)} isn't a tile record: {error}. Remove it, and the tile is made again"
            ) from error


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


def _compare(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> tuple[str, ...]:
    """Differences between two sets of documents in what makes a cube's identity; attributes are no part of it."""
    if not found:
        return ()
    # A crash while it was created may have left out any document: the group's own and attributes are taken as wanted.
    supplied = {key: value for key, value in wanted.items() if "/" not in key or key.endswith("/.zattrs")}
    there, here = _memory_group({**supplied, **found}), _memory_group(wanted)
    differences: list[str] = []
    for name, array in here.arrays():
        if name not in there:
            continue
        other = there[name]
        if not isinstance(other, zarr.Array):
            differences.append(f"{name}: a group")
            continue
        changed = _array_differences(other, array)
        chunks = {key for key in wanted if key.startswith(f"{name}/") and not zarr_layout.is_metadata(key)}
        if not changed and chunks and chunks <= found.keys() and not np.array_equal(other[...], array[...]):
            changed = [f"{name}: other coordinates"]
        if name == zarr_layout.GRID_MAPPING:
            changed += _crs_differences(other, array)
        differences += changed
    return tuple(differences)


def _array_differences(there: zarr.Array[Any], here: zarr.Array[Any]) -> list[str]:
    old, new = _layout(there), _layout(here)
    return [f"{here.basename} {key}: {old.get(key)} there, {new[key]} here" for key in new if old.get(key) != new[key]]


def _crs_differences(there: zarr.Array[Any], here: zarr.Array[Any]) -> list[str]:
    # As CRS and not as text: releases of PROJ word the same CRS differently.
    old, new = (CRS.from_user_input(array.attrs.get("crs_wkt", "")) for array in (there, here))
    return [] if old == new else [f"{here.basename}: {old.to_string()} there, {new.to_string()} here"]


def _layout(array: zarr.Array[Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    attributes = metadata.pop("attributes", {})
    return {**metadata, "dimensions": metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS")}


def _memory_group(documents: Mapping[str, bytes]) -> zarr.Group:
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    store = MemoryStore({key: buffer.from_bytes(value) for key, value in documents.items()})
    # Not the consolidated copy: a crash may have left it older than the documents, or out altogether.
    return zarr.open_group(store, mode="r", use_consolidated=False)
