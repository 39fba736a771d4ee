"""``scs2-cubes config``: reading, showing, and asking the sources."""

from __future__ import annotations

import json

import pytest
import yaml

from scs2_cubes_tests.end_to_end.trial import CHECKOUT, GAMI, Ended, Trial, in_process


def config(trial: Trial, *arguments: str) -> Ended:
    return in_process("config", *arguments, str(trial.write()), home=trial.home)


@pytest.mark.parametrize("name", ["scs2.yml", "demo.yml"])
def test_shipped_configurations_have_no_problem(trial: Trial, name: str) -> None:
    result = in_process("config", "check", str(CHECKOUT / "configs" / name), home=trial.home)
    assert result.code == 0
    assert "6 datasets, 1 region, 6 partitions, 1 preload: no problem found\n" in result.out


def test_check_tells_all_problems_at_once(trial: Trial) -> None:
    trial.data["datasets"][0]["store"] = "eoforest"
    trial.data["grid_mappings"][0]["tile_size"] = 0
    result = config(trial, "check")
    assert result.code == 2
    assert "2 problems" in result.err
    assert "datasets[0].store" in result.err
    assert "grid_mappings[0].tile_size" in result.err


def test_check_online_asks_for_metadata_only(trial: Trial) -> None:
    result = config(trial, "check", "--online")
    assert result.code == 0, result.said
    assert trial.server.requests.count() > 0
    assert trial.chunk_requests() == []
    assert not trial.root.exists()


def test_check_online_names_the_nearest_data_id(trial: Trial) -> None:
    trial.data["datasets"][0]["data_id"] = GAMI.replace("GAMI_v3.1.json", "GAMI_v3.2.json")
    trial.data["grid_mappings"][0]["bbox"] = [6700000, 2450000, 6701920, 2451920]
    result = config(trial, "check", "--online")
    assert result.code == 1
    first, second = result.err.strip().splitlines()
    assert "datasets[0] (gami): DataIdNotFoundError" in first
    assert f"nearest: {GAMI}" in first
    # A source outside of which the region lies is told in the same go.
    assert "datasets[1] (forestpaths_genus): PlanError" in second


def test_show_prints_what_takes_effect(trial: Trial) -> None:
    result = config(trial, "show")
    assert result.code == 0
    shown = yaml.safe_load(result.out)
    assert [entry["identifier"] for entry in shown["datasets"]] == ["gami", "forestpaths_genus"]
    assert shown["grid_mappings"][0]["size"] == [700, 640]
    assert shown["dask"]["mode"] == "threads"
    assert shown["general"]["retry"]["max_attempts"] == 2
    assert trial.server.requests.count() == 0


def test_schema_is_one(trial: Trial) -> None:
    result = in_process("config", "schema", home=trial.home)
    assert result.code == 0
    schema = json.loads(result.out)
    assert {"datasets", "data_stores", "grid_mappings", "general", "dask"} <= schema["properties"].keys()
