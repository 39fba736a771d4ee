"""The commands as people give them, in processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import urllib.request
from contextlib import suppress
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml

from scs2_cubes.api import open_cube
from scs2_cubes_tests.browser.dagster_dev import free_port, left_over
from scs2_cubes_tests.demo.clms_client import Client
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, CLI, Trial, ended, wait_until


def test_dagster_materializes_the_demonstration(trial: Trial, undisturbed: Undisturbed) -> None:
    trial.home.mkdir()
    command = ["asset", "materialize", "-m", "scs2_cubes.definitions", "--select", "gami", "--partition", "demo"]
    settings = {
        "SCS2_CONFIG": "configs/demo.yml",
        "SCS2_DEMO_URL": trial.server.url,
        "SCS2_DEMO_ROOT": str(trial.root),
    }
    result = ended(trial.start_python(["-m", "dagster"], *command, extra=settings))
    assert result.code == 0, result.err
    # The demonstration's grid is a list of one region, so that its cubes lie apart from the case's.
    trial.root = trial.root / "demo"
    trial.data["data_stores"][0]["store_params"]["root"] = str(trial.root)
    assert trial.tree() == undisturbed.part("gami")
    with trial.instance() as instance:
        (record,) = instance.fetch_materializations(dg.AssetKey("gami"), limit=10).records
    assert record.asset_materialization is not None
    assert record.partition_key == "demo"
    told = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    table = record.asset_materialization.metadata["variables"]
    assert isinstance(table, dg.TableMetadataValue)
    (row,) = table.records
    fraction = round(float(np.isfinite(open_cube(trial.case(), "gami")["forest_age"].to_numpy()).mean()), 6)
    assert row.data == {
        "variable": "forest_age",
        "kind": "ensemble",
        "dtype": "float32",
        "fill": "nan",
        "units": "years",
        "method": "bilinear",
        "valid fraction": fraction,
    }
    expected = {
        "shape": "1 x 640 x 700 (time, y, x)",
        "crs": "EPSG:3035",
        "chunks": "1 x 256 x 256",
        "tiles_made": 9,
        "tiles_kept": 0,
        "tiles_empty": 0,
        "source_chunks_absent": 0,
        "valid_fraction_forest_age": fraction,
    }
    assert {name: told[name] for name in expected} == expected
    assert {"bytes_written", "bytes_on_disk", "seconds", "source_version", "source", "cube"} <= told.keys()


def test_demonstration_from_another_folder_twice(trial: Trial, undisturbed: Undisturbed) -> None:
    document = yaml.safe_load((CHECKOUT / "configs/demo.yml").read_text())
    document["datasets"] = [one for one in document["datasets"] if one["identifier"] in {"gami", "forestpaths_genus"}]
    for one in document["datasets"]:
        one["grid_mapping"] = "demo"
    del document["preload_datasets"]
    config = str(trial.folder / "two.yml")
    Path(config).write_text(yaml.safe_dump(document))
    root = Path("some/where")
    first = ended(
        trial.start_python(CLI, "demo", "--port", "0", "--root", str(root), "--config", config, folder=trial.folder)
    )
    assert first.code == 0, first.err
    header = next(line for line in first.out.splitlines() if "cube" in line and "status" in line)
    columns = [cell.strip() for cell in header.replace("┃", "│").strip("│").split("│")]
    assert columns == ["cube", "status", "variables", "shape", "dtype", "valid", "size", "seconds", "message"]
    assert (first.status_of("gami (demo)"), first.status_of("forestpaths_genus (demo)")) == ("made", "made")
    trial.root = trial.folder / root
    assert trial.tree() == undisturbed.tree
    before = trial.moments()

    # Run on the same cubes and history, with sources whose requests can be counted.
    trial.data["data_stores"][0]["store_params"]["root"] = str(trial.root)
    second = ended(trial.start())
    assert second.code == 0, second.err
    assert "All current: nothing to do." in second.out
    assert (second.status_of("gami (demo)"), second.status_of("forestpaths_genus (demo)")) == ("current", "current")
    assert trial.chunk_requests() == []
    assert trial.moments() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_serving_sources_until_it_is_interrupted(trial: Trial, number: signal.Signals, code: int) -> None:
    process = trial.start_python(CLI, "demo", "--serve", "--port", "0")
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(6)]
    address, clms, search = (line.rpartition(" ")[2].strip() for line in said[:3])
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
        assert b'"EOForestSTAC"' in answer.read()
    # What a second shell needs.
    settings = dict(word.split("=", 1) for word in shlex.split(said[4]) if "=" in word)
    key = Path(settings.pop("SCS2_DEMO_CLMS_CREDENTIALS"))
    assert settings == {
        "SCS2_DEMO_URL": address.partition("/dog")[0],
        "SCS2_DEMO_ROOT": str(CHECKOUT / "data"),
        "SCS2_CONFIG": "configs/demo.yml",
    }
    with urllib.request.urlopen(
        f"{search}?parentIdentifier=cci&httpAccept=application/geo%2Bjson", timeout=10
    ) as answer:
        assert json.load(answer)["features"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert Client(clms, json.loads(key.read_text())).tasks() == {}
    process.send_signal(number)
    assert ended(process, 20).code == code
    assert not key.parent.exists()
    assert not trial.home.exists()


def test_web_ui_in_the_background_of_a_script_until_it_is_terminated(trial: Trial) -> None:
    """A shell that isn't a person's starts such jobs with interruptions ignored, and their children inherit that."""
    port = free_port()
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    process = trial.start_python(
        ("-c", ignoring + CLI[1]), "ui", "--config", str(trial.write()), "--port", str(port), as_group=True
    )

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
            return bool(answer.read())
        return False

    try:
        wait_until(answers, process)
        process.send_signal(signal.SIGTERM)
        # Not by the end of its output, which servers that are left keep open.
        assert process.wait(60) == 0
        assert left_over(trial.home) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.full
def test_same_bytes_whatever_the_number_of_threads(trial: Trial, undisturbed: Undisturbed) -> None:
    trial.data["dask"] = {"mode": "threads", "n_workers": 7}
    assert ended(trial.start()).code == 0
    assert trial.tree() == undisturbed.tree
