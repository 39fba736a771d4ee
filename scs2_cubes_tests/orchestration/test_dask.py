"""Where tiles are computed makes no difference to the bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from distributed import LocalCluster

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.orchestration.resources import DaskResource
from scs2_cubes.pipeline import cluster
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes_tests.end_to_end.trial import Tree, Trial
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, events, materialize, with_sites


def make(trial: Trial, dask: dict[str, Any]) -> tuple[dg.ExecuteInProcessResult, Tree]:
    trial.data["dask"] = dask
    case = with_sites(trial, "first", "far_out").case()
    with trial.instance() as instance:
        result = materialize(case, instance, GENUS_KEY, span=("first", "far_out"))
    return result, trial.tree("*/genus")


@pytest.fixture
def reference(trial: Trial) -> Tree:
    root, home = trial.root, trial.home
    trial.data["data_stores"][0]["store_params"]["root"] = str(trial.folder / "reference")
    trial.root, trial.home = trial.folder / "reference", trial.folder / "reference_history"
    result, tree = make(trial, {"mode": "threads", "n_workers": 1})
    assert result.success
    trial.data["data_stores"][0]["store_params"]["root"] = str(root)
    trial.root, trial.home = root, home
    assert len([name for name in tree if "/tiles/" in name]) == 8
    return tree


@pytest.fixture
def scheduler() -> Iterator[str]:
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as running:
        yield running.scheduler_address


def test_threads_write_the_same_bytes(trial: Trial, reference: Tree) -> None:
    result, tree = make(trial, {"mode": "threads", "n_workers": 4})
    assert result.success
    assert tree == reference


def test_local_cluster_writes_the_same_bytes(trial: Trial, reference: Tree) -> None:
    result, tree = make(trial, {"mode": "local", "n_workers": 2})
    assert result.success
    assert tree == reference
    with trial.instance() as instance:
        assert all("dask_dashboard" in event.metadata for event in events(instance, GENUS_KEY))


def test_running_scheduler_writes_the_same_bytes_and_goes_on(trial: Trial, reference: Tree, scheduler: str) -> None:
    result, tree = make(trial, {"mode": "address", "address": scheduler})
    assert result.success
    assert tree == reference
    with DaskResource(mode="address", address=scheduler).connect():
        pass  # it is still there


def test_wrong_address_is_told_clearly(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    result, tree = make(trial, {"mode": "address", "address": address})
    assert not result.success
    assert not [name for name in tree if "/tiles/" in name]
    (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    # Once, not once for each partition, each with its own wait.
    assert failure.cause.message.count(f"no scheduler answers at {address}") == 1
    assert "set dask.mode to threads" in failure.cause.message


def test_nothing_is_started_where_all_is_current(trial: Trial) -> None:
    assert make(trial, {"mode": "threads"})[0].success
    # Whoever materializes by hand wants it checked; whoever runs what is due wants nothing here.
    trial.data["dask"] = {"mode": "address", "address": "tcp://127.0.0.1:1"}
    assert trial.run().code == 0


def test_address_from_the_environment(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.data["dask"] = {"mode": "address", "address": "${DASK_SCHEDULER_ADDRESS}"}
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://scheduler:8786")
    resource = DaskResource.of(trial.case())
    assert resource.address == "tcp://scheduler:8786"
    # What workers elsewhere would have to see.
    assert resource.folders == [str(trial.root)]


def test_what_lies_on_s3_is_no_folder(trial: Trial) -> None:
    case = trial.case()
    assert DaskResource.of(replace(case, storage=replace(case.storage, root="s3://bucket/cubes"))).folders == []


def test_a_step_on_a_worker_computes_by_its_own_threads(scheduler: str) -> None:
    """Otherwise it would wait for tasks on the very worker that it occupies."""

    def step() -> int:
        with DaskResource(mode="address", address="tcp://127.0.0.1:1").connect() as compute:
            assert isinstance(compute, ThreadCompute)
            return compute.n_threads

    with cluster.open_cluster(DaskSpec("address", scheduler), print) as running:
        assert running.client.submit(step).result(timeout=60) == 2
    with DaskResource(mode="address", address="tcp://127.0.0.1:1").connect() as compute:
        assert not isinstance(compute, ThreadCompute)
