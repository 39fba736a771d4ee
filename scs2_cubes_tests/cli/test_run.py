"""``scs2-cubes run``: what it makes, what it says, and its exit code."""

from __future__ import annotations

import shutil

import dagster as dg

from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import DEMO_BBOX, GAMI, Trial, dataset, in_process, region


def test_second_run_says_that_all_is_current(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    before = trial.moments()
    result = trial.run()
    assert result.code == 0
    assert result.out.startswith("Looking for what is due: 2 cubes, 2 partitions.")
    assert "All current: nothing to do." in result.out
    assert (result.status_of("gami (demo)"), result.status_of("forestpaths_genus (demo)")) == ("current", "current")
    assert trial.chunk_requests() == []
    assert trial.moments() == before


def test_lost_history_costs_nothing(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    shutil.rmtree(trial.home)
    before = trial.moments()
    assert trial.run().code == 0
    assert trial.chunk_requests() == []
    assert trial.moments() == before
    with trial.instance() as instance:
        for asset in trial.case().datasets:
            assert instance.get_materialized_partitions(dg.AssetKey(asset.identifier)) == {"demo"}


def test_only_what_was_asked_for(trial: Trial) -> None:
    small = [3430000, 2450000, 3431920, 2451920]
    trial.data["grid_mappings"] = [region("one", small, 32), region("two", [edge + 1920 for edge in small], 32)]
    trial.data["datasets"] = [dataset("gami", GAMI, ["one", "two"]), dataset("again", GAMI, ["one", "two"])]
    result = trial.run("--region", "two", "--dataset", "again")
    assert result.code == 0, result.said
    assert result.status_of("again (two)") == "made"
    assert "again (one)" not in result.out
    assert "gami" not in result.out
    assert sorted(path.relative_to(trial.root).as_posix() for path in trial.root.glob("*/*.zarr")) == ["two/again.zarr"]


def test_unknown_names_are_answered_with_the_nearest(trial: Trial) -> None:
    trial.data["grid_mappings"].append(region("landes", DEMO_BBOX))
    for option, name, nearest in (("--region", "lands", "landes"), ("--dataset", "gamy", "gami")):
        result = trial.run(option, name)
        assert result.code == 2
        assert f"no {option[2:]} {name!r}; did you mean {nearest!r}?" in result.err
        assert str(trial.path) in result.err
    assert not trial.root.exists()
    assert not trial.home.exists()


def test_misused_options_are_told(trial: Trial) -> None:
    result = trial.run("--regoin", "demo")
    assert result.code == 2
    assert "No such option" in result.err
    assert in_process("rum", home=trial.home).code == 2
    assert in_process("--version", home=trial.home).code == 0


def test_deleted_cube_is_made_again(trial: Trial, undisturbed: Undisturbed) -> None:
    """Someone who removes the folder of a cube, and not its records, gets the cube back, never an empty one."""
    undisturbed.copy_to(trial)
    shutil.rmtree(trial.root / "forestpaths_genus.zarr")
    result = trial.run()
    assert result.code == 0, result.said
    assert trial.tree() == undisturbed.tree


def test_what_cannot_be_fetched_leaves_no_cube(trial: Trial) -> None:
    """A cube that is laid out without a pixel would open as a finished one without any value."""
    search = f"{trial.server.url}/opensearch/request"
    params = {"endpoint_url": search, "cache_size": 1}
    trial.data["data_stores"].append({"identifier": "cci", "store_id": "cciodp", "store_params": params})
    data_id = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
    trial.data["datasets"] = [dataset("biomass", data_id, "demo") | {"store": "cci"}]
    result = trial.run()
    assert result.code == 1
    assert "cache_size: 1 byte, where less than 1 MB" in result.out
    assert "whichmayhave1B.Chooseasmallerregion" in result.message_column
    assert not (trial.root / "biomass.zarr").exists()
    assert not [path for path in (trial.root / "biomass.records").rglob("*") if path.is_file()]


def test_secret_in_the_file_is_warned_of_and_not_shown(trial: Trial) -> None:
    trial.data["data_stores"][1]["store_params"]["url"] = "http://someone:hunter2@127.0.0.1:9/catalog.json"
    result = trial.run("--dataset", "gami")
    assert result.code == 1
    assert "hunter2" not in result.out + result.err
    assert "a secret stands in the file" in result.out
    for command in (("config", "show"), ("config", "check"), ("config", "check", "--online")):
        said = in_process(*command, str(trial.path), home=trial.home)
        assert "hunter2" not in said.out + said.err
