"""Finished cubes read back: every check fails on a cube that was damaged for it, and passes on one that wasn't.

Damage is done with plain zarr or to files, never through our own store. Expected numbers are plain numpy over the whole
cube as zarr opens it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from pyproj import CRS, Transformer

from scs2_cubes.core.checks import CHECKS, Verdict
from scs2_cubes.core.grid import Grid, Region, partitions_of
from scs2_cubes.core.specification import DaskSpec, SiteSpec, StorageSpec
from scs2_cubes.core.variables import Kind, LegendEntry, Product, Variable
from scs2_cubes.pipeline.compute import ThreadCompute, open_compute
from scs2_cubes.pipeline.evidence import evidence_of
from scs2_cubes.pipeline.inspection import Inspection, Look, inspect_partition, look_of
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes.pipeline.plan import make_plan
from scs2_cubes.storage.objects import LocalObjects
from scs2_cubes_tests.pipeline.worlds import (
    AGE,
    GENUS,
    GENUS_NODATA,
    World,
    age_world,
    dataset,
    genus_values,
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


class TestDamage:
    def test_a_missing_record(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        (Path(world.storage.root) / "forest.records/tiles/y02x03.json").unlink()
        found = verdicts(world)
        assert failed(world) == {"complete"}
        assert found["complete"].tiles == ("y02x03",)
        assert "1 of 25 tiles aren't done: y02x03" in found["complete"].text

    def test_mixed_versions(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        for tile in ("y00x00", "y04x04"):
            change_record(world, tile, data_version="0ld")
        found = verdicts(world)
        assert failed(world) == {"complete"}
        assert "2 tiles are at version 0ld: y00x00, y04x04" in found["complete"].text

    def test_another_version_of_the_source(self, copied: Callable[[str], World]) -> None:
        """All tiles at one version that isn't the present one: the cube is stale, and not wrong."""
        world = copied("genus")
        plan = replace(world.plan, components={**world.plan.components, "source_version": "next"})
        assert plan.data_version != world.plan.data_version
        found = verdicts(replace(world, plan=plan))
        assert all(verdict.passed for verdict in found.values())
        assert f"{plan.data_version} is the present one" in found["complete"].text

    def test_many_tiles_are_counted(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        shutil.rmtree(Path(world.storage.root) / "forest.records/tiles")
        text = verdicts(world)["complete"].text
        assert "25 of 25 tiles aren't done: y00x00, y00x01, y00x02, y00x03, y00x04 and 20 more" in text

    def test_a_deleted_chunk(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        chunk(world, "genus/2.2").unlink()
        found = verdicts(world)
        assert failed(world) == {"as_recorded", "valid_share", "no_empty_tiles"}
        assert {found[name].tiles for name in failed(world)} == {("y02x02",)}
        assert "genus in y02x02: 0 pixels instead of" in found["as_recorded"].text

    def test_an_emptied_chunk_of_one_step(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        pixels(world, "forest_age")[1, 0:32, 0:32] = np.nan
        found = verdicts(world)
        assert failed(world) == {"as_recorded", "valid_share"}
        assert "forest_age in y00x00 at 2020-01-01T00:00:00: 0.0000 of the sampled pixels" in found["valid_share"].text
        assert found["as_recorded"].tiles == ("y00x00",)

    def test_an_emptied_chunk_with_a_record_that_says_so(self, copied: Callable[[str], World]) -> None:
        """As a run would leave it that lost pixels: only the source tells."""
        world = copied("genus")
        chunk(world, "genus/2.2").unlink()
        change_record(world, "y02x02", valid={"genus": 0}, chunks_written=0, chunks_empty=1)
        assert failed(world) == {"valid_share", "no_empty_tiles"}

    @pytest.mark.parametrize("name", ["genus", "age"])
    def test_a_garbled_chunk(self, copied: Callable[[str], World], name: str) -> None:
        world = copied(name)
        path = chunk(world, "genus/1.2" if name == "genus" else "forest_age/1.1.2")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found = verdicts(world)
        assert failed(world) == {"as_recorded"}
        assert found["as_recorded"].tiles == ("y01x02",)
        assert str(path) in found["as_recorded"].text

    def test_a_wrong_code(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        array = pixels(world, "genus")
        row, col = np.argwhere(array[...] == 3)[50]
        array[row, col] = 77
        found = verdicts(world)
        assert failed(world) == {"legal_codes", "valid_range"}
        assert "genus: 77" in found["legal_codes"].text
        assert found["legal_codes"].tiles == (f"y{row // 32:02d}x{col // 32:02d}",)

    def test_a_wrong_code_where_there_is_no_legend(self, tmp_path: Path) -> None:
        product = replace(GENUS, variables=(replace(GENUS.variables[0], valid_range=(0, 6)),), **KNOWN)
        world = genus_world(tmp_path, product=product)
        world.make()
        assert "legal_codes" in failed(world)

    def test_a_value_out_of_range(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        array = pixels(world, "forest_age")
        row, col = np.argwhere(np.isfinite(array[0]))[0]
        array[0, row, col] = 3000
        found = verdicts(world)
        assert failed(world) == {"valid_range"}
        assert "3000" in found["valid_range"].text
        assert not found["valid_range"].blocks

    def test_a_lost_mask(self, copied: Callable[[str], World]) -> None:
        """Values where the source has none, in a record that believes them."""
        world = copied("age")
        array = pixels(world, "forest_age")
        values = array[:, 0:32, 0:32]
        assert np.isnan(values).any()
        array[:, 0:32, 0:32] = np.where(np.isnan(values), 100, values)
        change_record(world, "y00x00", valid={"forest_age": 2 * 32 * 32})
        found = verdicts(world)
        assert failed(world) == {"valid_share"}
        assert found["valid_share"].tiles == ("y00x00",)

    def test_a_lost_mask_of_footprints(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        array = pixels(world, "genus")
        values = np.asarray(array[32:64, 32:64])
        assert 0.05 < (values == 255).mean() < 0.9
        array[32:64, 32:64] = np.where(values == 255, 1, values)
        change_record(world, "y01x01", valid={"genus": 32 * 32})
        found = verdicts(world)
        assert failed(world) == {"valid_share"}
        assert found["valid_share"].tiles == ("y01x01",)

    def test_an_emptied_step(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        pixels(world, "forest_age")[0] = np.nan
        found = verdicts(world)
        assert failed(world) == {"time_axis", "as_recorded", "valid_share"}
        assert "forest_age has no value in 2010-01-01T00:00:00" in found["time_axis"].text

    def test_a_shifted_coordinate(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        x = pixels(world, "x")
        x[:] = np.asarray(x[:]) + 15.0
        found = verdicts(world)
        assert failed(world) == set(CHECKS)
        assert "x: other coordinates" in found["layout"].text
        assert found["complete"].text.startswith("can't be judged: ")

    @pytest.mark.parametrize("everywhere", [True, False])
    def test_changed_chunks(self, copied: Callable[[str], World], *, everywhere: bool) -> None:
        world = copied("genus")
        if everywhere:
            change_document(world, "genus/.zarray", lambda array: array.update(chunks=[16, 16]))
        else:
            # What readers of consolidated metadata don't see, and others do.
            path = Path(world.store.url) / "genus/.zarray"
            path.write_text(json.dumps({**json.loads(path.read_text()), "chunks": [16, 16]}))
        assert "layout" in failed(world)

    def test_another_crs(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        wkt = CRS.from_epsg(32630).to_wkt()
        change_document(world, "spatial_ref/.zattrs", lambda attrs: attrs.update(crs_wkt=wkt, spatial_ref=wkt))
        found = verdicts(world)["layout"]
        assert not found.passed
        assert "32630" in found.text

    def test_dropped_attributes(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        change_document(world, "genus/.zattrs", lambda attrs: drop(attrs, "flag_meanings"))
        change_document(world, ".zattrs", lambda attrs: drop(attrs, "license", "citation"))
        found = verdicts(world)
        assert failed(world) == {"description"}
        assert "flag_meanings of genus, license, references or citation" in found["description"].text

    def test_dropped_units(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        change_document(world, "forest_age/.zattrs", lambda attrs: drop(attrs, "units"))
        assert "units of forest_age" in verdicts(world)["description"].text

    def test_attributes_that_say_otherwise(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        change_document(world, "forest_age/.zattrs", lambda attrs: attrs.update(units="months"))
        assert failed(world) == {"description"}
        assert "units of forest_age is months, not years" in verdicts(world)["description"].text

    def test_legend_that_says_otherwise(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        change_document(world, "genus/.zattrs", lambda attrs: attrs.update(flag_values=attrs["flag_values"][:-1]))
        assert failed(world) == {"description"}
        assert "flag_values of genus is [0, 1" in verdicts(world)["description"].text

    def test_times_that_are_others(self, copied: Callable[[str], World], made: dict[str, World]) -> None:
        """The first step is another one than in the plan, by the coordinate's units."""
        world = copied("age")
        change_document(world, "time/.zattrs", lambda attrs: attrs.update(units="seconds since 1971-01-01"))
        found = verdicts(world)
        assert not found["time_axis"].passed
        assert "without 2010-01-01T00:00:00" in found["time_axis"].text

    def test_a_source_that_has_grown_since(self, copied: Callable[[str], World]) -> None:
        """A cube that lacks only new steps is judged by its own."""
        world = copied("age")
        grown = with_times(world, *world.plan.schema.times, "2030-01-01T00:00:00")
        found = inspected(grown, look_of(grown.plan, grown.partition))
        texts = {verdict.check: verdict.text for verdict in found.verdicts}
        assert [verdict for verdict in found.verdicts if not verdict.passed] == []
        assert "the source has 2030-01-01T00:00:00 as well by now" in texts["time_axis"]
        np.testing.assert_array_equal(found.means["forest_age"], inspected(world).means["forest_age"])
        # What is wrong in its own steps is found.
        pixels(world, "forest_age")[1, 0:32, 0:32] = np.nan
        assert failed(grown) == {"as_recorded", "valid_share"}

    def test_a_growth_that_a_crash_cut_short(self, copied: Callable[[str], World]) -> None:
        """Documents of arrays are new, the consolidated metadata are not yet: the next run goes on."""
        world = copied("age")
        grown = with_times(world, *world.plan.schema.times, "2030-01-01T00:00:00")
        path = Path(world.store.url) / "forest_age/.zarray"
        before = json.loads(path.read_text())
        path.write_text(json.dumps({**before, "shape": [3, *before["shape"][1:]]}))
        found = verdicts(grown)
        assert failed(grown) == {"layout"}
        assert not found["layout"].lasts

    def test_no_cube_at_all(self, made: dict[str, World], tmp_path: Path) -> None:
        world = replace(made["genus"], storage=StorageSpec(str(tmp_path)))
        found = verdicts(world)
        assert failed(world) == set(CHECKS)
        assert found["layout"].text.startswith("there is no cube at")
        assert "can't be judged: there is no cube" in found["valid_share"].text
        assert list(tmp_path.iterdir()) == []

    def test_another_cube(self, copied: Callable[[str], World], made: dict[str, World]) -> None:
        world = replace(copied("age"), plan=made["genus"].plan)
        found = inspected(world, look_of(world.plan, world.partition))
        assert not any(verdict.passed for verdict in found.verdicts)
        assert found.views["genus", 0].tolist() == np.full((130, 135), 255).tolist()

    @pytest.mark.parametrize("name", [".zmetadata", "genus/.zarray"])
    def test_metadata_that_are_none(self, copied: Callable[[str], World], name: str) -> None:
        world = copied("genus")
        chunk(world, name).write_bytes(b"{half")
        assert failed(world) == set(CHECKS)

    def test_a_record_that_is_none(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        path = Path(world.storage.root) / "forest.records/tiles/y00x00.json"
        path.write_bytes(b"{half")
        assert str(path) in verdicts(world)["complete"].text


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
