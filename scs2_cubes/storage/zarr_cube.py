"""A Zarr cube with its records beside it.

``<name>.zarr`` holds the cube; ``<name>.records/tiles/<tile>.json`` one record for each finished tile,
``<name>.records/versions/<data version>.json`` what that version is made of, and ``<name>.records/cube.json`` the state
of the whole. ``<name>.quicklooks`` holds pictures of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pyproj.exceptions import CRSError

from scs2_cubes.core.cube import CubeLayer, CubeSchema, TileRecord
from scs2_cubes.core.grid import Tile
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import CubeIdentityError, CubeNotFoundError, StorageError, redact
from scs2_cubes.storage import zarr_layout
from scs2_cubes.storage.failures import Access, failures
from scs2_cubes.storage.objects import Objects, forget_move, open_objects
from scs2_cubes.storage.zarr_identity import Comparison, compare
from scs2_cubes.storage.zarr_reading import RegionReader

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ZarrCube"]

_ROOT_DOCUMENTS = (".zmetadata", "zarr.json")
#: What belongs to a cube, in the order in which it is moved.
_PARTS = ("records", "zarr", "quicklooks")
#: Records that are read at once, and up to how many there are no threads for it: each is a request of its own.
_READS_AT_ONCE, _FEW = 16, 4


@dataclass(frozen=True)
class ZarrPlaneReader:
    """See :class:`scs2_cubes.storage.base.PlaneReader`."""

    schema: CubeSchema
    regions: RegionReader

    def read_plane(self, layer: str, step: int, tile: Tile) -> npt.NDArray[Any]:
        """See :class:`scs2_cubes.storage.base.PlaneReader`."""
        time = (slice(step, step + 1),) if self.schema.time_is_dim else ()
        return self.regions.read(layer, (*time, *tile.window.slices)).reshape(tile.window.shape)


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
        return self._compared(schema, zarr_layout.describe(schema)).differences

    def require_same(self, schema: CubeSchema) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        self._refuse(self.differences(schema))

    def _refuse(self, differences: tuple[str, ...]) -> None:
        if differences:
            raise CubeIdentityError(
                f"another cube lies at {self.url}; it differs in {'; '.join(differences)}. Nothing was "
                "written. Choose another identifier, change the configuration back, or move that cube aside with "
                "`scs2-cubes retire`"
            )

    def is_created(self, schema: CubeSchema) -> bool:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        compared = self._compared(schema, zarr_layout.describe(schema))
        return compared.is_whole and not compared.is_behind and not compared.differences

    def _compared(self, schema: CubeSchema, wanted: Mapping[str, bytes]) -> Comparison:
        lying = {key: self.objects.get(f"{self.name}.zarr/{key}") for key in wanted}
        other = ".zgroup" if schema.zarr_format != 2 else "zarr.json"  # noqa: PLR2004  (Zarr format 2)
        if self.objects.get(f"{self.name}.zarr/{other}") is not None:
            return Comparison((f"zarr_format: not {schema.zarr_format}",), is_behind=False, is_whole=False)
        found = {key: value for key, value in lying.items() if value is not None}
        try:
            return compare(found, wanted)
        except (ValueError, TypeError, KeyError, CRSError) as error:
            # What zarr and json raise at metadata that isn't any.
            raise StorageError(
                f"the metadata of {self.url} can't be read: {type(error).__name__}: {error}. Move that cube aside and "
                "run again"
            ) from error

    def create(self, schema: CubeSchema) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        wanted = zarr_layout.describe(schema)
        compared = self._compared(schema, wanted)
        self._refuse(compared.differences)
        # The consolidated metadata come last: until then readers go by the old ones, and a crash has changed nothing.
        for key, value in wanted.items():
            lying = self.objects.get(f"{self.name}.zarr/{key}")
            if lying is None or (compared.is_behind and lying != value):
                self.objects.put(f"{self.name}.zarr/{key}", value)

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        description = schema.layer(layer)
        if values is not None and (values.shape != tile.window.shape or values.dtype != description.numpy_dtype):
            raise StorageError(
                f"plane of {layer}, tile {tile.key}: {values.dtype} {values.shape} instead of {description.dtype} "
                f"{tile.window.shape}"
            )
        return sum(
            self._write_chunk(schema, description, index, None if values is None else values[part])
            for index, part in zarr_layout.chunks_of_tile(schema, step, tile)
        )

    def reader(self, schema: CubeSchema) -> ZarrPlaneReader:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        regions = RegionReader.open(
            self._root_document(),
            lambda key: self.objects.get(f"{self.name}.zarr/{key}"),
            lambda key: self.objects.shown(f"{self.name}.zarr/{key}"),
        )
        return ZarrPlaneReader(schema, regions)

    def _root_document(self) -> tuple[str, bytes]:
        """(name, content) of the metadata that readers go by."""
        for key in _ROOT_DOCUMENTS:
            document = self.objects.get(f"{self.name}.zarr/{key}")
            if document is not None:
                return key, document
        raise CubeNotFoundError(f"there is no cube at {self.url}; materialize it first")

    def _write_chunk(
        self, schema: CubeSchema, layer: CubeLayer, index: tuple[int, ...], values: npt.NDArray[Any] | None
    ) -> int:
        key = f"{self.name}.zarr/{zarr_layout.chunk_key(schema, layer, index)}"
        if values is None or (schema.chunk is not None and _is_all(values, layer.fill)):
            self.objects.delete(key)
            return 0
        encoded = zarr_layout.encode_chunk(schema, layer, values)
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
        keys = list(self.objects.keys(f"{self.name}.records/tiles"))
        for key, document in zip(keys, self._contents(keys), strict=True):
            # Between listing and reading another run may have begun to make the tile again.
            if document is not None:
                record = self._parse_record(key, document)
                found[record.tile] = record
        return found

    def _contents(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """What lies under each of ``keys``, in their order; asked for side by side where they are many."""
        if len(keys) <= _FEW:
            yield from map(self.objects.get, keys)
            return
        # Its threads are daemons, so that an interrupted process doesn't wait for a server that is silent.
        with ThreadPool(min(_READS_AT_ONCE, len(keys))) as pool:
            yield from pool.imap(self.objects.get, keys)

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

    def read_picture(self, name: str) -> bytes | None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        return self.objects.get(f"{self.name}.quicklooks/{name}")

    def write_picture(self, name: str, picture: bytes) -> str:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        key = f"{self.name}.quicklooks/{name}"
        self.objects.put(key, picture)
        return self.objects.shown(key)

    def retire(self) -> str:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        if not any(self.objects.exists(f"{self.name}.{part}") for part in _PARTS):
            raise CubeNotFoundError(f"there is no cube at {self.url}, so there is nothing to move aside")
        number = 1
        while self._is_taken(number):
            number += 1
            # What was interrupted there is another cube's, of which nothing is left to move.
            self._forget_moves(number - 1)
        # Records first: from then on nothing is done, whatever interrupts the rest.
        for part in _PARTS:
            if self.objects.exists(f"{self.name}.{part}"):
                self.objects.move(f"{self.name}.{part}", f"{self.name}.retired-{number}.{part}")
        # That of a part whose last object had gone when its move was interrupted.
        self._forget_moves(number)
        return self.objects.url(f"{self.name}.retired-{number}.zarr")

    def _forget_moves(self, number: int) -> None:
        for part in _PARTS:
            forget_move(self.objects, f"{self.name}.retired-{number}.{part}")

    def _is_taken(self, number: int) -> bool:
        """Whether anything lies aside by ``number`` but what an interrupted retirement of this very cube brought there.

        Parts are moved in their order, so that those here come after those there; in an object store one may be on both
        sides, which is marked, with what is moved: where a run has written since, that's another cube.
        """
        aside = f"{self.name}.retired-{number}"
        gone = [place for place, part in enumerate(_PARTS) if self.objects.exists(f"{aside}.{part}")]
        left = [place for place, part in enumerate(_PARTS) if self.objects.exists(f"{self.name}.{part}")]
        if not gone or gone[-1] < left[0]:
            return False
        part = _PARTS[left[0]]
        return gone[-1] > left[0] or not self.objects.is_being_moved(f"{self.name}.{part}", f"{aside}.{part}")

    def remove_document(self, name: str) -> None:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        self.objects.delete(f"{self.name}.records/{name}")

    def documents(self, folder: str) -> list[str]:
        """See :class:`scs2_cubes.storage.base.CubeStore`."""
        prefix = f"{self.name}.records/"
        return [key.removeprefix(prefix) for key in self.objects.keys(f"{prefix}{folder}")]

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
        store, options = self._readable()
        try:
            dataset: xr.Dataset = xr.open_zarr(
                store, mask_and_scale=False, decode_coords="all", consolidated=True, storage_options=options
            )
        except failures() as error:
            access = Access.of(self.storage.options)
            raise access.error(f"can't open {redact(self.url)}", error) from access.cause(error)
        return dataset

    def _readable(self) -> tuple[Any, dict[str, Any] | None]:
        """(what xarray reads the cube from, fsspec's options with it). No I/O."""
        if not self.url.startswith("s3://"):
            return self.url, dict(self.storage.options) or None
        from scs2_cubes.storage.s3_objects import s3_store  # noqa: PLC0415 - aiobotocore, for those who are on S3

        return s3_store(self.url, self.storage.options), None

    def _parse_record(self, key: str, document: bytes) -> TileRecord:
        try:
            return TileRecord(**json.loads(document))
        except (ValueError, TypeError) as error:
            raise StorageError(
                f"{self.objects.url(key)} isn't a tile record: {error}. Remove it, and the tile is made again"
            ) from error


def _is_all(values: npt.NDArray[Any], fill: float) -> bool:
    return bool(np.isnan(values).all() if np.isnan(fill) else (values == fill).all())
