"""Which regions each dataset has: its own, those of another dataset, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scs2_cubes.config.models import MultiSource, SingleSource
from scs2_cubes.config.problems import KeyPath, Problems, nearest
from scs2_cubes.config.regions import RegionGroup
from scs2_cubes.config.validation import Sections
from scs2_cubes.core.grid import Region

__all__ = ["GridChoice", "grid_choices"]


@dataclass(frozen=True, slots=True)
class GridChoice:
    """The regions of a dataset."""

    regions: tuple[Region, ...]
    """Empty: the source's own grid."""
    region_folders: bool
    """True where each region has a folder: for a list or a table."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a ``grid_mapping`` can refer to."""

    groups: Mapping[str, RegionGroup]
    cubes: Mapping[str, tuple[int, SingleSource | MultiSource]]
    grids: frozenset[str]
    datasets: frozenset[str]


def grid_choices(sections: Sections, groups: Mapping[str, RegionGroup], problems: Problems) -> Mapping[int, GridChoice]:
    """The regions of each dataset, by its index; without those whose reference leads nowhere, which are reported.

    A name is looked up among ``grid_mappings`` first, then among the datasets, in whatever order they are listed.
    """
    names = _Names(
        groups,
        {cube.identifier: (index, cube) for index, cube in reversed(list(sections.datasets.items()))},
        frozenset(name for _, name in sections.names["grid_mappings"]),
        frozenset(name for _, name in sections.names["datasets"]),
    )
    choices: dict[int, GridChoice] = {}
    for index, cube in sections.datasets.items():
        path: KeyPath = ("datasets", index, "grid_mapping")
        if isinstance(cube.grid_mapping, tuple):
            choice = _several(cube.grid_mapping, path, names, problems)
        elif cube.grid_mapping is None:
            choice = GridChoice((), region_folders=False)
        else:
            choice = _followed(index, cube, names, problems)
        if choice:
            choices[index] = choice
    return choices


def _several(identifiers: tuple[str, ...], path: KeyPath, names: _Names, problems: Problems) -> GridChoice | None:
    regions: list[Region] = []
    for number, identifier in enumerate(identifiers):
        place = (*path, number)
        if identifier in identifiers[:number]:
            problems.add(place, f"{problems.shown(place)} stands in the list twice")
        elif identifier in names.groups:
            regions.extend(names.groups[identifier].regions)
        elif identifier in names.grids:
            return None  # it's there, and what is wrong with it is reported there
        elif identifier in names.datasets:
            problems.add(place, f"{problems.shown(place)} is a dataset; a list can only hold grid_mappings")
        else:
            problems.add(place, f"no grid mapping {problems.shown(place)}; {nearest(identifier, names.grids)}")
    return GridChoice(tuple(regions), region_folders=True) if regions else None


def _followed(index: int, cube: SingleSource | MultiSource, names: _Names, problems: Problems) -> GridChoice | None:
    """Follow a reference from dataset to dataset until it ends at ``grid_mappings``, or nowhere."""
    path: KeyPath = ("datasets", index, "grid_mapping")
    way: list[str] = [cube.identifier]
    while isinstance(cube.grid_mapping, str):
        target = cube.grid_mapping
        if target in names.groups:
            group = names.groups[target]
            return GridChoice(group.regions, group.is_table) if group.regions else None
        if target in way:
            if target == way[0]:  # the others only lead into the circle
                problems.add(path, f"a circle: {' → '.join([*way, target])}; one of them needs a grid mapping")
            return None
        if target not in names.cubes:
            _report_unknown(target, path, way, names, problems)
            return None
        way.append(target)
        cube = names.cubes[target][1]
    return _end_of_way(path, way, cube, names, problems)


def _report_unknown(target: str, path: KeyPath, way: list[str], names: _Names, problems: Problems) -> None:
    # Further along the way it is reported where it stands; an entry that is there is wrong for another reason.
    if len(way) == 1 and target not in names.grids | names.datasets:
        hint = nearest(target, (names.grids | names.datasets) - {way[0]})
        problems.add(path, f"no grid mapping or dataset {problems.shown(path)}; {hint}")


def _end_of_way(
    path: KeyPath, way: list[str], cube: SingleSource | MultiSource, names: _Names, problems: Problems
) -> GridChoice | None:
    if isinstance(cube.grid_mapping, tuple):
        groups = [names.groups[identifier] for identifier in cube.grid_mapping if identifier in names.groups]
        regions = tuple(region for group in groups for region in group.regions)
        return GridChoice(regions, region_folders=True)
    if not problems:
        text = f"the dataset {way[-1]!r} has no grid mapping; taking over its source's own grid isn't supported yet"
        problems.add(path, text)
    return None
