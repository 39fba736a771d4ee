"""The portal's pixels against the world's own functions, pixel by pixel and by pyproj itself."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from pyproj import Transformer

from scs2_cubes.demo import canopy, disturbance, region, world
from scs2_cubes.demo.portal_kernels import noise
from scs2_cubes.demo.portal_stands import SURROUNDINGS, Stands

FILL = -32768
#: Rows and columns in the middle of the demonstration's region, across the seam of four blocks.
ROW, COL = 39_936, 201_216

TO_METRES = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)


@pytest.fixture(scope="module")
def stands() -> Stands:
    return Stands()


def place(rows: Any, cols: Any) -> Any:
    """EPSG:3035 x and y of pixels."""
    return TO_METRES.transform(-180 + (cols + 0.5) / 1125, 80 - (rows + 0.5) / 1125)


def expected(row: int, col: int, year: int, edition: int = 1) -> tuple[int, int]:
    x, y = place(row, col)
    west, south, east, north = SURROUNDINGS
    if world.sea(x, y) or not (west <= x <= east and south <= y <= north):
        return FILL, FILL
    if not world.forest(x, y):
        return 0, 0
    last = int(disturbance.latest_year(np.array([x]), np.array([y]), year)[0])
    age = max(year - last, 1) if last else float(world.age(x, y, year))
    kilograms = canopy.aboveground_biomass(age, canopy.fertility(x, y, edition))
    biomass = round(float(kilograms) / 900 * 10)
    spread = 0.1 + 0.2 * float(world.noise(x, y, 1_500.0, 1, 10_000))
    return biomass, max(round(biomass * spread), 1)


@pytest.mark.parametrize(("year", "edition"), [(2007, 1), (2015, 3), (2022, 1)])
def test_pixels_show_the_world(stands: Stands, year: int, edition: int) -> None:
    random = np.random.default_rng(year)
    rows = np.sort(random.choice(np.arange(39_700, 40_100), 14, replace=False))
    cols = np.sort(random.choice(np.arange(201_000, 201_400), 15, replace=False))
    biomass, deviation = stands.biomass(rows, cols, year, edition)
    assert biomass.dtype == deviation.dtype == np.int16
    kinds = set()
    for i, row in enumerate(rows.tolist()):
        for j, col in enumerate(cols.tolist()):
            wanted = expected(row, col, year, edition)
            # Either may be rounded in another order of operations, and then lies half a unit away.
            assert np.abs(np.array((biomass[i, j], deviation[i, j])) - wanted).max() <= 1
            kinds.add(min(max(wanted[0], -1), 1))
    assert kinds == {-1, 0, 1}


def test_nearly_no_pixel_is_rounded_otherwise(stands: Stands) -> None:
    rows, cols = np.arange(ROW - 8, ROW + 8), np.arange(COL - 8, COL + 8)
    biomass, deviation = stands.biomass(rows, cols, 2020)
    wanted = [[expected(row, col, 2020) for col in cols.tolist()] for row in rows.tolist()]
    np.testing.assert_array_equal(np.stack([biomass, deviation], axis=-1), wanted)


def test_any_window_and_stride_gives_the_same_pixels(stands: Stands) -> None:
    rows, cols = np.arange(ROW - 300, ROW + 300), np.arange(COL - 300, COL + 300)
    whole = stands.biomass(rows, cols, 2018)
    for part in (slice(290, 310), slice(1, 600, 7), slice(0, 1)):
        for one, all_of_them in zip(Stands().biomass(rows[part], cols[part], 2018), whole, strict=True):
            np.testing.assert_array_equal(one, all_of_them[part, part])
    np.testing.assert_array_equal(stands.biomass(rows, cols, 2018)[0], whole[0])


def test_stands_grow_or_were_disturbed(stands: Stands) -> None:
    rows, cols = np.arange(39_700, 40_100), np.arange(201_000, 201_400)
    before, after = (stands.biomass(rows, cols, year)[0].astype(int) for year in (2015, 2022))
    np.testing.assert_array_equal(before < 0, after < 0)
    np.testing.assert_array_equal(before > 0, after > 0)
    trees = before > 0
    assert 0.2 < trees.mean() < 0.8
    grown = after[trees] - before[trees]
    assert (grown >= 0).mean() > 0.8
    x, y = place(*np.meshgrid(rows, cols, indexing="ij"))
    struck = np.zeros(x.shape, dtype=bool)
    for year in range(2016, 2023):
        struck |= disturbance.agent(x.ravel(), y.ravel(), year).reshape(x.shape) > 0
    struck &= trees
    assert struck.sum() > 100
    # At most 7 years old and on the best of sites.
    assert after[struck].max() <= round(1.2 * 350 * 7 / 67)
    assert before[struck].mean() > 2 * after[struck].mean()


def test_deviation_is_a_tenth_to_three_tenths(stands: Stands) -> None:
    rows, cols = np.arange(39_700, 40_100), np.arange(201_000, 201_400)
    biomass, deviation = stands.biomass(rows, cols, 2010)
    np.testing.assert_array_equal(biomass <= 0, deviation <= 0)
    share = deviation[biomass > 50] / biomass[biomass > 50]
    assert 0.08 < share.min() < 0.15
    assert 0.25 < share.max() < 0.32


def test_editions_keep_the_extent(stands: Stands) -> None:
    rows, cols = np.arange(39_800, 39_900), np.arange(201_200, 201_300)
    first, second, again = (stands.biomass(rows, cols, 2019, edition)[0] for edition in (1, 2, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != second).mean() > 0.2
    np.testing.assert_array_equal(np.sign(first), np.sign(second))


def test_there_is_nothing_outside_the_surroundings(stands: Stands) -> None:
    for rows, cols in ((range(10), range(10)), (range(157_490, 157_500), range(404_990, 405_000)), (range(2), [COL])):
        for layer in stands.biomass(np.asarray(rows), np.asarray(cols), 2020):
            assert (layer == FILL).all()
    # East of them is land, which isn't seen.
    edge = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(SURROUNDINGS[2], 2_450_000.0)
    row, col = int((80 - edge[1]) * 1125), int((edge[0] + 180) * 1125)
    line = stands.biomass(np.array([row]), np.arange(col - 3, col + 4), 2020)[0][0]
    assert (line[:3] >= 0).all()
    assert (line[-3:] == FILL).all()


@pytest.mark.parametrize(("scale", "octaves"), [(125.0, 1), (3_200.0, 4), (16_000.0, 3)])
def test_compiled_noise_is_the_worlds(scale: float, octaves: int) -> None:
    random = np.random.default_rng(octaves)
    x, y = random.uniform(-2e6, 7e6, (2, 2_000))
    np.testing.assert_array_equal(noise(x, y, scale, octaves, 107_019), world.noise(x, y, scale, octaves, 107_019))


def test_a_large_window_is_made_in_time(stands: Stands) -> None:
    rows, cols = np.arange(38_900, 40_900), np.arange(199_900, 202_500)
    stands.biomass(rows, cols, 2016)
    start = time.process_time()
    biomass, _ = stands.biomass(rows, cols, 2017)
    # A tenth of a second at rest; without what is kept it takes a minute.
    assert time.process_time() - start < 5
    assert (biomass >= 0).mean() > 0.1


def test_the_region_lies_within(stands: Stands) -> None:
    west, south, east, north = region.BBOX
    to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform([west, east, west, east], [south, south, north, north])
    rows = np.sort(((80 - np.array(latitude)) * 1125).astype(int))
    cols = np.sort(((np.array(longitude) + 180) * 1125).astype(int))
    assert 39_700 < rows[0] < ROW < rows[-1] < 40_200
    assert 201_000 < cols[0] < COL < cols[-1] < 201_450
