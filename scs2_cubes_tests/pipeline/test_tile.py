"""Tiles against an oracle: whole sources in memory, one pixel after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import AccessDeniedError
from scs2_cubes.pipeline.plan import make_plan
from scs2_cubes.pipeline.tile import Workshop
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.pipeline.worlds import (
    AGE_NODATA,
    AGE_RASTER,
    GENUS,
    GENUS_NODATA,
    GENUS_RASTER,
    LAEA,
    World,
    age_grid,
    age_values,
    age_world,
    dataset,
    genus_grid,
    genus_values,
    genus_world,
    native,
    write_genus,
)

Floats = npt.NDArray[np.float64]


def target(grid: Grid) -> oracles.Raster:
    return grid.crs, grid.west, grid.south + grid.ny * grid.y_res, grid.x_res, -grid.y_res


def expected_ages(step: int, u: Floats, v: Floats) -> Floats:
    members = age_values()[..., step].astype(np.float64)
    members[members == AGE_NODATA] = np.nan
    counts = np.sum(~np.isnan(members), axis=0)
    mean = np.where(counts > 0, np.nansum(members, axis=0) / np.maximum(counts, 1), np.nan)
    found = [
        oracles.bilinear(mean, column, row, None)
        for column, row in zip(u.ravel().tolist(), v.ravel().tolist(), strict=True)
    ]
    return np.array([np.nan if number is None else number for number in found]).reshape(u.shape)


def test_an_ensemble_is_averaged_and_interpolated(tmp_path: Path) -> None:
    world = age_world(tmp_path)
    world.make()
    grid = age_grid()
    u, v = oracles.source_index(AGE_RASTER, target(grid), range(grid.ny), range(grid.nx))
    # Where a centre is nearly on the edge of a source pixel, that pixel's validity may be the neighbour's.
    sure = (np.abs(u - np.round(u)) > 1e-3) & (np.abs(v - np.round(v)) > 1e-3)
    assert sure.mean() > 0.98
    for step in range(2):
        expected = expected_ages(step, u, v)
        made = world.values("forest_age")[step]
        np.testing.assert_array_equal(np.isnan(made)[sure], np.isnan(expected)[sure])
        assert np.isnan(expected[sure]).any()
        valid = sure & ~np.isnan(expected)
        assert valid.sum() > 5000
        # 0.00025 of a source pixel, of which neighbours differ by 20 at most, along both axes.
        np.testing.assert_allclose(made[valid], expected[valid], atol=0.02, rtol=0)


@pytest.mark.parametrize("tile", [32, 50, 200])
def test_classes_are_chosen_by_majority(tmp_path: Path, tile: int) -> None:
    world = genus_world(tmp_path, tile=tile)
    world.make()
    grid, source = genus_grid(), genus_values()
    u, v = oracles.source_index(GENUS_RASTER, target(grid), range(grid.ny), range(grid.nx))
    expected = [
        oracles.majority(source, column, row, (3.0, 3.0), GENUS_NODATA)
        for column, row in zip(u.ravel().tolist(), v.ravel().tolist(), strict=True)
    ]
    codes = np.array([255 if code is None else code for code in expected]).reshape(u.shape)
    assert {0, 7, 255} <= set(codes.ravel().tolist())
    np.testing.assert_array_equal(world.values("genus"), codes)


def test_records_count_what_was_made(tmp_path: Path) -> None:
    world = genus_world(tmp_path)
    report = world.make()
    made, records = world.values("genus"), world.store.records()
    grid = genus_grid()
    assert set(records) == {tile.key for tile in grid.tiles()}
    for tile in grid.tiles():
        record, pixels = records[tile.key], made[tile.window.slices]
        assert record.pixels == pixels.size
        assert record.valid == {"genus": np.count_nonzero(pixels != 255)}
        assert record.chunks_written == int((pixels != 255).any())
        assert record.chunks_written + record.chunks_empty == 1
        assert record.data_version == world.plan.data_version
        assert record.source_version == world.plan.native.version
    assert report.valid_fraction == {"genus": pytest.approx(np.mean(made != 255))}
    assert (report.made, report.kept) == (grid.tile_rows * grid.tile_cols, 0)


def test_what_the_source_does_not_store_is_no_value(tmp_path: Path) -> None:
    """Its array declares no fill, so that zarr alone would read larch there."""
    values = genus_values()
    path = write_genus(tmp_path / "genus.zarr", values)
    values[64:256, 64:256] = GENUS_NODATA
    for row in range(1, 4):
        for col in range(1, 4):
            (path / "genus" / f"{row}.{col}").unlink()
    world = genus_world(tmp_path, path)
    report = world.make()
    stored = genus_world(tmp_path / "stored", write_genus(tmp_path / "stored.zarr", values))
    assert stored.make().source_chunks_absent == 0
    np.testing.assert_array_equal(world.values("genus"), stored.values("genus"))
    assert report.source_chunks_absent > 0
    records = world.store.records()
    assert records["y01x01"].source_chunks == records["y01x01"].source_chunks_absent == 4
    assert records["y01x01"].chunks_empty == 1


def test_a_tile_without_values_is_not_stored(tmp_path: Path) -> None:
    world = genus_world(tmp_path)
    world.make()
    empty = [tile for tile in genus_grid().tiles() if world.store.records()[tile.key].chunks_written == 0]
    stored = {name for name in world.files() if "genus/" in name and not name.endswith((".zarray", ".zattrs"))}
    assert stored == {f"forest.zarr/genus/{tile.row}.{tile.col}" for tile in genus_grid().tiles() if tile not in empty}


def test_a_failed_read_is_an_error_and_the_tile_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = genus_world(tmp_path)
    world.make()

    class Denied:
        def fetch_chunk(self, *_: object) -> None:
            raise AccessDeniedError("HTTP 403", url="https://archive.example/a.zarr/genus/1.1")

    monkeypatch.setattr("scs2_cubes.pipeline.tile.open_reader", lambda _: Denied())
    tile = world.plan.region.grid.tile(1, 1)
    with pytest.raises(AccessDeniedError):
        Workshop(world.plan, world.store, frozenset()).run(tile, world.plan.jobs()[0])
    assert "y01x01" not in world.store.records()


def test_the_native_lattice_is_copied(tmp_path: Path) -> None:
    source = native(write_genus(tmp_path / "genus.zarr"))
    grid = Grid(LAEA, 3_400_004.0, 2_500_003.0 - 4000, 10.0, 10.0, 420, 400, 64, 64)
    plan = make_plan(dataset(GENUS), Region("native", grid), source)
    world = World(plan, StorageSpec(str(tmp_path / "cubes")))
    world.make()
    np.testing.assert_array_equal(world.values("genus"), genus_values())
