"""Every layout of a GeoTIFF that people have, read as rasterio reads it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import MaskFlags, Resampling
from rasterio.transform import Affine

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.errors import SourceFormatError
from scs2_cubes.sources import open_reader
from scs2_cubes.sources.geotiff import describe_tiff
from scs2_cubes_tests.sources.file_worlds import SHAPE, pixels, read_all, write_tif

LAYOUTS: dict[str, dict[str, Any]] = {
    "tiles": {},
    "pixel by pixel": {"interleave": "pixel"},
    "band by band": {"interleave": "band"},
    "strips": {"tiled": False, "blockysize": 7},
    "strips of a row": {"tiled": False, "blockysize": 1},
    "strips, band by band": {"tiled": False, "blockysize": 16, "interleave": "band"},
    "one strip": {"tiled": False, "blockysize": SHAPE[0]},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "big-endian strips": {"ENDIANNESS": "BIG", "tiled": False, "blockysize": 10, "interleave": "band"},
    "uncompressed": {"compress": None},
    "predictor": {"predictor": 2},
    "lzw": {"compress": "lzw", "predictor": 2},
    "zstd": {"compress": "zstd"},
    "packbits": {"compress": "packbits"},
    "lerc": {"compress": "lerc", "MAX_Z_ERROR": 0},
    "sparse": {"SPARSE_OK": True},
    "sparse strips": {"SPARSE_OK": True, "tiled": False, "blockysize": 16},
}


def described(path: Path) -> NativeDataset:
    return describe_tiff(Location(str(path)), href=str(path), version="v")


def equals_rasterio(path: Path) -> None:
    native = described(path)
    with rasterio.open(path) as raster:
        assert native.lattice.shape == raster.shape
        for band, array in enumerate(native.arrays, 1):
            made = read_all(native, array.name)
            assert made.dtype == raster.dtypes[band - 1] == array.dtype
            np.testing.assert_array_equal(made, raster.read(band))


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str, nodata: float | None) -> None:
    values = pixels("int16", bands=3)
    if "sparse" in layout:
        values[:, :256] = nodata or 0
    path = write_tif(tmp_path / "map.tif", values, nodata=nodata, **LAYOUTS[layout])
    equals_rasterio(path)
    absent = {array.absent for array in described(path).arrays}
    assert absent == {nodata or 0.0}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "float32", "float64"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    equals_rasterio(write_tif(tmp_path / "map.tif", pixels(dtype, 2), predictor=3 if dtype.startswith("f") else 2))


def test_bits(tmp_path: Path) -> None:
    equals_rasterio(write_tif(tmp_path / "map.tif", pixels() % 2, NBITS=1))
    equals_rasterio(write_tif(tmp_path / "map.tif", pixels() % 16, NBITS=4, tiled=False, blockysize=5))


def test_jpeg(tmp_path: Path) -> None:
    for photometric in ("YCBCR", "RGB"):
        path = write_tif(tmp_path / "map.tif", pixels(bands=3), compress="jpeg", PHOTOMETRIC=photometric)
        equals_rasterio(path)


def test_cloud_optimised(tmp_path: Path) -> None:
    """With overviews, which aren't read, and the header where COGs have it."""
    plain = write_tif(tmp_path / "plain.tif", pixels("float32"), nodata=float("nan"))
    with rasterio.open(plain) as raster:
        profile = {"driver": "COG", "blocksize": 128, "overview_count": 2, "compress": "deflate"}
        with rasterio.open(
            tmp_path / "cog.tif", "w", **{**raster.meta, **profile}, resampling=Resampling.nearest
        ) as made:
            made.write(raster.read())
    equals_rasterio(tmp_path / "cog.tif")


def test_a_header_behind_the_pixels(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", pixels("uint32", 2), compress=None)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(**{f"TAG_{number}": "x" * 1000 for number in range(40)})
    equals_rasterio(path)


def test_chunks(tmp_path: Path) -> None:
    """Strips are put together to chunks that are worth a request; blocks of tiles stay."""
    assert described(write_tif(tmp_path / "a.tif", pixels())).arrays[0].chunks == (128, 128)
    strips = write_tif(tmp_path / "b.tif", pixels(), tiled=False, blockysize=7)
    assert described(strips).arrays[0].chunks == (36 * 7, SHAPE[1])


def test_scale_offset_and_title(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", pixels("int16"))
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (0.1,), (-5.0,)
        raster.update_tags(TIFFTAG_IMAGEDESCRIPTION="Heights")
    native = described(path)
    assert (native.arrays[0].scale, native.arrays[0].offset) == (0.1, -5.0)
    assert native.attrs == {"title": "Heights"}


def test_points_are_centres(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", pixels())
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(AREA_OR_POINT="Point")
        expected = raster.transform
    native = described(path)
    with rasterio.open(path) as raster:
        assert (native.lattice.x_origin, native.lattice.y_origin) == (raster.transform.c, raster.transform.f)
    assert (native.lattice.x_origin, native.lattice.y_origin) == (expected.c, expected.f)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # where the test writes
def test_what_is_refused(tmp_path: Path) -> None:
    rotated = Affine(30, 5, 3_400_000, -5, -30, 2_500_000)
    refused = {
        "rotated": write_tif(tmp_path / "r.tif", pixels(), transform=rotated),
        "no coordinate reference system": write_tif(tmp_path / "c.tif", pixels(), crs=None),
        "complex64": write_tif(tmp_path / "z.tif", pixels("complex64")),
    }
    masked = write_tif(tmp_path / "m.tif", pixels())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as raster:
        raster.write_mask(pixels()[0] > 100)
    refused["mask"] = masked
    for message, path in refused.items():
        with pytest.raises(SourceFormatError, match=message):
            described(path)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(("bands", "photometric"), [(4, "RGB"), (2, "MINISBLACK")])
def test_alpha_is_refused(tmp_path: Path, bands: int, photometric: str, interleave: str) -> None:
    """A band that says where the others are valid is no layer of its own."""
    layout = {"PHOTOMETRIC": photometric, "interleave": interleave}
    path = write_tif(tmp_path / "map.tif", pixels(bands=bands), ALPHA="YES", **layout)
    with rasterio.open(path) as raster:
        assert MaskFlags.alpha in raster.mask_flag_enums[0]
    with pytest.raises(SourceFormatError, match=rf"band {bands} is an alpha band.*nodata"):
        described(path)
    equals_rasterio(write_tif(tmp_path / "plain.tif", pixels(bands=bands), ALPHA="NO", **layout))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II",
        b"not a TIFF at all, only some text",
        b"II" + struct.pack("<HI", 42, 8) + struct.pack("<H", 0) + bytes(100),
        b"II" + struct.pack("<HI", 42, 2**31),
        b"MM" + struct.pack(">HHHQ", 43, 8, 0, 16) + struct.pack(">Q", 2**40) + bytes(100),
        # A directory that leads to itself, with a field of four billion numbers.
        b"II" + struct.pack("<HI", 42, 8) + struct.pack("<HHHIII", 1, 256, 4, 2**32 - 1, 0, 8),
    ],
)
def test_what_is_no_tiff(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.tif").write_bytes(content)
    with pytest.raises(SourceFormatError, match="not a TIFF that can be read"):
        described(tmp_path / "map.tif")


@pytest.mark.parametrize("compress", ["deflate", "zstd", "lzw"])
def test_damaged_blocks(tmp_path: Path, compress: str) -> None:
    path = write_tif(tmp_path / "map.tif", pixels("int16"), compress=compress)
    native = described(path)
    array, reader = native.arrays[0], open_reader(native.location)
    encoded = reader.fetch_chunk(array, (0, 0))
    assert encoded is not None
    with pytest.raises(SourceFormatError, match=r"block \(0, 0\) of band_1 can't be decoded"):
        reader.decode_chunk(array, (0, 0), encoded[:-1])
    if compress != "lzw":
        with pytest.raises(SourceFormatError, match="can't be decoded"):
            reader.decode_chunk(array, (0, 0), bytes(len(encoded)))


def test_random_headers_end_in_errors_alone(tmp_path: Path) -> None:
    """Whatever is in a file, it's described, or refused with this package's own error."""
    content = bytearray(write_tif(tmp_path / "whole.tif", pixels(bands=2)).read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "map.tif"
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, 600, 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            native = described(path)
            read_all(native, native.arrays[0].name)
        except SourceFormatError:
            continue
