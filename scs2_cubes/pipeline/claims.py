"""One run at a time makes a partition: its claim, and the fence that holds tiles to it.

Claims lie among the cube's records, in ``claims/``, while a run is at work; nothing of them is left afterwards. How
they work, and how long a dead one is respected, is told in :mod:`scs2_cubes.preload.claims`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from scs2_cubes.core.cube import CubeSchema, TileRecord
from scs2_cubes.core.grid import Tile
from scs2_cubes.errors import ClaimLostError, CubeBusyError, redact
from scs2_cubes.preload import Tell
from scs2_cubes.preload.claims import Claim, Timing, bury, graves, held
from scs2_cubes.storage import CubeStore

__all__ = ["Fence", "PartitionClaim", "TileStore", "claim_cube", "claim_partition", "has_graves"]

#: Seconds that a run waits for another one's partition: the largest takes about two hours from a slow source.
_PARTITION_WAIT = 4 * 3600.0
#: Seconds that it waits for what concerns a whole cube, which is a matter of seconds: metadata and a few documents.
_CUBE_WAIT = 600.0
#: Seconds of that of which nothing is told.
_CUBE_QUIET = 5.0


class TileStore(Protocol):
    """Of a :class:`scs2_cubes.storage.CubeStore`, what a tile is written with."""

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        """See :class:`scs2_cubes.storage.CubeStore`."""
        ...

    def write_record(self, record: TileRecord) -> None:
        """See :class:`scs2_cubes.storage.CubeStore`."""
        ...

    def remove_record(self, tile: str) -> None:
        """See :class:`scs2_cubes.storage.CubeStore`."""
        ...


@dataclass(frozen=True, slots=True)
class _Records:
    """The documents beside a cube, as claims need them."""

    store: CubeStore

    def get(self, key: str) -> bytes | None:
        document = self.store.read_document(key)
        return None if document is None else json.dumps(document, sort_keys=True).encode()

    def put(self, key: str, value: bytes) -> None:
        self.store.write_document(key, json.loads(value))

    def delete(self, key: str) -> None:
        self.store.remove_document(key)

    def keys(self, prefix: str) -> Iterable[str]:
        return self.store.documents(prefix)

    def shown(self, key: str) -> str:
        return f"{key} beside {redact(self.store.url)}"


@dataclass(frozen=True, slots=True)
class Fence:
    """A cube's store for the tiles of one run, which refuses to write once the run's claim is gone.

    A task may outlive its run: on a scheduler that is shared, or in a thread that an interruption left behind. So it
    looks for the claim's document (one small read) before each change. What is left is the time between a look and the
    write that follows it. It travels to workers: it holds no claim, only its name.
    """

    store: CubeStore
    """Where the cube lies."""
    document: str
    """Name of the claim's document beside the cube."""

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        """See :class:`TileStore`. Raises ClaimLostError."""
        self.require()
        return self.store.write_plane(schema, layer, step, tile, values)

    def write_record(self, record: TileRecord) -> None:
        """See :class:`TileStore`. Raises ClaimLostError."""
        self.require()
        self.store.write_record(record)

    def remove_record(self, tile: str) -> None:
        """See :class:`TileStore`. Raises ClaimLostError."""
        self.require()
        self.store.remove_record(tile)

    def require(self) -> None:
        """Raise ClaimLostError where the claim is gone. Reads storage."""
        if self.store.read_document(self.document) is None:
            raise ClaimLostError(
                f"{redact(self.store.url)}: {self.document} is gone, so the run that this belongs to has ended, or "
                "gave no sign of life for so long that another one went on with it. Nothing more is written; run again"
            )


@dataclass(frozen=True)
class PartitionClaim:
    """The right to make one partition of a cube. See :func:`claim_partition`."""

    claim: Claim
    """What is held."""
    store: CubeStore
    """Where the cube lies."""
    tell: Tell
    """Gets a line where something has to be waited for."""
    has_waited: bool
    """True where another run held it before: what was known of source and records may be old."""

    @property
    def fence(self) -> Fence:
        """What the partition's tiles are written with."""
        return Fence(self.store, self.claim.document)

    def cube(self) -> AbstractContextManager[None]:
        """See :func:`claim_cube`."""
        return claim_cube(self.store, self.tell)


@contextmanager
def claim_partition(
    store: CubeStore, key: str, tell: Tell, *, max_wait: float = _PARTITION_WAIT, timing: Timing | None = None
) -> Iterator[PartitionClaim]:
    """Be the only run that makes the partition ``key`` of a cube, until the end of the block.

    Waits for another one's end, at most ``max_wait`` seconds, and tells who that is, at once and each minute. What runs
    that were killed on this host left is removed. Raises CubeBusyError where it takes longer, and StorageError.
    """
    records = _Records(store)
    bury(records)
    waits: list[str] = []

    def told(line: str) -> None:
        waits.append(line)
        tell(line)

    name = f"partition {key}"
    with held(
        records, name, tell=told, max_wait=max_wait, timing=timing, refuse=lambda text: _busy(store, text)
    ) as claim:
        yield PartitionClaim(claim, store, tell, has_waited=bool(waits))


@contextmanager
def claim_cube(store: CubeStore, tell: Tell) -> Iterator[None]:
    """Be the only run that writes what concerns a whole cube: metadata, attributes, ``cube.json``.

    Runs of other partitions go on with their tiles meanwhile. Who holds a partition may take this; not the other way
    round. Raises CubeBusyError where another run doesn't let it go, and StorageError.
    """
    with held(
        _Records(store),
        "the whole cube",
        tell=tell,
        max_wait=_CUBE_WAIT,
        quiet=_CUBE_QUIET,
        refuse=lambda text: _busy(store, text),
    ):
        yield


def has_graves(store: CubeStore) -> bool:
    """True where runs that were killed on this host have left claims beside the cube. Raises StorageError."""
    return bool(graves(_Records(store)))


def _busy(store: CubeStore, text: str) -> CubeBusyError:
    return CubeBusyError(f"{redact(store.url)}: {text}")
