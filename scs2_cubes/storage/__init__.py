"""Cubes and their records, on disk or in an object store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.storage.base import CubeStore
from scs2_cubes.storage.objects import LocalObjects, open_objects
from scs2_cubes.storage.zarr_cube import ZarrCube

__all__ = ["FORMATS", "CubeStore", "cube_name", "open_cube_store", "sweep"]

#: ``format_id`` of the configuration → what writes it.
FORMATS: Mapping[str, Callable[[StorageSpec, str], CubeStore]] = MappingProxyType({"zarr": ZarrCube.at})


def cube_name(identifier: str, region: str | None) -> str:
    """Where a cube lies below the storage's root, without suffix; ``region``: its folder, where it has one."""
    return identifier if region is None else f"{region}/{identifier}"


def open_cube_store(storage: StorageSpec, name: str, format_id: str = "zarr") -> CubeStore:
    """The cube called ``name`` in ``storage``; no I/O."""
    return FORMATS[format_id](storage, name)


def sweep(storage: StorageSpec) -> None:
    """Remove what dead processes left half-written. Touches nothing but this package's own partial files."""
    objects = open_objects(storage.root, storage.options)
    if isinstance(objects, LocalObjects):
        objects.sweep()
