"""Windows of the embedded portal: a store, a small region, what is asked for, and what must come."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import Location, RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.demo.portal_files import Layout
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.preload import open_reader
from scs2_cubes.preload.base import WantedWindow
from scs2_cubes.preload.window_cache import Pieces

DATA_ID = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
YEARS = (2007, 2010, 2015, 2016, 2017, 2018, 2019, 2020, 2021, 2022)
VARIABLES = ("agb", "agb_sd")
FILL = -32768
#: Impatient, so that tests are quick.
QUICK = RetryPolicy(deadline=10.0, max_attempts=4, initial_wait=0.01, max_wait=0.02, timeout=5.0)
#: Rows and columns of the cache's pieces.
PIECE = 512
#: Within one piece, the upper left of the four that meet at (39936, 201216): coast, forest and open land.
WINDOW = Window(39_700, 39_900, 201_000, 201_200)
#: Right of it: another piece.
BESIDE = Window(39_700, 39_900, 201_230, 201_300)

_FILE = re.compile(r"-100m-(\d{4})-fv6\.0\.nc\.dods$")
_PROJECTION = re.compile(r"(agb|agb_sd)\.\1\[0:1:0\]\[(\d+):1:(\d+)\]\[(\d+):1:(\d+)\]")


@dataclass(frozen=True)
class Asked:
    """A request for pixels."""

    year: int
    variable: str
    window: Window

    @property
    def piece_count(self) -> int:
        """Pieces that it holds, whole ones."""
        return self.window.height * self.window.width // PIECE**2


def store_of(server: DemoServer | str, cache: Path | str, **params: Any) -> StoreSpec:
    """A store of the portal at a server, or its address, with its cache in a folder or at a URL."""
    url = server if isinstance(server, str) else server.url
    return StoreSpec(
        "esa_cci",
        "cciodp",
        {
            "endpoint_url": f"{url}/opensearch/request",
            "endpoint_description_url": f"{url}/opensearch/description.xml?parentIdentifier=cci",
            "max_connections": 4,
            "cache_size": 20 * 10**9,
            **params,
        },
        retry=QUICK,
        cache=StorageSpec(str(cache)),
    )


def asked(server: DemoServer, *, status: int | None = 200) -> list[Asked]:
    """The requests for pixels, in order of arrival."""
    found = []
    for request in server.requests.entries(_FILE, status=status):
        projection = _PROJECTION.fullmatch(unquote(request.query))
        if projection:
            row, last_row, col, last_col = (int(part) for part in projection.groups()[1:])
            year = _FILE.search(request.path)
            assert year is not None
            window = Window(row, last_row + 1, col, last_col + 1)
            found.append(Asked(int(year[1]), projection[1], window))
        else:
            # Coordinates, which every client reads; nothing else may look like pixels.
            assert "agb" not in request.query
    return found


def asked_twice(requests: Sequence[Asked]) -> list[tuple[Asked, Asked]]:
    """Pairs of requests for some of the same pixels."""
    return [
        (one, other)
        for one, other in itertools.combinations(requests, 2)
        if (one.year, one.variable) == (other.year, other.variable) and one.window.intersection(other.window)
    ]


def wanted(
    window: Window = WINDOW, steps: Sequence[int] = range(10), variables: Sequence[str] = VARIABLES
) -> tuple[WantedWindow, ...]:
    return tuple(WantedWindow(name, tuple(steps), window) for name in variables)


def read(native: Any, variable: str, step: int, window: Window = WINDOW) -> npt.NDArray[Any]:
    """``window`` from the cache, by the reader that the workers use."""
    reader, array = open_reader(native.location), native.array(variable)
    values = np.empty(window.shape, dtype=array.dtype)
    for row in range(window.row_start // PIECE, -(-window.row_stop // PIECE)):
        for col in range(window.col_start // PIECE, -(-window.col_stop // PIECE)):
            encoded = reader.fetch_chunk(array, (step, row, col))
            assert encoded is not None
            piece = reader.decode_chunk(array, (step, row, col), encoded)[0]
            pixels = Window(row * PIECE, row * PIECE + piece.shape[0], col * PIECE, col * PIECE + piece.shape[1])
            part = pixels.intersection(window)
            assert part is not None
            values[part.relative_to(window).slices] = piece[part.relative_to(pixels).slices]
    return values


def expected(
    stands: Stands, variable: str, year: int, window: Window = WINDOW, edition: int = 1
) -> npt.NDArray[np.int16]:
    rows, cols = np.arange(window.row_start, window.row_stop), np.arange(window.col_start, window.col_stop)
    return stands.biomass(rows, cols, year, edition)[VARIABLES.index(variable)]


def assert_held(native: Any, stands: Stands, window: Window = WINDOW, edition: int = 1) -> None:
    """Every step of both variables lies in the cache as the portal has it."""
    for step, year in enumerate(YEARS):
        for variable in VARIABLES:
            np.testing.assert_array_equal(
                read(native, variable, step, window), expected(stands, variable, year, window, edition)
            )


def pieces_of(location: Location) -> dict[str, int]:
    """Key below the data id's folder → bytes of every piece that lies there, found by its name alone."""
    pieces = Pieces.at(location)
    return {
        key.removeprefix(f"{pieces.folder}/"): len(pieces.objects.get(key) or b"")
        for key in pieces.objects.walk(pieces.folder)
        if re.search(r"/\d+\.\d+/\d+\.\d+$", key)
    }


@contextmanager
def quiet(server: DemoServer) -> Iterator[DemoServer]:
    """A server as if it were new; its stands are known already, which is what takes time."""
    server.faults.clear()
    server.faults.latency = 0.0
    server.portal.publish(1)
    server.portal.restore()
    server.portal.layout = Layout()
    server.requests.clear()
    yield server
