"""What a function sees is what ``xarray.open_zarr`` shows; what it returns must be a cube's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from scs2_cubes.core.grid import Window
from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import ProcessingError
from scs2_cubes.pipeline.windows import WindowFunction, WindowReader
from scs2_cubes.processing import decode_window, learn_outputs, narrow_times, output_planes, sample_window
from scs2_cubes.sources import open_reader
from scs2_cubes_tests.processing import archive as stores
from scs2_cubes_tests.processing.archive import EFDA_ID, GAMI_ID, GENUS_ID, LIU_ID, OUTSIDE
from scs2_cubes_tests.processing.workbench import Workbench

IDS = {"gami": GAMI_ID, "efda": EFDA_ID, "liu": LIU_ID, "genus": GENUS_ID}
TEXT = "def same(ds):\n    return ds\n\ndef members(ds):\n    return ds.mean('members')\n"


def seen(bench: Workbench, identifier: str) -> tuple[xr.Dataset, Window, Any]:
    """(what the function gets on the first tile, its window of the source, the plan)."""
    planned = bench.plan(identifier)
    plan = planned.plan
    assert plan.processing is not None
    tile = next(iter(planned.partition.tiles()))
    window = plan.tile_window(tile)
    assert window is not None
    caught: list[xr.Dataset] = []
    loaded = WindowFunction.load(plan, plan.processing)

    def catch(dataset: xr.Dataset) -> xr.Dataset:
        caught.append(dataset.copy(deep=True))
        return loaded.function(dataset)

    reader = WindowReader.over(plan, open_reader(plan.native.location), frozenset())
    replace(loaded, function=catch).apply(reader, tile, window)
    (dataset,) = caught
    return dataset, window, plan


def add(bench: Workbench, identifier: str, **options: Any) -> None:
    section = bench.function("members" if identifier == "gami" else "same", TEXT)
    bench.add(identifier, IDS[identifier], custom_processing=section, **options)


def assert_same(ours: xr.Dataset, theirs: xr.Dataset, axes: tuple[str, str]) -> None:
    """Identical in names, dimensions, dtypes, values and attributes, but for what two tests below are about."""
    for axis in axes:
        assert ours[axis].dtype == theirs[axis].dtype
        step = abs(float(theirs[axis][1] - theirs[axis][0]))
        # Computed from the lattice, so that plans needn't hold hundreds of thousands of numbers.
        np.testing.assert_allclose(ours[axis], theirs[axis], rtol=0, atol=1e-7 * step)
    known = theirs.assign_coords({axis: (axis, ours[axis].to_numpy()) for axis in axes})
    known.attrs.pop("_FillValue", None)
    xr.testing.assert_identical(ours.assign_coords({axis: (axis, ours[axis].to_numpy()) for axis in axes}), known)
    assert {name: ours[name].dtype for name in ours.variables} == {
        name: theirs[name].dtype for name in theirs.variables
    }
    assert all(variable._in_memory for variable in ours.variables.values())


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture
def embedded(tmp_path: Path, server: DemoServer) -> Workbench:
    bench = Workbench.of_server(tmp_path, server)
    # At the coast, so that there is forest, other land and sea.
    bench.data["grid_mappings"] = []
    bench.add_region("here", (3_429_004, 2_450_417, 3_430_204, 2_451_317), tile_size=40)
    return bench


@pytest.mark.parametrize(
    ("identifier", "dtypes", "axes"),
    [
        ("gami", {"forest_age": "float32"}, ("latitude", "longitude")),
        ("genus", {"genus": "float64"}, ("y", "x")),
        ("liu", dict.fromkeys(["aboveground_biomass", "canopy_cover", "canopy_height"], "float64"), ("y", "x")),
        (
            "efda",
            {"disturbance_agent": "float32", "disturbance_occurrence": "float32", "spatial_ref": "int64"},
            ("y", "x"),
        ),
    ],
)
def test_the_embedded_catalogue(
    embedded: Workbench, server: DemoServer, identifier: str, dtypes: dict[str, str], axes: tuple[str, str]
) -> None:
    options = {"open_params": {"time_range": ["2022-01-01", None]}} if identifier == "efda" else {}
    add(embedded, identifier, **options)
    ours, window, plan = seen(embedded, identifier)
    name = Path(IDS[identifier]).stem
    url = f"{server.catalogue_url.rpartition('/public/')[0]}/{name.rpartition('_v')[0]}/{name}.zarr"
    rows, cols = window.slices
    with xr.open_zarr(url, chunks=None) as store:
        theirs = store.isel({axes[0]: rows, axes[1]: cols})
        if identifier == "efda":
            theirs = theirs.isel(time=slice(-2, None))
        assert_same(ours, theirs.load(), axes)
    assert {str(key): variable.dtype.name for key, variable in ours.data_vars.items()} == dtypes
    assert plan.native.y_dim == axes[0]


def test_traps_of_the_embedded_catalogue(embedded: Workbench) -> None:
    """What the comparison with xarray can't say: that the window holds what it is about."""
    for identifier in ("genus", "liu"):
        add(embedded, identifier)
    genus, _, _ = seen(embedded, "genus")
    codes = genus["genus"].to_numpy()
    # 255 isn't declared, so it isn't masked.
    assert not np.isnan(codes).any()
    assert {2.0, 255.0} < set(np.unique(codes))
    liu, _, _ = seen(embedded, "liu")
    for variable in liu.data_vars.values():
        values = variable.to_numpy()
        assert 0 < np.isnan(values).mean() < 1
        assert not (values == 0).any()


@pytest.mark.parametrize("identifier", list(IDS))
def test_the_small_archive(bench: Workbench, archive: Path, identifier: str) -> None:
    """Several chunks, some of them absent, all steps, members first and time last."""
    add(bench, identifier)
    ours, window, plan = seen(bench, identifier)
    axes = (plan.native.y_dim, plan.native.x_dim)
    with xr.open_zarr(archive / "stores" / f"{Path(IDS[identifier]).stem}.zarr", chunks=None) as store:
        assert_same(ours, store.isel(dict(zip(axes, window.slices, strict=True))).load(), axes)


@pytest.mark.xfail(reason="NativeDataset has no place for the attributes of the axes", strict=True)
def test_attributes_of_the_axes(bench: Workbench, archive: Path) -> None:
    add(bench, "efda")
    ours, _, _ = seen(bench, "efda")
    with xr.open_zarr(archive / "stores/EFDA_v2.1.1.zarr", chunks=None) as store:
        assert ours["x"].attrs == store["x"].attrs


@pytest.mark.xfail(reason="sources leave encoding attributes of the group out of NativeDataset.attrs", strict=True)
def test_attributes_of_the_group(bench: Workbench, archive: Path) -> None:
    add(bench, "efda")
    ours, _, _ = seen(bench, "efda")
    with xr.open_zarr(archive / "stores/EFDA_v2.1.1.zarr", chunks=None) as store:
        assert ours.attrs == store.attrs


def test_selected_times(bench: Workbench, archive: Path) -> None:
    add(bench, "efda", open_params={"time_range": ["1986-01-01", "1987-12-31"]})
    ours, window, _ = seen(bench, "efda")
    rows, cols = window.slices
    with xr.open_zarr(archive / "stores/EFDA_v2.1.1.zarr", chunks=None) as store:
        assert_same(ours, store.isel(time=[1, 2], y=rows, x=cols).load(), ("y", "x"))


def test_bounds_of_the_selected_times(bench: Workbench, archive: Path) -> None:
    """A small array beside the lattice that has time and another dimension."""
    dataset = stores.efda()
    bounds = np.stack([dataset["time"].to_numpy(), dataset["time"].to_numpy() + np.timedelta64(365, "D")], axis=1)
    dataset["time"].attrs["bounds"] = "time_bnds"
    dataset["time_bnds"] = (("time", "bnds"), bounds)
    folder = archive / "bounds"
    data_id = "x/BOUNDS_v1/BOUNDS_v1.json"
    store_path = stores.write_store(folder, data_id, dataset[["disturbance_agent", "time_bnds", "spatial_ref"]])
    bench = Workbench.of_archive(bench.folder, folder)
    section = bench.function("same", TEXT)
    bench.add("b", data_id, custom_processing=section, open_params={"time_range": ["1986-01-01", "1987-12-31"]})
    ours, window, _ = seen(bench, "b")
    rows, cols = window.slices
    with xr.open_zarr(store_path, chunks=None) as store:
        theirs = store.isel(time=[1, 2], y=rows, x=cols).load()
    np.testing.assert_array_equal(ours["time_bnds"], theirs["time_bnds"])
    assert_same(ours, theirs, ("y", "x"))


def test_zeros_that_are_values(bench: Workbench) -> None:
    add(bench, "liu", zero={"canopy_height": "value"})
    ours, window, _ = seen(bench, "liu")
    expected = stores.liu_values()["canopy_height"][window.slices]
    assert (expected == 0).any()
    np.testing.assert_array_equal(ours["canopy_height"], expected)
    assert np.isnan(ours["canopy_cover"].to_numpy()[expected == 0]).all()


WRITES = """
def spoil(ds):
    for variable in ds.variables.values():
        variable.attrs["spoilt"] = True
        for value in variable.attrs.values():
            if isinstance(value, list):
                value.append("spoilt")
    ds["genus"].values[...] = 3
    ds["spatial_ref"].values[...] = 9
    ds.attrs.clear()
    return ds
"""


@pytest.mark.parametrize("decoding", [True, False], ids=["decoded", "as stored"])
def test_a_function_may_write_into_what_it_gets(bench: Workbench, *, decoding: bool) -> None:
    bench.add("genus", GENUS_ID, custom_processing=bench.function("spoil", WRITES))
    plan = bench.plan("genus").plan
    native = plan.native
    if not decoding:
        # Nothing to be done with the numbers, so that they might be shared.
        native = replace(native, arrays=tuple(replace(array, encoding={}) for array in native.arrays))
    window, arrays = Window(0, 5, 0, 6), {"genus": np.full((5, 6), 4, np.uint16)}
    spec = plan.processing
    assert spec is not None
    spoil = WindowFunction.load(plan, spec).function
    first = decode_window(native, arrays, window)
    untouched = first.copy(deep=True)
    spoil(first)
    assert (first["genus"] == 3).all()
    np.testing.assert_array_equal(arrays["genus"], 4)
    xr.testing.assert_identical(decode_window(native, arrays, window), untouched)


# What it returns.


class Trial:
    """The EFDA of the small archive, two of whose steps a function sees on a window of 6 x 5 pixels."""

    def __init__(self, bench: Workbench) -> None:
        bench.add("efda", EFDA_ID)
        self.native = narrow_times(bench.native("efda"), (1, 3))
        self.window = Window(10, 16, 20, 25)
        rng = np.random.default_rng(1)
        values = rng.choice([OUTSIDE, 0, 1, 2, 3], size=(2, 6, 5)).astype(np.int16)
        self.arrays = {"disturbance_agent": values, "disturbance_occurrence": np.minimum(values, np.int16(1))}
        self.spec = FunctionSpec("modify", "functions", "/somewhere/functions.py", "")
        self.decoded = decode_window(self.native, self.arrays, self.window)

    def learnt(self, result: xr.Dataset) -> Any:
        return learn_outputs(self.spec, self.native, result, self.window)

    def planes(self, result: xr.Dataset, output: Any, nodata: float | None = OUTSIDE) -> Any:
        return output_planes(self.spec, self.native, result, self.window, output, self.arrays, nodata)

    def refusal(self, result: xr.Dataset) -> str:
        with pytest.raises(ProcessingError) as refused:
            self.learnt(result)
        assert "modify in /somewhere/functions.py returned" in str(refused.value)
        return str(refused.value)


@pytest.fixture
def trial(bench: Workbench) -> Trial:
    return Trial(bench)


def test_outputs(trial: Trial) -> None:
    agent, occurrence = trial.learnt(trial.decoded)
    assert (agent.name, occurrence.name) == ("disturbance_agent", "disturbance_occurrence")
    assert (agent.dtype, agent.has_time) == ("float32", True)
    assert agent.times == ("1986-01-01T00:00:00", "1988-01-01T00:00:00")
    assert agent.attrs["long_name"] == "Agent"
    one = trial.decoded.isel(time=1).fillna(0).astype("uint8")
    assert [(o.dtype, o.has_time, o.times) for o in trial.learnt(one)] == [
        ("uint8", False, ("1988-01-01T00:00:00",))
    ] * 2
    gone = trial.decoded.max("time")
    assert [(o.has_time, o.times) for o in trial.learnt(gone)] == [(False, ())] * 2


def test_planes_with_the_sources_validity(trial: Trial) -> None:
    stored = trial.arrays["disturbance_agent"]
    # The fill is 0, as a cast of NaN leaves it: only the source's validity knows better.
    cast = trial.decoded.fillna(0).astype("uint8")
    output = trial.learnt(cast)[0]
    # Another order of dimensions is no matter.
    for result in (cast, cast.transpose("x", "time", "y")):
        values, valid = trial.planes(result, output)
        assert values.shape == valid.shape == (2, 6, 5)
        np.testing.assert_array_equal(valid, stored != OUTSIDE)
        np.testing.assert_array_equal(values, np.where(stored == OUTSIDE, 0, stored))


def test_validity_of_one_step_and_of_none(trial: Trial) -> None:
    stored = trial.arrays["disturbance_agent"]
    last = trial.decoded.isel(time=-1).fillna(0)
    _, valid = trial.planes(last, trial.learnt(last)[0])
    np.testing.assert_array_equal(valid, stored[1:] != OUTSIDE)
    gone = trial.decoded.max("time").fillna(0)
    _, valid = trial.planes(gone, trial.learnt(gone)[0])
    np.testing.assert_array_equal(valid[0], (stored != OUTSIDE).any(axis=0))


def test_renamed_variables_have_no_validity_of_the_sources(trial: Trial) -> None:
    renamed = trial.decoded.rename(disturbance_agent="agent").fillna(0)
    agent = next(output for output in trial.learnt(renamed) if output.name == "agent")
    _, valid = trial.planes(renamed, agent)
    assert valid.all()


def test_products_nodata_goes_before_the_stores(trial: Trial) -> None:
    output = trial.learnt(trial.decoded)[0]
    _, valid = trial.planes(trial.decoded, output, nodata=2)
    np.testing.assert_array_equal(valid, trial.arrays["disturbance_agent"] != 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.isel(y=0), "dimensions"),
        (lambda ds: ds.isel(y=0, drop=True), "dimensions"),
        (lambda ds: ds.expand_dims(member=2), "dimensions ('member', 'time', 'y', 'x')"),
        (lambda ds: ds.isel(x=slice(1, None)), "x has 4 values instead of 5"),
        (lambda ds: ds.pad(x=1), "x has 7 values instead of 5"),
        (lambda ds: ds.coarsen(y=2, x=5).mean(), "another lattice"),
        (lambda ds: ds.assign_coords(x=ds.x + 15), "another lattice"),
        (lambda ds: ds.sortby("y"), "another lattice"),
        (lambda ds: ds.drop_vars("time"), "without its coordinate"),
        (lambda ds: ds.assign_coords(time=[1986, 1988]), "other than dates as its time (int64: 1986"),
        (lambda ds: ds.assign_coords(time=np.array(["1986", "NaT"], "datetime64[ns]")), "other than dates"),
        (lambda ds: ds.astype(str), "a cube takes integers"),
        (lambda ds: ds.astype(complex), "as complex"),
        (lambda ds: xr.Dataset(), "no variable with the dimensions y and x; it has nothing at all"),
        (lambda ds: ds[["spatial_ref"]].drop_vars(["x", "y", "time"], errors="ignore"), "it has spatial_ref"),
        (lambda ds: ds.rename(x="lon", y="lat"), "no variable with the dimensions y and x"),
    ],
)
def test_what_cant_be_a_cube(trial: Trial, change: Any, words: str) -> None:
    assert words in trial.refusal(change(trial.decoded))


def test_something_else_than_before(trial: Trial) -> None:
    output = trial.learnt(trial.decoded)[0]
    for changed, words in (
        (trial.decoded.drop_vars("disturbance_agent"), "returned no 'disturbance_agent' this time"),
        (trial.decoded.astype("float64"), "as float64 this time, float32 before"),
        (trial.decoded.isel(time=[0]), "returned other times"),
        (trial.decoded.isel(x=slice(2, None)), "another lattice"),
    ):
        with pytest.raises(ProcessingError, match=words):
            trial.planes(changed, output)


def test_coordinates_may_be_dropped(trial: Trial) -> None:
    bare = trial.decoded.drop_vars(["x", "y"])
    assert [output.name for output in trial.learnt(bare)] == ["disturbance_agent", "disturbance_occurrence"]


def test_the_sample_has_the_layout_of_the_source(bench: Workbench) -> None:
    """It asks for no pixels, has values, and "no value" where the source can have it."""
    bench.add("gami", GAMI_ID)
    native = bench.native("gami")
    window, arrays = sample_window(native)
    decoded = decode_window(native, arrays, window)
    assert dict(decoded.sizes) == {"members": 4, "latitude": window.height, "longitude": window.width, "time": 2}
    missing = np.isnan(decoded["forest_age"].to_numpy())
    assert 0 < missing.mean() < 1
