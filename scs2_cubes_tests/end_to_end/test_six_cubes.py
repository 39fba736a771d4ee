"""The demonstration's six cubes against oracles that know nothing of ``scs2_cubes``: pyproj, numpy, and the sources.

What the sources hold is read with xarray from the embedded server, or ordered from it by another client. Expected
pixels follow the rules for each kind of variable from their definitions, vectorised over the whole region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
import yaml
from pyproj import CRS, Transformer

from scs2_cubes.api import open_cube
from scs2_cubes.core.checks import CHECKS
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.forest_type import CODES, FILE, delivered, majority, orders
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, in_process

Array = npt.NDArray[Any]

#: The region as ``configs/demo.yml`` has it: lower-left corner, and its size in pixels of 30 m, rounded up.
WEST, SOUTH, NX, NY = 3_425_404.0, 2_440_817.0, 700, 640
X = WEST + 15 + 30 * np.arange(NX)
Y = SOUTH + 30 * NY - 15 - 30 * np.arange(NY)
STORES = "dog.atlaseo-glm.eo-gridded-data/collections"
ORIGIN = "https://s3.gfz-potsdam.de"
#: Geolocation may be off by this part of a source pixel.
SLACK = 1e-3


@dataclass(frozen=True)
class Demonstration:
    """Finished cubes, and the server that they were made from."""

    root: Path
    server: DemoServer

    def cube(self, name: str) -> xr.Dataset:
        """As our own ``open_cube`` shows it, in memory."""
        with open_cube(CHECKOUT / "configs/demo.yml", name) as cube:
            return cube.load()

    def stored(self, name: str) -> xr.Dataset:
        """As anybody opens it who keeps stored numbers."""
        (path,) = self.root.glob(f"**/{name}.zarr")
        with xr.open_zarr(path, chunks=None, mask_and_scale=False, consolidated=True) as cube:
            loaded: xr.Dataset = cube.load()
            return loaded

    def source(self, store: str) -> xr.Dataset:
        """Stored numbers of the source, lazily."""
        url = f"{self.server.url}/{STORES}/{store}"
        dataset: xr.Dataset = xr.open_zarr(url, chunks=None, mask_and_scale=False)
        return dataset


@pytest.fixture(scope="module")
def demonstration(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    folder = tmp_path_factory.mktemp("six")
    with DemoServer(catalogue=catalogue) as server, pytest.MonkeyPatch.context() as patch:
        server.clms.write_credentials(folder / "key.json")
        patch.setenv("SCS2_DEMO_URL", server.url)
        patch.setenv("SCS2_DEMO_CLMS_CREDENTIALS", str(folder / "key.json"))
        patch.setenv("SCS2_DEMO_ROOT", str(folder / "cubes"))
        path = str(CHECKOUT / "configs/demo.yml")
        ended = in_process("run", "--config", path, home=folder / "history")
        assert ended.code == 0, ended.out + ended.err
        yield Demonstration(folder / "cubes", server)


@dataclass(frozen=True)
class Window:
    """A part of a source: stored numbers, and where target pixels lie on it."""

    values: xr.Dataset
    u: Array
    """Fractional columns of the target's centres, from the window's first; (1 or row, column)."""
    v: Array
    """Fractional rows."""


def _window(source: xr.Dataset, axes: tuple[str, str], x: Array, y: Array, steps: Any = None) -> Window:
    """The pixels around target centres ``x``, ``y``, which are in the source's CRS."""
    (first_y, dy), (first_x, dx) = ((float(source[axis][0]), _step(source[axis])) for axis in axes)
    u, v = (x - (first_x - dx / 2)) / dx, (y - (first_y - dy / 2)) / dy
    col, row = int(u.min()) - 3, int(v.min()) - 3
    where = {axes[0]: slice(row, int(v.max()) + 4), axes[1]: slice(col, int(u.max()) + 4)}
    part = source.isel(where | ({} if steps is None else {"time": steps}))
    return Window(part.load(), u - col, v - row)


def _step(axis: xr.DataArray) -> float:
    return (float(axis[-1]) - float(axis[0])) / (axis.size - 1)


def _projected(source: xr.Dataset, steps: Any = None) -> Window:
    """Of a source in the target's own CRS."""
    return _window(source, ("y", "x"), X[np.newaxis, :], Y[:, np.newaxis], steps)


def _nearest(values: Array, u: Array, v: Array) -> Array:
    found: Array = values[np.floor(v).astype(int), np.floor(u).astype(int)]
    return found


def _bilinear(values: Array, u: Array, v: Array) -> Array:
    """NaN-aware: valid where the pixel under the centre is, weights renormalised over the valid ones of four."""
    col, row = np.floor(u - 0.5).astype(int), np.floor(v - 0.5).astype(int)
    across, down = u - 0.5 - col, v - 0.5 - row
    total, weights = np.zeros(np.broadcast(u, v).shape), np.zeros(np.broadcast(u, v).shape)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (down if i else 1 - down) * (across if j else 1 - across)
        number = values[row + i, col + j]
        valid = ~np.isnan(number)
        total += np.where(valid, weight * np.where(valid, number, 0), 0)
        weights += np.where(valid, weight, 0)
    valid = ~np.isnan(_nearest(values, u, v))
    return np.where(valid, total / np.where(valid, weights, 1), np.nan)


def _shares(position: Array) -> tuple[Array, Array]:
    """(first source pixel, what each of four takes of a footprint of three) along one axis; the same everywhere."""
    first = np.floor(position - 1.5).astype(int)
    low = (position - 1.5)[..., np.newaxis]
    pixel = first[..., np.newaxis] + np.arange(4)
    shares = np.clip(np.minimum(pixel + 1, low + 3) - np.maximum(pixel, low), 0, 1)
    assert np.ptp(shares.reshape(-1, 4), axis=0).max() < 1e-6
    return first, shares.reshape(-1, 4)[0]


def _majority(codes: Array, u: Array, v: Array, nodata: int) -> Array:
    """Of 3 x 3 source pixels by area; ties go to the code under the centre, then to the smallest."""
    (col, across), (row, down) = _shares(u[0]), _shares(v[:, 0])
    votes = np.zeros((256, len(row), len(col)), dtype=np.float32)
    for i, j in np.ndindex(4, 4):
        block = codes[np.ix_(row + i, col + j)]
        for code in np.unique(block):
            votes[code] += (block == code) * np.float32(down[i] * across[j])
    missing = votes[nodata].copy()
    votes[nodata] = -1
    tied = votes > votes.max(axis=0) - 1e-4
    centre = _nearest(codes, u, v)
    winner = np.where(np.take_along_axis(tied, centre[np.newaxis].astype(int), axis=0)[0], centre, tied.argmax(axis=0))
    return np.where((missing > 4.5 + 1e-4) | (votes.max(axis=0) <= 0), nodata, winner)


# Pixels.


def test_forest_age(demonstration: Demonstration) -> None:
    source = demonstration.source("GAMI/GAMI_v3.1.zarr")
    longitude, latitude = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(*np.meshgrid(X, Y))
    window = _window(source, ("latitude", "longitude"), longitude, latitude, steps=-1)
    ages = window.values["forest_age"].transpose("members", "latitude", "longitude").to_numpy().astype(float)
    assert len(ages) == 20
    valid = ages != -9999
    count = valid.sum(axis=0)
    mean = np.where(count > 0, np.where(valid, ages, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    expected = _bilinear(mean, window.u, window.v)
    found = demonstration.cube("gami")["forest_age"].to_numpy()
    # Where the centre lies that near to an edge, either pixel may be the one that counts.
    sure = np.abs(window.u - np.round(window.u)) > SLACK
    sure &= np.abs(window.v - np.round(window.v)) > SLACK
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(np.isnan(found)[sure], np.isnan(expected)[sure])
    both = sure & ~np.isnan(expected)
    difference = np.abs(found - expected)[both]
    assert both.sum() > 200_000
    # A field that changes by up to some 60 years from pixel to pixel, located 0.001 of a pixel off.
    assert difference.max() < 60 * 2 * SLACK
    assert np.median(difference) < 60 * SLACK / 20


def test_genus(demonstration: Demonstration) -> None:
    window = _projected(demonstration.source("FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1.zarr"))
    codes = window.values["genus"].to_numpy()
    expected = _majority(codes, window.u, window.v, 255)
    found = demonstration.cube("forestpaths_genus")["genus"].to_numpy()
    np.testing.assert_array_equal(found, expected)
    assert set(range(8)) | {255} == set(np.unique(found))


@pytest.mark.parametrize("name", ["aboveground_biomass", "canopy_cover", "canopy_height"])
def test_liu(demonstration: Demonstration, name: str) -> None:
    window = _projected(demonstration.source("LIU_BIOMASS/LIU_BIOMASS_v0.1.zarr"))
    values = window.values[name].to_numpy().astype(float)
    expected = _bilinear(np.where(values == 0, np.nan, values), window.u, window.v)
    found = demonstration.cube("liu")[name].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0.3 < np.isnan(found).mean() < 0.7
    assert not (found == 0).any()


@pytest.mark.parametrize("year", [1985, 2009, 2023])
def test_efda(demonstration: Demonstration, year: int) -> None:
    source = demonstration.source("EFDA/EFDA_v2.1.1.zarr")
    # By the source's own time axis.
    (step,) = np.flatnonzero(source["time"].dt.year == year)
    window = _projected(source, steps=int(step))
    agents = _nearest(window.values["disturbance_agent"].to_numpy(), window.u, window.v)
    expected = np.where(agents == -9999, 255, agents)
    found = demonstration.cube("efda")["disturbance_agent"].sel(time=f"{year}-01-01").to_numpy()
    np.testing.assert_array_equal(found, expected)
    assert {0, 255} < set(np.unique(found))


def test_outside_of_the_forest_is_the_same_every_year(demonstration: Demonstration) -> None:
    outside = demonstration.cube("efda")["disturbance_agent"].to_numpy() == 255
    assert (outside == outside[0]).all()
    assert 0.3 < outside.mean() < 0.7


def test_forest_type(demonstration: Demonstration) -> None:
    assert orders(demonstration.server) == 1
    picture = delivered(demonstration.server)
    cube = demonstration.cube("forest_type_2015")
    assert list(cube.data_vars) == [FILE]
    assert cube[FILE].dims == ("y", "x")
    found = cube[FILE].to_numpy()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, majority(picture, X, Y))
    # Each of them is there, so that each was compared; 254 is a class, not "no value".
    assert {*CODES, 255} == set(np.unique(found))
    # No displacement: the centre's own code is nearly always the majority's, in one place and in no other.
    under = picture.codes[np.ix_(*(np.floor(at / 20).astype(int) for at in (picture.north - Y, X - picture.west)))]
    assert (under == found).mean() > max(
        (np.roll(under, shift, axis) == found).mean() for shift in (-1, 1) for axis in (0, 1)
    )


LEGENDS = {
    "forest_type_2015": (FILE, CODES, "non_forest broadleaved coniferous unclassifiable"),
    "forestpaths_genus": (
        "genus",
        range(8),
        "larix picea pinus fagus quercus other_needleleaf other_broadleaf no_trees",
    ),
    "efda": ("disturbance_agent", range(4), "undisturbed wind_or_bark_beetle fire harvest"),
}


@pytest.mark.parametrize("name", list(LEGENDS))
def test_class_codes_are_legal(demonstration: Demonstration, name: str) -> None:
    variable, codes, meanings = LEGENDS[name]
    layer = demonstration.cube(name)[variable]
    values = layer.to_numpy()
    assert values.dtype == np.uint8
    numbers, counts = np.unique(values, return_counts=True)
    assert set(numbers) <= {*codes, 255}
    assert layer.attrs["flag_values"] == list(codes)
    assert layer.attrs["flag_meanings"] == meanings
    told = ", ".join(f"{number}: {count}" for number, count in zip(numbers, counts, strict=True))
    print(f"{name}: looked at {values.size} pixels ({told})")  # noqa: T201  (asked for: how much "legal" is worth)
    assert counts.sum() == values.size == NX * NY * layer.sizes.get("time", 1)


# What lies around the pixels.

#: Cube → its variables (dtype, fill, units), first and last time stamp (None: no time), steps (None: scalar), STAC item
#: (empty: none), licence.
FLOAT = ("float32", np.nan)
CUBES: dict[str, tuple[dict[str, tuple[str, float, str | None]], str | None, str | None, int | None, str, str]] = {
    "forest_type_2015": ({FILE: ("uint8", 255, None)}, None, None, None, "", "see references"),
    "gami": ({"forest_age": (*FLOAT, "years")}, "2020-01-01", "2020-01-01", None, "GAMI_v3.1", "various"),
    "forestpaths_genus": (
        {"genus": ("uint8", 255, None)},
        "2020-01-01",
        "2020-01-01",
        None,
        "FORESTPATHS_GENUS_v0.0.1",
        "see references",
    ),
    "liu": (
        {
            "aboveground_biomass": (*FLOAT, "kg"),
            "canopy_cover": (*FLOAT, "percent"),
            "canopy_height": (*FLOAT, "m"),
        },
        "2019-01-01",
        "2019-01-01",
        None,
        "LIU_BIOMASS_v0.1",
        "Planet licence, non-commercial use only",
    ),
    "esa_cci_biomass": (
        {"agb": (*FLOAT, "Mg ha-1"), "agb_sd": (*FLOAT, "Mg ha-1")},
        "2007-07-02T11:59:59",
        "2022-07-02T11:59:59",
        10,
        "",
        "see references",
    ),
    "efda": (
        {"disturbance_agent": ("uint8", 255, None)},
        "1985-01-01",
        "2023-01-01",
        39,
        "EFDA_v2.1.1",
        "see source",
    ),
}


@pytest.mark.parametrize("name", list(CUBES))
def test_variables(demonstration: Demonstration, name: str) -> None:
    variables, *_, steps, _, _ = CUBES[name]
    cube = demonstration.stored(name)
    assert set(cube.data_vars) == set(variables)
    for variable, (dtype, fill, units) in variables.items():
        layer = cube[variable]
        assert layer.dims == (("time", "y", "x") if steps else ("y", "x"))
        assert layer.dtype == dtype
        np.testing.assert_equal(float(layer.attrs["_FillValue"]), fill)
        assert layer.encoding["chunks"] == ((1, 256, 256) if steps else (256, 256))
        assert layer.encoding.get("grid_mapping", layer.attrs.get("grid_mapping")) == "spatial_ref"
        assert layer.attrs.get("units") == units
        assert layer.attrs["long_name"]
        assert "scale_factor" not in {*layer.attrs, *layer.encoding}
        assert "assumed" not in layer.attrs


@pytest.mark.parametrize("name", list(CUBES))
def test_coordinates(demonstration: Demonstration, name: str) -> None:
    _, first, last, steps, _, _ = CUBES[name]
    cube = demonstration.stored(name)
    np.testing.assert_array_equal(cube["x"], X)
    np.testing.assert_array_equal(cube["y"], Y)
    assert cube["spatial_ref"].dtype.kind == "i"
    assert int(cube["spatial_ref"]) == 0
    assert CRS.from_wkt(cube["spatial_ref"].attrs["crs_wkt"]) == CRS.from_epsg(3035)
    if first is None or last is None:
        assert set(cube.coords) == {"x", "y", "spatial_ref"}
        return
    times = np.atleast_1d(cube["time"].to_numpy())
    ends = [moment if "T" in moment else f"{moment}T00:00:00" for moment in (first, last)]
    assert [str(times[0])[:19], str(times[-1])[:19]] == ends
    assert cube["time"].shape == ((steps,) if steps else ())
    years = [2007, 2010, *range(2015, 2023)] if name == "esa_cci_biomass" else range(int(first[:4]), int(last[:4]) + 1)
    assert [str(time)[:4] for time in times] == [str(year) for year in years]


@pytest.mark.parametrize("name", CUBES)
def test_every_cube_says_that_its_data_are_synthetic(demonstration: Demonstration, name: str) -> None:
    assert "synthetic data" in demonstration.stored(name).attrs["institution"]


@pytest.mark.parametrize("name", [name for name, (*_, item, _) in CUBES.items() if item])
def test_attributes(demonstration: Demonstration, name: str) -> None:
    *_, item, licence = CUBES[name]
    attrs = demonstration.stored(name).attrs
    assert attrs["Conventions"].startswith("CF-")
    assert attrs["title"]
    assert "Synthetic" not in attrs["title"]
    # The archive's own addresses, wherever the bytes came from.
    assert attrs["source"] == f"{ORIGIN}/{STORES}/{item.rpartition('_v')[0]}/{item}.zarr"
    assert attrs["stac_catalog_url"] == f"{ORIGIN}/{STORES}/public/catalog.json"
    assert attrs["stac_item_id"] == item
    assert attrs["license"] == licence
    assert attrs["source_version"]
    assert attrs["scs2_cubes_version"]
    assert attrs["history"].startswith("scs2_cubes ")
    assert demonstration.server.url not in str(attrs)
    # The source's own are kept.
    assert "synthetic data" in attrs["institution"]
    assert ("non_commercial_use_only" in attrs) == (name == "liu")
    assert attrs["references"]


def test_biomass_of_the_portal(demonstration: Demonstration) -> None:
    """Against the portal's own pixels, at targets spread over the region; every one is in ``pipeline``'s test."""
    cube = demonstration.cube("esa_cci_biomass")
    picked = np.random.default_rng(6).integers(0, (NY, NX), (400, 2))
    lon, lat = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(
        X[picked[:, 1]], Y[picked[:, 0]]
    )
    u, v = (lon + 180) * 1125, (80 - lat) * 1125
    rows = np.arange(int(v.min()) - 2, int(v.max()) + 4)
    cols = np.arange(int(u.min()) - 2, int(u.max()) + 4)
    stands = Stands()
    for step, year in ((0, 2007), (4, 2017), (9, 2022)):
        for name, pixels in zip(("agb", "agb_sd"), stands.biomass(rows, cols, year), strict=True):
            source = np.where(pixels == -32768, np.nan, pixels.astype(float))
            expected = _bilinear(source, u - cols[0], v - rows[0])
            made = cube[name].to_numpy()[step][picked[:, 0], picked[:, 1]]
            assert (np.isnan(made) != np.isnan(expected)).mean() < 0.01
            both = ~np.isnan(made) & ~np.isnan(expected)
            assert both.sum() > 100
            # Geolocation may be off by SLACK of a pixel, where neighbours differ by hundreds of Mg/ha at the most.
            assert np.abs(made[both] - expected[both]).max() < 500 * SLACK


def test_attributes_of_what_came_from_the_portal(demonstration: Demonstration) -> None:
    cube = demonstration.stored("esa_cci_biomass")
    assert cube.attrs["Conventions"].startswith("CF-")
    assert cube.attrs["license"] == "see references"
    assert cube.attrs["source_version"]
    assert cube["agb_sd"].attrs["error_model"] == "fully correlated from one source pixel to the next"
    assert "error_model" not in cube["agb"].attrs
    assert not {name for name in cube.attrs if name.startswith(("geospatial_", "time_coverage_"))}


def test_the_portal_was_asked_for_no_window_twice(demonstration: Demonstration) -> None:
    asked = [one.query for one in demonstration.server.requests.entries(".dods") if "agb" in one.query]
    files = [one.path for one in demonstration.server.requests.entries(".dods") if "agb" in one.query]
    # The region fits into one request per year and variable.
    assert len(asked) == 20
    assert len(set(zip(files, asked, strict=True))) == 20


def test_attributes_of_what_was_preloaded(demonstration: Demonstration) -> None:
    attrs = demonstration.stored("forest_type_2015").attrs
    assert attrs["Conventions"].startswith("CF-")
    assert attrs["title"].startswith("Forest type of Europe in 2015")
    assert attrs["source"].startswith(demonstration.server.clms.api_url)
    assert (attrs["license"], attrs["references"]) == (
        "see references",
        "https://land.copernicus.eu/en/products/high-resolution-layer-forest-type",
    )
    assert attrs["source_version"]
    assert attrs["history"].startswith("scs2_cubes ")
    # Of the source's own extent and layout nothing.
    assert not {name for name in attrs if name.startswith(("geospatial_", "time_coverage_"))}
    assert demonstration.root.as_posix() not in str(attrs)


@pytest.mark.parametrize("name", list(CUBES))
def test_every_tile_is_recorded(demonstration: Demonstration, name: str) -> None:
    """With counts that the pixels agree with."""
    (folder,) = demonstration.root.glob(f"**/{name}.records")
    records = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("tiles/*.json")]
    assert len(records) == 9
    assert sum(record["pixels"] for record in records) == NX * NY
    for variable, (_, fill, _) in CUBES[name][0].items():
        values = demonstration.stored(name)[variable].to_numpy()
        valid = ~np.isnan(values) if np.isnan(fill) else values != fill
        assert sum(record["valid"][variable] for record in records) == valid.sum()


# The case's own functions.


def test_the_cases_functions_change_nothing(demonstration: Demonstration, tmp_path: Path) -> None:
    """On a part of the region at the coast; EFDA's last three years, so that it takes seconds."""
    data = yaml.safe_load((CHECKOUT / "configs/demo.yml").read_text(encoding="utf-8"))
    data["data_stores"][0]["store_params"]["root"] = str(tmp_path / "cubes")
    data["data_stores"][1]["store_params"]["href_rewrite"] = {ORIGIN: demonstration.server.url}
    del data["preload_datasets"]
    data["grid_mappings"][0] |= {"identifier": "coast", "bbox": [3429004, 2450417, 3433804, 2454017], "tile_size": 96}
    datasets = {entry["identifier"]: entry | {"grid_mapping": "coast"} for entry in data["datasets"]}
    datasets["efda"]["open_params"] = {"time_range": ["2021-01-01", None]}
    data["datasets"] = []
    for name in ("gami", "efda"):
        section = {"module_path": str(CHECKOUT / "configs/functions.py"), "function_name": f"modify_{name}"}
        data["datasets"] += [
            datasets[name],
            datasets[name] | {"identifier": f"{name}_by_function", "custom_processing": section},
        ]
    # xarray's reductions switch warnings off and on, which isn't safe between threads; here they are errors.
    data["dask"] = {"n_workers": 1}
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    ended = in_process("run", "--config", str(path), home=tmp_path / "history")
    assert ended.code == 0, ended.out + ended.err
    for name, variable in (("gami", "forest_age"), ("efda", "disturbance_agent")):
        with open_cube(path, name) as plain, open_cube(path, f"{name}_by_function") as by_function:
            assert list(by_function.data_vars) == [variable]
            assert by_function[variable].dtype == plain[variable].dtype
            xr.testing.assert_equal(by_function.load(), plain.load())
            values = plain[variable].to_numpy()
    outside = values == 255
    assert 0.1 < outside.mean() < 0.9
    assert (values == 0).any()


@pytest.mark.usefixtures("demonstration")
def test_six_cubes_pass_the_checks(tmp_path: Path) -> None:
    path = str(CHECKOUT / "configs/demo.yml")
    ended = in_process("check", "--config", path, "--verbose", home=tmp_path)
    assert ended.code == 0, ended.out + ended.err
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in ended.out.splitlines() if "│" in line]
    answers = {(row[0], row[2]): row[3] for row in rows if row[0]}
    cubes = ("forest_type_2015", "gami", "forestpaths_genus", "liu", "esa_cci_biomass", "efda")
    assert answers == {(cube, check): "yes" for cube in cubes for check in CHECKS}, ended.out
    assert "can't be judged" not in ended.out
