"""Finished cubes read back: every check passes where nothing is wrong; facts, views and series.

Expected numbers are plain numpy over the whole cube as zarr opens it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import Transformer

from scs2_cubes.core.grid import Grid, partitions_of
from scs2_cubes.core.specification import DaskSpec, SiteSpec
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.evidence import evidence_of
from scs2_cubes.pipeline.inspection import Look, inspect_partition, look_of
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes.storage.objects import LocalObjects
from scs2_cubes_tests.pipeline.finished import (
    KNOWN_AGE,
    KNOWN_GENUS,
    LONLAT,
    TWO,
    chunk,
    failed,
    geographic,
    inspected,
    verdicts,
    with_times,
)
from scs2_cubes_tests.pipeline.worlds import (
    GENUS_NODATA,
    World,
    age_world,
    genus_values,
    genus_world,
)


class TestRight:
    @pytest.mark.parametrize("name", ["genus", "age"])
    def test_all_checks_pass(self, made: dict[str, World], name: str) -> None:
        assert failed(made[name]) == set()

    def test_texts_hold_numbers(self, made: dict[str, World]) -> None:
        world = made["genus"]
        found = verdicts(world)
        values = world.values("genus")
        assert found["complete"].text == f"25 tiles at version {world.plan.data_version}"
        assert found["as_recorded"].text == f"25 tiles hold {(values != 255).sum()} values, as recorded"
        assert found["legal_codes"].text == "genus: codes 0 … 7"
        # Tiles of 32 x 32 are their own sample.
        assert found["valid_share"].text.startswith(f"genus: {(values != 255).mean():.4f} of the sampled pixels")
        assert "license: CC-BY-4.0" in found["description"].text
        assert all("\n" not in verdict.text for verdict in found.values())

    @pytest.mark.parametrize(
        "changes", [{"zarr_format": 3}, {"chunks": (16, 8)}, {"time_range": ("2020-01-01", None)}], ids=str
    )
    def test_of_every_layout(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        for world in (
            genus_world(tmp_path / "genus", product=KNOWN_GENUS, **changes),
            age_world(tmp_path / "age", product=KNOWN_AGE, **changes),
        ):
            world.make()
            assert failed(world) == set()

    def test_one_partition_of_several(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path, product=KNOWN_GENUS)
        first, second, *_ = partitions_of(world.plan.region, max_pixels=64)
        prepare_cube(world.plan, world.store)
        materialize_partition(world.plan, first, world.store, TWO, lambda _: None)
        found = inspect_partition(world.plan, first, world.store, TWO, Look())
        assert all(verdict.passed for verdict in found.verdicts)
        found = inspect_partition(world.plan, second, world.store, TWO, Look())
        (complete,) = [verdict for verdict in found.verdicts if not verdict.passed]
        assert complete.check == "complete"
        assert complete.tiles == tuple(tile.key for tile in second.tiles())

    def test_unknown_products(self, tmp_path: Path) -> None:
        """Nothing is known of legend and licence: that is said, and nothing is blocked."""
        world = genus_world(tmp_path, product=None)
        world.make()
        found = verdicts(world)
        assert [name for name, one in found.items() if not one.passed] == ["description"]
        assert not any(one.blocks for one in found.values())
        assert "nothing is known" in found["legal_codes"].text

    @pytest.mark.timeout(120)
    def test_on_a_cluster(self, made: dict[str, World]) -> None:
        world = made["age"]
        look = look_of(world.plan, world.partition, pixels=30)
        with open_compute(DaskSpec("local", n_workers=1)) as compute:
            found = inspect_partition(world.plan, world.partition, world.store, compute, look)
        here = inspected(world, look)
        assert found.verdicts == here.verdicts
        for key, view in here.views.items():
            np.testing.assert_array_equal(found.views[key], view)


class TestSourceCounts:
    def test_are_those_of_the_footprints(self, made: dict[str, World]) -> None:
        """3 x 3 pixels of 10 m; judged from the cube of an oracle elsewhere, here from the source's own pixels."""
        world, source = made["genus"], genus_values() != GENUS_NODATA
        records = world.store.records()
        total = sum(sum(record.source_valid["genus"]) for record in records.values())
        assert not any(record.function_valid for record in records.values())
        assert {record.sampled for key, record in records.items() if key < "y04" and not key.endswith("4")} == {32 * 32}
        assert total == (world.values("genus") != 255).sum()
        assert abs(total / sum(record.sampled for record in records.values()) - source.mean()) > 0.02

    def test_are_by_step(self, made: dict[str, World]) -> None:
        world = made["age"]
        values, records = world.values("forest_age"), world.store.records()
        for tile in world.partition.tiles():
            counts = records[tile.key].source_valid["forest_age"]
            stored = np.isfinite(values[(slice(None), *tile.window.slices)]).sum(axis=(1, 2))
            assert np.abs(np.array(counts) - stored).max() <= 2

    def test_a_record_without_them_is_judged_by_the_rest(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        for path in (Path(world.storage.root) / "forest.records/tiles").iterdir():
            document = json.loads(path.read_text())
            del document["source_valid"], document["sampled"]
            path.write_text(json.dumps(document))
        found = verdicts(world)
        assert all(one.passed for one in found.values())
        assert "can't be judged" in found["valid_share"].text


class TestRequests:
    def test_metadata_are_opened_once_for_each_tile(
        self, made: dict[str, World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the number of layers and steps."""
        asked: Counter[str] = Counter()
        get = LocalObjects.get

        def counted(objects: LocalObjects, key: str) -> bytes | None:
            asked[key] += 1
            return get(objects, key)

        world = made["age"]
        monkeypatch.setattr(LocalObjects, "get", counted)
        evidence_of(world.plan, world.partition, world.store)
        before = asked.copy()
        asked.clear()
        inspected(world)
        tiles = len(list(world.partition.tiles()))
        assert (asked - before).pop("forest.zarr/.zmetadata") == tiles
        chunks = {key: count for key, count in (asked - before).items() if key.startswith("forest.zarr/forest_age/")}
        assert len(chunks) == 2 * tiles
        assert set(chunks.values()) == {1}


class TestNumbers:
    def test_means_and_shares_on_a_geographic_grid(self, tmp_path: Path) -> None:
        """A pixel counts for its area: here for what a sphere has between four lines of the graticule.

        Over 70 degrees of latitude, so that plain means are far off.
        """
        corner = (0.0, 5.0)
        grid = Grid(LONLAT, *corner, 1.0, 1.0, 60, 70, 16, 16)
        rng = np.random.default_rng(4)
        rows, _ = np.mgrid[:70, :60]
        height = np.where(rng.random(rows.shape) < 0.2, np.nan, rows + rng.random(rows.shape)).astype(np.float32)
        genus = np.where(rng.random(rows.shape) < 0.2, 255, np.where(rng.integers(0, 70, rows.shape) < rows, 1, 2))
        found = inspected(geographic(tmp_path, grid, height, genus.astype(np.uint8)))
        north = np.radians(75.0 - np.arange(70))
        area = np.repeat((np.sin(north) - np.sin(north - np.radians(1)))[:, np.newaxis], 60, axis=1)
        valid = np.isfinite(height)
        expected = (height[valid] * area[valid]).sum() / area[valid].sum()
        assert abs(expected - np.nanmean(height)) > 5
        np.testing.assert_allclose(found.means["height"], [expected], rtol=1e-6)
        there = area[genus != 255].sum()
        for code in (1, 2):
            np.testing.assert_allclose(found.shares["genus"][code], [area[genus == code].sum() / there], rtol=1e-9)
        # What partitions are put together by is weighted alike.
        np.testing.assert_allclose(found.sums["height"] / found.counts["height"], [expected], rtol=1e-6)

    def test_means_and_shares(self, made: dict[str, World]) -> None:
        age = made["age"].values("forest_age").astype(np.float64)
        found = inspected(made["age"])
        np.testing.assert_allclose(found.means["forest_age"], np.nanmean(age, axis=(1, 2)), rtol=1e-12)
        assert found.shares == {}
        genus = made["genus"].values("genus")
        found = inspected(made["genus"])
        assert found.means == {}
        assert set(found.shares["genus"]) == set(range(8))
        for code, shares in found.shares["genus"].items():
            np.testing.assert_allclose(shares, [(genus == code).sum() / (genus != 255).sum()], rtol=1e-12)

    @pytest.mark.parametrize("stride", [1, 2, 5, 7, 33, 110])
    def test_views(self, made: dict[str, World], stride: int) -> None:
        world = made["age"]
        values = world.values("forest_age")
        found = inspected(world, Look((1,), stride))
        assert set(found.views) == {("forest_age", 1)}
        np.testing.assert_array_equal(
            found.views["forest_age", 1], values[1, stride // 2 :: stride, stride // 2 :: stride]
        )

    @pytest.mark.parametrize("stride", [3, 10])
    def test_views_of_partitions_fit_together(self, made: dict[str, World], stride: int) -> None:
        world = made["genus"]
        parts = [
            inspect_partition(world.plan, partition, world.store, TWO, Look((0,), stride)).views["genus", 0]
            for partition in partitions_of(world.plan.region, max_pixels=64)
        ]
        whole = np.block([parts[row : row + 3] for row in range(0, 9, 3)])
        np.testing.assert_array_equal(whole, world.values("genus")[stride // 2 :: stride, stride // 2 :: stride])

    def test_sites(self, made: dict[str, World]) -> None:
        world = made["age"]
        grid, values = world.plan.region.grid, world.values("forest_age")
        to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
        places = {"corner": (0, 0), "middle": (57, 83), "last": (109, 119)}
        sites = []
        for name, (row, col) in places.items():
            x, y = grid.west + (col + 0.2) * 30, grid.south + (grid.ny - row - 0.7) * 30
            longitude, latitude = to_degrees.transform(x, y)
            sites.append(SiteSpec(name, longitude, latitude, "EPSG:4326"))
        sites.append(SiteSpec("elsewhere", 10.0, 50.0, "EPSG:4326"))
        sites.append(SiteSpec("beyond", grid.west - 1, grid.south + 100, grid.crs))
        sites.append(SiteSpec("nowhere", 500.0, 90.0, "EPSG:32630"))
        look = look_of(world.plan, world.partition, sites=sites)
        assert look.sites == places
        found = inspected(world, look).site_values
        assert set(found) == set(places)
        for name, (row, col) in places.items():
            series = found[name]["forest_age"]
            assert series.dtype == np.float32
            np.testing.assert_array_equal(series, values[:, row, col])

    def test_what_cannot_be_read_is_fill(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        chunk(world, "genus/1.2").write_bytes(b"")
        look = Look((0,), 1, {"there": (40, 70), "here": (0, 40)})
        found = inspected(world, look)
        whole = found.views["genus", 0]
        assert (whole[32:64, 64:96] == 255).all()
        assert (whole[64:96, 64:96] != 255).any()
        assert found.site_values["there"]["genus"].tolist() == [255]


class TestLook:
    def test_steps(self, made: dict[str, World]) -> None:
        world = with_times(made["age"], *(f"{year}-01-01T00:00:00" for year in range(2007, 2024)))

        def steps(*times: str) -> tuple[int, ...]:
            return look_of(world.plan, world.partition, times).steps

        assert steps() == (0, 8, 16)
        assert steps("2020-03-01", "2007-01-01") == (0, 13)
        assert steps("2020-08-01", "2021-01-01") == (14,)
        assert steps("1990-01-01", "2100-01-01") == (0, 16)
        two = made["age"]
        assert look_of(two.plan, two.partition).steps == (0, 1)
        one = made["genus"]
        assert look_of(one.plan, one.partition, ("2011-01-01",)).steps == (0,)

    @pytest.mark.parametrize("side", [1, 40, 50, 119, 120, 500])
    def test_a_view_is_at_most_so_large(self, made: dict[str, World], side: int) -> None:
        world = made["age"]
        look = look_of(world.plan, world.partition, pixels=side)
        shape = inspected(world, look).views["forest_age", 0].shape
        assert max(shape) <= max(side, 2)
        assert min(shape) > 0
        assert 2 * max(shape) > min(side, 120) - 1
