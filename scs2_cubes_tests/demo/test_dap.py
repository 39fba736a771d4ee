"""The DAP2 server on a small dataset: texts, bytes and errors, against what is written down by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.dap import dap_answer, xdr
from scs2_cubes.demo.dap_model import DapDataset, DapVariable, Reader

ROWS = np.array([80.0, 79.5, 79.0])
COLS = np.array([-1.0, 0.0, 1.0, 2.0])
PIXELS = np.arange(12, dtype=np.int16).reshape(3, 4) * 100 - 300


def reader(values: npt.NDArray[Any]) -> Reader:
    def read(indices: Sequence[range]) -> npt.NDArray[Any]:
        return np.asarray(values[np.ix_(*indices)] if indices else values)

    return read


def variable(name: str, dims: tuple[str, ...], values: npt.NDArray[Any], **attrs: Any) -> DapVariable:
    return DapVariable(name, values.dtype.str[1:], dims, values.shape, attrs, reader(values))


def dataset(*, grids: bool = True) -> DapDataset:
    return DapDataset(
        "a/small.nc",
        (
            variable("lat", ("lat",), ROWS),
            variable("lon", ("lon",), COLS),
            variable("crs", (), np.array(7, dtype=np.int32), wkt='GEOGCS["x\\y"]'),
            variable("agb", ("lat", "lon"), PIXELS, _FillValue=np.int16(-32768), size=np.array([1, 2], dtype=np.int32)),
            variable("flags", ("nv",), np.array([1, 2, 255], dtype=np.uint8)),
        ),
        {"title": 'a "small" one', "step": np.float64(0.1)},
        grids,
    )


def ask(suffix: str, query: str = "", *, grids: bool = True) -> Answer:
    return dap_answer(f"/a/small.nc{suffix}", query, {"/a/small.nc": dataset(grids=grids)}.get)


def data(query: str, *, grids: bool = True) -> tuple[str, bytes]:
    given = ask(".dods", query, grids=grids)
    assert given.status == 200, given.body
    assert given.content_length == len(given.body)
    header, separator, body = given.body.partition(b"\nData:\n")
    assert separator
    return header.decode(), body


def words(text: str) -> list[str]:
    return text.split()


def test_xdr_is_what_the_standard_says() -> None:
    assert xdr(np.array([1, -2], dtype=np.int16)) == bytes.fromhex("00000002 00000002 00000001 fffffffe")
    assert xdr(np.array([65535], dtype=np.uint16)) == bytes.fromhex("00000001 00000001 0000ffff")
    assert xdr(np.array([1.0])) == bytes.fromhex("00000001 00000001 3ff0000000000000")
    assert xdr(np.array([1, 2, 255], dtype=np.uint8)) == bytes.fromhex("00000003 00000003 0102ff 00")
    assert xdr(np.array([], dtype=np.uint8)) == bytes(8)
    assert xdr(np.array(200, dtype=np.uint8)) == bytes.fromhex("000000c8")
    assert xdr(np.array(-2, dtype=np.int16)) == bytes.fromhex("fffffffe")
    assert xdr(np.array([[1.5]], dtype=np.float32)) == bytes.fromhex("00000001 00000001 3fc00000")


def test_the_structure_of_all() -> None:
    given = ask(".dds")
    assert given.headers["Content-Description"] == "dods-dds"
    assert given.headers["Content-Type"] == "text/plain"
    assert words(given.body.decode()) == words(
        "Dataset { Float64 lat[lat = 3]; Float64 lon[lon = 4]; Int32 crs;"
        " Grid { ARRAY: Int16 agb[lat = 3][lon = 4]; MAPS: Float64 lat[lat = 3]; Float64 lon[lon = 4]; } agb;"
        " Byte flags[nv = 3]; } a/small.nc;"
    )
    assert "Grid" not in ask(".dds", grids=False).body.decode()


def test_the_attributes_are_escaped_and_typed() -> None:
    text = ask(".das", "agb").body.decode()
    for line in (
        r'String wkt "GEOGCS[\"x\\y\"]";',
        "Int16 _FillValue -32768;",
        "Int32 size 1, 2;",
        r'String title "a \"small\" one";',
        "Float64 step 0.1;",
    ):
        assert text.count(line) == 1
    assert text.index("agb {") < text.index("NC_GLOBAL {")


def test_a_grids_array_alone_comes_in_a_structure() -> None:
    header, body = data("agb.agb[1:1:2][0:2:3]")
    assert words(header) == words("Dataset { Structure { Int16 agb[lat = 2][lon = 2]; } agb; } a/small.nc;")
    assert body == struct.pack(">2I4i", 4, 4, 100, 300, 500, 700)


def test_a_whole_grid_comes_with_its_maps() -> None:
    header, body = data("agb%5B0:1:0%5D%5B2%3A3%5D")
    assert "Grid {" in header
    assert body == struct.pack(">2I2i", 2, 2, -100, 0) + struct.pack(">2Id", 1, 1, 80.0) + struct.pack(
        ">2I2d", 2, 2, 1.0, 2.0
    )


def test_arrays_scalars_and_bytes_in_the_order_asked() -> None:
    header, body = data("crs,flags,lon[3],agb.lat[0:1]")
    assert header.index("crs") < header.index("flags") < header.index("lon[lon = 1]") < header.index("Structure")
    assert body == (
        struct.pack(">i", 7)
        + bytes.fromhex("00000003 00000003 0102ff00")
        + struct.pack(">2Id", 1, 1, 2.0)
        + struct.pack(">2I2d", 2, 2, 80.0, 79.5)
    )


def test_members_of_one_grid_share_a_structure() -> None:
    header, body = data("agb.agb[0][0],agb.lon[0]")
    assert header.count("Structure") == 1
    assert body == struct.pack(">2Ii", 1, 1, -300) + struct.pack(">2Id", 1, 1, -1.0)


def test_a_plain_array_is_bare() -> None:
    header, body = data("agb[2][1:3]", grids=False)
    assert words(header) == words("Dataset { Int16 agb[lat = 1][lon = 3]; } a/small.nc;")
    assert body == struct.pack(">2I3i", 3, 3, 600, 700, 800)
    assert ask(".dods", "agb.agb[0][0]", grids=False).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "lat[3]",
        "lat[0:1:3]",
        "lat[2:1:1]",
        "lat[0:0:2]",
        "lat[-1]",
        "lat[0:1:2:3]",
        "lat[a]",
        "lat[]",
        "lat[0",
        "lat[0][0]",
        "agb[0]",
        "nothing",
        "agb.nothing",
        "lat.lat",
        "lat,,lon",
        "lat[0],lat[1]",
        "agb.agb,agb.agb",
        "lat&lat>3",
    ],
)
def test_bad_expressions_are_error_documents(query: str) -> None:
    for suffix in (".dods", ".dds"):
        given = ask(suffix, query)
        assert given.status == 400
        assert given.headers["Content-Description"] == "dods-error"
        text = given.body.decode()
        assert text.startswith("Error {\n    code = 400;\n    message = ")
        assert text.endswith("};\n")


def test_unknown_paths_and_suffixes() -> None:
    assert dap_answer("/a/other.nc.dds", "", {"/a/small.nc": dataset()}.get).status == 404
    assert ask(".html").status == 400
    assert b"Server Version" in ask(".ver").body


def test_too_much_at_once_is_refused() -> None:
    def read(indices: Sequence[range]) -> npt.NDArray[Any]:
        raise AssertionError(indices)

    huge = DapDataset("h", (DapVariable("a", "i2", ("y", "x"), (20_000, 20_000), {}, read),), {})
    given = dap_answer("/h.dods", "a", {"/h": huge}.get)
    assert given.status == 403
    assert b"too big: 400000000 values" in given.body
