"""What lies in storage, cube by cube: read from records and metadata, without asking any source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import CubeNotFoundError
from scs2_cubes.pipeline.cubes import store_of
from scs2_cubes.storage import CubeStore

__all__ = ["CubeSummary", "summarize"]


@dataclass(frozen=True, slots=True)
class CubeSummary:
    """One cube as people want to see it."""

    identifier: str
    """The dataset."""
    region: str | None
    """Its region; None on the native grid."""
    variables: tuple[str, ...] = ()
    """Names of its variables."""
    shape: tuple[int, ...] = ()
    """Shape of its first variable, in stored order."""
    dtypes: tuple[str, ...] = ()
    """Their stored dtypes."""
    valid_fraction: tuple[float, ...] = ()
    """Share of pixels with a value, over the finished tiles and all steps, for each variable."""
    size: int = 0
    """Bytes on disk."""
    tiles_done: int = 0
    """Finished tiles, at whatever version."""


def summarize(case: Case, dataset: DatasetSpec) -> Iterator[CubeSummary]:
    """A summary for each of ``dataset``'s regions. Reads storage. Raises StorageError."""
    names: list[str | None] = [one.name for one in dataset.regions]
    for region in names or [None]:
        yield _summary(dataset, region, store_of(case.storage, dataset, region))


def _summary(dataset: DatasetSpec, region: str | None, store: CubeStore) -> CubeSummary:
    try:
        cube = store.open()
    except CubeNotFoundError:
        return CubeSummary(dataset.identifier, region)
    records = store.records()
    names = tuple(str(name) for name in cube.data_vars)
    first = cube[names[0]]
    steps = first.sizes.get("time", 1)
    return CubeSummary(
        dataset.identifier,
        region,
        variables=names,
        shape=tuple(first.shape),
        dtypes=tuple(str(np.dtype(cube[name].dtype)) for name in names),
        valid_fraction=tuple(_valid_fraction(records, name, steps) for name in names),
        size=store.size(),
        tiles_done=len(records),
    )


def _valid_fraction(records: dict[str, TileRecord], name: str, steps: int) -> float:
    pixels = sum(record.pixels for record in records.values()) * steps
    return sum(record.valid.get(name, 0) for record in records.values()) / pixels if pixels else 0.0
