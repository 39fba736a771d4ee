from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scs2_cubes.core.grid import Grid, Lattice, Region, Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.native import Location, NativeArray, NativeDataset, RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.core.variables import Kind, Product, Statistic, Variable
from scs2_cubes.errors import PlanError
from scs2_cubes.pipeline.cubes import describe_source, plan_partition, store_of
from scs2_cubes.pipeline.plan import CubePlan, Job, blocks_of, make_plan
from scs2_cubes_tests.pipeline.worlds import AGE, GENUS, LAEA, World, dataset, genus_grid, native, write_genus
from scs2_cubes_tests.sources.worlds import DATA_ID, item, write_catalogue

LATTICE = Lattice(LAEA, 3_400_000.0, 2_500_000.0, 100.0, -100.0, 300, 200)
REGION = Region("here", Grid.from_bbox([3_405_000, 2_485_000, 3_408_000, 2_487_000], LAEA, 30, 32))
TIMES = tuple(f"{year}-07-02T11:59:59" for year in range(2000, 2010))


def array(name: str = "age", dims: tuple[str, ...] = ("time", "y", "x"), **changes: Any) -> NativeArray:
    sizes = {"time": (len(TIMES), 4), "y": (200, 64), "x": (300, 64), "members": (20, 5), "band": (3, 1)}
    shape, chunks = zip(*(sizes[dim] for dim in dims), strict=True)
    attrs = {"units": "years"}
    return replace(NativeArray(name, dims, shape, chunks, "int16", -9999.0, -9999.0, attrs=attrs), **changes)


def source(*arrays: NativeArray, **changes: Any) -> NativeDataset:
    made = NativeDataset(
        Location("/nowhere/a.zarr"), "https://archive.example/a.zarr", arrays or (array(),), LATTICE, "y", "x", "v1"
    )
    return replace(made, **{"time_dim": "time", "times": TIMES, **changes})


def variable(name: str = "age", kind: Kind = Kind.CONTINUOUS, **changes: Any) -> Variable:
    return replace(Variable(name, kind, "float32", float("nan"), nodata=-9999.0, units="years"), **changes)


def product(*variables: Variable, code_version: int = 1) -> Product:
    return Product("ages", "Ages", code_version, variables=variables or (variable(),))


def plan(*, spec: dict[str, Any] | None = None, region: Region = REGION, **changes: Any) -> CubePlan:
    return make_plan(replace(dataset(product()), **(spec or {})), region, source(**changes))


class TestBlocks:
    @given(
        st.integers(1, 90), st.integers(1, 90), st.integers(1, 200), st.integers(1, 300),
        st.tuples(*[st.floats(0, 1)] * 4),
    )  # fmt: skip
    def test_they_cover_a_window_once(
        self, chunk_rows: int, chunk_cols: int, ny: int, nx: int, ends: tuple[float, float, float, float]
    ) -> None:
        rows = sorted(round(end * ny) for end in ends[:2])
        cols = sorted(round(end * nx) for end in ends[2:])
        window = Window(rows[0], max(rows[1], rows[0] + 1), cols[0], max(cols[1], cols[0] + 1))
        lattice = Lattice(LAEA, 0, 0, 10, -10, nx, ny)
        chunked = NativeArray("a", ("y", "x"), (ny, nx), (chunk_rows, chunk_cols), "uint8", None)
        held = source(chunked, lattice=lattice, time_dim=None, times=())
        seen = np.zeros((ny + 1, nx + 1), int)
        places = list(blocks_of(held, chunked, window))
        for (row, col), pixels in places:
            assert (pixels.row_start, pixels.col_start) == (row * chunk_rows, col * chunk_cols)
            assert pixels.row_stop == min((row + 1) * chunk_rows, ny)
            assert pixels.col_stop == min((col + 1) * chunk_cols, nx)
            # None of them is read in vain.
            assert window.intersection(pixels) is not None or window.row_start == ny or window.col_start == nx
            seen[pixels.slices] += 1
        assert seen.max(initial=0) <= 1
        inside = window.intersection(Window(0, ny, 0, nx))
        if inside is not None:
            assert np.all(seen[inside.slices] == 1)
        assert [place for place, _ in places] == sorted(place for place, _ in places)


class TestJobs:
    def test_steps_of_one_source_chunk_go_together(self) -> None:
        assert plan().jobs() == (Job("age", (0, 1, 2, 3)), Job("age", (4, 5, 6, 7)), Job("age", (8, 9)))

    def test_positions_count_on_the_cube(self) -> None:
        chosen = plan(spec={"time_range": ("2003-01-01", "2005-12-31")})
        assert chosen.source_steps == (3, 4, 5)
        assert chosen.jobs() == (Job("age", (0,)), Job("age", (1, 2)))
        assert chosen.schema.times == TIMES[3:6]

    def test_every_plane_is_made_once(self) -> None:
        two = make_plan(
            dataset(product(variable(), variable("error", Kind.STANDARD_DEVIATION), variable("cover"))),
            REGION,
            source(array(), array("error", chunks=(1, 64, 64)), array("cover", ("y", "x"))),
        )
        made = [
            (layer.variable.name, step)
            for job in two.jobs()
            for layer in two.layers_of(job.array or "")
            for step in job.steps
        ]
        assert sorted(made) == sorted((layer.name, step) for layer in two.schema.layers for step in range(10))

    def test_without_time_there_is_one(self) -> None:
        flat = plan(arrays=(array(dims=("y", "x")),), time_dim=None, times=())
        assert flat.jobs() == (Job("age", (0,)),)
        assert (flat.schema.times, flat.schema.time_is_dim) == ((), False)


class TestSteps:
    def test_all_or_the_last(self) -> None:
        assert plan().source_steps == tuple(range(10))
        last = make_plan(dataset(product(variable(time="last"))), REGION, source())
        assert (last.source_steps, last.schema.times, last.schema.time_is_dim) == ((9,), TIMES[-1:], False)
        chosen = make_plan(
            dataset(product(variable(time="last")), time_range=("2001-01-01", "2002-12-31")), REGION, source()
        )
        assert chosen.source_steps == (1, 2)

    @pytest.mark.parametrize(
        ("time_range", "steps"),
        [
            (("2003-07-02", "2003-07-02"), (3,)),
            ((None, "2001-07-02"), (0, 1)),
            (("2008-07-03", None), (9,)),
            (("2008-07-02T12:00:00", "2009-12-31T00:00:00"), (9,)),
        ],
    )
    def test_a_range_is_inclusive(self, time_range: tuple[str | None, str | None], steps: tuple[int, ...]) -> None:
        assert plan(spec={"time_range": time_range}).source_steps == steps

    def test_a_scalar_time_within_the_range(self) -> None:
        flat: dict[str, Any] = {"arrays": (array(dims=("y", "x")),), "time_dim": None, "times": TIMES[:1]}
        assert plan(spec={"time_range": ("2000-01-01", "2000-12-31")}, **flat).source_steps == (0,)


class TestRefusals:
    def test_a_region_outside(self) -> None:
        with pytest.raises(PlanError, match=r"'forest'.*region 'there'.*outside.*https://archive\.example/a\.zarr"):
            plan(region=Region("there", Grid.from_bbox([0, 0, 300, 300], LAEA, 30)))

    def test_an_unknown_variable(self) -> None:
        with pytest.raises(PlanError, match=r"variable_names.*no variable height.*there are: age"):
            plan(spec={"variable_names": ("age", "height")})

    def test_a_variable_that_the_source_has_lost(self) -> None:
        with pytest.raises(PlanError, match=r"no variable 'age'.*there are: height"):
            plan(arrays=(array("height"),))

    def test_a_time_range_without_steps(self) -> None:
        with pytest.raises(PlanError, match=r"time_range: no step between 2010-01-01 and None.*2000-07-02.*2009-07-02"):
            plan(spec={"time_range": ("2010-01-01", None)})

    def test_a_scalar_time_outside_the_range(self) -> None:
        with pytest.raises(PlanError, match=r"time_range: no step between 2010-01-01 and None"):
            plan(
                spec={"time_range": ("2010-01-01", None)},
                arrays=(array(dims=("y", "x")),),
                time_dim=None,
                times=TIMES[:1],
            )

    @pytest.mark.parametrize("packing", [{"scale": 0.1}, {"offset": 5.0}])
    def test_packed_numbers(self, packing: dict[str, Any]) -> None:
        with pytest.raises(PlanError, match="'age' is packed"):
            plan(arrays=(array(**packing),))

    def test_packed_numbers_that_nobody_asked_for(self) -> None:
        both = source(array(), array("height", scale=0.1))
        spec = dataset(product(variable(), variable("height")), variable_names=("age",))
        assert [layer.variable.name for layer in make_plan(spec, REGION, both).layers] == ["age"]

    @pytest.mark.parametrize("known", [True, False], ids=["product", "no product"])
    def test_a_dimension_that_is_not_understood(self, *, known: bool) -> None:
        """Its first member must not pass for the whole."""
        bands = source(array(dims=("band", "y", "x")))
        with pytest.raises(PlanError, match=r"'age'.*band"):
            make_plan(dataset(product() if known else None), REGION, bands)

    def test_an_ensemble_without_members_or_with_others(self) -> None:
        ensemble = dataset(product(variable(kind=Kind.ENSEMBLE, ensemble_dim="members")))
        assert make_plan(ensemble, REGION, source(array(dims=("members", "y", "x", "time")))).layers
        for dims in (("time", "y", "x"), ("band", "y", "x"), ("members", "band", "y", "x")):
            with pytest.raises(PlanError, match="'age'"):
                make_plan(ensemble, REGION, source(array(dims=dims)))


class TestLayers:
    def test_the_kind_decides(self) -> None:
        made = make_plan(
            dataset(
                product(variable(), variable("error", Kind.STANDARD_DEVIATION), variable("genus", Kind.CATEGORICAL))
            ),
            REGION,
            source(array(), array("error"), array("genus", dtype="float32")),
        )
        methods = {layer.variable.name: layer.method for layer in made.layers}
        assert methods == {"age": Method.BILINEAR, "error": Method.BILINEAR, "genus": Method.NEAREST}
        fine = replace(LATTICE, dx=10.0, dy=-10.0, nx=3000, ny=2000)
        coarsened = make_plan(dataset(product()), REGION, source(lattice=fine))
        assert coarsened.layers[0].method is Method.MEAN

    def test_members_become_their_mean(self) -> None:
        spec = dataset(product(variable(kind=Kind.ENSEMBLE, ensemble_dim="members")))
        made = make_plan(spec, REGION, source(array(dims=("members", "y", "x", "time"))))
        assert made.layers[0].statistic is Statistic.MEAN
        assert made.schema.layer("age").attrs["cell_methods"] == "members: mean"

    def test_older_names(self) -> None:
        made = make_plan(dataset(product(variable(aliases=("forest_age",)))), REGION, source(array("forest_age")))
        assert (made.layers[0].variable.name, made.layers[0].array) == ("age", "forest_age")

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [
            ({"dtype": "uint8", "attrs": {"flag_values": [0, 1]}, "fill": None}, Kind.CATEGORICAL),
            ({"dtype": "uint8", "attrs": {}, "fill": 7.0}, Kind.CATEGORICAL),
            ({"dtype": "int16", "attrs": {"units": "m"}}, Kind.CONTINUOUS),
            ({"dtype": "float32", "attrs": {}}, Kind.CONTINUOUS),
        ],
    )
    def test_what_is_assumed_is_told(self, changes: dict[str, Any], kind: Kind) -> None:
        made = make_plan(dataset(None), REGION, source(array(**changes)))
        assert made.layers[0].variable.kind is kind
        assert made.layers[0].method in {Method.NEAREST, Method.BILINEAR}
        assert "no product description" in made.schema.layer("age").attrs["assumed"]

    def test_nodata_of_the_product_goes_before_the_source_s(self) -> None:
        assert plan().layers[0].nodata == -9999
        undeclared = make_plan(dataset(product(variable(nodata=None))), REGION, source(array(fill=-1.0)))
        assert undeclared.layers[0].nodata == -1


class TestVersion:
    """What changes the data version, and what doesn't."""

    @pytest.mark.parametrize(
        ("component", "changes"),
        [
            ("source_version", {"version": "v2"}),
            ("data_id", {"spec": {"data_id": "a/c.json"}}),
            ("time_range", {"spec": {"time_range": ("2000-01-01", None)}}),
            ("code_version", {"spec": {"product": product(code_version=2)}}),
            ("layers", {"spec": {"product": product(variable(kind=Kind.STANDARD_DEVIATION))}}),
            ("layers", {"spec": {"product": product(variable(nodata=-1.0))}}),
            ("layers", {"spec": {"product": product(variable(dtype="float64"))}}),
            ("anchor", {"region": replace(REGION, grid=replace(REGION.grid, west=REGION.grid.west + 1))}),
            ("resolution", {"region": replace(REGION, grid=replace(REGION.grid, x_res=31.0))}),
        ],
    )
    def test_what_may_change_pixels(self, component: str, changes: dict[str, Any]) -> None:
        before, after = plan(), plan(**changes)
        assert after.data_version != before.data_version
        assert component in {name for name in before.components if before.components[name] != after.components[name]}

    def test_another_crs(self) -> None:
        wide = replace(LATTICE, x_origin=0.0, y_origin=6_000_000.0, dx=20_000.0, dy=-20_000.0)
        conformal = replace(REGION, grid=replace(REGION.grid, crs="EPSG:3034"))
        before, after = plan(lattice=wide), plan(lattice=wide, region=conformal)
        assert {name for name in before.components if before.components[name] != after.components[name]} == {"crs"}

    def test_a_selection_of_variables(self) -> None:
        both = product(variable(), variable("height"))
        held = source(array(), array("height"))
        versions = {
            make_plan(dataset(both, variable_names=names), REGION, held).data_version
            for names in (None, ("age",), ("height",), ("age", "height"))
        }
        assert len(versions) == 3

    @pytest.mark.parametrize(
        "changes",
        [
            {"href": "https://mirror.example/b.zarr"},
            {"location": Location("s3://mirror/b.zarr", {"key": "hunter2"})},
            {"location": Location("/nowhere/a.zarr", retry=RetryPolicy(deadline=1))},
            {"attrs": {"creation_date": "yesterday"}},
            {"spec": {"store": StoreSpec("mirror", "stac", {"url": "x"}, (("a", "b"),), RetryPolicy(deadline=1))}},
            {"spec": {"identifier": "another", "description": "Another"}},
            {"region": replace(REGION, name="there")},
            {"region": replace(REGION, grid=replace(REGION.grid, nx=50, ny=40))},
            {"region": replace(REGION, grid=replace(REGION.grid, tile_nx=16, tile_ny=64))},
        ],
        ids=["href", "location", "retry", "texts", "store", "names", "region's name", "extent", "tiles"],
    )
    def test_what_may_not(self, changes: dict[str, Any]) -> None:
        assert plan(**changes).data_version == plan().data_version
        assert plan(**changes).components == plan().components

    def test_secrets_are_in_no_component_and_no_attribute(self) -> None:
        secret = plan(location=Location("s3://mirror/b.zarr", {"key": "hunter2"}))
        assert "hunter2" not in f"{secret.components}{secret.attrs}{secret.schema}{secret!r}"

    def test_the_identity_does_not_depend_on_the_version(self) -> None:
        old, new = plan(), plan(version="v2", attrs={"creation_date": "yesterday", "history": "made"})
        # As text: NaN differs from itself.
        assert repr(old.schema) == repr(new.schema)
        assert old.attrs != new.attrs


def test_a_plan_travels() -> None:
    made = plan()
    travelled = pickle.loads(pickle.dumps(made))
    assert travelled.data_version == made.data_version
    assert travelled.jobs() == made.jobs()
    assert len(pickle.dumps(made)) < 20_000


class TestCubes:
    def test_from_a_catalogue_to_pixels(self, tmp_path: Path) -> None:
        write_genus(tmp_path / "genus.zarr")
        catalogue = write_catalogue(tmp_path, item("../genus.zarr"))
        spec = dataset(
            GENUS, store=StoreSpec("archive", "stac", {"url": str(catalogue)}), data_id=DATA_ID, region_folders=True
        )
        spec = replace(spec, regions=(Region("here", genus_grid(64)),))
        storage = StorageSpec(str(tmp_path / "cubes"))
        planned = plan_partition(spec, storage, describe_source(spec), "here")
        assert planned.partition.key == "here"
        assert planned.store.url == str(tmp_path / "cubes/here/forest.zarr")
        assert planned.plan.schema.attrs["stac_item_id"] == "forest"
        assert planned.plan.schema.times == ("2020-01-01T00:00:00",)

    def test_the_native_grid(self, tmp_path: Path) -> None:
        spec = dataset(GENUS)
        planned = plan_partition(spec, StorageSpec(str(tmp_path)), native(write_genus(tmp_path / "a.zarr")), "native")
        assert planned.store.url == str(tmp_path / "forest.zarr")
        assert planned.plan.layers[0].method is Method.COPY
        grid = planned.plan.region.grid
        assert (grid.shape, grid.tile_ny, grid.tile_nx) == ((400, 420), 64, 64)
        assert grid.bbox == (3_400_004.0, 2_496_003.0, 3_404_204.0, 2_500_003.0)
        assert len(list(planned.partition.tiles())) == 49
        World(planned.plan, StorageSpec(str(tmp_path))).make()

    def test_an_unknown_partition(self, tmp_path: Path) -> None:
        spec = dataset(AGE, regions=(REGION,))
        with pytest.raises(PlanError, match="'forest' has no partition 'there': here"):
            plan_partition(spec, StorageSpec(str(tmp_path)), source(), "there")

    def test_where_cubes_lie(self, tmp_path: Path) -> None:
        storage = StorageSpec(str(tmp_path))
        assert store_of(storage, dataset(AGE), "here").url == str(tmp_path / "forest.zarr")
        assert store_of(storage, dataset(AGE, region_folders=True), "here").url == str(tmp_path / "here/forest.zarr")
