from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.merge import merge
from rasterio.transform import Affine

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.errors import GridError, SourceFormatError
from scs2_cubes.preload import mosaic as module
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes_tests.preload.files import write_tif

RNG = np.random.default_rng(11)


def classes(rows: int, cols: int) -> npt.NDArray[np.uint8]:
    return RNG.choice(np.array([0, 1, 2, 254, 255], np.uint8), (rows, cols))


def assembled(mosaic: Mosaic, rows: int) -> npt.NDArray[Any]:
    """All bands, each pixel exactly once."""
    values = np.zeros(mosaic.lattice.shape, mosaic.dtype)
    count = np.zeros(mosaic.lattice.shape, int)
    for window, band in mosaic.bands(rows):
        assert band.shape == window.shape
        values[window.slices] = band
        count[window.slices] += 1
    assert (count == 1).all()
    return values


def test_one_file(tmp_path: Path) -> None:
    values = classes(70, 50)
    path = write_tif(tmp_path / "a.tif", values, tags={"DataType": "Thematic"})
    mosaic = Mosaic.open([path])
    assert mosaic.lattice == Lattice("EPSG:3035", 3_000_000, 3_000_000, 20, -20, 50, 70)
    assert (mosaic.crs, mosaic.dtype, mosaic.nodata) == ("EPSG:3035", "uint8", 255)
    assert mosaic.tags == {"AREA_OR_POINT": "Area", "DataType": "Thematic"}
    np.testing.assert_array_equal(assembled(mosaic, 16), values)
    window = Window(3, 60, 7, 50)
    np.testing.assert_array_equal(mosaic.read(window), values[window.slices])


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # in rasterio.merge
def test_several_files_with_a_gap(tmp_path: Path) -> None:
    """Against GDAL's own mosaic, by rasterio."""
    paths = [
        write_tif(tmp_path / "z.tif", classes(30, 40), tags={"DataType": "Thematic", "BLOCK": "z"}),
        write_tif(tmp_path / "y.tif", classes(20, 10), west=3_000_800, north=2_999_800, tags={"DataType": "Thematic"}),
        write_tif(
            tmp_path / "x.tif",
            classes(25, 15),
            west=2_999_000,
            north=2_999_500,
            tags={"DataType": "Thematic"},
            tiled=True,
            blockxsize=16,
            blockysize=16,
        ),
    ]
    mosaic = Mosaic.open(paths)
    expected, transform = merge(paths)
    assert mosaic.lattice.shape == expected[0].shape
    assert (mosaic.lattice.x_origin, mosaic.lattice.y_origin) == (transform.c, transform.f)
    assert mosaic.tags == {"AREA_OR_POINT": "Area", "DataType": "Thematic"}
    for rows in (7, 16, 1000):
        np.testing.assert_array_equal(assembled(mosaic, rows), expected[0])
    assert Mosaic.open(paths[::-1]) == mosaic


def test_a_band_is_cut_where_it_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BAND", 2100)
    values = classes(45, 100)
    mosaic = Mosaic.open([write_tif(tmp_path / "a.tif", values)])
    windows = [window for window, _ in mosaic.bands(10)]
    assert max(window.width for window in windows) == 100
    assert max(window.width for window, _ in mosaic.bands(20)) == 100
    monkeypatch.setattr(module, "_MAX_BAND", 900)
    assert {window.width for window, _ in mosaic.bands(20)} == {40, 20}
    np.testing.assert_array_equal(assembled(mosaic, 20), values)


def test_an_overlap_that_agrees(tmp_path: Path) -> None:
    """Nodata gives way to values, whichever file it is in."""
    whole = RNG.integers(0, 3, (20, 50)).astype(np.uint8)
    left, right = whole[:, :30].copy(), whole[:, 20:].copy()
    left[:5, 22:] = 255
    right[8:, :4] = 255
    paths = [write_tif(tmp_path / "a.tif", left), write_tif(tmp_path / "b.tif", right, west=3_000_400)]
    np.testing.assert_array_equal(assembled(Mosaic.open(paths), 8), whole)


def test_an_overlap_that_differs(tmp_path: Path) -> None:
    values = np.zeros((10, 10), np.uint8)
    other = values.copy()
    other[3, 4] = 2
    paths = [write_tif(tmp_path / "a.tif", values), write_tif(tmp_path / "b.tif", other)]
    with pytest.raises(SourceFormatError, match=r"x=3000090, y=2999930 it has 2, where .* has 0.*b\.tif"):
        Mosaic.open(paths).read(Window(0, 10, 0, 10))


@pytest.mark.parametrize("nodata", [float("nan"), -9999.0])
def test_floats(tmp_path: Path, nodata: float) -> None:
    values = RNG.random((10, 12)).astype(np.float32)
    values[2:4] = nodata
    paths = [
        write_tif(tmp_path / "a.tif", values, nodata=nodata),
        write_tif(tmp_path / "b.tif", values, nodata=nodata, west=3_000_300),
    ]
    found = assembled(Mosaic.open(paths), 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :12], values)
    np.testing.assert_array_equal(found[:, 15:], values)
    np.testing.assert_array_equal(found[:, 12:15], np.full((10, 3), nodata, np.float32))


def test_without_nodata(tmp_path: Path) -> None:
    values = classes(5, 5)
    one = write_tif(tmp_path / "a.tif", values, nodata=None)
    assert Mosaic.open([one]).nodata is None
    np.testing.assert_array_equal(assembled(Mosaic.open([one]), 2), values)
    two = write_tif(tmp_path / "b.tif", values, nodata=None, west=3_000_100)
    with pytest.raises(SourceFormatError, match="declares no nodata"):
        Mosaic.open([one, two])


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"crs": None}, "isn't georeferenced"),
        ({"transform": Affine.identity()}, "isn't georeferenced"),
        ({"transform": Affine(20, 1, 3e6, 1, -20, 3e6)}, "rotated"),
        ({"transform": Affine(20, 0, 3e6, 0, 20, 3e6)}, r"steps are 20\.0 and 20\.0"),
        ({"dtype": "complex64"}, "complex64"),
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform", "ignore:The given matrix is equal to Affine.identity")
def test_what_cant_be_part_of_a_mosaic(tmp_path: Path, how: dict[str, Any], match: str) -> None:
    path = write_tif(tmp_path / "bad.tif", np.zeros((4, 4), how.get("dtype", "uint8")), **how)
    with pytest.raises(SourceFormatError, match=match) as raised:
        Mosaic.open([path])
    assert raised.value.url == str(path)


def test_several_bands(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "bad.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(SourceFormatError, match="3 bands"):
        Mosaic.open([path])


def test_scaled_values(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "bad.tif", np.zeros((4, 4), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.scales = (0.1,)
    with pytest.raises(SourceFormatError, match=r"scale 0\.1"):
        Mosaic.open([path])


def test_a_mask_beside_the_values(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tif(tmp_path / "bad.tif", np.zeros((4, 4), np.uint8), nodata=None)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.eye(4, dtype=bool))
    with pytest.raises(SourceFormatError, match="mask"):
        Mosaic.open([path])


def test_ground_control_points_are_no_georeference(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 3e6 + col, 3e6 - row) for row in (0, 4) for col in (0, 4)]
    path = write_tif(tmp_path / "bad.tif", np.zeros((4, 4), np.uint8), transform=None, gcps=points)
    with pytest.raises(SourceFormatError, match="isn't georeferenced"):
        Mosaic.open([path])


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"crs": "EPSG:32632"}, "CRS .* EPSG:32632 and EPSG:3035"),
        ({"dtype": "uint16"}, "dtype .* uint16 and uint8"),
        ({"nodata": 254}, r"nodata .* 254\.0 and 255\.0"),
        ({"nodata": None}, r"nodata .* None and 255\.0"),
        ({"transform": Affine(10, 0, 3_000_400, 0, -10, 3e6)}, "resolution"),
        ({"west": 3_000_410}, r"alignment .*\(3000410\.0, 3000000\.0\)"),
        ({"north": 2_999_995}, "alignment"),
        ({"west": 300_000}, "so far apart"),
    ],
)
def test_files_that_dont_belong_together(tmp_path: Path, how: dict[str, Any], match: str) -> None:
    first = write_tif(tmp_path / "a.tif", np.zeros((20, 20), np.uint8))
    other = write_tif(tmp_path / "b.tif", np.zeros((20, 20), how.get("dtype", "uint8")), **({"west": 3_000_400} | how))
    with pytest.raises(SourceFormatError, match=match) as raised:
        Mosaic.open([first, other])
    assert raised.value.url == str(other)


def test_only_geotiffs(tmp_path: Path) -> None:
    """A text that leads GDAL to other files isn't followed, whatever its name."""
    secret = write_tif(tmp_path / "secret.tif", np.zeros((4, 4), np.uint8))
    with (
        rasterio.open(secret) as file,
        rasterio.open(
            tmp_path / "x.vrt",
            "w",
            driver="VRT",
            **{name: file.profile[name] for name in ("width", "height", "count", "dtype", "crs", "transform")},
        ),
    ):
        pass
    (tmp_path / "bad.tif").write_text((tmp_path / "x.vrt").read_text())
    with rasterio.open(tmp_path / "bad.tif") as file:
        assert file.driver == "VRT"
    for content in (None, b"", b"no tif"):
        if content is not None:
            (tmp_path / "bad.tif").write_bytes(content)
        with pytest.raises(SourceFormatError, match=r"bad\.tif"):
            Mosaic.open([tmp_path / "bad.tif"])
    with pytest.raises(SourceFormatError, match="at least one"):
        Mosaic.open([])


def test_sidecars_dont_count(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    before = Mosaic.open([path])
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32632</SRS><Metadata><MDI key='DataType'>X</MDI></Metadata></PAMDataset>"
    )
    assert Mosaic.open([path]) == before


def test_a_truncated_file(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", classes(500, 500))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SourceFormatError, match=r"a\.tif"):
        list(Mosaic.open([path]).bands(100))


def test_windows_outside(tmp_path: Path) -> None:
    mosaic = Mosaic.open([write_tif(tmp_path / "a.tif", classes(5, 5))])
    for window in (Window(0, 6, 0, 5), Window(-1, 2, 0, 5), Window(2, 2, 0, 5)):
        with pytest.raises(GridError, match="5 x 5"):
            mosaic.read(window)


def read_bytes() -> int:
    """Bytes that this process has read from files so far."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_every_strip_is_read_once(tmp_path: Path) -> None:
    values = RNG.integers(0, 250, (4000, 3000)).astype(np.uint8)
    path = write_tif(tmp_path / "a.tif", values, compress=None, blockysize=3)
    mosaic = Mosaic.open([path])
    before = read_bytes()
    for _ in mosaic.bands(512):
        pass
    assert read_bytes() - before < 1.1 * values.nbytes
