"""Cubes to store, places to store them, and storage that breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt

from scs2_cubes.core.cube import CubeLayer, CubeSchema, TileRecord
from scs2_cubes.core.grid import Grid
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import StorageError
from scs2_cubes.storage.objects import Objects

#: 7 rows x 10 columns in tiles of 3 x 4: the last row of tiles has one row, the last column two columns.
GRID = Grid.from_bbox([3401404, 2346797, 3401704, 2347007], "EPSG:3035", 30, (4, 3))
GENUS = CubeLayer(
    "genus", "uint8", 255, {"long_name": "Tree genus", "flag_values": [0, 1], "flag_meanings": "larix picea"}
)
AGE = CubeLayer("age", "float32", float("nan"), {"long_name": "Forest age", "units": "years"})
SCHEMA = CubeSchema(
    (GENUS, AGE), GRID, ("2010-01-01T00:00:00", "2020-01-01T00:00:00"), time_is_dim=True, attrs={"title": "A cube"}
)
SCALAR_TIME = replace(SCHEMA, times=("2020-01-01T00:00:00",), time_is_dim=False)
RECORD = TileRecord("y01x02", "0123456789abcdef", "fedcba", 12, {"genus": 3, "age": 0}, 1, 1, 8, 2)


class Passing(Objects):
    """Objects that pass everything on."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, key: str, value: bytes) -> None:
        self._objects.put(key, value)

    def get(self, key: str) -> bytes | None:
        return self._objects.get(key)

    def delete(self, key: str) -> None:
        self._objects.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return self._objects.keys(prefix)

    def size(self, prefix: str) -> int:
        return self._objects.size(prefix)

    def exists(self, prefix: str) -> bool:
        return self._objects.exists(prefix)

    def move(self, prefix: str, target: str) -> None:
        self._objects.move(prefix, target)

    def is_being_moved(self, prefix: str, target: str) -> bool:
        return self._objects.is_being_moved(prefix, target)

    def url(self, key: str) -> str:
        return self._objects.url(key)

    def shown(self, key: str) -> str:
        return self._objects.shown(key)


class OutOfSpace(Passing):
    """Objects on a disk that is full after some puts."""

    def __init__(self, objects: Objects, puts: int) -> None:
        super().__init__(objects)
        self._left = puts

    def put(self, key: str, value: bytes) -> None:
        if self._left == 0:
            raise StorageError(f"can't write {key}: no space left on device")
        self._left -= 1
        super().put(key, value)


class Watched(Passing):
    """Objects that remember what they were asked for; ``gate`` is passed before each answer."""

    def __init__(self, objects: Objects, gate: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(objects)
        self._gate = gate
        self.asked: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        self._gate(key)
        return super().get(key)


@dataclass(frozen=True)
class Place:
    """Somewhere to store cubes, looked at with fsspec alone."""

    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """fsspec's."""

    @property
    def spec(self) -> StorageSpec:
        return StorageSpec(self.root, self.options)

    def below(self, folder: str) -> Place:
        return Place(f"{self.root}/{folder}", self.options)

    def files(self) -> dict[str, bytes]:
        """Everything that lies there, by its path below the root."""
        filesystem, path = fsspec.core.url_to_fs(self.root, **self.options)
        if not filesystem.exists(path):
            return {}
        return {name.removeprefix(f"{path}/"): filesystem.cat_file(name) for name in filesystem.find(path)}


def planes(schema: CubeSchema, layer: CubeLayer) -> npt.NDArray[np.generic]:
    """Values of a layer, with some that are fill; shape (step, row, column)."""
    rng = np.random.default_rng(7)
    shape = (schema.n_steps, *schema.grid.shape)
    values = rng.integers(0, 8, shape)
    empty = rng.random(shape) < 0.2
    return np.where(empty, layer.fill, values).astype(layer.dtype)
