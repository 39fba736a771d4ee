"""What can't be right is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import DEMO_BBOX, Trial, in_process, region, squeezed

Change = Callable[[dict[str, Any]], None]


def change(section: str, index: int, key: str, value: object) -> Change:
    def apply(data: dict[str, Any]) -> None:
        data[section][index][key] = value

    return apply


REFUSED: dict[str, tuple[Change, str]] = {
    "unknown key": (change("datasets", 0, "grid_maping", "demo"), "datasets[0].grid_maping: unknown key; did you mean"),
    "misspelt store": (
        change("datasets", 1, "store", "eoforest_stak"),
        "datasets[1].store: no data store 'eoforest_stak'; did you mean 'eoforest_stac'?",
    ),
    "misspelt grid": (
        change("datasets", 0, "grid_mapping", "dmo"),
        "datasets[0].grid_mapping: no grid mapping or dataset 'dmo'; did you mean 'demo'?",
    ),
    "bbox upside down": (
        change("grid_mappings", 0, "bbox", [DEMO_BBOX[0], DEMO_BBOX[3], DEMO_BBOX[2], DEMO_BBOX[1]]),
        "grid_mappings[0].bbox: should be west, south, east, north; here south >= north",
    ),
    "unknown CRS": (change("grid_mappings", 0, "crs", "EPSG:99999999"), "grid_mappings[0].crs: unknown CRS"),
    "no pixels in a tile": (change("grid_mappings", 0, "tile_size", 0), "grid_mappings[0].tile_size: should be"),
    "missing variable": (
        change("datasets", 0, "data_id", "${SCS2_TEST_NOWHERE}"),
        "datasets[0].data_id: the environment variable SCS2_TEST_NOWHERE isn't set",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_configuration_that_cannot_be_right(trial: Trial, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, words = REFUSED[name]
    monkeypatch.delenv("SCS2_TEST_NOWHERE", raising=False)
    apply(trial.data)
    result = trial.run()
    assert result.code == 2
    assert str(trial.path) in result.err
    assert words in result.err
    assert "Traceback" not in result.err
    # Not even a history, wherever it would have been.
    assert not trial.root.exists()
    assert not trial.home.exists()
    assert trial.server.requests.count() == 0


def test_absent_file(trial: Trial) -> None:
    result = in_process("run", "--config", str(trial.folder / "nowhere.yml"), home=trial.home)
    assert result.code == 2
    assert f"{trial.folder / 'nowhere.yml'}: there is no such configuration file" in result.err
    assert not trial.home.exists()


def test_region_outside_the_source(trial: Trial) -> None:
    trial.data["grid_mappings"] = [region("demo", [6700000, 2450000, 6701920, 2451920])]
    result = trial.run("--dataset", "forestpaths_genus")
    assert result.code == 1
    assert squeezed("region 'demo', bbox [6700000.0, 2450000.0, 6701920.0, 2451920.0]") in result.message_column
    assert "PlanError" in result.message_column
    assert "liesoutsidethesource" in result.message_column
    assert not trial.root.exists()


def test_misspelt_data_id(trial: Trial) -> None:
    trial.data["datasets"][0]["data_id"] = "structure-demography/GAMI/GAMI_v3.1/GAMI_v31.json"
    result = trial.run("--dataset", "gami")
    assert result.code == 1
    assert "DataIdNotFoundError" in result.message_column
    assert "nearest:structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json" in result.message_column
    assert not trial.root.exists()


OTHER_IDENTITIES: dict[str, tuple[Change, str]] = {
    # With the same keys of tiles, and the same pixels: only the cube itself tells them apart.
    "tile size": (change("grid_mappings", 0, "tile_size", 300), "chunks"),
    "Zarr format": (change("datasets", 1, "zarr_format", 3), "zarr_format"),
    "anchor": (change("grid_mappings", 0, "bbox", [DEMO_BBOX[0] + 10, *DEMO_BBOX[1:]]), "x"),
}


@pytest.mark.parametrize("name", OTHER_IDENTITIES)
def test_another_cube_at_the_same_place_is_left_alone(trial: Trial, undisturbed: Undisturbed, name: str) -> None:
    undisturbed.copy_to(trial)
    before = trial.moments()
    apply, words = OTHER_IDENTITIES[name]
    apply(trial.data)
    result = trial.run("--dataset", "forestpaths_genus")
    assert result.code == 1
    assert result.status_of("forestpaths_genus (demo)") == "failed"
    assert squeezed(f"CubeIdentityError: another cube lies at {trial.root}/forestpaths_genus.zarr") in squeezed(
        result.message_column
    )
    assert words in result.message_column.partition("itdiffersin")[2]
    assert trial.tree() == undisturbed.tree
    assert trial.moments() == before
