from __future__ import annotations

import math
import pickle
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scs2_cubes.core.grid import Window
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.dap import dap_answer
from scs2_cubes.demo.dap_model import DapDataset, DapVariable
from scs2_cubes.demo.faults import CutBody, Delay, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    GridError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes.sources.dap import DapArray, DapClient
from scs2_cubes.sources.dap_format import DapSyntaxError, decode_reply, find_array, parse_das, parse_dds, reported_error
from scs2_cubes_tests.sources.dap_worlds import (
    CODES,
    HandFile,
    HandService,
    Variable,
    biomass_file,
    encode,
    hand_server,
)
from scs2_cubes_tests.sources.worlds import QUICK

GRID = """Dataset {
    Grid {
     ARRAY:
        Int16 agb[time = 1][lat = 157500][lon = 405000];
     MAPS:
        Float64 time[time = 1];
        Float64 lat[lat = 157500];
        Float64 lon[lon = 405000];
    } agb;
    Float64 lat[lat = 157500];
    Int32 crs;
    String names[2];
    byte FLAGS[lat=157500];
} neodc/file name;
"""


class TestStructure:
    def test_a_grid_a_plain_array_a_scalar(self) -> None:
        arrays = parse_dds(GRID)
        assert arrays[0] == DapArray("agb.agb", "int16", ("time", "lat", "lon"), (1, 157500, 405000))
        assert [array.path for array in arrays] == [
            "agb.agb", "agb.time", "agb.lat", "agb.lon", "lat", "crs", "names", "FLAGS"
        ]  # fmt: skip
        assert find_array(arrays, "agb") == arrays[0]
        assert find_array(arrays, "lat") == DapArray("lat", "float64", ("lat",), (157500,))
        assert find_array(arrays, "crs") == DapArray("crs", "int32", (), ())
        assert find_array(arrays, "time") is None
        assert arrays[6] == DapArray("names", "str", ("",), (2,))
        assert arrays[7].dtype == "uint8"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "too early"),
            ("Attributes {}", "'dataset' is expected"),
            (GRID[:120], "too early"),
            ("Dataset { Sequence { Int32 a; } s; } x;", "'Sequence'"),
            ("Dataset { Int16 a[lat = -3]; } x;", "dimension"),
            ("Dataset { Int16 a[]; } x;", "dimension"),
            ("Dataset { Int16 a } x;", "semicolon"),
            ("Dataset { Structure { Int16 a; } s[3]; } x;", "array of structures"),
            ("Dataset {" + "Structure {" * 40, "deeper"),
        ],
    )
    def test_what_is_none(self, text: str, problem: str) -> None:
        with pytest.raises(DapSyntaxError, match=problem):
            parse_dds(text)


class TestAttributes:
    def test_every_type(self) -> None:
        text = r"""Attributes {
    agb {
        Int16 _FillValue -32768;
        UInt16 top 65535;
        Int32 _ChunkSizes 1, 180, 360;
        Byte flags 0, 255;
        Float32 scale 0.1;
        Float32 wild 9.96921E36;
        Float64 valid_max 10000.0, NaN, -Infinity;
        String long_name "Above-ground biomass; with, {braces}";
        String empty "";
        Url home "http://a.b/c";
    }
    crs {
        String crs_wkt "GEOGCS[\"WGS 84\",DATUM[\"a\\b\"]]";
    }
    NC_GLOBAL {
        String title "two
lines";
        String many "a", "b";
        inner { Int32 one 1; }
    }
    DODS_EXTRA { String Unlimited_Dimension "time"; }
}
"""
        attrs = parse_das(text)
        agb = attrs["agb"]
        assert agb["_FillValue"] == -32768
        assert agb["top"] == 65535
        assert agb["_ChunkSizes"] == [1, 180, 360]
        assert agb["flags"] == [0, 255]
        assert agb["scale"] == float(np.float32(0.1))
        assert agb["wild"] == float(np.float32(9.96921e36))
        assert agb["valid_max"][0] == 10000.0
        assert math.isnan(agb["valid_max"][1])
        assert agb["valid_max"][2] == -math.inf
        assert agb["long_name"] == "Above-ground biomass; with, {braces}"
        assert agb["empty"] == ""
        assert attrs["crs"]["crs_wkt"] == 'GEOGCS["WGS 84",DATUM["a\\b"]]'
        assert attrs["NC_GLOBAL"] == {"title": "two\nlines", "many": ["a", "b"], "inner": {"one": 1}}

    @pytest.mark.parametrize(
        "text", ["", "Attributes {", "Attributes { a { Int16 b 1 }}", 'Attributes { a { String b "x; } }', "Dataset {}"]
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(DapSyntaxError):
            parse_das(text)

    @settings(deadline=None)  # a shared machine stalls now and then
    @given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])))
    def test_any_text_survives(self, value: str) -> None:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        assert parse_das(f'Attributes {{ a {{ String b "{escaped}"; }} }}') == {"a": {"b": value}}


LIMITS = {
    "Byte": (0, 255),
    "Int16": (-(2**15), 2**15 - 1),
    "UInt16": (0, 2**16 - 1),
    "Int32": (-(2**31), 2**31 - 1),
    "UInt32": (0, 2**32 - 1),
}


@st.composite
def members(draw: st.DrawFn) -> tuple[str, str, tuple[int, ...], list[Any]]:
    """(declaration, type, shape, values)."""
    kind = draw(st.sampled_from(sorted(CODES)))
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=3)))
    if kind in LIMITS:
        element: st.SearchStrategy[Any] = st.integers(*LIMITS[kind])
    else:
        element = st.floats(width=32 if kind == "Float32" else 64, allow_nan=False)
    count = math.prod(shape)
    return "".join(f"[{size}]" for size in shape), kind, shape, draw(st.lists(element, min_size=count, max_size=count))


def reply(parts: list[tuple[str, str, tuple[int, ...], list[Any]]], *, wrapped: bool) -> bytes:
    lines, data = "", b""
    for number, (sizes, kind, shape, values) in enumerate(parts):
        line = f"{kind} v{number}{sizes};"
        lines += f"Structure {{ {line} }} v{number};" if wrapped else line
        data += encode(kind, values if shape else None, values[0])
    return f"Dataset {{\n{lines}\n}} a;\nData:\n".encode() + data


class TestReply:
    @settings(deadline=None)  # a shared machine stalls now and then
    @given(st.lists(members(), min_size=1, max_size=4), st.booleans())
    def test_what_was_encoded_comes_back(self, parts: list[Any], wrapped: bool) -> None:
        decoded = decode_reply(reply(parts, wrapped=wrapped))
        assert len(decoded) == len(parts)
        for number, (_, kind, shape, values) in enumerate(parts):
            array = decoded[f"v{number}.v{number}" if wrapped else f"v{number}"]
            assert array.dtype == np.dtype(kind.lower() if kind != "Byte" else "uint8")
            assert array.shape == shape
            assert array.ravel().tolist() == values

    @settings(deadline=None)  # a shared machine stalls now and then
    @given(st.lists(members(), min_size=1, max_size=3), st.data())
    def test_no_other_length_is_taken(self, parts: list[Any], data: st.DataObject) -> None:
        whole = reply(parts, wrapped=True)
        kept = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(DapSyntaxError):
            decode_reply(whole[:kept])
        with pytest.raises(DapSyntaxError):
            decode_reply(whole + b"\0" * data.draw(st.integers(1, 9)))

    @settings(deadline=None)  # a shared machine stalls now and then
    @given(st.binary(max_size=300))
    def test_noise_is_refused(self, noise: bytes) -> None:
        with pytest.raises(DapSyntaxError):
            decode_reply(noise)
        with pytest.raises(DapSyntaxError):
            decode_reply(b"Dataset {\nInt16 a[9999999];\n} a;\nData:\n" + noise)

    def test_lengths_that_disagree(self) -> None:
        head = b"Dataset {\nInt16 a[2];\n} a;\nData:\n"
        assert decode_reply(head + struct.pack(">IIii", 2, 2, -1, 5))["a"].tolist() == [-1, 5]
        for lengths in ((2, 3), (3, 2), (1, 1)):
            with pytest.raises(DapSyntaxError, match="lengths"):
                decode_reply(head + struct.pack(">IIii", *lengths, -1, 5))

    @pytest.mark.parametrize(("kind", "value"), [("Int16", 32768), ("Int16", -32769), ("UInt16", 65536)])
    def test_numbers_beyond_16_bits(self, kind: str, value: int) -> None:
        data = struct.pack(">II", 2, 2) + struct.pack(">Ii" if kind == "Int16" else ">II", 0, value)
        with pytest.raises(DapSyntaxError, match=str(value)):
            decode_reply(f"Dataset {{\n{kind} a[2];\n}} a;\nData:\n".encode() + data)

    def test_text_is_not_read(self) -> None:
        with pytest.raises(DapSyntaxError, match="isn't read"):
            decode_reply(b"Dataset {\nString a;\n} a;\nData:\n\0\0\0\0")

    def test_carriage_returns(self) -> None:
        assert decode_reply(b"Dataset {\r\nByte a;\r\n} a;\r\n\r\nData:\r\n\0\0\0\x07")["a"].tolist() == 7

    @pytest.mark.parametrize("data", [b"\x07\0\0\0", b"\0\0\x01\0", b"\xff\xff\xff\xff"])
    def test_a_scalar_beyond_a_byte(self, data: bytes) -> None:
        with pytest.raises(DapSyntaxError, match="aren't uint8"):
            decode_reply(b"Dataset {\nByte a;\n} a;\nData:\n" + data)

    def test_error_documents(self) -> None:
        said = b'Error {\n    code = 404;\n    message = "no such \\"file\\"";\n};\n'
        assert reported_error(said) == (404, 'no such "file"')
        assert reported_error(b"Dataset { Int32 a; } x;") is None


@pytest.fixture
def world() -> Iterator[tuple[DemoServer, HandService]]:
    with hand_server() as (server, service):
        service.put_file("/f.nc", biomass_file())
        yield server, service


def scalar(kind: str, value: float) -> Any:
    return lambda _: np.array(value, kind)


class DapOnly:
    """One file for whatever is asked."""

    def __init__(self, file: DapDataset) -> None:
        self.file = file

    def answer(self, request: HttpRequest) -> Answer | None:
        return dap_answer(request.path, request.query, lambda _: self.file)


def array_of(client: DapClient, url: str, name: str) -> DapArray:
    found = find_array(client.structure(url), name)
    assert found is not None
    return found


class TestWindows:
    @pytest.mark.parametrize("wrapped", [True, False])
    @pytest.mark.parametrize("grid", [True, False])
    def test_equal_the_file(self, world: tuple[DemoServer, HandService], wrapped: bool, grid: bool) -> None:
        server, service = world
        file = biomass_file(wrapped=wrapped, grid=grid)
        service.put_file("/f.nc", file)
        client, url = DapClient(QUICK), f"{server.url}/f.nc"
        array = array_of(client, url, "agb")
        for window in (Window(0, 30, 0, 40), Window(2, 7, 4, 9), Window(29, 30, 39, 40)):
            values = client.read_window(url, array, window)
            assert values.dtype == np.dtype("int16")
            np.testing.assert_array_equal(values, file.variables["agb"].values[0][window.slices])
        path = "agb.agb" if grid else "agb"
        assert service.asked[2] == f"/f.nc.dods?{path}[0:1:0][2:1:6][4:1:8]"

    @pytest.mark.parametrize(("kind", "dtype"), [("Byte", "uint8"), ("Float32", "float32"), ("UInt16", "uint16")])
    def test_other_dtypes_without_time(self, world: tuple[DemoServer, HandService], kind: str, dtype: str) -> None:
        server, service = world
        values = np.arange(35).reshape(5, 7).astype(dtype)
        service.put_file("/g.nc", HandFile({"v": Variable(kind, ("lat", "lon"), values)}))
        client, url = DapClient(QUICK), f"{server.url}/g.nc"
        read = client.read_window(url, array_of(client, url, "v"), Window(1, 4, 2, 5))
        assert read.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(read, values[1:4, 2:5])

    @pytest.mark.parametrize(
        "window", [Window(0, 31, 0, 4), Window(0, 4, 36, 41), Window(3, 3, 0, 4), Window(-1, 4, 0, 4)]
    )
    def test_beyond_the_array(self, world: tuple[DemoServer, HandService], window: Window) -> None:
        server, service = world
        client, url = DapClient(QUICK), f"{server.url}/f.nc"
        array = array_of(client, url, "agb")
        with pytest.raises(GridError, match=r"agb\.agb"):
            client.read_window(url, array, window)
        with pytest.raises(GridError):
            client.read_window(url, array, Window(0, 1, 0, 1), step=1)
        assert len(service.asked) == 1

    def test_scalars_as_another_client_reads_them(self, world: tuple[DemoServer, HandService]) -> None:
        """netCDF-C decodes the embedded server's replies, which share no line with either encoder here."""
        server, _ = world
        given = {
            "b": ("u1", 7), "top": ("u1", 255), "h": ("i2", -300), "u": ("u2", 65_000), "i": ("i4", -9),
            "f": ("f4", 0.25), "d": ("f8", -1e300),
        }  # fmt: skip
        file = DapDataset(
            "x.nc",
            tuple(DapVariable(name, kind, (), (), {}, scalar(kind, one)) for name, (kind, one) in given.items()),
            {},
        )
        server.services = (DapOnly(file),)
        client, url = DapClient(QUICK), f"{server.url}/x.nc"
        structure = client.structure(url)
        ours = dict(
            zip([part.name for part in structure], client.read(url, [(part, ()) for part in structure]), strict=True)
        )
        with netCDF4.Dataset(url) as theirs:
            for name, (kind, one) in given.items():
                assert ours[name].dtype == np.dtype(kind)
                assert ours[name] == one == theirs[name][...].astype(kind)

    def test_several_in_one_request(self, world: tuple[DemoServer, HandService]) -> None:
        server, service = world
        client, url = DapClient(QUICK), f"{server.url}/f.nc"
        lat, crs = array_of(client, url, "lat"), array_of(client, url, "crs")
        service.asked.clear()
        values = client.read(url, [(lat, (slice(0, 30),)), (crs, ())])
        np.testing.assert_array_equal(values[0], biomass_file().variables["lat"].values)
        assert values[1] == 0
        assert service.asked == ["/f.nc.dods?lat[0:1:29],crs"]

    def test_addresses_are_rewritten(self, world: tuple[DemoServer, HandService]) -> None:
        server, _ = world
        client = DapClient(QUICK, (("https://far.test", server.url),))
        assert client.open("https://far.test/f.nc").attributes_of("agb")["_FillValue"] == -32768

    def test_a_copy_works(self, world: tuple[DemoServer, HandService]) -> None:
        server, _ = world
        client = DapClient(QUICK)
        client.structure(f"{server.url}/f.nc")
        assert pickle.loads(pickle.dumps(client)).structure(f"{server.url}/f.nc")


WINDOW = Window(2, 12, 4, 24)


class TestFailures:
    def read(self, server: DemoServer) -> np.ndarray[Any, Any]:
        client, url = DapClient(QUICK), f"{server.url}/f.nc"
        declared = DapArray("agb.agb", "int16", ("time", "lat", "lon"), (1, 30, 40))
        return client.read_window(url, declared, WINDOW)

    @pytest.mark.parametrize(
        "behaviour",
        [CutBody(0.5), CutBody(0.99), GarbledBody(), Status(503), Status(429), Status(429, "0"), Status(500)],
    )
    def test_what_passes_is_asked_again(self, world: tuple[DemoServer, HandService], behaviour: Any) -> None:
        server, _ = world
        server.faults.add(behaviour, times=2)
        np.testing.assert_array_equal(self.read(server), biomass_file().variables["agb"].values[0][WINDOW.slices])
        assert server.requests.count() == 3

    @pytest.mark.parametrize(
        ("behaviour", "last"),
        [(CutBody(0.5), "RemoteProtocolError"), (GarbledBody(), "isn't sound"), (Status(503), "HTTP 503")],
    )
    def test_what_does_not_pass(self, world: tuple[DemoServer, HandService], behaviour: Any, last: str) -> None:
        server, _ = world
        server.faults.add(behaviour)
        with pytest.raises(SourceUnavailableError, match=f"4 attempts.*{last}") as refused:
            self.read(server)
        assert refused.value.url.startswith(f"{server.url}/f.nc.dods")
        assert server.requests.count() == 4

    @pytest.mark.parametrize(
        "value", ["1", format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)], ids=["seconds", "date"]
    )
    def test_retry_after_is_kept(self, world: tuple[DemoServer, HandService], value: str) -> None:
        server, _ = world
        if "," in value:
            value = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        server.faults.add(Status(429, value), times=1)
        started = time.monotonic()
        self.read(server)
        assert time.monotonic() - started > 0.9

    @pytest.mark.parametrize("status", [404, 410])
    def test_missing_at_once(self, world: tuple[DemoServer, HandService], status: int) -> None:
        server, _ = world
        server.faults.add(Status(status))
        with pytest.raises(DataIdNotFoundError, match=f"HTTP {status}"):
            self.read(server)
        assert server.requests.count() == 1

    def test_refusals_at_once(self, world: tuple[DemoServer, HandService]) -> None:
        server, service = world
        service.documents["/f.nc.dods"] = lambda _: (400, b'Error { code = 400; message = "stop >= size"; };')
        with pytest.raises(SourceUnavailableError, match=r"HTTP 400.*stop >= size"):
            self.read(server)
        service.documents["/f.nc.dods"] = lambda _: (403, b"")
        with pytest.raises(AccessDeniedError):
            self.read(server)
        assert server.requests.count() == 2

    @pytest.mark.parametrize(
        ("document", "error", "requests"),
        [
            (b'Error { code = 404; message = "gone"; };', DataIdNotFoundError, 1),
            (b'Error { code = 500; message = "NcML"; };', SourceUnavailableError, 4),
            (b'Error { code = 1001; message = "odd"; };', SourceUnavailableError, 4),
            (b"<html>Service under maintenance</html>", SourceUnavailableError, 4),
            (b"", SourceUnavailableError, 4),
        ],
    )
    def test_errors_with_the_status_of_success(
        self, world: tuple[DemoServer, HandService], document: bytes, error: type[SourceError], requests: int
    ) -> None:
        server, service = world
        service.documents["/f.nc.dods"] = document
        with pytest.raises(error, match=r"gone|NcML|odd|maintenance|0 bytes"):
            self.read(server)
        assert server.requests.count() == requests

    @pytest.mark.parametrize(
        "changed",
        [
            {"agb": Variable("Int32", ("time", "lat", "lon"), np.zeros((1, 30, 40), "int32"), grid=True)},
            {"agb": Variable("Float32", ("time", "lat", "lon"), np.zeros((1, 30, 40), "float32"), grid=True)},
            {"agb": Variable("Int16", ("time", "lat", "lon"), np.zeros((1, 8, 40), "int16"), grid=True)},
        ],
    )
    def test_a_sound_answer_to_another_question(
        self, world: tuple[DemoServer, HandService], changed: dict[str, Variable]
    ) -> None:
        server, service = world
        service.documents["/f.nc.dods"] = lambda query: (200, HandFile(changed).dods(query))
        with pytest.raises(SourceFormatError, match="asked was for"):
            self.read(server)
        assert server.requests.count() == 1

    def test_a_reply_without_end_is_not_read_to_its_end(self, world: tuple[DemoServer, HandService]) -> None:
        server, service = world
        service.documents["/f.nc.dods"] = biomass_file().dods("agb.agb[0:1:0][2:1:11][4:1:23]") + b"\0" * 5_000_000
        with pytest.raises(SourceUnavailableError, match="longer"):
            self.read(server)

    def test_one_byte_more(self, world: tuple[DemoServer, HandService]) -> None:
        server, service = world
        service.documents["/f.nc.dods"] = biomass_file().dods("agb.agb[0:1:0][2:1:11][4:1:23]") + b"\0"
        with pytest.raises(SourceUnavailableError, match="809 bytes of data, where the structure declares 808"):
            self.read(server)

    def test_garbled_texts(self, world: tuple[DemoServer, HandService]) -> None:
        server, _ = world
        server.faults.add(GarbledBody(), times=1)
        server.faults.add(GarbledBody(), ".das", times=1)
        assert DapClient(QUICK).open(f"{server.url}/f.nc").find("agb") is not None
        assert server.requests.count() == 4

    def test_a_silent_server(self, world: tuple[DemoServer, HandService]) -> None:
        server, _ = world
        server.faults.add(Delay(3), times=1)
        policy = type(QUICK)(deadline=20, max_attempts=3, initial_wait=0.01, max_wait=0.02, timeout=0.3)
        assert DapClient(policy).structure(f"{server.url}/f.nc")

    def test_a_stopped_server(self, world: tuple[DemoServer, HandService]) -> None:
        server, _ = world
        server.stop()
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            self.read(server)

    def test_no_address(self) -> None:
        with pytest.raises(SourceUnavailableError, match="can't be asked for"):
            DapClient(QUICK).structure("ftp://a.b/c")


def test_no_more_connections_than_allowed() -> None:
    with hand_server() as (server, service):
        service.put_file("/f.nc", biomass_file())
        whole, lock = biomass_file(), threading.Lock()
        under_way, most = 0, 0

        def slow(query: str) -> tuple[int, bytes]:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.05)
            with lock:
                under_way -= 1
            return 200, whole.dods(query)

        service.documents["/f.nc.dods"] = slow
        client, url = DapClient(QUICK, max_connections=3), f"{server.url}/f.nc"
        array = array_of(client, url, "agb")
        windows = [Window(row, row + 5, col, col + 5) for row in range(0, 25, 5) for col in range(0, 20, 5)]
        with ThreadPoolExecutor(10) as pool:
            read = list(pool.map(lambda window: client.read_window(url, array, window), windows))
        for window, values in zip(windows, read, strict=True):
            np.testing.assert_array_equal(values, whole.variables["agb"].values[0][window.slices])
        assert most == 3
