"""Reads overlap, so that latency hardly costs: counted at the server for each kind of source, with one thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from scs2_cubes.config import load_case
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.stac import ORIGIN
from scs2_cubes.pipeline import windows
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes_tests.end_to_end.trial import CATALOGUE, DEMO_BBOX, GAMI, region
from scs2_cubes_tests.preload.portal_worlds import DATA_ID, asked, store_of, wanted
from scs2_cubes_tests.sources.file_worlds import NORTH, STEP, WEST, files, pixels, write_tif

EFDA = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"
#: Requests whose latencies have to overlap: what is here of a row of tiles has no more chunks, or no more are wanted at
#: once. 40 ms come to 10 ms a request then; the benchmark's ``--latency`` measures what that makes of the wall time.
AT_ONCE = 4
#: Seconds that a request waits for others; where they come, nobody waits.
PATIENCE = 5.0
CHUNK = re.compile(r"\.zarr/(forest_age|disturbance_agent|genus)/\d+(\.\d+)+$")


@dataclass
class Crowd:
    """A fault that answers when ``size`` requests have been there at once, or after ``patience`` seconds.

    Requests of clients that ask for one thing after the other never meet.
    """

    size: int
    patience: float = PATIENCE
    most: int = 0
    """How many were there at once, at most."""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, path: str, make: Callable[[], Answer]) -> Answer:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now >= self.size:
                self._open.set()
        self._open.wait(self.patience)
        try:
            return make()
        finally:
            with self._lock:
                self._now -= 1


def make_cube(
    folder: Path, data: dict[str, Any], server: DemoServer, crowd: Crowd, where: str | re.Pattern[str]
) -> int:
    """Make the one cube of a configuration, with one thread, while ``crowd`` is at the server; how many tiles it has.

    Source and plan are asked for before.
    """
    path = folder / "case.yml"
    storage = {"identifier": "storage", "store_id": "file", "store_params": {"root": str(folder / "cubes")}}
    path.write_text(yaml.safe_dump({**data, "data_stores": [storage, *data["data_stores"]]}), encoding="utf-8")
    case = load_case(path, environ={})
    (dataset,) = case.datasets
    planned = plan_partition(dataset, case.storage, describe_source(dataset), dataset.partition_keys[0])
    prepare_cube(planned.plan, planned.store)
    server.faults.add(crowd, where)
    compute = ThreadCompute(1)
    return materialize_partition(planned.plan, planned.partition, planned.store, compute, lambda _: None).made


def from_catalogue(server: DemoServer, data_id: str, **params: Any) -> dict[str, Any]:
    """One row of tiles of the demonstration's region."""
    store = {
        "identifier": "eoforest_stac",
        "store_id": "stac",
        "store_params": {"url": CATALOGUE, "href_rewrite": {ORIGIN: server.url}},
    }
    cube = {"identifier": "cube", "store": "eoforest_stac", "data_id": data_id, "grid_mapping": "row", **params}
    return {"data_stores": [store], "grid_mappings": [region("row", DEMO_BBOX, 1024)], "datasets": [cube]}


@pytest.mark.parametrize(
    ("data_id", "params", "at_once"),
    # Of GAMI's large chunks six are asked for at once; of EFDA four lie under the region.
    [(GAMI, {}, 6), (EFDA, {"open_params": {"time_range": ["2022-01-01", None]}}, AT_ONCE)],
    ids=["one job with members", "several jobs"],
)
def test_chunks_of_a_zarr_store(
    demo_server: DemoServer, tmp_path: Path, data_id: str, params: dict[str, Any], at_once: int
) -> None:
    crowd = Crowd(at_once)
    assert make_cube(tmp_path, from_catalogue(demo_server, data_id, **params), demo_server, crowd, CHUNK) == 1
    assert crowd.most >= at_once


def test_one_after_the_other_would_be_noticed(
    demo_server: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "READS_AT_ONCE", 1)
    crowd = Crowd(AT_ONCE, patience=0.05)
    assert make_cube(tmp_path, from_catalogue(demo_server, GAMI), demo_server, crowd, CHUNK) == 1
    assert crowd.most == 1


def test_tiles_of_a_geotiff_behind_a_web_server(tmp_path: Path) -> None:
    write_tif(tmp_path / "shelf/map.tif", pixels(shape=(700, 700)))
    crowd = Crowd(windows.READS_AT_ONCE)
    bbox = [WEST + 40 * STEP, NORTH - 640 * STEP, WEST + 640 * STEP, NORTH - 40 * STEP]
    with DemoServer(catalogue=files(tmp_path)) as server:
        store = {"identifier": "files", "store_id": "https", "store_params": {"root": f"{server.url}/shelf"}}
        data = {
            "data_stores": [store],
            "grid_mappings": [{**region("row", [], 640), "bbox": bbox}],
            "datasets": [{"identifier": "cube", "store": "files", "data_id": "map.tif", "grid_mapping": "row"}],
        }
        assert make_cube(tmp_path, data, server, crowd, "map.tif") == 1
    assert crowd.most >= windows.READS_AT_ONCE


def test_windows_of_the_portal(demo_server: DemoServer, tmp_path: Path) -> None:
    """As many at once as the server is to be asked; what describes a file is asked for beside its pixels."""
    source = EsaCciWindows.open(store_of(demo_server, tmp_path / "cache", max_connections=AT_ONCE))
    native = source.describe(DATA_ID)
    demo_server.requests.clear()
    crowd = Crowd(AT_ONCE)
    demo_server.faults.add(crowd, ".dods")
    source.fetch(native, wanted(), lambda _: None)
    assert crowd.most >= AT_ONCE
    assert len(asked(demo_server)) == 20
