"""Time grows at its end, in place: what was there stays, readers never stumble, a crash is taken up."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
import zarr

from scs2_cubes.core.cube import CubeLayer, CubeSchema
from scs2_cubes.core.grid import Grid
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import CubeIdentityError
from scs2_cubes.storage.objects import Objects
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.pipeline.editions import Disk, DiskFullError, Tree, tree

GRID = Grid.from_bbox([3401404, 2346797, 3401704, 2347007], "EPSG:3035", 30, (4, 3))
LAYERS = (CubeLayer("agent", "uint8", 255), CubeLayer("height", "float32", float("nan"), {"units": "m"}))
ATTRS = {"source_version": "abc", "history": "made once"}


def years(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{year}-01-01T00:00:00" for year in numbers)


@pytest.fixture(params=[2, 3])
def shorter(request: pytest.FixtureRequest) -> CubeSchema:
    return CubeSchema(
        LAYERS, GRID, years(2021, 2022, 2023), time_is_dim=True, attrs={"title": "A cube"}, zarr_format=request.param
    )


@pytest.fixture
def longer(shorter: CubeSchema) -> CubeSchema:
    return replace(shorter, times=years(2021, 2022, 2023, 2024))


def cube_at(root: Path, objects: Callable[[Objects], Objects] | None = None) -> ZarrCube:
    cube = ZarrCube.at(StorageSpec(str(root)), "forest")
    return cube if objects is None else ZarrCube(cube.name, cube.storage, objects(cube.objects))


def plane(layer: CubeLayer, step: int) -> npt.NDArray[Any]:
    """(row, column) of the whole grid."""
    return np.random.default_rng(step).integers(0, 9, GRID.shape).astype(layer.dtype)


def write(cube: ZarrCube, schema: CubeSchema, steps: Sequence[int]) -> None:
    for layer in schema.layers:
        for step in steps:
            for tile in GRID.tiles():
                cube.write_plane(schema, layer.name, step, tile, plane(layer, step)[tile.window.slices])


def made(root: Path, schema: CubeSchema) -> ZarrCube:
    """A finished cube."""
    cube = cube_at(root)
    cube.create(schema)
    write(cube, schema, range(schema.n_steps))
    cube.complete(schema, ATTRS)
    return cube


def is_chunk(name: str) -> bool:
    return name.rpartition("/")[2] not in {".zgroup", ".zattrs", ".zarray", ".zmetadata", "zarr.json"}


class TestGrowth:
    def test_what_was_there_stays_and_the_new_step_is_there(
        self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema
    ) -> None:
        cube = made(tmp_path / "a", shorter)
        before = tree(tmp_path / "a")
        assert cube.differences(longer) == ()
        assert not cube.is_created(longer)
        cube.create(longer)
        assert cube.is_created(longer)
        write(cube, longer, [3])
        cube.complete(longer, ATTRS)
        after = tree(tmp_path / "a")
        pixels = {name for name in before if is_chunk(name) and name.split("/")[1] in {"agent", "height"}}
        assert {name: after[name] for name in pixels} == {name: before[name] for name in pixels}
        assert len(pixels) == 2 * 3 * 9
        # All of it is what a cube that was made at once would be.
        made(tmp_path / "b", longer)
        assert after == tree(tmp_path / "b")
        for consolidated in (True, False):
            with xr.open_zarr(cube.url, consolidated=consolidated, mask_and_scale=False) as opened:
                assert list(opened["time"].dt.year.to_numpy()) == [2021, 2022, 2023, 2024]
                for layer in LAYERS:
                    expected = np.stack([plane(layer, step) for step in range(4)])
                    np.testing.assert_array_equal(opened[layer.name], expected)
                assert opened.attrs == {"title": "A cube", **ATTRS}

    def test_it_is_not_complete_until_it_is_completed(
        self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema
    ) -> None:
        cube = made(tmp_path, shorter)
        cube.create(longer)
        for consolidated in (True, False):
            with xr.open_zarr(cube.url, consolidated=consolidated) as opened:
                assert opened.attrs == {"title": "A cube"}
                assert opened.sizes["time"] == 4
                # Nothing is there yet: no value, and never a class.
                assert bool(np.isnan(opened["agent"][3]).all())

    def test_readers_never_stumble(self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
        made(tmp_path, shorter)
        seen: list[int] = []

        def read() -> None:
            with xr.open_zarr(str(tmp_path / "forest.zarr")) as opened:
                opened.load()
                steps = opened.sizes["time"]
                assert list(opened["time"].dt.year.to_numpy()) == [2021, 2022, 2023, 2024][:steps]
                np.testing.assert_array_equal(opened["height"][:3], np.stack([plane(LAYERS[1], n) for n in range(3)]))
                seen.append(steps)

        read()
        cube_at(tmp_path, lambda objects: Disk(objects, seen=read)).create(longer)
        assert seen == [*[3] * (len(seen) - 1), 4]
        assert len(seen) > 4

    def test_a_crash_at_every_put_is_taken_up(self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
        made(tmp_path / "begun", shorter)
        original = tree(tmp_path / "begun")
        shutil.copytree(tmp_path / "begun", tmp_path / "grown")
        counting = Disk(cube_at(tmp_path / "grown").objects)
        cube_at(tmp_path / "grown", lambda _: counting).create(longer)
        grown = tree(tmp_path / "grown")
        assert len(counting.changed) >= 4
        for puts in range(len(counting.changed)):
            root = tmp_path / f"after-{puts}"
            shutil.copytree(tmp_path / "begun", root)
            with pytest.raises(DiskFullError):
                cube_at(root, lambda objects, puts=puts: Disk(objects, puts)).create(longer)  # type: ignore[misc]  # bound now
            cube = cube_at(root)
            assert cube.open().sizes["time"] == 3
            assert cube.differences(longer) == ()
            assert not cube.is_created(longer)
            # Whoever goes back instead finds the cube as it was, but for attributes that are to be completed again.
            assert cube.differences(shorter) == ()
            back = tmp_path / f"back-{puts}"
            shutil.copytree(root, back)
            cube_at(back).create(shorter)
            assert cube_at(back).is_created(shorter)
            cube_at(back).complete(shorter, ATTRS)
            assert tree(back) == original
            cube.create(longer)
            assert tree(root) == grown

    def test_longer_than_one_chunk_of_stamps(self, tmp_path: Path, shorter: CubeSchema) -> None:
        days = np.datetime_as_string(np.datetime64("2020-01-01") + np.arange(600), unit="s")
        first, second = (replace(shorter, times=tuple(str(day) for day in days[:count])) for count in (512, 600))
        cube = cube_at(tmp_path)
        cube.create(first)
        moved = replace(second, times=("2019-12-31T00:00:00", *second.times[1:]))
        assert cube.differences(moved) == ("time: other coordinates",)
        cube.create(second)
        stamps = cube.open()["time"].to_numpy()
        np.testing.assert_array_equal(stamps, np.array(days, dtype=stamps.dtype))


class TestRefusal:
    @pytest.mark.parametrize(
        "stamps", [years(2020, 2021, 2022, 2023), years(2021, 2022, 2024, 2025), years(2021, 2023)]
    )
    def test_steps_that_move(self, tmp_path: Path, shorter: CubeSchema, stamps: tuple[str, ...]) -> None:
        cube = made(tmp_path, shorter)
        before = tree(tmp_path)
        with pytest.raises(CubeIdentityError, match="time: "):
            cube.create(replace(shorter, times=stamps))
        assert tree(tmp_path) == before

    def test_shrinking(self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
        cube = made(tmp_path, longer)
        before = tree(tmp_path)
        assert cube.differences(shorter) == ("time: 4 steps there, 3 here, and time can only grow",)
        with pytest.raises(CubeIdentityError, match=r"time: 4 steps there, 3 here.*scs2-cubes retire"):
            cube.create(shorter)
        assert tree(tmp_path) == before

    def test_growing_and_something_else(self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
        cube = made(tmp_path, shorter)
        with pytest.raises(CubeIdentityError, match="agent fill_value"):
            cube.create(replace(longer, layers=(replace(LAYERS[0], fill=254), LAYERS[1])))


class TestCreated:
    def test_nothing_there(self, tmp_path: Path, shorter: CubeSchema) -> None:
        assert not cube_at(tmp_path).is_created(shorter)

    def test_every_document_is_needed(self, tmp_path: Path, shorter: CubeSchema) -> None:
        cube = made(tmp_path, shorter)
        assert cube.is_created(shorter)
        documents = [name for name in tree(tmp_path) if not is_chunk(name)]
        assert len(documents) > 5
        for name in documents:
            path = tmp_path / name
            content = path.read_bytes()
            path.unlink()
            assert not cube.is_created(shorter), name
            path.write_bytes(content)
        assert cube.is_created(shorter)

    def test_the_same_crs_in_other_words(self, tmp_path: Path, shorter: CubeSchema) -> None:
        cube = made(tmp_path, shorter)
        before = tree(tmp_path)
        other = replace(shorter, grid=replace(GRID, crs="epsg:3035"))
        assert cube.is_created(other)
        cube.create(other)
        cube.complete(other, ATTRS)
        assert tree(tmp_path) == before

    def test_metadata_by_zarr_alone(self, tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
        made(tmp_path, shorter).create(longer)
        group = zarr.open_group(str(tmp_path / "forest.zarr"), mode="r", use_consolidated=False)
        for name in ("agent", "height"):
            array = group[name]
            assert isinstance(array, zarr.Array)
            assert array.shape == (4, *GRID.shape)


def test_trees_are_told_apart(tmp_path: Path, shorter: CubeSchema, longer: CubeSchema) -> None:
    """The comparison that the others rest on sees a changed byte."""
    made(tmp_path / "a", shorter)
    before: Tree = tree(tmp_path / "a")
    made(tmp_path / "b", longer)
    assert tree(tmp_path / "b") != before
    assert len(before) == len(set(before)) > 60
