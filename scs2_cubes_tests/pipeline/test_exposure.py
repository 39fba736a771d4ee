"""Access keys that travel to a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.core.native import Location
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.pipeline import cluster
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.exposure import exposed
from scs2_cubes.pipeline.graph import TileGraph, build_graph
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses
from scs2_cubes_tests.pipeline.worlds import genus_world

KEYS = {"key": "AKIDEXAMPLE", "secret": "wJalrXUtnFEMI", "endpoint_url": "http://127.0.0.1:1"}


def graph_of(*parts: Any) -> TileGraph[Any]:
    return TileGraph({f"task-{number}": (str, part) for number, part in enumerate(parts)}, {"task-0": "y00x00"})


def test_a_cube_on_disk_exposes_nothing(tmp_path: Path) -> None:
    world = genus_world(tmp_path)
    assert exposed(build_graph(world.plan, world.store, world.plan.region.grid.tiles())) == []


def test_keys_of_cube_and_source(tmp_path: Path) -> None:
    plan = genus_world(tmp_path).plan
    location = replace(plan.native.location, url="s3://archive/forest.zarr", options=KEYS)
    store = ZarrCube.at(StorageSpec("s3://bucket/cubes", KEYS), "forest")
    graph = build_graph(replace(plan, native=replace(plan.native, location=location)), store, plan.region.grid.tiles())
    assert exposed(graph) == ["s3://archive/forest.zarr", "s3://bucket/cubes"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (StorageSpec("s3://bucket", {"profile": "forest", "endpoint_url": "http://127.0.0.1:1"}), []),
        (StorageSpec("s3://bucket", {"anon": True}), []),
        (StorageSpec("s3://bucket", {"token": "session"}), ["s3://bucket"]),
        (StorageSpec("s3://bucket", {"client_kwargs": {"aws_secret_access_key": "wJalrXUtnFEMI"}}), ["s3://bucket"]),
        (StorageSpec("s3://user:word@bucket", KEYS), ["s3://bucket"]),
        # A cache's windows, read by their portal's form.
        (Location("s3://c/d", {"root": "s3://c", "storage_options": KEYS}, form="windows"), ["s3://c/d"]),
        (Location("s3://c/d", {"root": "s3://c", "storage_options": {}}, form="windows"), []),
    ],
)
def test_what_counts_as_a_key(part: object, expected: list[str]) -> None:
    assert exposed(graph_of(part)) == expected


def test_it_is_told_when_a_run_begins(processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.start_worker()
    told: list[str] = []
    with open_compute(processes.spec, told.append) as compute:
        compute.client.wait_for_workers(1, timeout=60)  # type: ignore[attr-defined]  # this one's a ClusterCompute
        compute.run(graph_of(StorageSpec("/data/cubes")), lambda _: None)
        assert told == []
        compute.run(graph_of(StorageSpec("s3://bucket/cubes", KEYS)), lambda _: None)
        compute.run(graph_of(StorageSpec("s3://bucket/cubes", KEYS)), lambda _: None)
    (line,) = told
    assert line.startswith(f"the access key of s3://bucket/cubes is sent to the scheduler at {processes.address} and ")
    assert "unencrypted" in line
    assert not any(secret in line for secret in ("AKIDEXAMPLE", "wJalrXUtnFEMI"))

    monkeypatch.setattr(cluster, "_ENCRYPTED", ("tcp://",))
    with open_compute(processes.spec, told.append) as compute:
        compute.run(graph_of(StorageSpec("s3://bucket/cubes", KEYS)), lambda _: None)
    assert len(told) == 1
