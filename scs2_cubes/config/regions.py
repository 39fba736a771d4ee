"""From ``grid_mappings`` to regions with their grids. Reads tables of regions, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyproj import CRS

from scs2_cubes.config.models import Bounded, RegionTable
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.tables import Row, read_table
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.errors import ConfigurationError, GridError

__all__ = ["RegionGroup", "region_groups"]

#: What neither a folder's name nor a Dagster partition key can hold; ``...`` is a range of partitions there.
_FORBIDDEN = ("/", "\\", "...", "|")


@dataclass(frozen=True, slots=True)
class RegionGroup:
    """What an identifier of ``grid_mappings`` stands for."""

    regions: tuple[Region, ...]
    """One for a bounding box, one for each row of a table; empty where it couldn't be read."""
    is_table: bool
    """True where it's a table, even with one row."""


def region_groups(sections: Sections, folder: Path, problems: Problems) -> Mapping[str, RegionGroup]:
    """The regions of every entry of ``grid_mappings``, by identifier; tables lie relative to ``folder``."""
    groups: dict[str, RegionGroup] = {}
    taken: dict[str, KeyPath] = {}
    for index, entry in sections.grid_mappings.items():
        path: KeyPath = ("grid_mappings", index)
        if isinstance(entry, RegionTable):
            key, regions = "table", _from_table(entry, folder, path, problems)
        else:
            key, regions = "identifier", _from_bbox(entry, path, problems)
        for region in regions:
            _report_name(region.name, (*path, key), taken, problems)
        groups.setdefault(entry.identifier, RegionGroup(regions, isinstance(entry, RegionTable)))
    return groups


def _from_bbox(entry: Bounded, path: KeyPath, problems: Problems) -> tuple[Region, ...]:
    try:
        return (Region(entry.identifier, _grid(entry, entry.bbox)),)
    except GridError as error:
        problems.add((*path, "bbox"), str(error))
        return ()


def _from_table(entry: RegionTable, folder: Path, path: KeyPath, problems: Problems) -> tuple[Region, ...]:
    try:
        rows = read_table(folder / entry.table, CRS.from_user_input(entry.crs))
    except ConfigurationError as error:
        problems.add((*path, "table"), str(error))
        return ()
    regions = (_from_row(entry, row, (*path, "table"), problems) for row in rows)
    return tuple(region for region in regions if region)


def _from_row(entry: RegionTable, row: Row, path: KeyPath, problems: Problems) -> Region | None:
    try:
        return Region(row.name, _grid(entry, row.bbox))
    except GridError as error:
        problems.add(path, f"{row.where}: {error}")
        return None


def _grid(entry: Bounded | RegionTable, bbox: tuple[float, ...]) -> Grid:
    resolution, tile = entry.spatial_res, entry.tile_size
    return Grid.from_bbox(
        bbox,
        entry.crs,
        (resolution[0], resolution[1]) if isinstance(resolution, tuple) else resolution,
        (tile[0], tile[1]) if isinstance(tile, tuple) else tile,
    )


def _report_name(name: str, path: KeyPath, taken: dict[str, KeyPath], problems: Problems) -> None:
    if name.startswith(".") or not name.isprintable() or any(part in name for part in _FORBIDDEN):
        text = (
            "names a folder and a partition, so it can't begin with '.' or hold '/', '\\', '|', '...' or a line break"
        )
        problems.add(path, f"the region {name!r} {text}")
    elif name in taken and taken[name][1:2] == path[1:2]:
        problems.add(path, f"duplicate region {name!r}")
    elif name in taken:
        problems.add(path, f"duplicate region {name!r}, already in grid_mappings[{taken[name][1]}]")
    taken.setdefault(name, path)
