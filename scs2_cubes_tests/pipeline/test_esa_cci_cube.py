"""The sixth cube, from the embedded portal through the cache: pixels against an oracle, and every request counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from pyproj import Transformer

from scs2_cubes.config.products import load_products, product_for
from scs2_cubes.core.grid import Grid, Region, partitions_of
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import DatasetSpec, StorageSpec
from scs2_cubes.demo.faults import Status
from scs2_cubes.demo.portal_files import Layout
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import CubeIdentityError, NotPreloadedError, PlanError, SourceUnavailableError, TileError
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition, window_fetch
from scs2_cubes.pipeline.materialize import PartitionReport, fetch_due, materialize_partition, prepare_cube
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore
from scs2_cubes_tests.preload.portal_worlds import (
    DATA_ID,
    FILL,
    VARIABLES,
    YEARS,
    asked,
    asked_twice,
    pieces_of,
    quiet,
    store_of,
)

Floats = npt.NDArray[np.float64]
NY, NX = 157_500, 405_000
#: 240 rows x 360 columns of 30 m across the corner of four pieces of the cache: sea, forest and open land.
BBOX = [3_427_404.0, 2_439_017.0, 3_438_204.0, 2_446_217.0]
#: Source pixels by which geolocation may be off.
OFF = 2.5e-4
#: Mg/ha beyond what that makes: float32, and the line through source centres, where bilinear surfaces have an edge that
#: may lie between the points that the oracle looks at.
SLACK = 5e-3


@pytest.fixture(scope="module")
def warm() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def portal(warm: DemoServer) -> Iterator[DemoServer]:
    with quiet(warm):
        yield warm


@dataclass(frozen=True)
class World:
    """A cube to make."""

    spec: DatasetSpec
    storage: StorageSpec

    def plan(self) -> tuple[NativeDataset, CubePlan, CubeStore]:
        native = describe_source(self.spec)
        planned = plan_partition(self.spec, self.storage, native, self.spec.partition_keys[0])
        return native, planned.plan, planned.store

    def make(self, max_pixels: int = 8192) -> list[PartitionReport]:
        """Its partitions of at most ``max_pixels``, one after the other, each as a run of its own would."""
        reports = []
        for partition in partitions_of(self.spec.regions[0], max_pixels):
            native, plan, store = self.plan()
            fetch = window_fetch(self.spec, native, lambda _: None)
            assert fetch is not None
            fetched = fetch_due(plan, partition, store, fetch)
            prepare_cube(plan, store)
            reports.append(materialize_partition(plan, partition, store, ThreadCompute(2), lambda _: None, fetched))
        return reports

    def values(self, layer: str) -> npt.NDArray[Any]:
        return np.asarray(zarr.open_array(self.plan()[2].url, path=layer, mode="r")[...])


def world_of(server: DemoServer, folder: Path, bbox: list[float] = BBOX, tile: int = 128, **changes: Any) -> World:
    region = Region("here", Grid.from_bbox(bbox, "EPSG:3035", 30, tile))
    spec = DatasetSpec(
        "esa_cci_biomass",
        store_of(server, folder / "cache"),
        DATA_ID,
        (region,),
        region_folders=False,
        product=product_for(DATA_ID, load_products()),
    )
    return World(replace(spec, **changes), StorageSpec(str(folder / "cubes")))


@dataclass(frozen=True)
class Oracle:
    """What the cube must hold, from the portal's own pixels: each centre transformed by pyproj, plain arithmetic."""

    stands: Stands
    u: Floats
    """Column of the source at each target centre, in pixels from 180° W."""
    v: Floats
    """Row, in pixels from 80° N."""

    @classmethod
    def of(cls, grid: Grid) -> Oracle:
        x = grid.west + (np.arange(grid.nx) + 0.5) * 30.0
        y = grid.south + (grid.ny - np.arange(grid.ny) - 0.5) * 30.0
        to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
        longitude, latitude = to_degrees.transform(*np.meshgrid(x, y))
        return cls(Stands(), (longitude + 180) * 1125, (80 - latitude) * 1125)

    @property
    def sure(self) -> npt.NDArray[np.bool_]:
        """Where it is clear which source pixel a centre lies in."""
        return (np.abs(self.u - np.round(self.u)) > 2 * OFF) & (np.abs(self.v - np.round(self.v)) > 2 * OFF)

    def bounds(self, variable: str, year: int, edition: int = 1) -> tuple[Floats, Floats]:
        """Smallest and largest value (y, x) within the accuracy of geolocation; NaN where there is none."""
        rows = np.arange(int(self.v.min()) - 2, int(self.v.max()) + 4)
        cols = np.arange(int(self.u.min()) - 2, int(self.u.max()) + 4)
        pixels = self.stands.biomass(rows, cols, year, edition)[VARIABLES.index(variable)].astype(np.float64)
        pixels[pixels == FILL] = np.nan
        offsets = [(0.0, 0.0), (OFF, OFF), (OFF, -OFF), (-OFF, OFF), (-OFF, -OFF)]
        found = np.stack([_bilinear(pixels, self.u + du - cols[0], self.v + dv - rows[0]) for du, dv in offsets])
        nothing = np.isnan(found[0])
        low, high = (reduce(np.where(np.isnan(found), found[0], found)) for reduce in (_lowest, _highest))
        return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def _lowest(stack: Floats) -> Floats:
    lowest: Floats = stack.min(axis=0)
    return lowest


def _highest(stack: Floats) -> Floats:
    highest: Floats = stack.max(axis=0)
    return highest


def _bilinear(pixels: Floats, u: Floats, v: Floats) -> Floats:
    """Weights of the valid ones of the four, renormalised; nothing where the pixel under the centre has no value."""
    left, above = np.floor(u - 0.5).astype(int), np.floor(v - 0.5).astype(int)
    total, weights = np.zeros(u.shape), np.zeros(u.shape)
    for row, col in ((above, left), (above, left + 1), (above + 1, left), (above + 1, left + 1)):
        weight = (1 - np.abs(v - 0.5 - row)) * (1 - np.abs(u - 0.5 - col))
        value = pixels[row, col]
        valid = ~np.isnan(value)
        total += np.where(valid, weight * value, 0.0)
        weights += np.where(valid, weight, 0.0)
    here = pixels[np.floor(v).astype(int), np.floor(u).astype(int)]
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(here), np.nan, total / weights)


def assert_right(world: World, years: tuple[int, ...] = YEARS, variables: tuple[str, ...] = VARIABLES) -> None:
    oracle = Oracle.of(world.spec.regions[0].grid)
    assert oracle.sure.mean() > 0.99
    for variable in variables:
        made = world.values(variable)
        assert made.shape == (len(years), *oracle.u.shape)
        assert made.dtype == np.dtype("float32")
        for step, year in enumerate(years):
            low, high = oracle.bounds(variable, year)
            plane = made[step].astype(np.float64)
            np.testing.assert_array_equal(np.isnan(plane)[oracle.sure], np.isnan(low)[oracle.sure])
            valid = oracle.sure & ~np.isnan(low)
            assert 0.5 < valid.mean() < 0.98
            assert np.nanmax(high) > (100 if variable == "agb" else 10)
            assert (plane[valid] >= low[valid] - SLACK).all()
            assert (plane[valid] <= high[valid] + SLACK).all()


class TestPixels:
    def test_all_steps_of_both_variables(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path)
        (report,) = world.make()
        assert_right(world)
        assert report.made == 6
        assert report.fetched is not None
        assert report.fetched.requests == len(asked(portal)) == 20
        assert {one.piece_count for one in asked(portal)} == {4}
        assert report.source_chunks_absent == 0
        assert asked_twice(asked(portal)) == []

    def test_times_and_attributes(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path, [3_436_404.0, 2_441_417.0, 3_437_364.0, 2_442_377.0], 32)
        world.make()
        with world.plan()[2].open() as cube:
            stamps = [str(stamp)[:19] for stamp in cube["time"].values]
            attrs = dict(cube["agb_sd"].attrs)
            whole = dict(cube.attrs)
        assert stamps == [f"{year}-07-{'01T23' if year % 4 == 0 else '02T11'}:59:59" for year in YEARS]
        assert attrs["units"] == "Mg ha-1"
        assert any("bilinear" in str(value) for value in attrs.values())
        assert "parentIdentifier=cci" in whole["source"]
        assert "127.0.0.1" not in whole["source"] or portal.url in whole["source"]
        assert "time_coverage_start" not in whole
        assert "date_created" not in whole

    @pytest.mark.parametrize("layout", [Layout(edges=True), Layout(south_up=True), Layout(grids=False)])
    def test_whatever_the_layout(self, portal: DemoServer, tmp_path: Path, layout: Layout) -> None:
        portal.portal.layout = layout
        world = world_of(portal, tmp_path, time_range=("2016-01-01", "2016-12-31"))
        world.make()
        assert_right(world, (2016,))


class TestRequests:
    def test_partitions_share_what_both_need(self, portal: DemoServer, tmp_path: Path) -> None:
        world, whole = world_of(portal, tmp_path / "parts"), world_of(portal, tmp_path / "whole")
        reports = world.make(max_pixels=128)
        assert [report.made for report in reports] == [1] * 6
        assert asked_twice(asked(portal)) == []
        assert sum(report.fetched.requests for report in reports if report.fetched) == len(asked(portal)) < 60
        portal.requests.clear()
        whole.make()
        for variable in VARIABLES:
            np.testing.assert_array_equal(world.values(variable), whole.values(variable))
        _, plan, store = world.plan()
        _, _, other = whole.plan()
        assert store.records() == other.records()
        assert len(store.records()) == 6
        assert plan.data_version == store.records()["y00x00"].data_version

    def test_what_is_done_asks_for_nothing(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path)
        world.make()
        portal.requests.clear()
        (report,) = world.make()
        assert (report.made, report.fetched) == (0, None)
        assert asked(portal) == []

    def test_only_what_is_due_is_fetched(self, portal: DemoServer, tmp_path: Path) -> None:
        """Of a tile that is due, although the whole cache is gone."""
        world = world_of(portal, tmp_path)
        world.make()
        native, _, store = world.plan()
        for path in (tmp_path / "cache").rglob("*"):
            if path.is_file():
                path.unlink()
        store.remove_record("y01x00")
        portal.requests.clear()
        (report,) = world.make()
        assert report.made == 1
        assert {one.piece_count for one in asked(portal)} <= {1, 2}
        assert len(asked(portal)) == 20
        assert len(pieces_of(native.location)) == sum(one.piece_count for one in asked(portal))
        assert_right(world)

    def test_time_range_and_variables_narrow_it(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(
            portal, tmp_path, time_range=("2010-07-03", "2016-07-01"), variable_names=("agb_sd",), tile=256
        )
        world.make()
        assert {(one.year, one.variable) for one in asked(portal)} == {(2015, "agb_sd"), (2016, "agb_sd")}
        assert_right(world, (2015, 2016), ("agb_sd",))

    def test_a_new_edition_of_one_year(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path, variable_names=("agb",))
        world.make()
        before = world.values("agb")
        portal.portal.publish(2, 2018)
        portal.requests.clear()
        (report,) = world.make()
        assert report.made == 6
        assert {(one.year, one.variable) for one in asked(portal)} == {(2018, "agb")}
        after = world.values("agb")
        low, high = Oracle.of(world.spec.regions[0].grid).bounds("agb", 2018, edition=2)
        sure = Oracle.of(world.spec.regions[0].grid).sure & ~np.isnan(low)
        assert ((after[5] >= low - SLACK) & (after[5] <= high + SLACK))[sure].all()
        assert (np.nan_to_num(before[5]) != np.nan_to_num(after[5])).mean() > 0.2
        np.testing.assert_array_equal(np.delete(before, 5, axis=0), np.delete(after, 5, axis=0))


class TestErrors:
    def nothing_was_asked_for(self, portal: DemoServer, tmp_path: Path) -> None:
        assert asked(portal, status=None) == []
        assert not (tmp_path / "cubes").exists()

    @pytest.mark.parametrize("time_range", [("2023-01-01", None), (None, "2006-12-31"), ("2011-01-01", "2014-12-31")])
    def test_no_step_in_the_time_range(self, portal: DemoServer, tmp_path: Path, time_range: Any) -> None:
        with pytest.raises(PlanError, match=r"time_range.*has 2007-07-02T11:59:59 to 2022-07-02T11:59:59"):
            world_of(portal, tmp_path, time_range=time_range).make()
        self.nothing_was_asked_for(portal, tmp_path)

    def test_unknown_variable(self, portal: DemoServer, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match=r"agb_se_typo"):
            world_of(portal, tmp_path, variable_names=("agb", "agb_se_typo")).make()
        self.nothing_was_asked_for(portal, tmp_path)

    def test_region_outside(self, portal: DemoServer, tmp_path: Path) -> None:
        spec = world_of(portal, tmp_path)
        south = Region("south", Grid.from_bbox([0.0, -75.0, 1.0, -74.0], "EPSG:4326", 0.01, 64))
        with pytest.raises(PlanError, match=r"region 'south'.*lies outside the source"):
            World(replace(spec.spec, regions=(south,)), spec.storage).make()
        self.nothing_was_asked_for(portal, tmp_path)

    def test_a_portal_that_fails_leaves_no_false_record(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path)
        portal.faults.add(Status(503), "-2019-fv6.0.nc.dods")
        with pytest.raises(SourceUnavailableError, match="HTTP 503"):
            world.make()
        assert world.plan()[2].records() == {}
        assert not world.plan()[2].exists(), "it would open as a cube without any value"
        portal.faults.clear()
        there = len(pieces_of(world.plan()[0].location))
        portal.requests.clear()
        world.make()
        assert 20 - there // 4 == len(asked(portal)) < 20
        assert_right(world)

    def test_another_cube_there_is_refused_before_anything_is_fetched(self, portal: DemoServer, tmp_path: Path) -> None:
        world_of(portal, tmp_path, variable_names=("agb_sd",), time_range=(None, "2010-12-31")).make()
        portal.requests.clear()
        with pytest.raises(CubeIdentityError, match="another cube lies at"):
            world_of(portal, tmp_path, variable_names=("agb",), time_range=(None, "2010-12-31")).make()
        assert asked(portal) == []

    def test_a_piece_that_vanishes_is_never_fill(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path, variable_names=("agb",), time_range=(None, "2010-12-31"))
        _, plan, store = world.plan()
        prepare_cube(plan, store)
        (partition,) = partitions_of(world.spec.regions[0])
        with pytest.raises(TileError, match=rf"{NotPreloadedError.__name__}.*isn't in the cache"):
            materialize_partition(plan, partition, store, ThreadCompute(2), lambda _: None)
        assert store.records() == {}

    def test_a_piece_that_is_damaged_meanwhile(self, portal: DemoServer, tmp_path: Path) -> None:
        world = world_of(portal, tmp_path, variable_names=("agb",), time_range=(None, "2010-12-31"))
        native, plan, store = world.plan()
        (partition,) = partitions_of(world.spec.regions[0])
        fetch = window_fetch(world.spec, native, lambda _: None)
        assert fetch is not None
        fetched = fetch_due(plan, partition, store, fetch)
        for path in (tmp_path / "cache").rglob("77.392"):
            path.write_bytes(path.read_bytes()[:-1])
        prepare_cube(plan, store)
        with pytest.raises(TileError, match=r"SourceFormatError.*damaged.*Run again"):
            materialize_partition(plan, partition, store, ThreadCompute(2), lambda _: None, fetched)
        assert all("77.392" not in str(record) for record in store.records())
        portal.requests.clear()
        world.make()
        assert len(asked(portal)) == 2
        assert_right(world, (2007, 2010), ("agb",))
