from __future__ import annotations

import math

import numpy as np
import pytest

from scs2_cubes.demo import region, world

MASK = 2**64 - 1


def node(col: int, row: int, seed: int) -> float:
    """SplitMix64's finaliser in Python's own integers."""
    z = (col * 0xD1B54A32D192ED03 + row * 0x8CB92BA72F3D8DD7 + seed * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    z ^= z >> 31
    return (z >> 11) / 2**53


def single_noise(x: float, y: float, scale: float, seed: int) -> float:
    col, row = math.floor(x / scale), math.floor(y / scale)
    fx, fy = x / scale - col, y / scale - row
    wx, wy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    return (
        node(col, row, seed) * (1 - wx) * (1 - wy)
        + node(col + 1, row, seed) * wx * (1 - wy)
        + node(col, row + 1, seed) * (1 - wx) * wy
        + node(col + 1, row + 1, seed) * wx * wy
    )


def mesh() -> tuple[np.ndarray, np.ndarray]:
    lattice = region.demo_region().grid.lattice
    return lattice.x_centres()[np.newaxis, :], lattice.y_centres()[:, np.newaxis]


@pytest.mark.parametrize("seed", [0, 1, 4_000, 107_019])
def test_noise_is_a_smooth_blend_of_hashed_nodes(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(50):
        x, y = random.uniform(-2e6, 7e6, 2)
        scale = float(random.choice([125.0, 1800.0, 16_000.0]))
        assert float(world.value_noise(x, y, scale, seed)) == pytest.approx(single_noise(x, y, scale, seed), abs=1e-12)


def test_octaves_halve_in_scale_and_weight() -> None:
    x, y = 3_430_123.0, 2_450_321.0
    expected = sum(single_noise(x, y, 800 / 2**k, 5 + k) / 2**k for k in range(3)) / 1.75
    assert float(world.noise(x, y, 800.0, 3, 5)) == pytest.approx(expected, abs=1e-12)


def test_a_value_depends_on_its_own_coordinates_only() -> None:
    x, y = mesh()
    on_mesh = world.age_of_members(x, y, [3], [2010])[0, ..., 0]
    codes = world.genus(x, y)
    for row, col in [(0, 0), (17, 400), (639, 699), (320, 350), (600, 90)]:
        assert codes[row, col] == world.genus(x[0, col], y[row, 0])
        assert on_mesh[row, col] == world.age_of_members(x[0, col], y[row, 0], [3], [2010])[0, 0]
    xs, ys = np.broadcast_arrays(x, y)
    np.testing.assert_array_equal(world.genus(xs, ys), codes)


def test_layers_agree_on_sea_and_forest() -> None:
    x, y = mesh()
    sea, forest, codes = world.sea(x, y), world.forest(x, y), world.genus(x, y)
    ages = world.age_of_members(x, y, [0, 19], [2010, 2020])
    assert not (sea & forest).any()
    np.testing.assert_array_equal(codes == 255, sea)
    np.testing.assert_array_equal(codes < 7, forest)
    np.testing.assert_array_equal(ages != -9999, np.broadcast_to(forest[np.newaxis, ..., np.newaxis], ages.shape))
    assert ages[ages != -9999].min() >= 1
    assert ages.max() <= 300


def test_later_editions_keep_the_extent_of_the_forest() -> None:
    x, y = mesh()
    first, second = world.genus(x, y), world.genus(x, y, 2)
    assert (first != second).mean() > 0.2
    np.testing.assert_array_equal(first < 7, second < 7)
    old, new = world.age_of_members(x, y, [0], [2020]), world.age_of_members(x, y, [0], [2020], 2)
    assert (old != new).mean() > 0.2
    np.testing.assert_array_equal(old == -9999, new == -9999)


def test_the_region_has_something_of_everything() -> None:
    x, y = mesh()
    codes = world.genus(x, y)
    assert set(np.unique(codes)) == {0, 1, 2, 3, 4, 5, 6, 7, 255}
    assert 0.1 < (codes == 255).mean() < 0.3
    assert (codes[:, 0] == 255).all(), "the sea lies in the west"
    assert 0.4 < (codes < 7).mean() < 0.7
    # Coherent: a neighbour is nearly always of the same class.
    assert (codes[:, 1:] == codes[:, :-1]).mean() > 0.9


def test_stands_age_by_the_years_or_were_renewed() -> None:
    x, y = mesh()
    then, now = world.age(x, y, 2010), world.age(x, y, 2020)
    renewed = now < 11
    np.testing.assert_allclose(then[~renewed], now[~renewed] - 10)
    assert (then[renewed] >= 30).all()


def test_spread_of_the_ensemble_grows_with_age() -> None:
    x, y = mesh()
    ages = world.age_of_members(x, y, range(20), [2020])[..., 0].astype(float)
    trees = world.forest(x, y)
    spread, mean = ages.std(axis=0)[trees], world.age(x, y, 2020)[trees]
    young, old = spread[mean < 20].mean(), spread[(mean > 100) & (mean < 200)].mean()
    assert 0 < young < old / 4


def test_the_region_has_three_by_three_tiles_and_isnt_aligned_with_its_sources() -> None:
    grid = region.demo_region().grid
    assert (grid.tile_rows, grid.tile_cols) == (3, 3)
    assert grid.shape == (640, 700)
    assert (grid.west % 10, grid.south % 10) == (4, 7)
    assert grid.bbox[2] > region.BBOX[2]
