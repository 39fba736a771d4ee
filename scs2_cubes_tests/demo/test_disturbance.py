from __future__ import annotations

import math

import numpy as np
import pytest

from scs2_cubes.demo import canopy, disturbance, region, world
from scs2_cubes_tests.demo.test_world import mesh, node


def single_agent(x: float, y: float, year: int, edition: int = 1) -> int:
    """Agent at one point: every cell around it is asked, in Python's own numbers."""
    seed = 8_000 + 6 * (year - 1985) + 100_000 * (edition - 1)
    stormy = year in {2000, 2009}
    found = 0
    for row in range(math.floor(y / 1000) - 1, math.floor(y / 1000) + 2):
        for col in range(math.floor(x / 1000) - 1, math.floor(x / 1000) + 2):
            happens, right, up, size, aspect, cause = (node(col, row, seed + k) for k in range(6))
            if happens >= (0.15 if stormy else 0.06):
                continue
            width = 20 + 260 * size**2
            across, along = abs(x - 1000 * (col + right)) / width, abs(y - 1000 * (row + up)) / (width * (0.5 + aspect))
            wind = 0.8 if stormy else 0.2
            agent = 1 if cause < wind else 2 if cause < wind + 0.05 else 3
            # Where trees are felled the outline is a rectangle, otherwise an ellipse.
            if max(across, along) < 1 if agent == 3 else math.hypot(across, along) < 1:
                found = agent
    return found


@pytest.mark.parametrize(("year", "edition"), [(1985, 1), (2000, 1), (2009, 1), (2023, 1), (2024, 1), (2009, 2)])
def test_agents_are_hashed_patches(year: int, edition: int) -> None:
    x, y = mesh()
    agents = disturbance.agent(x, y, year, edition)
    assert agents.dtype == np.int16
    rows, cols = np.nonzero(agents)
    random = np.random.default_rng(year)
    # Half of the points lie in patches, or a few agents would be compared with many zeros.
    some = random.integers(0, len(rows), 60)
    points = [*zip(rows[some], cols[some], strict=True), *random.integers(0, agents.shape, (60, 2)).tolist()]
    for row, col in points:
        assert agents[row, col] == single_agent(x[0, col], y[row, 0], year, edition)


def test_a_point_depends_on_its_own_coordinates_only() -> None:
    x, y = mesh()
    whole = disturbance.agent(x, y, 2009)
    np.testing.assert_array_equal(disturbance.agent(x[:, 100:300], y[200:450], 2009), whole[200:450, 100:300])
    xs, ys = np.broadcast_arrays(x[:, 100:160], y[200:240])
    np.testing.assert_array_equal(disturbance.agent(xs, ys, 2009), whole[200:240, 100:160])
    row, col = (int(indices[0]) for indices in np.nonzero(whole))
    assert disturbance.agent(x[0, col], y[row, 0], 2009) == whole[row, col]


def test_the_latest_year_is_the_latest_of_all_years() -> None:
    x, y = mesh()
    expected = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=int)
    for year in range(1985, 2020):
        expected[disturbance.agent(x, y, year) > 0] = year
    np.testing.assert_array_equal(disturbance.latest_year(x, y, 2019), expected)
    assert (expected == 2019).any()


def test_disturbances_are_few_small_and_of_all_agents() -> None:
    x, y = mesh()
    trees = world.forest(x, y)
    years: np.ndarray = np.stack([np.where(trees, disturbance.agent(x, y, year), 0) for year in range(1985, 2024)])
    disturbed = np.not_equal(years, 0)
    shares = disturbed[:, trees].mean(axis=1)
    assert set(np.unique(years)) == {0, 1, 2, 3}
    assert shares.max() < 0.03
    # After a storm most of it is wind's work.
    assert all((years[year - 1985] == 1).sum() > (years[year - 1985] == 3).sum() for year in (2000, 2009))
    assert (years == 3).sum() > (years == 1).sum() > (years == 2).sum()
    assert 0.05 < disturbed.any(axis=0)[trees].mean() < 0.3
    # Patches, not single pixels: a disturbed pixel's neighbour mostly is disturbed as well.
    assert disturbed[:, :, 1:][disturbed[:, :, :-1]].mean() > 0.7


def test_stands_are_as_old_as_their_disturbance_or_the_world() -> None:
    x, y = mesh()
    ages, latest = canopy.stand_age(x, y), disturbance.latest_year(x, y, 2019)
    trees = world.forest(x, y)
    assert ages.dtype == np.float32
    np.testing.assert_array_equal(ages > 0, trees)
    old = trees & (latest == 0)
    np.testing.assert_array_equal(ages[old], world.age(x, y, 2019)[old].astype(np.float32))
    young = trees & (latest > 0) & (latest < 2019)
    np.testing.assert_array_equal(ages[young], 2019 - latest[young])
    assert (ages[trees & (latest == 2019)] == 1).all()


@pytest.mark.parametrize(
    ("quantity", "limit", "half"),
    [(canopy.aboveground_biomass, 350 * 90, 60), (canopy.height, 36, 25), (canopy.cover, 95, 6)],
)
def test_canopies_grow_and_saturate(quantity: object, limit: float, half: float) -> None:
    assert callable(quantity)
    values = quantity([0, 1, half, 100, 300], np.ones(5))
    assert values[0] == 0
    assert (np.diff(values) > 0).all()
    # Cover comes in whole percent.
    assert values[2] == pytest.approx(limit / 2, abs=0.51 if limit == 95 else 1e-9)
    assert (values < limit).all()
    assert quantity([300], np.array([1.2]))[0] <= (100 if limit == 95 else 1.2 * limit)


def test_fertility_is_within_a_fifth_and_its_editions_differ() -> None:
    x, y = mesh()
    first, second = canopy.fertility(x, y), canopy.fertility(x, y, 2)
    assert 0.8 <= first.min() < 0.9
    assert 1.1 < first.max() < 1.2
    assert np.abs(first - second).mean() > 0.05


def test_a_canopys_biomass_is_in_kg_on_900_square_metres() -> None:
    # 20 000 kg on 900 m² are 222 Mg on a hectare.
    assert canopy.PIXEL_AREA == region.RESOLUTION**2
    age, site = np.array([120.0]), np.ones(1)
    per_hectare = 350 * 120 / (120 + 60)
    assert canopy.aboveground_biomass(age, site)[0] == pytest.approx(per_hectare * 1000 / (10_000 / 900))
