"""Chunks are decoded without zarr-python's own arrays: what comes out must be what zarr-python reads."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from scs2_cubes.core.native import Location
from scs2_cubes.errors import SourceFormatError
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes.sources.zarr_group import describe_group

#: Neither is a multiple of the chunks.
SHAPE, CHUNKS = (50, 70), (16, 32)

STORED: dict[str, dict[str, Any]] = {
    "v2, zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd(1)},
    "v2, blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.BITSHUFFLE)},
    "v2, zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib(1)},
    "v2, bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2(1)},
    "v2, lzma": {"zarr_format": 2, "compressors": numcodecs.LZMA(preset=1)},
    "v2, gzip": {"zarr_format": 2, "compressors": numcodecs.GZip(1)},
    "v2, not compressed": {"zarr_format": 2, "compressors": None},
    "v2, big-endian": {"zarr_format": 2, "dtype": ">i2"},
    "v2, columns first": {"zarr_format": 2, "order": "F"},
    "v2, differences": {"zarr_format": 2, "filters": [numcodecs.Delta("<i2")]},
    "v2, floats": {"zarr_format": 2, "dtype": "<f4"},
    "v2, one byte": {"zarr_format": 2, "dtype": "|u1"},
    "v3": {"zarr_format": 3},
    "v3, blosc": {"zarr_format": 3, "compressors": BloscCodec(cname="lz4")},
    "v3, gzip": {"zarr_format": 3, "compressors": GzipCodec(level=1)},
    "v3, shards": {"zarr_format": 3, "shards": (32, 64)},
    "v3, floats": {"zarr_format": 3, "dtype": "float64"},
}


@pytest.fixture(params=STORED, ids=str)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    options: dict[str, Any] = {"dtype": "<i2", **STORED[request.param]}
    zarr_format = options.pop("zarr_format")
    group = zarr.create_group(str(path), zarr_format=zarr_format, attributes={"spatial_ref": "EPSG:3035"})
    coordinates = {"y": 5000.0 - 10 * np.arange(SHAPE[0]), "x": 3000.0 + 10 * np.arange(SHAPE[1])}

    def dims(*names: str) -> dict[str, Any]:
        if zarr_format == 2:
            return {"attributes": {"_ARRAY_DIMENSIONS": list(names)}}
        return {"dimension_names": names}

    for name, values in coordinates.items():
        array = group.create_array(name, shape=values.shape, chunks=values.shape, dtype="float64", **dims(name))
        array[...] = values
    pixels = group.create_array("age", shape=SHAPE, chunks=CHUNKS, fill_value=-1 if "i" in options["dtype"] else 0,
                                **options, **dims("y", "x"))  # fmt: skip
    pixels[...] = np.random.default_rng(4).integers(0, 200, SHAPE)
    return path


def test_pixels_are_those_that_zarr_reads(stored: Path) -> None:
    native = describe_group(Location(str(stored)), href="https://a.example", provenance={})
    age = native.array("age")
    expected = zarr.open_array(str(stored / "age"), mode="r")
    reader = open_reader(native.location)
    rows, cols = age.chunks
    assert age.chunks == (expected.shards or expected.chunks)
    for row, col in product(range(-(-SHAPE[0] // rows)), range(-(-SHAPE[1] // cols))):
        chunk = read_chunk(reader, age, (row, col))
        assert chunk is not None
        wanted = np.asarray(expected[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols])
        assert chunk.shape == wanted.shape
        assert chunk.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
        np.testing.assert_array_equal(chunk, wanted)


@pytest.mark.parametrize("damage", ["cut", "garbled", "empty"])
def test_damaged_bytes_are_an_error(stored: Path, damage: str, request: pytest.FixtureRequest) -> None:
    if damage == "garbled" and "not compressed" in request.node.name:
        pytest.skip("any bytes of the right length are pixels")
    native = describe_group(Location(str(stored)), href="https://a.example", provenance={})
    reader, age = open_reader(native.location), native.array("age")
    encoded = reader.fetch_chunk(age, (0, 0))
    assert encoded is not None
    damaged = {"cut": encoded[: len(encoded) // 2], "garbled": bytes(255 - one for one in encoded), "empty": b""}
    with pytest.raises(SourceFormatError, match=r"can't be decoded.*a\.zarr/age"):
        reader.decode_chunk(age, (0, 0), damaged[damage])
