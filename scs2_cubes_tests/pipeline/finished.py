"""Finished cubes, to be read back or damaged: with plain zarr or in files, never through our own store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from pyproj import CRS

from scs2_cubes.core.checks import CHECKS, Verdict
from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.core.variables import Kind, LegendEntry, Product, Variable
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.inspection import Inspection, Look, inspect_partition
from scs2_cubes.pipeline.plan import make_plan
from scs2_cubes_tests.pipeline.worlds import (
    AGE,
    GENUS,
    World,
    age_world,
    dataset,
    genus_world,
    native,
)

TWO = ThreadCompute(2)
LONLAT = "EPSG:4326"
KNOWN: Mapping[str, Any] = {"licence": "CC-BY-4.0", "citation": "Somebody (2026)"}
LEGEND = tuple(LegendEntry(code, f"genus_{code}", f"Genus {code}", f"#0000{code:02d}") for code in range(8))
KNOWN_GENUS = replace(GENUS, variables=(replace(GENUS.variables[0], legend=LEGEND, valid_range=(0, 7)),), **KNOWN)
KNOWN_AGE = replace(AGE, variables=(replace(AGE.variables[0], valid_range=(1, 300)),), **KNOWN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Cubes that are right: classes by majority, and two steps of a quantity, bilinear."""
    folder = tmp_path_factory.mktemp("made")
    worlds = {
        "genus": genus_world(folder / "genus", product=KNOWN_GENUS),
        "age": age_world(folder / "age", product=KNOWN_AGE),
    }
    for world in worlds.values():
        world.make()
    return worlds


@pytest.fixture
def copied(made: dict[str, World], tmp_path: Path) -> Callable[[str], World]:
    """A copy of one of them, to be damaged."""

    def copy(name: str) -> World:
        shutil.copytree(made[name].storage.root, tmp_path / "cubes")
        return replace(made[name], storage=StorageSpec(str(tmp_path / "cubes")))

    return copy


def inspected(world: World, look: Look | None = None) -> Inspection:
    return inspect_partition(world.plan, world.partition, world.store, TWO, look or Look())


def verdicts(world: World) -> dict[str, Verdict]:
    found = inspected(world).verdicts
    assert [verdict.check for verdict in found] == list(CHECKS)
    return {verdict.check: verdict for verdict in found}


def failed(world: World) -> set[str]:
    return {name for name, verdict in verdicts(world).items() if not verdict.passed}


def chunk(world: World, name: str) -> Path:
    path = Path(world.store.url) / name
    assert path.is_file()
    return path


def pixels(world: World, layer: str) -> zarr.Array[Any]:
    return zarr.open_array(world.store.url, path=layer, mode="r+")


def change_record(world: World, tile: str, **changes: Any) -> None:
    path = Path(world.storage.root) / f"forest.records/tiles/{tile}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_document(world: World, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a document, and what the consolidated metadata say of it."""
    for path, key in ((Path(world.store.url) / name, None), (Path(world.store.url) / ".zmetadata", name)):
        document = json.loads(path.read_text())
        change(document if key is None else document["metadata"][key])
        path.write_text(json.dumps(document))


def with_times(world: World, *times: str) -> World:
    return replace(world, plan=replace(world.plan, schema=replace(world.plan.schema, times=times)))


def drop(attrs: dict[str, Any], *names: str) -> None:
    for name in names:
        del attrs[name]


def geographic(folder: Path, grid: Grid, height: npt.NDArray[Any], genus: npt.NDArray[Any]) -> World:
    """A cube in degrees on its source's own lattice, made of two planes."""
    source = folder / "source.zarr"
    group = zarr.create_group(source, zarr_format=2)
    for name, values in (("height", height), ("genus", genus)):
        array = group.create_array(name, shape=values.shape, chunks=(16, 16), dtype=values.dtype)
        array.attrs["_ARRAY_DIMENSIONS"] = ["lat", "lon"]
        array[...] = values
    centres = {
        "lat": grid.south + grid.ny - np.arange(grid.ny) - 0.5,
        "lon": grid.west + np.arange(grid.nx) + 0.5,
    }
    for name, values in centres.items():
        axis = group.create_array(name, shape=values.shape, chunks=values.shape, dtype=values.dtype)
        axis.attrs["_ARRAY_DIMENSIONS"] = [name]
        axis[...] = values
    crs = group.create_array("spatial_ref", shape=(), dtype="i8")
    crs.attrs.update({"_ARRAY_DIMENSIONS": [], "crs_wkt": CRS.from_user_input(grid.crs).to_wkt()})
    zarr.consolidate_metadata(group.store)
    variables = (
        Variable("height", Kind.CONTINUOUS, "float32", float("nan"), units="m"),
        Variable("genus", Kind.CATEGORICAL, "uint8", 255, nodata=255),
    )
    product = Product("two", "Two", code_version=1, variables=variables)
    world = World(make_plan(dataset(product), Region("here", grid), native(source)), StorageSpec(str(folder / "cubes")))
    world.make()
    return world
