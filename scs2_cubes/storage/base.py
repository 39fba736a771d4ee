"""The seam to where cubes lie: what every output format offers.

A format is one file in this room and one line in :data:`scs2_cubes.storage.FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from scs2_cubes.core.cube import CubeSchema, TileRecord
from scs2_cubes.core.grid import Tile

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CubeStore", "PlaneReader"]


class PlaneReader(Protocol):
    """Reads planes of a cube whose metadata it has read once. For one thread."""

    def read_plane(self, layer: str, step: int, tile: Tile) -> npt.NDArray[Any]:
        """One plane of a tile as it is stored, (rows, columns) in the stored dtype; fill where no chunk is stored.

        Read as any reader of the format would. Raises StorageError, also where stored bytes can't be decoded.
        """
        ...


class CubeStore(Protocol):
    """One cube at one place. Making the object does no I/O; it can be pickled, and shared between threads."""

    @property
    def url(self) -> str:
        """Path or URL of the cube, for people."""
        ...

    def differences(self, schema: CubeSchema) -> tuple[str, ...]:
        """In what the cube that lies there differs from ``schema``, one phrase each; empty where it's the same or none.

        Reads metadata and coordinates.
        """
        ...

    def require_same(self, schema: CubeSchema) -> None:
        """Raise CubeIdentityError, with what differs, where another cube than ``schema``'s lies there.

        Reads metadata and coordinates. Raises StorageError.
        """
        ...

    def is_created(self, schema: CubeSchema) -> bool:
        """True where nothing is left for :meth:`create` to do. Reads metadata and coordinates. Raises StorageError."""
        ...

    def create(self, schema: CubeSchema) -> None:
        """Write metadata and coordinates where they aren't yet. Idempotent; two creators write the same bytes.

        A cube that has the first of ``schema``'s time steps grows; those who read it see the old number of steps until
        the last document is written, and the new one from then on. Attributes that :meth:`complete` added are gone
        then.

        Raises CubeIdentityError where another cube lies there, StorageError where writing fails.
        """
        ...

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        """Write one plane of a tile, ``values`` (rows, columns); None: it holds no value, and its chunks are removed.

        Returns the bytes written. Raises StorageError.
        """
        ...

    def reader(self, schema: CubeSchema) -> PlaneReader:
        """What reads planes of the cube. Reads the metadata that readers go by.

        Raises CubeNotFoundError where there is no cube, StorageError also where its metadata can't be understood.
        """
        ...

    def complete(self, schema: CubeSchema, attrs: Mapping[str, Any]) -> None:
        """Add ``attrs`` to the global attributes. Raises StorageError."""
        ...

    def records(self) -> dict[str, TileRecord]:
        """Tile key → record of every finished tile. Raises StorageError."""
        ...

    def write_record(self, record: TileRecord) -> None:
        """State that a tile is done. Raises StorageError."""
        ...

    def remove_record(self, tile: str) -> None:
        """State that a tile isn't done, before its pixels change. Raises StorageError."""
        ...

    def read_document(self, name: str) -> dict[str, Any] | None:
        """The JSON document ``name`` beside the cube, or None. Raises StorageError."""
        ...

    def write_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Write the JSON document ``name`` beside the cube. Raises StorageError."""
        ...

    def remove_document(self, name: str) -> None:
        """Remove the document ``name`` beside the cube, if it's there. Raises StorageError."""
        ...

    def documents(self, folder: str) -> list[str]:
        """Names of the documents in ``folder`` beside the cube. Raises StorageError."""
        ...

    def read_picture(self, name: str) -> bytes | None:
        """The picture ``name`` (``<partition>.<what>.png``) beside the cube, or None. Raises StorageError."""
        ...

    def write_picture(self, name: str, picture: bytes) -> str:
        """Write a picture beside the cube, and return its path or URL, for people. Raises StorageError."""
        ...

    def retire(self) -> str:
        """Move the cube and its records aside, and return where it lies then.

        Raises CubeNotFoundError where there is none, StorageError.
        """

    def exists(self) -> bool:
        """True where a cube lies there; records without one aren't a cube. Raises StorageError."""
        ...

    def size(self) -> int:
        """Bytes of the cube, records excepted."""
        ...

    def open(self) -> xr.Dataset:
        """The cube, lazily, in its stored dtypes. Raises CubeNotFoundError."""
        ...
