"""The portal as clients see it that weren't written here, and with faults: numbers against the world's pixels."""

from __future__ import annotations

import http.client
import json
import warnings
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from scs2_cubes.demo.faults import CutBody, Delay, GarbledBody, Status
from scs2_cubes.demo.portal_files import Layout
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.conftest import ask

FOLDER = "/esacci/biomass/data/agb/maps/v6.0/netcdf"
NAME = f"{FOLDER}/ESACCI-BIOMASS-L4-AGB-MERGED-100m-2020-fv6.0.nc"
COARSE = f"{FOLDER}/ESACCI-BIOMASS-L4-AGB-MERGED-50000m-fv6.0.nc"
DODS = f"/thredds/dodsC{NAME}"
ROWS, COLS = slice(39_900, 39_960), slice(201_180, 201_260)
WINDOW = f"[0][{ROWS.start}:{ROWS.stop - 1}][{COLS.start}:{COLS.stop - 1}]"


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    made = Stands().biomass(np.arange(ROWS.start, ROWS.stop), np.arange(COLS.start, COLS.stop), 2020)
    # Something of everything, or equal numbers would say little.
    assert (made[0] == 0).any()
    assert len(np.unique(made[0])) > 50
    return made


def open_pydap(server: DemoServer) -> Any:
    with warnings.catch_warnings():
        # webob, which pydap imports, imports cgi.
        warnings.simplefilter("ignore", DeprecationWarning)
        from pydap.client import open_url  # type: ignore[import-untyped]  # noqa: PLC0415 - ships no types; see above
    return open_url(f"{server.url}{DODS}", protocol="dap2")


def open_netcdf(server: DemoServer, path: str = NAME, **options: Any) -> xr.Dataset:
    return xr.open_dataset(f"{server.url}/thredds/dodsC{path}", engine="netcdf4", **options)


@pytest.mark.parametrize("grids", [True, False])
def test_pydap_reads_the_worlds_pixels(
    server: DemoServer, pixels: tuple[np.ndarray, np.ndarray], *, grids: bool
) -> None:
    server.portal.layout = Layout(grids=grids)
    opened = open_pydap(server)
    for name, wanted in zip(("agb", "agb_sd"), pixels, strict=True):
        variable = opened[name][name] if grids else opened[name]
        assert variable.shape == (1, 157_500, 405_000)
        found = np.asarray(variable[0:1, ROWS, COLS].data)
        assert found.dtype.kind == "i"
        np.testing.assert_array_equal(found[0], wanted)
        strided = np.asarray(variable[0:1, ROWS.start : ROWS.stop : 7, COLS.start : COLS.stop : 3].data)
        np.testing.assert_array_equal(strided[0], wanted[::7, ::3])
        assert opened[name].attributes["_FillValue"] == -32768
        assert opened[name].attributes["_ChunkSizes"] == [1, 11250, 11250]
    assert float(opened["time"][0].data[0]) == 10957
    latitude = np.asarray(opened["lat"][:].data)
    np.testing.assert_allclose(latitude, 80 - (np.arange(157_500) + 0.5) / 1125, atol=1e-11, rtol=0)


@pytest.mark.parametrize("grids", [True, False])
def test_netcdf_reads_the_worlds_pixels(
    server: DemoServer, pixels: tuple[np.ndarray, np.ndarray], *, grids: bool
) -> None:
    server.portal.layout = Layout(grids=grids)
    with open_netcdf(server, mask_and_scale=False) as opened:
        assert dict(opened.sizes) == {"time": 1, "lat": 157_500, "lon": 405_000}
        assert str(opened.time.values[0])[:10] == "2020-01-01"
        assert {opened.lat.dtype, opened.lon.dtype} == {np.dtype("f8")}
        assert {opened.agb.dtype, opened.agb_sd.dtype} == {np.dtype("i2")}
        np.testing.assert_allclose(opened.lon.values, -180 + (np.arange(405_000) + 0.5) / 1125, atol=1e-10, rtol=0)
        assert opened.agb.attrs["units"] == "Mg/ha"
        np.testing.assert_array_equal(opened.agb[0, ROWS, COLS].values, pixels[0])
        np.testing.assert_array_equal(opened.agb_sd[0, ROWS, COLS].values, pixels[1])
        np.testing.assert_array_equal(opened.agb[0, ROWS, COLS][::5, ::9].values, pixels[0][::5, ::9])
    with open_netcdf(server) as decoded:
        assert np.isnan(decoded.agb[0, :2, :2].values).all()


def test_coordinates_may_be_edges_and_rows_may_run_north(
    server: DemoServer, pixels: tuple[np.ndarray, np.ndarray]
) -> None:
    server.portal.layout = Layout(edges=True, south_up=True)
    with open_netcdf(server, mask_and_scale=False) as opened:
        latitude, longitude = opened.lat.values, opened.lon.values
        assert (latitude[-1], longitude[0]) == (80.0, -180.0)
        assert (np.diff(latitude) > 0).all()
        found = opened.agb[0, 157_500 - ROWS.stop : 157_500 - ROWS.start, COLS]
        np.testing.assert_array_equal(found.values[::-1], pixels[0])
        np.testing.assert_allclose(found.lat.values[::-1], 80 - np.arange(ROWS.start, ROWS.stop) / 1125)


def test_another_edition_has_other_pixels_of_its_year_alone(server: DemoServer) -> None:
    def read(year: int) -> bytes:
        return ask(server, f"{DODS.replace('2020', str(year))}.dods?agb.agb{WINDOW}").body

    first = read(2020), read(2021)
    server.portal.publish(2, 2020)
    second = read(2020), read(2021)
    assert first[0] != second[0]
    assert first[1] == second[1]
    server.portal.publish(1)
    assert (read(2020), read(2021)) == first


def test_the_coarse_file_is_the_same_downloaded(server: DemoServer, tmp_path: Path) -> None:
    reply = ask(server, f"/thredds/fileServer{COARSE}")
    file = tmp_path / "coarse.nc"
    file.write_bytes(reply.body)
    parent = "95913ffb6467447ca72c4e9d8cf30501"
    listed = ask(
        server, f"/opensearch/request?parentIdentifier={parent}&maximumRecords=50&httpAccept=application/geo%2Bjson"
    )
    sizes = {f["properties"]["title"]: f["properties"]["filesize"] for f in json.loads(listed.body)["features"]}
    assert sizes[Path(COARSE).name] == len(reply.body)
    with (
        netCDF4.Dataset(file) as raw,
        xr.open_dataset(file, engine="netcdf4", decode_times=False) as local,
        open_netcdf(server, COARSE, decode_times=False) as remote,
    ):
        assert raw.data_model == "NETCDF3_64BIT_OFFSET"
        assert raw["agb"].dtype == np.int16
        assert dict(local.sizes) == {"time": 10, "nv": 2, "lat": 280, "lon": 720}
        for name in ("agb", "agb_sd", "lat", "lon", "time", "time_bnds", "crs"):
            np.testing.assert_array_equal(local[name].values, remote[name].values)
        assert local.time_bnds.values[0].tolist() == [6209, 6573], "1 January and 31 December 2007"
        assert local.attrs == remote.attrs
        assert local.agb.attrs.items() <= remote.agb.attrs.items()
        # Pixel of 100 m around the centre of the coarse one.
        row, col = (int(i[0]) for i in np.nonzero((local.agb.values > 0).any(axis=0)))
        fine = np.array([int((row + 0.5) * 562.5)]), np.array([int((col + 0.5) * 562.5)])
        for i, year in ((0, 2007), (9, 2022)):
            assert local.agb.values[i, row, col] == Stands().biomass(*fine, year)[0][0, 0]


def test_a_large_file_is_not_downloaded(server: DemoServer) -> None:
    assert ask(server, f"/thredds/fileServer{NAME}").status == 501


def test_head_says_the_same_without_a_body(server: DemoServer) -> None:
    for path in (f"{DODS}.dds", f"{DODS}.das", f"{DODS}.dods?agb.agb[0][0:3][0:3]", f"/thredds/fileServer{COARSE}"):
        get, head = ask(server, path), ask(server, path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(get.body)
        assert head.headers["Content-Description"] == get.headers["Content-Description"]


def test_the_log_counts_windows(server: DemoServer) -> None:
    for query in ("agb.agb[0][0][0]", "agb.agb[0][0][1]", "agb.agb[0][0][0]"):
        ask(server, f"{DODS}.dods?{query}")
    asked = [entry.query for entry in server.requests.entries(".dods")]
    assert asked == ["agb.agb[0][0][0]", "agb.agb[0][0][1]", "agb.agb[0][0][0]"]


@pytest.mark.parametrize("wait", ["1", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_faults_hit_the_portal_too(server: DemoServer, wait: str) -> None:
    path = f"{DODS}.dods?agb.agb{WINDOW}"
    whole = ask(server, path).body
    server.faults.add(Status(429, retry_after=wait), "dodsC", times=1)
    refused = ask(server, path)
    assert (refused.status, refused.headers["Retry-After"]) == (429, wait)
    server.faults.add(GarbledBody(), ".dods", times=1)
    assert ask(server, path).body == bytes(255 - byte for byte in whole)
    server.faults.add(CutBody(), ".dods", times=1)
    with pytest.raises(http.client.IncompleteRead):
        ask(server, path)
    server.faults.add(Delay(0.05), "/opensearch/", times=1)
    server.faults.add(Status(503), "/opensearch/", times=1)
    assert ask(server, "/opensearch/description.xml?parentIdentifier=cci").status == 503
    assert ask(server, path).body == whole
