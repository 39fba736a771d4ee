"""``custom_processing`` from the configuration file to pixels and records."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

from scs2_cubes.core.checks import Verdict
from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import PlanError, ProcessingError, Scs2CubesError, TileError
from scs2_cubes.pipeline.compute import ThreadCompute, open_compute
from scs2_cubes.pipeline.inspection import Look, inspect_partition
from scs2_cubes.pipeline.materialize import Progress, materialize_partition, prepare_cube
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.end_to_end.trial import squeezed
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, connected
from scs2_cubes_tests.processing import archive as stores
from scs2_cubes_tests.processing.archive import EFDA_ID, GAMI_ID, GENUS_ID, GRID, LIU_ID, OUTSIDE, SHAPE, YEARS
from scs2_cubes_tests.processing.workbench import Workbench

CASE = Path(__file__).resolve().parents[2] / "configs/functions.py"
Array = npt.NDArray[Any]


def nearest(values: Array, raster: oracles.Raster, nodata: float | None, fill: float) -> Array:
    """(row, column) of the region, one pixel of the source each."""
    u, v = oracles.source_index(raster, GRID, range(SHAPE[0]), range(SHAPE[1]))
    found = np.full(SHAPE, fill)
    for place in np.ndindex(*SHAPE):
        number = oracles.nearest(values, float(u[place]), float(v[place]), nodata)
        if number is not None:
            found[place] = number
    return found


def expected_agents() -> Array:
    return np.stack([nearest(values, stores.EFDA, OUTSIDE, 255) for values in stores.efda_values()])


def assert_same_cube(one: Any, other: Any) -> None:
    """Same variables, dtypes, pixels bit for bit, coordinates, and what attributes say of the numbers."""
    assert list(one.data_vars) == list(other.data_vars)
    assert dict(one.sizes) == dict(other.sizes)
    assert set(one.coords) == set(other.coords)
    for name in one.coords:
        np.testing.assert_array_equal(one[name], other[name])
    for name in one.data_vars:
        assert one[name].dtype == other[name].dtype
        assert one[name].to_numpy().tobytes() == other[name].to_numpy().tobytes()
        for key in ("units", "long_name", "resampling", "flag_values", "flag_meanings", "valid_min", "valid_max"):
            assert one[name].attrs.get(key) == other[name].attrs.get(key)


# The case's own two.


def test_the_cases_gami(bench: Workbench) -> None:
    bench.add("plain", GAMI_ID)
    bench.add("by_function", GAMI_ID, custom_processing={"module_path": str(CASE), "function_name": "modify_gami"})
    plain, by_function = bench.make("plain"), bench.make("by_function")
    assert_same_cube(by_function, plain)
    ages = plain["forest_age"].to_numpy()
    assert 0 < np.isnan(ages).mean() < 0.5
    assert str(plain["time"].to_numpy())[:10] == "2020-01-01"


def test_the_cases_efda(bench: Workbench) -> None:
    bench.add("plain", EFDA_ID)
    bench.add("by_function", EFDA_ID, custom_processing={"module_path": str(CASE), "function_name": "modify_efda"})
    plain, by_function = bench.make("plain"), bench.make("by_function")
    assert_same_cube(by_function, plain)
    agents = by_function["disturbance_agent"].to_numpy()
    assert agents.dtype == np.uint8
    np.testing.assert_array_equal(agents, expected_agents())
    outside = agents == 255
    assert 0.2 < outside.mean() < 0.8
    # The trap: undisturbed forest is another thing.
    assert (agents == 0).any()


def test_the_case_without_the_cast(bench: Workbench) -> None:
    """Codes that come as float32 with NaN aren't blended either."""
    text = 'def modify(ds):\n    return ds.drop_vars("disturbance_occurrence")\n'
    bench.add("efda", EFDA_ID, custom_processing=bench.function("modify", text))
    agents = bench.make("efda")["disturbance_agent"].to_numpy()
    assert agents.dtype == np.uint8
    np.testing.assert_array_equal(agents, expected_agents())


# Others.


def test_a_new_name(bench: Workbench) -> None:
    text = 'def modify(ds):\n    return ds[["canopy_height"]].rename(canopy_height="height")\n'
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    bench.add("plain", LIU_ID)
    cube, plain = bench.make("liu"), bench.make("plain")
    assert list(cube.data_vars) == ["height"]
    np.testing.assert_array_equal(cube["height"], plain["canopy_height"])
    assert "continuous" in cube["height"].attrs["assumed"]
    assert cube["height"].attrs["units"] == "m"


def test_a_new_variable(bench: Workbench) -> None:
    """Beside those that the product describes; linear, so that it must be what the cubes of the others give."""
    text = """
def modify(ds):
    ds["slenderness"] = 2 * ds["canopy_height"] + ds["canopy_cover"]
    ds["slenderness"].attrs = {"long_name": "Something", "units": "m"}
    return ds
"""
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    bench.add("plain", LIU_ID)
    cube, plain = bench.make("liu"), bench.make("plain")
    assert set(cube.data_vars) == {*plain.data_vars, "slenderness"}
    for name in plain.data_vars:
        np.testing.assert_array_equal(cube[name], plain[name])
        assert "assumed" not in cube[name].attrs
    both = 2 * plain["canopy_height"] + plain["canopy_cover"]
    np.testing.assert_allclose(cube["slenderness"], both, rtol=1e-5)
    assert cube["slenderness"].attrs["long_name"] == "Something"
    assert cube["slenderness"].dtype == np.float32


def test_three_years(bench: Workbench) -> None:
    text = 'def modify(ds):\n    return ds[["disturbance_agent"]].isel(time=[0, 2, 4])\n'
    bench.add("efda", EFDA_ID, custom_processing=bench.function("modify", text))
    cube = bench.make("efda")
    assert [str(time)[:10] for time in cube["time"].to_numpy()] == ["1985-01-01", "1987-01-01", "1989-01-01"]
    np.testing.assert_array_equal(cube["disturbance_agent"], expected_agents()[::2])


LATEST = """
import xarray as xr

def modify(ds):
    disturbed = ds["disturbance_agent"] > 0
    year = xr.where(disturbed, ds["time"].dt.year, 0).max("time")
    return year.astype("int16").to_dataset(name="latest")
"""


def test_the_latest_disturbance(bench: Workbench) -> None:
    bench.add("efda", EFDA_ID, custom_processing=bench.function("modify", LATEST))
    cube = bench.make("efda")
    assert cube["latest"].dims == ("y", "x")
    assert "time" not in cube.coords
    assert cube["latest"].dtype == np.int16
    # Years aren't averaged: integers without units are taken for codes.
    assert cube["latest"].attrs["kind"] == "categorical"
    values = stores.efda_values()
    years = np.array(list(YEARS))[:, None, None]
    latest = np.where(values > 0, years, 0).max(axis=0)
    np.testing.assert_array_equal(cube["latest"], nearest(latest, stores.EFDA, None, 32767))
    assert set(np.unique(cube["latest"])) == {0, *YEARS}


def test_bytes_of_a_quantity_keep_their_greatest_number(bench: Workbench) -> None:
    """Where the fill is NaN, all numbers of an integer dtype are values, 255 among them."""
    text = """
def modify(ds):
    cover = ds["canopy_cover"].fillna(0) * 0 + 255
    return cover.astype("uint8").assign_attrs(units="1").to_dataset(name="full")
"""
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    cube = bench.make("liu")
    assert cube["full"].dtype == np.float32
    assert (cube["full"] == 255).all()


def test_booleans(bench: Workbench) -> None:
    text = 'def modify(ds):\n    return (ds[["canopy_height"]] > 12).rename(canopy_height="tall")\n'
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    cube = bench.make("liu")
    assert cube["tall"].dtype == np.uint8
    expected = nearest((stores.liu_values()["canopy_height"] > 12).astype(float), stores.LIU, None, 255)
    np.testing.assert_array_equal(cube["tall"], expected)


def test_zeros_that_are_values(bench: Workbench) -> None:
    text = "def modify(ds):\n    return ds\n"
    bench.add("plain", LIU_ID, zero={"canopy_height": "value"})
    bench.add("liu", LIU_ID, zero={"canopy_height": "value"}, custom_processing=bench.function("modify", text))
    plain, by_function = bench.make("plain"), bench.make("liu")
    assert not np.isnan(by_function["canopy_height"]).any()
    np.testing.assert_array_equal(by_function["canopy_height"], plain["canopy_height"])
    assert np.isnan(by_function["canopy_cover"]).any()


WHOLE = 'def modify(ds):\n    return ds[["canopy_height"]] - ds[["canopy_height"]].mean()\n'


def test_processing_whole(bench: Workbench) -> None:
    """A function that isn't local gives the same whatever the tiles; by tiles it doesn't, which is why the key is."""

    def pixels(tile_size: int, processing: str) -> Array:
        bench.data["grid_mappings"] = []
        bench.add_region("here", stores.BBOX, tile_size=tile_size)
        section = bench.function("modify", WHOLE, processing=processing)
        name = f"liu_{processing}_{tile_size}"
        bench.add(name, LIU_ID, custom_processing=section)
        values: Array = bench.make(name)["canopy_height"].to_numpy()
        return values

    small, medium, large = (pixels(size, "whole") for size in (8, 16, 64))
    np.testing.assert_array_equal(small, large)
    np.testing.assert_array_equal(medium, large)
    assert abs(np.nanmean(large)) < 0.5
    assert np.nanmax(np.abs(pixels(8, "tile") - small)) > 1


def test_one_call_for_each_tile(bench: Workbench) -> None:
    """On all variables and times at once, and once more to learn what comes out."""
    log = bench.folder / "calls.txt"
    text = f"""
def modify(ds):
    with open({str(log)!r}, "a") as calls:
        calls.write(f"{{sorted(map(str, ds.data_vars))}} {{ds.sizes['time']}}\\n")
    return ds
"""
    bench.add("efda", EFDA_ID, custom_processing=bench.function("modify", text))
    planned = bench.plan("efda")
    tiles = len(list(planned.partition.tiles()))
    log.unlink()
    prepare_cube(planned.plan, planned.store)
    with open_compute(DaskSpec()) as compute:
        materialize_partition(planned.plan, planned.partition, planned.store, compute, lambda _: None)
    calls = log.read_text().splitlines()
    assert calls == ["['disturbance_agent', 'disturbance_occurrence', 'spatial_ref'] 5"] * tiles
    assert tiles == 6


def test_by_value_on_a_cluster(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own, a foreign working directory, and no file any more."""
    text = "FACTOR = 3\n\ndef helper(ds):\n    return ds * FACTOR\n\ndef modify(ds):\n    return helper(ds)\n"
    bench.add("plain", LIU_ID)
    plain = bench.make("plain")
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text, module="mine"))
    planned = bench.plan("liu")
    (bench.folder / "mine.py").unlink()
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    prepare_cube(planned.plan, planned.store)
    with open_compute(DaskSpec("local", n_workers=2)) as compute:
        materialize_partition(planned.plan, planned.partition, planned.store, compute, lambda _: None)
    with planned.store.open() as cube:
        heights = cube["canopy_height"].to_numpy()
    np.testing.assert_allclose(heights, 3 * plain["canopy_height"], rtol=1e-6)
    assert np.isfinite(heights).any()


def test_a_worker_that_cant_load_it(bench: Workbench, processes: DaskProcesses) -> None:
    """It comes late and lacks what the module imports, which the planning process and the first worker have."""
    text = """
import os
import time

if "LACKING" in os.environ:
    import lacking

def modify(ds):
    time.sleep(0 if "LACKING" in os.environ else 2)
    return ds
"""
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    planned = bench.plan("liu")
    prepare_cube(planned.plan, planned.store)
    processes.start_worker()

    def on_progress(progress: Progress) -> None:
        if progress.done == 1:
            processes.start_worker(extra={"LACKING": "yes"})
            connected(processes, 2).close()

    with (
        open_compute(processes.spec) as compute,
        pytest.raises(TileError, match=r"tile y\d+x\d+: ProcessingError: .* No module named 'lacking'"),
    ):
        materialize_partition(planned.plan, planned.partition, planned.store, compute, on_progress)


# What checks compare with.

#: Leaves the western half.
HALF = """
def modify(ds):
    return ds[["canopy_height"]].where(ds[{dim!r}] < {middle!r})
"""


def inspected(bench: Workbench, identifier: str) -> dict[str, Verdict]:
    planned = bench.plan(identifier)
    found = inspect_partition(planned.plan, planned.partition, planned.store, ThreadCompute(1), Look())
    return {verdict.check: verdict for verdict in found.verdicts}


def half_of(native_width: int, raster: oracles.Raster) -> float:
    """A coordinate of the source between two of its columns, in the middle of the region."""
    u, _ = oracles.source_index(raster, GRID, range(SHAPE[0] // 2, SHAPE[0]), range(SHAPE[1] // 2, SHAPE[1]))
    column = int(u.ravel()[0])
    assert 0 < column < native_width
    return float(raster[1] + column * raster[3])


@pytest.mark.parametrize("processing", ["tile", "whole"])
def test_records_tell_what_the_source_had_before_the_function(bench: Workbench, processing: str) -> None:
    bench.add("plain", LIU_ID)
    native = bench.native("plain")
    text = HALF.format(dim=native.x_dim, middle=half_of(native.lattice.nx, stores.LIU))
    bench.add("half", LIU_ID, custom_processing=bench.function("modify", text, processing=processing))
    bench.make("plain")
    bench.make("half")
    plain, half = bench.records("plain"), bench.records("half")
    returned: set[int] = set()
    for tile, record in half.items():
        # Before the function it's what it is without one.
        assert record.source_valid == {"canopy_height": plain[tile].source_valid["canopy_height"]}
        assert plain[tile].function_valid == {}
        assert record.function_valid.keys() == record.source_valid.keys()
        # Tiles of 16 x 16 are their own sample; heights are taken from the centre of each pixel.
        assert abs(sum(record.function_valid["canopy_height"]) - record.valid["canopy_height"]) <= 3
        returned.add(sum(record.function_valid["canopy_height"]))
    assert 0 in returned
    assert max(returned) > 100
    found = inspected(bench, "half")
    assert {name for name, verdict in found.items() if not verdict.passed} <= {"description"}
    assert "by the function, though the source has values there: " in found["no_empty_tiles"].text


def test_what_is_lost_behind_a_function_is_missed(bench: Workbench) -> None:
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", "def modify(ds):\n    return ds\n"))
    bench.make("liu")
    planned = bench.plan("liu")
    heights = zarr.open_array(planned.store.url, path="canopy_height", mode="r+")
    heights[0:16, 0:16] = np.nan
    record = planned.store.records()["y00x00"]
    planned.store.write_record(replace(record, valid={**record.valid, "canopy_height": 0}))
    found = inspected(bench, "liu")
    assert not found["no_empty_tiles"].passed
    assert found["valid_share"].tiles == ("y00x00",)


def test_of_a_variable_that_a_function_makes_the_source_tells_nothing(bench: Workbench) -> None:
    text = 'def modify(ds):\n    return ds[["canopy_height"]].rename(canopy_height="height")\n'
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    bench.make("liu")
    for record in bench.records("liu").values():
        assert record.source_valid == {}
        assert list(record.function_valid) == ["height"]
    found = inspected(bench, "liu")
    assert found["valid_share"].passed
    assert "as in what the function returned" in found["valid_share"].text


def test_codes_without_a_legend_are_compared_strictly(bench: Workbench) -> None:
    """Integers and floating-point numbers, of which some are equal to the fill: nothing is taken for lost."""
    text = """
def modify(ds):
    codes = (ds["canopy_height"].fillna(0) % 3).astype("uint8")
    ds["codes"] = codes.where(codes > 0, 255)
    ds["floats"] = ds["codes"].astype("float32")
    for name in ("codes", "floats"):
        ds[name].attrs = {"flag_values": [1, 2], "flag_meanings": "one two"}
    return ds[["codes", "floats"]]
"""
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text))
    cube = bench.make("liu")
    assert {name: array.dtype.name for name, array in cube.data_vars.items()} == {"codes": "uint8", "floats": "uint8"}
    found = inspected(bench, "liu")
    assert found["valid_share"].passed, found["valid_share"].text
    assert "at most" not in found["valid_share"].text


# What goes wrong.

#: Lets the small window of the plan pass.
LARGE = "    if ds.sizes['x'] * ds.sizes['y'] == 64:\n        return ds\n"


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("    raise RuntimeError('bad pixels')\n", 4, "RuntimeError: bad pixels"),
        ("    import sys\n    sys.exit()\n", 5, "SystemExit"),
        ("    return None\n", None, "returned NoneType"),
        ("    return ds.isel(x=slice(3))\n", None, "x has 3 values instead of"),
        ("    return ds.assign_coords(x=ds.x + 1)\n", None, "another lattice"),
        ("    return ds.astype('float32')\n", None, "as float32 this time, float64 before"),
        ("    return ds.drop_vars('canopy_cover')\n", None, "returned no 'canopy_cover' this time"),
    ],
)
def test_failures_on_a_tile_name_it(bench: Workbench, body: str, line: int | None, words: str) -> None:
    bench.add("liu", LIU_ID, custom_processing=bench.function("modify", f"def modify(ds):\n{LARGE}{body}"))
    with pytest.raises(TileError) as refused:
        bench.make("liu")
    message = str(refused.value)
    assert re.match(r"tile y0[01]x0[012]: ProcessingError", message)
    assert str(bench.folder / "functions.py") in message
    assert words in message
    assert line is None or f"functions.py, line {line}, failed" in message
    assert bench.records("liu") == {}


DIFFERENT_TIMES = """
def modify(ds):
    ages = ds.mean("members")
    return ages.assign(last=ages.forest_age.isel(time=-1, drop=True))
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def modify(ds):\n    return ds.mean('longitude')\n", "dimensions"),
        ("def modify(ds):\n    return ds.isel(time=-1)\n", "dimensions"),  # members are left
        ("def modify(ds):\n    return ds.mean('members').coarsen(latitude=2).mean()\n", "another lattice"),
        ("import nothing_of_that_name\ndef modify(ds):\n    return ds\n", "line 1, can't be loaded: ModuleNotFound"),
        (DIFFERENT_TIMES, "returned variables with different times"),
    ],
)
def test_failures_show_when_planning(bench: Workbench, text: str, words: str) -> None:
    """Before any pixel is read, and so in ``config check --online`` too."""
    bench.add("gami", GAMI_ID, custom_processing=bench.function("modify", text))
    with pytest.raises(ProcessingError) as refused:
        bench.plan("gami")
    message = str(refused.value)
    assert words in message
    assert f"modify in {bench.folder / 'functions.py'}" in message


def test_what_a_function_drops_cant_be_asked_for(bench: Workbench) -> None:
    text = 'def modify(ds):\n    return ds[["canopy_height"]]\n'
    section = bench.function("modify", text)
    bench.add("liu", LIU_ID, custom_processing=section, open_params={"variable_names": ["canopy_cover"]})
    with pytest.raises(PlanError, match=r"no variable canopy_cover .* there are: canopy_height"):
        bench.plan("liu")


def test_a_failing_function_doesnt_stop_the_others(bench: Workbench) -> None:
    texts = {
        "raises": f"def modify(ds):\n{LARGE}    raise RuntimeError('bad pixels')\n",
        "exits": f"import sys\n\ndef modify(ds):\n{LARGE}    sys.exit(4)\n",
        "nothing": "def modify(ds):\n    pass\n",
        "unloadable": "import nothing_of_that_name\n\ndef modify(ds):\n    return ds\n",
        "slow": f"import time\n\ndef modify(ds):\n{LARGE}    time.sleep(60)\n",
        "prints": "def modify(ds):\n    print('hello')\n    return ds\n",
    }
    for name, text in texts.items():
        section = bench.function("modify", text, module=name, **({"timeout": 1} if name == "slow" else {}))
        bench.add(name, LIU_ID, custom_processing=section)
    bench.add("plain", GENUS_ID)
    ended = bench.run()
    assert ended.code == 1
    for name, words in {
        "raises": "line 4, failed: RuntimeError: bad pixels",
        "exits": "line 6, failed: SystemExit: 4",
        "nothing": "returned NoneType",
        "unloadable": "No module named 'nothing_of_that_name'",
        "slow": "timeout of 1 s",
    }.items():
        assert ended.status_of(f"{name} (here)") == "failed"
        assert squeezed(f"{name}.py") in ended.message_column
        assert squeezed(words) in ended.message_column
    for name in ("prints", "plain"):
        assert ended.status_of(f"{name} (here)") == "made"
        assert len(bench.records(name)) == 6
    assert [bench.records(name) for name in ("raises", "exits", "slow")] == [{}, {}, {}]


# What the data version holds.


def _version(bench: Workbench, identifier: str, **options: Any) -> str:
    bench.add("cube", identifier, **options)
    return bench.plan("cube").plan.data_version


def _same_everywhere(bench: Workbench) -> Callable[..., str]:
    """The data version of LIU by way of a function of that text, name, module and those parameters."""

    def version(text: str = "def f(ds):\n    return ds\n", name: str = "f", module: str = "m", **params: Any) -> str:
        return _version(bench, LIU_ID, custom_processing=bench.function(name, text, module, **params))

    return version


def test_data_version_and_the_function(bench: Workbench) -> None:
    version = _same_everywhere(bench)
    both = "def f(ds):\n    return ds\n\ndef g(ds):\n    return ds\n"
    before = version(both)
    assert version(both) == before
    assert version(both, module="another_file") == before
    assert version(both, timeout=5) == before
    assert version(both + "# a comment is part of the text\n") != before
    assert version(both, name="g") != before
    assert version(both, processing="whole") != before
    assert _version(bench, LIU_ID) != before


def test_data_version_and_the_modules_place(bench: Workbench, tmp_path: Path) -> None:
    version = _same_everywhere(bench)
    before = version()
    folder = tmp_path / "deeper"
    folder.mkdir()
    (folder / "m.py").write_text((bench.folder / "m.py").read_text(encoding="utf-8"), encoding="utf-8")
    section = {"module_path": "deeper/m", "function_name": "f"}
    assert _version(bench, LIU_ID, custom_processing=section) == before


@pytest.mark.parametrize(
    ("identifier", "options"),
    [
        (LIU_ID, {"spatial_resample_params": {"interp_methods": "nearest"}}),
        (LIU_ID, {"spatial_resample_params": {"fill_values": -1}}),
        (LIU_ID, {"zero": {"canopy_height": "value"}}),
        (LIU_ID, {"open_params": {"bbox": [3_432_300, 2_450_300, 3_432_600, 2_450_600]}}),
        (LIU_ID, {"open_params": {"variable_names": "canopy_height"}}),
        (GAMI_ID, {"statistics": {"forest_age": "median"}}),
        (GAMI_ID, {"statistics": {"forest_age": ["mean", "std"]}}),
        (GAMI_ID, {"open_params": {"time_range": ["2010-01-01", None]}}),
        (EFDA_ID, {"open_params": {"time_range": ["1986-01-01", None]}}),
        (GENUS_ID, {"spatial_resample_params": {"agg_methods": "center"}}),
        (GENUS_ID, {"spatial_resample_params": {"fill_values": 254}}),
    ],
)
def test_data_version_and_options(bench: Workbench, identifier: str, options: dict[str, Any]) -> None:
    assert _version(bench, identifier, **options) != _version(bench, identifier)


@pytest.mark.parametrize(
    ("identifier", "options"),
    [
        # What would have been done anyway.
        (LIU_ID, {"spatial_resample_params": {"interp_methods": "bilinear", "fill_values": math.nan}}),
        (LIU_ID, {"spatial_resample_params": {"agg_methods": "max"}}),
        (LIU_ID, {"spatial_resample_params": {"prevent_nan_propagations": False}}),
        (LIU_ID, {"chunksize": {"y": 8, "x": 8}}),
        (GAMI_ID, {"statistics": {"forest_age": "mean"}}),
        (LIU_ID, {"zero": {"canopy_height": "nodata"}}),
    ],
)
def test_data_version_and_options_without_effect(bench: Workbench, identifier: str, options: dict[str, Any]) -> None:
    """On pixels, that is; another chunk is another identity."""
    assert _version(bench, identifier, **options) == _version(bench, identifier)


def test_data_version_and_kinds(bench: Workbench) -> None:
    """The kinds of what a function returns, which its attributes decide."""
    text = 'def f(ds):\n    return ds.drop_attrs()[["canopy_height"]].fillna(0).astype("int16"){}\n'
    text = text.replace("]]", ']].rename(canopy_height="v")')
    version = _same_everywhere(bench)
    plain = version(text.format(""))
    planned = bench.plan("cube").plan
    assert planned.layers[0].variable.kind == "categorical"
    with_units = version(text.format('.pipe(lambda d: d.assign(v=d.v.assign_attrs(units="m")))'))
    assert bench.plan("cube").plan.layers[0].variable.kind == "continuous"
    assert plain != with_units
    components = (planned.components["layers"], bench.plan("cube").plan.components["layers"])
    assert components[0] != components[1]


def test_only_our_own_errors(bench: Workbench) -> None:
    """Whatever a function returns, what comes of it is one of ours."""
    for number, body in enumerate(
        ("ds.to_dataframe()", "ds.stack(p=('y', 'x'))", "ds.rename(x='y', y='x')", "ds.T", "{}")
    ):
        text = f"def modify(ds):\n    return {body}\n"
        bench.add("liu", LIU_ID, custom_processing=bench.function("modify", text, module=f"m{number}"))
        try:
            bench.make("liu")
        except Scs2CubesError as error:
            assert "modify" in str(error)  # noqa: PT017  (some of them are fine: a transposed dataset is)
