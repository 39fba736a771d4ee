"""Asking the web server for runs, as the web UI does, and what became of them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import dagster as dg
import pytest

_LAUNCH = """
mutation Launch($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
#: The size of Dagster's pool of connections, and its overflow.
_STALE_CONNECTIONS = 25


def launch(url: str, keys: Sequence[Sequence[str]], partition: str | None = None) -> str:
    """Put a run of the assets ``keys`` into the queue; its id.

    Asked again where the web server answers 500: it may still hold connections to a database that was killed, each of
    which costs one request.
    """
    tags = [{"key": "dagster/partition", "value": partition}] if partition else []
    parameters = {
        "selector": {
            "repositoryLocationName": "scs2_cubes",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": list(key)} for key in keys],
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": tags},
    }
    answer = _post(url, _LAUNCH, {"parameters": parameters})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def _post(url: str, query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    for _ in range(_STALE_CONNECTIONS):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                data = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            continue
        assert "errors" not in data, data
        found: Mapping[str, Any] = data["data"]
        return found
    pytest.fail(f"{url} goes on answering HTTP 500")


def attempts(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterRun]:
    """The run and what the daemon has started in its place, in that order."""
    group = instance.get_run_group(run_id)
    assert group is not None
    records = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in group[1]]))
    return [record.dagster_run for record in sorted(records, key=lambda record: record.create_timestamp)]


def is_settled(instance: dg.DagsterInstance, run_id: str) -> bool:
    """True where neither the run nor another one in its place is going on or will be."""
    return all(_is_settled(run) for run in attempts(instance, run_id))


def _is_settled(run: dg.DagsterRun) -> bool:
    # Whether a failed run is started again is written down a moment after its failure, and done later still.
    will_retry = run.tags.get("dagster/will_retry")
    if run.status == dg.DagsterRunStatus.FAILURE:
        return will_retry == "false" or (will_retry == "true" and "dagster/auto_retry_run_id" in run.tags)
    return run.status in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED}


def wait_until(what: str, condition: Callable[[], object], seconds: float, interval: float = 0.1) -> None:
    """Poll until ``condition`` holds."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            pytest.fail(f"waited for {what} for {seconds} s in vain")
        time.sleep(interval)
