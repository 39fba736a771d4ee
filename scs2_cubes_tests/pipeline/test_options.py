"""Options of a dataset, from the configuration file to pixels: methods, fills, chunks, boxes, zeros, statistics."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
import zarr
from pyproj import Transformer

from scs2_cubes.errors import ConfigurationError, PlanError
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.processing import archive as stores
from scs2_cubes_tests.processing.archive import (
    BBOX,
    EFDA,
    EFDA_ID,
    GAMI,
    GAMI_ID,
    GENUS,
    GENUS_ID,
    GRID,
    LAEA,
    LIU,
    LIU_ID,
    OUTSIDE,
    SHAPE,
)
from scs2_cubes_tests.processing.workbench import Workbench

Array = npt.NDArray[Any]
Rule = Callable[[float, float], float | None]

#: 90 m, on a lattice that no source's is a part of: three source pixels of 30 m in either direction, cut at all edges.
COARSE_BBOX = (3_432_010, 2_450_020, 3_432_910, 2_450_740)
COARSE: oracles.Raster = (LAEA, 3_432_010.0, 2_450_740.0, 90.0, -90.0)
COARSE_SHAPE = (8, 10)
FOOTPRINT = (3.0, 3.0)
UNKNOWN_ID = "x/UNKNOWN/UNKNOWN_v1/UNKNOWN_v1.json"


def oracle(source: oracles.Raster, rule: Rule, target: oracles.Raster = GRID, shape: tuple[int, int] = SHAPE) -> Array:
    """``rule`` of (u, v) at each target pixel; NaN for None."""
    u, v = oracles.source_index(source, target, range(shape[0]), range(shape[1]))
    values = np.full(shape, np.nan)
    for place in np.ndindex(*shape):
        number = rule(float(u[place]), float(v[place]))
        values[place] = np.nan if number is None else number
    return values


def _bilinear(values: Array, nodata: float | None) -> Rule:
    return lambda u, v: oracles.bilinear(values, u, v, nodata)


def _summary(rule: Callable[..., float | None], values: Array, nodata: float | None) -> Rule:
    """Of footprints of three by three pixels."""
    return lambda u, v: rule(values, u, v, FOOTPRINT, nodata)


def heights() -> Array:
    return stores.liu_values()["canopy_height"]


@pytest.fixture
def coarse(bench: Workbench) -> Workbench:
    bench.add_region("coarse", COARSE_BBOX, spatial_res=90)
    return bench


# Methods.


def test_default_methods(bench: Workbench) -> None:
    bench.add("liu", LIU_ID)
    cube = bench.make("liu")
    for name, values in stores.liu_values().items():
        expected = oracle(LIU, _bilinear(values, 0))
        assert 0 < np.isnan(expected).mean() < 0.5
        np.testing.assert_allclose(cube[name], expected, rtol=1e-6)
        assert cube[name].attrs["resampling"].startswith("bilinear")


@pytest.mark.parametrize("given", ["nearest", 0, {"canopy_height": "nearest"}])
def test_nearest_for_a_quantity(bench: Workbench, given: Any) -> None:
    bench.add("liu", LIU_ID, spatial_resample_params={"interp_methods": given})
    bench.add("plain", LIU_ID)
    cube, plain = bench.make("liu"), bench.make("plain")
    expected = oracle(LIU, lambda u, v: oracles.nearest(heights(), u, v, 0))
    np.testing.assert_array_equal(cube["canopy_height"], expected.astype(np.float32))
    assert cube["canopy_height"].attrs["resampling"].startswith("nearest")
    others = isinstance(given, dict)
    assert np.array_equal(cube["canopy_cover"], plain["canopy_cover"], equal_nan=True) == others


SUMMARIES: Mapping[str, Callable[..., float | None]] = {
    "mean": oracles.mean,
    "mode": oracles.majority,
    "center": lambda source, u, v, _size, nodata: oracles.nearest(source, u, v, nodata),
    **{
        name: partial(oracles.summary, name)
        for name in ("min", "max", "median", "sum", "std", "var", "count", "prod", "first", "last")
    },
}


@pytest.mark.parametrize("method", list(SUMMARIES))
def test_aggregation(coarse: Workbench, method: str) -> None:
    """Of bytes, so that ``mode`` has whole numbers; the other variables keep the mean."""
    params = {"agg_methods": {"canopy_cover": method}}
    coarse.add("liu", LIU_ID, region="coarse", spatial_resample_params=params)
    cube = coarse.make("liu")
    values = stores.liu_values()
    rule = SUMMARIES[method]
    # A product of nine numbers of up to 84 needs numbers that float32 can hold.
    expected = oracle(LIU, _summary(rule, values["canopy_cover"], 0), COARSE, COARSE_SHAPE)
    np.testing.assert_allclose(cube["canopy_cover"], expected, rtol=2e-5, atol=1e-4)
    assert np.isfinite(expected).any()
    means = oracle(LIU, _summary(oracles.mean, heights(), 0), COARSE, COARSE_SHAPE)
    np.testing.assert_allclose(cube["canopy_height"], means, rtol=1e-5)
    assert cube["canopy_cover"].attrs["resampling_direction"] == "coarsening"


def test_methods_differ_on_these_pixels(coarse: Workbench) -> None:
    """Or the comparison above would say little."""
    layers = {}
    for method in ("mean", "min", "max", "median", "mode", "center", "first", "last"):
        coarse.add("liu", LIU_ID, region="coarse", spatial_resample_params={"agg_methods": method})
        coarse.data["data_stores"][0]["store_params"]["root"] = str(coarse.folder / method)
        layers[method] = coarse.plan("liu").plan.layers[0].method
    assert len(set(layers.values())) == len(layers)


def test_one_method_for_each_variable(coarse: Workbench) -> None:
    params = {"agg_methods": {"canopy_height": "max", "aboveground_biomass": "min"}, "interp_methods": "nearest"}
    coarse.add("liu", LIU_ID, region="coarse", spatial_resample_params=params)
    cube = coarse.make("liu")
    values = stores.liu_values()
    for name, method in (("canopy_height", "max"), ("aboveground_biomass", "min"), ("canopy_cover", "mean")):
        rule = SUMMARIES[method]
        expected = oracle(LIU, _summary(rule, values[name], 0), COARSE, COARSE_SHAPE)
        np.testing.assert_allclose(cube[name], expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["mode", "center", "first", "last"])
def test_classes_may_be_picked(bench: Workbench, method: str) -> None:
    """From 10 to 30 m."""
    bench.add("genus", GENUS_ID, spatial_resample_params={"agg_methods": method})
    cube = bench.make("genus")
    codes = stores.genus_values()
    rule = SUMMARIES[method]
    expected = oracle(GENUS, _summary(rule, codes, 255))
    np.testing.assert_array_equal(cube["genus"], np.where(np.isnan(expected), 255, expected))
    assert cube["genus"].dtype == np.uint8
    assert (cube["genus"] == 255).any()


# Fills, variables.


def test_fills(bench: Workbench) -> None:
    bench.add("plain", LIU_ID)
    bench.add("liu", LIU_ID, spatial_resample_params={"fill_values": {"canopy_height": -1}})
    bench.add("genus", GENUS_ID, spatial_resample_params={"fill_values": 254})
    bench.add("plain_genus", GENUS_ID)
    plain, cube = bench.make("plain"), bench.make("liu")
    np.testing.assert_array_equal(cube["canopy_height"], plain["canopy_height"].fillna(-1))
    np.testing.assert_array_equal(cube["canopy_cover"], plain["canopy_cover"])
    assert (cube["canopy_height"] == -1).any()
    codes, others = bench.make("genus")["genus"], bench.make("plain_genus")["genus"]
    np.testing.assert_array_equal(codes, np.where(others == 255, 254, others))
    # As everybody reads it.
    with xr.open_zarr(bench.root / "liu.zarr", chunks=None) as decoded:
        np.testing.assert_array_equal(decoded["canopy_height"], plain["canopy_height"])


def test_chunks_that_arent_there_read_as_the_fill(bench: Workbench) -> None:
    bench.add_region("nowhere", (3_432_315, 2_450_300, 3_432_315 + 300, 2_450_300 + 240))
    options = {"open_params": {"bbox": [3_432_315, 2_450_300, 3_432_400, 2_450_400]}}
    bench.add("efda", EFDA_ID, region="nowhere", **options, spatial_resample_params={"fill_values": 200})
    agents = bench.make("efda")["disturbance_agent"]
    assert (agents == 200).mean() > 0.5
    assert agents.attrs["_FillValue"] == 200


def test_selected_variables(bench: Workbench) -> None:
    bench.add("liu", LIU_ID, spatial_resample_params={"variables": ["canopy_cover", "canopy_height"]})
    bench.add("one", LIU_ID, open_params={"variable_names": "canopy_cover"})
    bench.add("plain", LIU_ID)
    plain = bench.make("plain")
    cube = bench.make("liu")
    assert set(cube.data_vars) == {"canopy_cover", "canopy_height"}
    np.testing.assert_array_equal(cube["canopy_height"], plain["canopy_height"])
    assert list(bench.make("one").data_vars) == ["canopy_cover"]


# Class maps can't be blended.


@pytest.mark.parametrize("params", [{"interp_methods": "bilinear"}, {"agg_methods": {"genus": "mean"}}])
def test_blending_a_known_class_map_is_refused_when_loading(bench: Workbench, params: dict[str, Any]) -> None:
    bench.add("genus", GENUS_ID, spatial_resample_params=params)
    with pytest.raises(ConfigurationError, match="class codes, which must not be blended"):
        bench.case()


@pytest.mark.parametrize("params", [{"interp_methods": "bilinear"}, {"agg_methods": {"cover": "mean"}}])
def test_blending_an_unknown_class_map_is_refused_when_planning(bench: Workbench, params: dict[str, Any]) -> None:
    """In either direction, whatever this region's pixels need."""
    unknown = _unknown(bench, cover=(np.arange(9, dtype=np.uint8).repeat(400).reshape(60, 60), {}))
    unknown.add("u", UNKNOWN_ID, spatial_resample_params=params)
    with pytest.raises(PlanError, match=r"variable 'cover': .* numbers of class codes"):
        unknown.plan("u")


# Chunks.


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_smaller_than_a_tile(bench: Workbench, zarr_format: int) -> None:
    bench.add("plain", EFDA_ID, zarr_format=zarr_format)
    bench.add("efda", EFDA_ID, zarr_format=zarr_format, chunksize={"y": 8, "x": 4, "time": 1})
    plain, cube = bench.make("plain"), bench.make("efda")
    np.testing.assert_array_equal(cube["disturbance_agent"], plain["disturbance_agent"])
    array: Any = zarr.open_group(bench.root / "efda.zarr", mode="r")["disturbance_agent"]
    assert array.chunks == (1, 8, 4)
    whole: Any = zarr.open_group(bench.root / "plain.zarr", mode="r")["disturbance_agent"]
    assert whole.chunks == (1, 16, 16)
    records = bench.records("efda")
    assert {key: record.valid for key, record in records.items()} == {
        key: record.valid for key, record in bench.records("plain").items()
    }


def test_chunks_without_a_value_arent_stored(bench: Workbench) -> None:
    bench.add("efda", EFDA_ID, chunksize={"y": 2, "x": 2})
    agents = bench.make("efda")["disturbance_agent"].to_numpy()
    stored = {path.name for path in (bench.root / "efda.zarr/disturbance_agent").glob("[0-9]*")}
    blocks = agents.reshape(len(agents), 16, 2, 20, 2)
    holding = {f"{t}.{y}.{x}" for t, y, x in np.argwhere((blocks != 255).any(axis=(2, 4)))}
    assert stored == holding
    assert 0 < len(stored) < blocks.shape[0] * 16 * 20


def test_rows_then_columns(bench: Workbench) -> None:
    bench.add("liu", LIU_ID, chunksize={"lat": 4})
    bench.make("liu")
    array: Any = zarr.open_group(bench.root / "liu.zarr", mode="r")["canopy_height"]
    assert array.chunks == (4, 16)


# Boxes.

#: Within the region: 300 m to all sides.
BOX = (3_432_300, 2_450_300, 3_432_900, 2_450_660)


def _inside(raster: oracles.Raster, box: tuple[float, float, float, float]) -> Array:
    """Whether the source pixel under each target centre has its own centre in the box."""
    u, v = oracles.source_index(raster, GRID, range(SHAPE[0]), range(SHAPE[1]))
    x = raster[1] + (np.floor(u) + 0.5) * raster[3]
    y = raster[2] + (np.floor(v) + 0.5) * raster[4]
    inside: Array = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    return inside


def test_box_in_the_sources_crs(bench: Workbench) -> None:
    bench.add("plain", EFDA_ID)
    bench.add("efda", EFDA_ID, open_params={"bbox": list(BOX)})
    plain, cube = bench.make("plain")["disturbance_agent"], bench.make("efda")["disturbance_agent"]
    inside = _inside(EFDA, BOX)
    assert 0.1 < inside.mean() < 0.5
    np.testing.assert_array_equal(cube, np.where(inside, plain, 255))


def test_box_of_a_quantity(bench: Workbench) -> None:
    """At the rim, one of two neighbours isn't there to be interpolated with."""
    bench.add("plain", LIU_ID)
    bench.add("liu", LIU_ID, open_params={"bbox": list(BOX)})
    plain, cube = bench.make("plain")["canopy_height"], bench.make("liu")["canopy_height"]
    inside = _inside(LIU, BOX)
    west, south, east, north = BOX
    deep = _inside(LIU, (west + 30, south + 30, east - 30, north - 30))
    assert deep.sum() > 100
    np.testing.assert_array_equal(cube.where(deep), plain.where(deep))
    assert np.isnan(cube.to_numpy()[~inside]).all()
    np.testing.assert_array_equal(np.isnan(cube.to_numpy()[inside]), np.isnan(plain.to_numpy()[inside]))


def test_box_in_another_crs(bench: Workbench) -> None:
    to_degrees = Transformer.from_crs(LAEA, "EPSG:4326", always_xy=True)
    box = to_degrees.transform_bounds(*BOX)
    bench.add("efda", EFDA_ID, open_params={"bbox": list(box), "crs": "EPSG:4326"})
    bench.add("metres", EFDA_ID, open_params={"bbox": list(BOX), "crs": LAEA})
    bench.add("own", EFDA_ID, open_params={"bbox": list(BOX)})
    # The box around the box.
    back = Transformer.from_crs("EPSG:4326", LAEA, always_xy=True).transform_bounds(*box)
    assert back[0] < BOX[0]
    assert back[3] > BOX[3]
    bench.add("plain", EFDA_ID)
    plain = bench.make("plain")["disturbance_agent"]
    np.testing.assert_array_equal(bench.make("efda")["disturbance_agent"], np.where(_inside(EFDA, back), plain, 255))
    np.testing.assert_array_equal(bench.make("metres")["disturbance_agent"], bench.make("own")["disturbance_agent"])


def test_box_and_a_function(bench: Workbench) -> None:
    """It sees nothing beyond."""
    text = "def modify(ds):\n    if (ds.x > 3_432_900).any():\n        raise ValueError('beyond')\n    return ds\n"
    section = bench.function("modify", text)
    bench.add("liu", LIU_ID, open_params={"bbox": list(BOX)}, custom_processing=section)
    bench.add("plain", LIU_ID, open_params={"bbox": list(BOX)})
    np.testing.assert_array_equal(bench.make("liu")["canopy_height"], bench.make("plain")["canopy_height"])


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"bbox": [0, 0, 10, 10]}, "lies outside the source"),
        ({"bbox": [3_432_300, 2_450_300, 3_432_301, 2_450_301]}, "lies outside"),  # between two centres
        ({"bbox": list(BOX), "crs": "EPSG:4326"}, "can't be transformed from EPSG:4326 to EPSG:3035"),
        ({"bbox": [3_433_300, 2_450_300, 3_433_600, 2_450_600]}, "or outside open_params.bbox"),
    ],
)
def test_boxes_without_a_pixel(bench: Workbench, params: dict[str, Any], words: str) -> None:
    bench.add("liu", LIU_ID, open_params=params)
    with pytest.raises(PlanError, match=words):
        bench.plan("liu")


# Zeros.


def test_zeros_that_are_values(bench: Workbench) -> None:
    bench.add("liu", LIU_ID, zero={"canopy_height": "value"}, spatial_resample_params={"interp_methods": "nearest"})
    cube = bench.make("liu")
    expected = oracle(LIU, lambda u, v: oracles.nearest(heights(), u, v, None))
    np.testing.assert_array_equal(cube["canopy_height"], expected.astype(np.float32))
    assert (cube["canopy_height"] == 0).any()
    assert np.isnan(cube["canopy_cover"].to_numpy()[expected == 0]).all()


def test_zeros_of_chunks_that_arent_stored(bench: Workbench, archive: Path) -> None:
    """By Zarr's definition they read as zero, which is a value here."""
    folder = archive / "absent"
    if not folder.exists():
        dataset = stores.liu()
        dataset["canopy_height"][...] = 0
        stores.write_store(folder, LIU_ID, dataset, {"canopy_height": (32, 32)})
    assert not list((folder / "stores").glob("*.zarr/canopy_height/[0-9]*"))
    other = Workbench.of_archive(bench.folder, folder)
    other.add("liu", LIU_ID, zero={"canopy_height": "value"}, open_params={"variable_names": "canopy_height"})
    assert (other.make("liu")["canopy_height"] == 0).all()
    other.add("nodata", LIU_ID, open_params={"variable_names": "canopy_height"})
    assert np.isnan(other.make("nodata")["canopy_height"]).all()


def test_other_nodata_isnt_turned_into_a_value(bench: Workbench) -> None:
    bench.add("efda", EFDA_ID, zero={"disturbance_agent": "value"})
    bench.add("plain", EFDA_ID)
    np.testing.assert_array_equal(bench.make("efda")["disturbance_agent"], bench.make("plain")["disturbance_agent"])


# GAMI on request.

STATISTICS: Mapping[str, Callable[..., Any]] = {
    "forest_age": np.nanmean,
    "forest_age_median": np.nanmedian,
    "forest_age_std": np.nanstd,
    "forest_age_q05": partial(np.nanquantile, q=0.05),
    "forest_age_q25": partial(np.nanquantile, q=0.25),
    "forest_age_q90": partial(np.nanquantile, q=0.9),
}


def _aggregated(name: str, step: int) -> Array:
    ages = stores.gami()["forest_age"].to_numpy()[..., step].astype(np.float64)
    ages[ages == OUTSIDE] = np.nan
    with warnings.catch_warnings():
        # Of pixels without any member.
        warnings.simplefilter("ignore", RuntimeWarning)
        aggregated: Array = STATISTICS[name](ages, axis=0)
    return aggregated


def test_statistics_of_all_years(bench: Workbench) -> None:
    asked = ["mean", "median", "std", "q05", "q25", "q90"]
    bench.add(
        "gami", GAMI_ID, statistics={"forest_age": asked}, open_params={"time_range": ["2010-01-01", "2020-12-31"]}
    )
    cube = bench.make("gami")
    assert set(cube.data_vars) == set(STATISTICS)
    assert [str(time)[:10] for time in cube["time"].to_numpy()] == ["2010-01-01", "2020-01-01"]
    for name in STATISTICS:
        assert cube[name].dims == ("time", "y", "x")
        assert cube[name].dtype == np.float32
        for step in range(2):
            native = _aggregated(name, step)
            expected = oracle(GAMI, _bilinear(native, None))
            assert 0.02 < np.isnan(expected).mean() < 0.5
            # Pixels may be located 0.001 of a pixel off, in a field that changes by up to some 30 years in one.
            np.testing.assert_allclose(cube[name][step], expected, atol=0.03)
    assert cube["forest_age_std"].attrs["cell_methods"] == "members: standard_deviation"
    assert cube["forest_age"].attrs["cell_methods"] == "members: mean"
    assert "valid_max" not in cube["forest_age_std"].attrs


def test_by_default_the_mean_of_the_last_year(bench: Workbench) -> None:
    bench.add("gami", GAMI_ID)
    bench.add("asked", GAMI_ID, statistics={"forest_age": ["std", "mean"]})
    cube, asked = bench.make("gami"), bench.make("asked")
    assert list(cube.data_vars) == ["forest_age"]
    assert str(cube["time"].to_numpy())[:10] == "2020-01-01"
    native = _aggregated("forest_age", 1)
    np.testing.assert_allclose(cube["forest_age"], oracle(GAMI, _bilinear(native, None)), atol=0.03)
    assert set(asked.data_vars) == {"forest_age_std", "forest_age"}
    np.testing.assert_array_equal(asked["forest_age"], cube["forest_age"])


def test_statistics_of_something_else(bench: Workbench) -> None:
    bench.add("liu", LIU_ID, statistics={"canopy_height": "std"})
    with pytest.raises(ConfigurationError, match="only an ensemble has members"):
        bench.case()


# Unknown products.


def _unknown(bench: Workbench, **variables: tuple[Array, dict[str, Any]]) -> Workbench:
    """A store of which nobody knows anything, on EFDA's lattice; 60 x 60 pixels."""
    y, x = stores.centres(EFDA, (60, 60))
    dims = {2: ("y", "x"), 3: ("band", "y", "x")}
    dataset = xr.Dataset(
        {name: (dims[values.ndim], values, attrs) for name, (values, attrs) in variables.items()},
        coords={"y": y, "x": x, "spatial_ref": stores.grid_mapping(EFDA)},
    )
    folder = bench.folder / "unknown"
    stores.write_store(folder, UNKNOWN_ID, dataset)
    return Workbench.of_archive(bench.folder, folder)


def _codes(dtype: str, count: int = 5) -> Array:
    rng = np.random.default_rng(3)
    values: Array = rng.integers(0, count, (60, 60)).astype(dtype)
    return values


FLAGS = {"flag_values": [0, 1, 2, 3, 4], "flag_meanings": "a b c d e"}


@pytest.mark.parametrize(
    ("dtype", "attrs", "stored", "fill", "sign"),
    [
        ("uint8", FLAGS, "uint8", 255, "flag_values"),
        ("int16", FLAGS | {"_FillValue": 4}, "int16", 4, "flag_values"),
        ("float32", FLAGS | {"_FillValue": np.nan}, "uint8", 255, "flag_values"),
        ("float32", FLAGS | {"_FillValue": -9999.0}, "uint8", 255, "flag_values"),
        ("float64", FLAGS | {"units": "1"}, "uint8", 255, "flag_values"),
        ("float32", {"flag_values": "0, 1, 2, 3, 4"}, "uint8", 255, "flag_values"),
        ("float32", {"flag_values": [-1, 0, 300]}, "int32", 2147483647, "flag_values"),
        ("uint8", {}, "uint8", 255, "an integer dtype without units"),
        ("int32", {"_FillValue": -1}, "int32", -1, "an integer dtype without units"),
    ],
)
def test_taken_for_classes(
    bench: Workbench, dtype: str, attrs: dict[str, Any], stored: str, fill: float, sign: str
) -> None:
    values = _codes(dtype)
    if dtype.startswith("float"):
        values[10:20, 12:30] = attrs.get("_FillValue", np.nan)
    unknown = _unknown(bench, cover=(values, attrs))
    unknown.add("u", UNKNOWN_ID)
    cube = unknown.make("u")
    assert cube["cover"].dtype == stored
    assert cube["cover"].attrs["kind"] == "categorical"
    assert cube["cover"].attrs["assumed"] == f"no product description; taken for class codes, from {sign}"
    expected = oracle(EFDA, lambda u, v: oracles.nearest(values, u, v, attrs.get("_FillValue")))
    np.testing.assert_array_equal(cube["cover"], np.where(np.isnan(expected), fill, expected))
    assert (cube["cover"] != fill).any()
    assert dtype.startswith("u") or "_FillValue" not in attrs or dtype == "int32" or (cube["cover"] == fill).any()


@pytest.mark.parametrize(
    ("dtype", "attrs", "sign"),
    [
        ("float32", {}, "a floating-point dtype"),
        ("float64", {"_FillValue": 3.0}, "a floating-point dtype"),
        ("int16", {"units": "Mg ha-1", "_FillValue": 2}, "units"),
        ("uint8", {"units": "percent", "scale_factor": 1.0, "add_offset": 0.0}, "units"),
    ],
)
def test_taken_for_quantities(bench: Workbench, dtype: str, attrs: dict[str, Any], sign: str) -> None:
    values = _codes(dtype, 9)
    unknown = _unknown(bench, amount=(values, attrs))
    unknown.add("u", UNKNOWN_ID)
    cube = unknown.make("u")
    assert cube["amount"].dtype == np.float32
    assert cube["amount"].attrs["kind"] == "continuous"
    assert cube["amount"].attrs["assumed"] == f"no product description; taken for a continuous quantity, from {sign}"
    expected = oracle(EFDA, _bilinear(values, attrs.get("_FillValue")))
    np.testing.assert_allclose(cube["amount"], expected, rtol=1e-5, atol=1e-5)


def test_known_products_arent_assumed(bench: Workbench) -> None:
    for identifier, data_id in (("liu", LIU_ID), ("genus", GENUS_ID)):
        bench.add(identifier, data_id)
        assert all("assumed" not in layer.attrs for layer in bench.plan(identifier).plan.schema.layers)


@pytest.mark.parametrize(
    ("values", "attrs", "words"),
    [
        (np.zeros((3, 60, 60)), {}, "has the dimensions band, y, x; beside time and space none can be understood"),
        (_codes("int16"), {"scale_factor": 0.1, "units": "m"}, "is packed"),
        # Numbers that are packed are no codes, though nobody says their units.
        (_codes("int16"), {"scale_factor": 0.1}, "is packed"),
        (_codes("int16"), {"add_offset": 5.0}, "is packed"),
        (_codes("float32"), {"flag_values": "wood meadow"}, "flag_values 'wood meadow' aren't numbers"),
    ],
)
def test_what_cant_be_understood(bench: Workbench, values: Array, attrs: dict[str, Any], words: str) -> None:
    unknown = _unknown(bench, amount=(values, attrs))
    unknown.add("u", UNKNOWN_ID)
    with pytest.raises(PlanError, match=words):
        unknown.plan("u")


def test_what_nobody_asks_for_needs_no_understanding(bench: Workbench) -> None:
    packed, flat = _codes("int16"), _codes("float32")
    unknown = _unknown(
        bench, packed=(packed, {"scale_factor": 0.1}), bands=(np.zeros((3, 60, 60)), {}), flat=(flat, {})
    )
    unknown.add("u", UNKNOWN_ID, open_params={"variable_names": ["flat"]})
    assert list(unknown.make("u").data_vars) == ["flat"]


@pytest.mark.parametrize("fill", [float("nan"), 0.5, 256, -1])
def test_fills_that_dont_fit_an_unknown_class_map(bench: Workbench, fill: float) -> None:
    unknown = _unknown(bench, cover=(_codes("uint8"), {}))
    unknown.add("u", UNKNOWN_ID, spatial_resample_params={"fill_values": fill})
    with pytest.raises(PlanError, match=r"fill_values: .* doesn't fit uint8 of 'cover'"):
        unknown.plan("u")


def test_a_function_makes_a_layer_of_more_dimensions(bench: Workbench) -> None:
    """As the refusal says."""
    values = np.stack([_codes("float32") + band for band in range(3)])
    unknown = _unknown(bench, amount=(values, {}))
    section = unknown.function("mean", "def mean(ds):\n    return ds.mean('band')\n")
    unknown.add("u", UNKNOWN_ID, custom_processing=section)
    cube = unknown.make("u")
    expected = oracle(EFDA, _bilinear(values.mean(axis=0), None))
    np.testing.assert_allclose(cube["amount"], expected, rtol=1e-5)
    assert BBOX[0] < float(cube["x"][0])
