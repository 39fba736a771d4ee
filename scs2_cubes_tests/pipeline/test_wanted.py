"""What a partition asks for: integers, from plans of sources that nobody reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Grid, Lattice, Region, Window
from scs2_cubes.core.native import Location, NativeArray, NativeCoordinate, NativeDataset
from scs2_cubes.core.specification import DatasetSpec, FunctionSpec
from scs2_cubes.core.variables import Kind, Product, Variable
from scs2_cubes.pipeline.plan import CubePlan, make_plan
from scs2_cubes.pipeline.wanted import wanted_windows
from scs2_cubes.preload import WantedWindow
from scs2_cubes_tests.pipeline.worlds import LAEA, dataset

WORLD = Lattice("EPSG:4326", -180.0, 80.0, 1 / 1125, -1 / 1125, 405_000, 157_500)
TIMES = ("2007-07-02T11:59:59", "2010-07-02T11:59:59", "2015-07-02T11:59:59")
PRODUCT = Product(
    "biomass",
    "Biomass",
    code_version=1,
    variables=tuple(
        Variable(name, Kind.CONTINUOUS, "float32", float("nan"), nodata=-32768) for name in ("agb", "agb_sd")
    ),
)
LANDES = Region("landes", Grid.from_bbox([3401404, 2346797, 3556068, 2539337], LAEA, 30, 2048))
FUNCTION = FunctionSpec("f", "own", "/nowhere/own.py", "def f(cube):\n    return cube\n")


def source() -> NativeDataset:
    arrays = tuple(
        NativeArray(name, ("time", "lat", "lon"), (3, 157_500, 405_000), (1, 512, 512), "int16", -32768.0)
        for name in ("agb", "agb_sd")
    )
    seconds = np.array(TIMES, dtype="datetime64[s]").astype(np.int64)
    time = NativeCoordinate("time", ("time",), seconds, {"units": "seconds since 1970-01-01", "calendar": "standard"})
    return NativeDataset(Location("/nowhere"), "https://h/", arrays, WORLD, "lat", "lon", "v", "time", TIMES, (time,))


def plan(spec: DatasetSpec | None = None, region: Region = LANDES) -> CubePlan:
    return make_plan(spec or dataset(PRODUCT), region, source())


def areas(wanted: tuple[WantedWindow, ...], region: Window) -> dict[tuple[str, int], int]:
    """(array, step) → pixels, each once, within the window of the whole region; there mustn't be others."""
    found: dict[tuple[str, int], npt.NDArray[np.bool_]] = {}
    for one in wanted:
        assert one.window.intersection(region) == one.window
        for step in one.steps:
            mask = found.setdefault((one.array, step), np.zeros(region.shape, dtype=np.bool_))
            mask[one.window.relative_to(region).slices] = True
    return {key: int(np.count_nonzero(mask)) for key, mask in found.items()}


def test_every_tile_finds_its_window() -> None:
    made = plan()
    tiles = list(LANDES.grid.tiles())
    wanted = wanted_windows(made, tiles)
    for tile in tiles:
        needed = made.tile_window(tile)
        assert needed is not None
        for name in ("agb", "agb_sd"):
            assert any(
                one.array == name and one.steps == (0, 1, 2) and one.window.intersection(needed) == needed
                for one in wanted
            )


def test_hardly_more_than_is_needed() -> None:
    made = plan()
    region = made.region_window()
    assert region is not None
    wanted = wanted_windows(made, list(LANDES.grid.tiles()))
    found = areas(wanted, region)
    assert set(found) == {(name, step) for name in ("agb", "agb_sd") for step in range(3)}
    # The region lies turned on the source; each of its pixels is 900 m², each of the source's 98.8 m x 70 m or so.
    needed = LANDES.grid.nx * LANDES.grid.ny * 900 / (98.8 * 71)
    assert all(needed < area < 1.3 * needed for area in found.values())


def test_only_tiles_that_are_due() -> None:
    made = plan()
    due = [LANDES.grid.tile(2, 1)]
    wanted = wanted_windows(made, due)
    assert [one.window for one in wanted] == [made.tile_window(due[0])] * 2
    assert wanted_windows(made, []) == ()


def test_variables_and_steps_narrow_it() -> None:
    spec = dataset(PRODUCT, variable_names=("agb_sd",), time_range=("2008-01-01", "2010-12-31"))
    wanted = wanted_windows(plan(spec), list(LANDES.grid.tiles()))
    assert {(one.array, one.steps) for one in wanted} == {("agb_sd", (1,))}


def test_the_last_year_alone() -> None:
    last = replace(PRODUCT, variables=tuple(replace(one, time="last") for one in PRODUCT.variables))
    wanted = wanted_windows(plan(dataset(last)), [LANDES.grid.tile(0, 0)])
    assert {one.steps for one in wanted} == {(2,)}


def test_a_box_limits_it() -> None:
    spec = dataset(PRODUCT, bbox=(-1.0, 44.0, -0.9, 44.1))
    wanted = wanted_windows(plan(spec), list(LANDES.grid.tiles()))
    box = Window(40_387, 40_500, 201_375, 201_488)
    assert wanted
    assert all(one.window.intersection(box) == one.window for one in wanted)


@pytest.mark.parametrize("whole", [False, True])
def test_a_function_sees_every_array(whole: bool) -> None:
    small = Region("small", Grid.from_bbox([3_430_000, 2_440_000, 3_433_840, 2_443_840], LAEA, 30, 64))
    spec = dataset(PRODUCT, processing=replace(FUNCTION, whole=whole), variable_names=("agb",))
    made = plan(spec, small)
    tile = small.grid.tile(1, 1)
    wanted = wanted_windows(made, [tile])
    assert [one.array for one in wanted] == ["agb", "agb_sd"]
    assert {one.steps for one in wanted} == {made.source_steps}
    assert {one.window for one in wanted} == {made.region_window() if whole else made.tile_window(tile)}


def test_tiles_beyond_the_source_need_nothing() -> None:
    north = Region("north", Grid.from_bbox([20.0, 79.9, 20.1, 80.2], "EPSG:4326", 1 / 1125, 64))
    made = plan(region=north)
    tiles = list(north.grid.tiles())
    beyond = [tile for tile in tiles if made.tile_window(tile) is None]
    assert beyond
    assert wanted_windows(made, beyond) == ()
    assert wanted_windows(made, tiles)
