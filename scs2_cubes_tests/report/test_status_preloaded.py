"""The status of what was preloaded: the cache is asked for what lies there, its source for what it has now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes.demo.faults import GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes.preload import ARCHIVES
from scs2_cubes.report.status import PartitionStatus, latest_version, partition_statuses, probed_statuses

FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
#: 160 x 120 pixels of 30 m: two tiles of 128 columns.
BBOX = [3430007, 2450011, 3434807, 2453611]


class Place:
    """A configuration of one map that has to be fetched first."""

    def __init__(self, server: DemoServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        server.clms.queue_seconds = 0.05
        server.clms.write_credentials(folder / "key.json")

    def case(self) -> Case:
        clms = {"credentials": str(self.folder / "key.json"), "api_url": self.server.clms.api_url}
        data_id = f"forest-type-2015|{FILE}"
        grid = {"identifier": "here", "bbox": BBOX, "crs": "EPSG:3035", "spatial_res": 30, "tile_size": 128}
        retry = {"max_attempts": 2, "initial_wait": 0.01, "max_wait": 0.02, "deadline": 5, "timeout": 5}
        data = {
            "data_stores": [
                {"identifier": "storage", "store_id": "file", "store_params": {"root": str(self.folder / "cubes")}},
                {"identifier": "clms", "store_id": "clms", "store_params": clms},
            ],
            "preload_datasets": [{"store": "clms", "data_ids": [data_id]}],
            "grid_mappings": [grid],
            "datasets": [
                {"identifier": "forest", "store": "clms", "data_id": f"{data_id}.zarr", "grid_mapping": "here"}
            ],
            "general": {"retry": retry},
        }
        path = self.folder / "case.yml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return load_case(path, environ={})

    def fetch(self) -> None:
        (preload,) = self.case().preloads
        ARCHIVES["clms"](preload.store).fetch(preload, lambda _: None)

    def make(self) -> None:
        case = self.case()
        dataset = case.dataset("forest")
        planned = plan_partition(dataset, case.storage, describe_source(dataset), "here")
        prepare_cube(planned.plan, planned.store)
        materialize_partition(planned.plan, planned.partition, planned.store, ThreadCompute(2), lambda _: None)

    def told(self) -> PartitionStatus:
        """By what the source says."""
        case = self.case()
        (one,) = probed_statuses(case, case.dataset("forest"), ["here"])
        return one

    def known(self) -> PartitionStatus:
        """By what the cache says."""
        case = self.case()
        (one,) = partition_statuses(case, case.dataset("forest"), ["here"])
        return one

    def latest(self) -> str | None:
        return latest_version(self.case().dataset("forest"))


@pytest.fixture
def place(demo_server: DemoServer, tmp_path: Path) -> Place:
    return Place(demo_server, tmp_path)


def test_before_it_is_fetched_nobody_is_asked(place: Place) -> None:
    one = place.told()
    assert one == place.known()
    assert one.summary == "missing"
    assert (one.current, one.stale, one.missing) == (0, 0, 2)
    assert one.reason.startswith("not preloaded yet: ")
    assert place.latest() is None
    assert place.server.requests.count() == 0


def test_a_cube_whose_cache_is_gone(place: Place) -> None:
    place.fetch()
    place.make()
    for record in place.folder.rglob("record.json"):
        record.unlink()
    told = place.told()
    assert (told.summary, told.current, told.stale, told.missing) == ("unknown", 0, 0, 0)
    start = "2 tiles are made; whether they are current can't be told without the cache: "
    assert told.reason.startswith(start)
    assert "isn't finished" in told.reason
    (place.folder / "cubes/forest.records/tiles/y00x00.json").unlink()
    told = place.told()
    assert (told.summary, told.missing) == ("unknown", 1)
    assert told.reason.startswith("1 tile is made; whether it is current can't be told")


def test_from_version_to_version(place: Place) -> None:
    place.fetch()
    assert place.told().summary == "missing"
    place.make()
    current = place.told()
    assert (current.summary, current.current, current.reason) == ("current", 2, "")
    place.server.clms.publish(FILE, "V1_2")
    assert place.known() == current, "the cache knows nothing of it"
    one = place.told()
    assert (one.summary, one.current, one.stale, one.missing) == ("stale", 0, 2, 0)
    assert one.reason == f"source: clms has a newer version ({place.latest()}), to be fetched first"
    place.fetch()
    one = place.told()
    assert (one.summary, one.stale, one.reason) == ("stale", 2, "changed: source")
    place.make()
    assert place.told() == current


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (lambda server: server.stop(), "SourceUnavailableError"),
        (lambda server: server.faults.add(Status(503)), "SourceUnavailableError"),
        (lambda server: server.faults.add(Status(403)), "AccessDeniedError"),
        (lambda server: server.faults.add(GarbledBody()), "SourceFormatError"),
    ],
    ids=["stopped", "down", "denied", "garbled"],
)
def test_a_source_that_does_not_answer(place: Place, trouble: Callable[[DemoServer], object], error: str) -> None:
    place.fetch()
    place.make()
    trouble(place.server)
    one = place.told()
    assert (one.summary, one.current, one.stale) == ("unknown", 0, 0)
    assert one.reason.startswith(f"{error}: ")
    assert place.known().summary == "current"
