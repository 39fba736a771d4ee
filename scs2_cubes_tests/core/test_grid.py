from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scs2_cubes.core.grid import Grid, Lattice, Region, Window, partitions_of
from scs2_cubes.errors import GridError

LANDES_BBOX = [3401404, 2346797, 3556068, 2539337]


@pytest.fixture
def landes() -> Grid:
    return Grid.from_bbox(LANDES_BBOX, "EPSG:3035", 30, 2048)


def test_landes_is_exact(landes: Grid) -> None:
    assert landes.shape == (6418, 5156)
    assert landes.bbox == (3401404.0, 2346797.0, 3556084.0, 2539337.0)
    x, y = landes.lattice.x_centres(), landes.lattice.y_centres()
    assert x.tolist() == [3401419.0 + 30 * i for i in range(5156)]
    assert y.tolist() == [2539322.0 - 30 * i for i in range(6418)]
    assert (x[-1], y[-1]) == (3556069.0, 2346812.0)


def test_tile_names_sort_row_major(landes: Grid) -> None:
    tiles = list(landes.tiles())
    assert [tile.key for tile in tiles] == sorted(tile.key for tile in tiles)
    assert tiles[0].key == "y00x00"
    assert tiles[-1].window == Window(6144, 6418, 4096, 5156)


@given(
    count=st.integers(1, 50_000),
    res=st.sampled_from(
        [Fraction(1, 1125), Fraction(1, 10), Fraction(1, 3), Fraction(10), Fraction(30), Fraction(100)]
    ),
    west=st.fractions(-180, 180, max_denominator=10_000),
)
def test_whole_number_of_pixels_is_kept_in_spite_of_rounding(count: int, res: Fraction, west: Fraction) -> None:
    bbox = [float(west), 0.0, float(west + count * res), 1.0]
    assert Grid.from_bbox(bbox, "EPSG:4326", (float(res), 1.0)).nx == count


@given(count=st.integers(1, 50_000), rest=st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000))
def test_a_started_pixel_counts_and_grows_east_and_north(count: int, rest: Fraction) -> None:
    west, south, res = 3401404, 2346797, 30
    size = float((count + rest) * res)
    grid = Grid.from_bbox([west, south, west + size, south + size], "EPSG:3035", res)
    assert grid.shape == (count + 1, count + 1)
    assert grid.bbox == (west, south, west + (count + 1) * res, south + (count + 1) * res)


@settings(deadline=None)  # a shared machine stalls now and then
@given(
    nx=st.integers(1, 60), ny=st.integers(1, 60), tile_nx=st.integers(1, 30), tile_ny=st.integers(1, 30),
    most=st.integers(1, 50),
)  # fmt: skip
def test_tiles_and_partitions_cover_once(nx: int, ny: int, tile_nx: int, tile_ny: int, most: int) -> None:
    grid = Grid.from_bbox([0, 0, nx, ny], "EPSG:3035", 1, (tile_nx, tile_ny))
    seen = np.zeros(grid.shape, int)
    for tile in grid.tiles():
        assert (tile.window.row_start % tile_ny, tile.window.col_start % tile_nx) == (0, 0)
        seen[tile.window.slices] += 1
    assert (seen == 1).all()
    partitions = partitions_of(Region("here", grid), most)
    for partition in partitions:
        seen[partition.window.slices] += 1
        assert partition.window.width <= max(most, tile_nx)
        assert partition.window.height <= max(most, tile_ny)
    assert (seen == 2).all()
    keys = [partition.key for partition in partitions]
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys)
    assert sorted(t.key for p in partitions for t in p.tiles()) == sorted(t.key for t in grid.tiles())


def test_partition_keys(landes: Grid) -> None:
    assert [p.key for p in partitions_of(Region("landes", landes))] == ["landes"]
    france = Grid.from_bbox([0, 0, 750_000, 750_000], "EPSG:3035", 30, 2048)
    keys = [p.key for p in partitions_of(Region("france", france))]
    assert keys[:5] == ["france-y00x00", "france-y00x01", "france-y00x02", "france-y00x03", "france-y01x00"]
    assert len(keys) == 16


@pytest.mark.parametrize(
    ("bbox", "res", "tile"),
    [
        ([10, 0, 5, 20], 1, 8),
        ([0, 20, 5, 20], 1, 8),
        ([0, 0, float("nan"), 20], 1, 8),
        ([0, 0, float("inf"), 20], 1, 8),
        ([0, 0, 5, 5], 0, 8),
        ([0, 0, 5, 5], (1, -1), 8),
        ([0, 0, 5, 5], float("nan"), 8),
        ([0, 0, 5, 5], 1, 0),
        ([0, 0, 5, 5], 1, (8, -1)),
    ],
)
def test_bad_grids_are_refused(
    bbox: list[float], res: float | tuple[float, float], tile: int | tuple[int, int]
) -> None:
    with pytest.raises(GridError):
        Grid.from_bbox(bbox, "EPSG:3035", res, tile)


def test_missing_tile_is_named(landes: Grid) -> None:
    with pytest.raises(GridError, match="row 4, column 0"):
        landes.tile(4, 0)


def test_window_algebra() -> None:
    one, other = Window(0, 10, 5, 20), Window(5, 15, 0, 8)
    assert one.intersection(other) == Window(5, 10, 5, 8)
    assert one.intersection(Window(10, 12, 5, 20)) is None
    assert Window(5, 10, 5, 8).relative_to(one) == Window(5, 10, 0, 3)
    assert one.shape == (10, 15)
    assert Window(3, 3, 0, 1).is_empty
    with pytest.raises(GridError, match="negative"):
        Window(3, 2, 0, 1)


@pytest.mark.parametrize("step", [1 / 1125, -1 / 1125, 30.0])
def test_lattice_from_centres(step: float) -> None:
    centres = 7.0 + (np.arange(1000, dtype=np.float64) + 0.5) * np.float64(step)
    lattice = Lattice.from_centres("EPSG:4326", centres, centres[:500])
    assert lattice.shape == (500, 1000)
    assert lattice.x_origin == pytest.approx(7.0, abs=1e-9)
    assert lattice.dx == pytest.approx(step, rel=1e-9)
    np.testing.assert_allclose(lattice.x_centres(), centres, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bad", [[1.0], [1.0, 1.0], [1.0, 2.0, 4.0], [1.0, float("nan"), 3.0]])
def test_uneven_coordinates_are_refused(bad: list[float]) -> None:
    with pytest.raises(GridError, match="coordinate y"):
        Lattice.from_centres("EPSG:3035", np.array([0.0, 1.0]), np.array(bad))


@pytest.mark.parametrize(("dx", "nx"), [(0.0, 5), (float("nan"), 5), (1.0, 0)])
def test_impossible_lattices_are_refused(dx: float, nx: int) -> None:
    with pytest.raises(GridError):
        Lattice("EPSG:3035", 0.0, 0.0, dx, 1.0, nx, 5)


def test_a_slip_in_the_resolution_is_refused_before_its_partitions_are_listed() -> None:
    with pytest.raises(GridError, match=r"spatial_res 0\.0001 x 0\.0001 makes .* pixels of this bbox"):
        Grid.from_bbox([3401404, 2346797, 3556068, 2539337], "EPSG:3035", 0.0001, 2048)
