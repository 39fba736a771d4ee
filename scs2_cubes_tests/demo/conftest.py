from __future__ import annotations

import http.client
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xarray as xr

from scs2_cubes.demo.server import DemoServer

BASE = "/dog.atlaseo-glm.eo-gridded-data/collections"


@pytest.fixture
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[DemoServer]:
    """For tests that only read."""
    with DemoServer() as running:
        yield running


@pytest.fixture(scope="session")
def recorded() -> Path:
    checkout = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("SCS2_RECORDED", checkout.parent / "shared/data/recorded")) / "eoforest"
    if not folder.is_dir():
        pytest.skip(f"no recorded catalogue in {folder}; set SCS2_RECORDED")
    return folder


class Reply:
    """A response by the plainest client there is."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def ask(server: DemoServer, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Reply:
    """One request on a connection of its own; a path without a leading slash lies below collections/."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.request(method, path if path.startswith("/") else f"{BASE}/{path}", headers=dict(headers or {}))
        return Reply(connection.getresponse())
    finally:
        connection.close()


def open_store(server: DemoServer, store: str, **options: Any) -> xr.Dataset:
    """A store below collections/, as everybody opens one, but without Dask."""
    dataset: xr.Dataset = xr.open_zarr(f"{server.url}{BASE}/{store}", chunks=None, **options)
    return dataset
