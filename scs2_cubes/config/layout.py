"""Whether every cube has a place of its own below the storage root, and every partition a key of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scs2_cubes.config.grids import GridChoice
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.grid import partitions_of

__all__ = ["report_layout"]


@dataclass(frozen=True, slots=True)
class _Taken:
    """Places below the storage root, and whose they are."""

    cubes: dict[str, KeyPath]
    folders: dict[str, KeyPath]


def report_layout(sections: Sections, grids: Mapping[int, GridChoice], problems: Problems) -> None:
    """Report identifiers that leave the storage root, and cubes or partitions that get into each other's way.

    A cube lies at ``<identifier>.zarr``, or at ``<region>/<identifier>.zarr``, below the root.
    """
    taken = _Taken({}, {})
    for index, cube in sections.datasets.items():
        path: KeyPath = ("datasets", index, "identifier")
        reason = _reason_against(cube.identifier)
        if reason:
            problems.add(path, f"{problems.shown(path)} {reason}")
            continue
        if index in grids:
            _report_partitions(("datasets", index, "grid_mapping"), grids[index], problems)
            for place in _places(cube.identifier, grids[index]):
                _report_place(place, path, taken, problems)


def _reason_against(identifier: str) -> str:
    """Why an identifier can't name a cube; empty where it can."""
    if identifier.startswith("/") or identifier[1:2] == ":":
        return "is an absolute path; a cube's name is relative to the storage root"
    parts = identifier.split("/")
    if ".." in parts:
        return "would leave the storage root"
    if "\\" in identifier or not identifier.isprintable():
        return "holds a backslash or an invisible character"
    if any(not part or part.startswith(".") for part in parts):
        return "has an empty part, or one that begins with '.', which is kept for the platform's own folders"
    return ""


def _places(identifier: str, grid: GridChoice) -> Iterator[str]:
    if not grid.region_folders:
        yield f"{identifier}.zarr"
    for region in grid.regions if grid.region_folders else ():
        yield f"{region.name}/{identifier}.zarr"


def _report_place(place: str, path: KeyPath, taken: _Taken, problems: Problems) -> None:
    parts = place.split("/")
    folders = ["/".join(parts[:end]) for end in range(1, len(parts))]
    owner = taken.cubes.get(place)
    if owner is not None and owner != path:
        problems.add(path, f"its cube would lie at {place}, where datasets[{owner[1]}] has its own")
    around = next((taken.cubes[folder] for folder in folders if folder in taken.cubes), None) or taken.folders.get(
        place
    )
    if around is not None:
        problems.add(path, f"its cube at {place} and that of datasets[{around[1]}] would lie in each other")
    taken.cubes.setdefault(place, path)
    for folder in folders:
        taken.folders.setdefault(folder, path)


def _report_partitions(path: KeyPath, grid: GridChoice, problems: Problems) -> None:
    owners: dict[str, str] = {}
    for region in grid.regions:
        for partition in partitions_of(region):
            owner = owners.setdefault(partition.key, region.name)
            if owner != region.name:
                text = f"the regions {owner!r} and {region.name!r} both have a partition {partition.key!r}; rename one"
                problems.add(path, text)
