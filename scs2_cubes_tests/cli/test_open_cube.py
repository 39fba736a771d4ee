"""``open_cube``: what a notebook needs."""

from __future__ import annotations

import shutil
import warnings

import dask.array
import numpy as np
import pytest
import zarr

from scs2_cubes.api import open_cube
from scs2_cubes.errors import ConfigurationError, CubeNotFoundError, IncompleteCubeWarning, WrongCubeWarning
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.materialize import prepare_cube
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import GENUS, Trial, dataset, in_process, region

SMALL = [3430000, 2450000, 3431920, 2451920]


def test_stored_dtypes_and_laziness(trial: Trial, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed.copy_to(trial)
    genus = open_cube(trial.write(), "forestpaths_genus")["genus"]
    assert genus.dtype == np.uint8
    assert genus.dims == ("y", "x")
    assert genus.shape == (640, 700)
    assert isinstance(genus.data, dask.array.Array)
    assert set(np.unique(genus.to_numpy()).tolist()) <= {0, 1, 2, 3, 4, 5, 6, 7, 255}
    age = open_cube(str(trial.path), "gami", "demo")["forest_age"]
    assert age.dtype == np.float32
    assert float(age["y"][0] - age["y"][1]) == 30.0
    monkeypatch.setenv("SCS2_CONFIG", str(trial.path))
    assert open_cube(None, "gami").identical(open_cube(trial.case(), "gami"))
    assert trial.server.requests.count() == 0


def test_names_that_are_not_there(trial: Trial) -> None:
    trial.data["grid_mappings"] = [region("one", SMALL, 32), region("two", SMALL, 64)]
    trial.data["datasets"] = [dataset("genus", GENUS, ["one", "two"]), dataset("single", GENUS, "one")]
    case = trial.case()
    with pytest.raises(ConfigurationError, match="no dataset 'genius'; there are: genus, single"):
        open_cube(case, "genius")
    with pytest.raises(ConfigurationError, match="'genus' has several regions; say which: one, two"):
        open_cube(case, "genus")
    with pytest.raises(ConfigurationError, match="no region 'three': one, two"):
        open_cube(case, "genus", "three")
    with pytest.raises(ConfigurationError, match="no region 'two': one"):
        open_cube(case, "single", "two")
    with pytest.raises(CubeNotFoundError, match=r"two/genus\.zarr; materialize it first"):
        open_cube(case, "genus", "two")
    with pytest.raises(CubeNotFoundError, match=r"cubes/single\.zarr"):
        open_cube(case, "single")


def test_tiles_that_are_not_made_yet_are_warned_of(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    case = trial.case()
    for tile in ("y00x01", "y02x02"):
        (trial.root / f"gami.records/tiles/{tile}.json").unlink()
    said = (
        r"^2 of 9 tiles of .*gami\.zarr \(y00x01, y02x02\) aren't made yet and read as no value; "
        r"run `scs2-cubes run --dataset gami --region demo`$"
    )
    with pytest.warns(IncompleteCubeWarning, match=said) as caught:
        cube = open_cube(case, "gami")
    # It points to the notebook, not into the package.
    assert caught[0].filename == __file__
    assert cube["forest_age"].shape == (640, 700)
    shutil.rmtree(trial.root / "gami.records/tiles")
    with pytest.warns(IncompleteCubeWarning, match=r"9 of 9 tiles of .* \(y00x00, y00x01, y00x02, y01x00, y01x01, …\)"):
        open_cube(case, "gami")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_cube(case, "forestpaths_genus")


def test_a_cube_that_was_found_to_be_wrong_is_warned_of(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    case = trial.case()
    array = zarr.open_array(trial.root / "forestpaths_genus.zarr", path="genus", mode="r+")
    array[10, 10:12] = 77
    assert in_process("check", "--config", str(trial.path), home=trial.home).code == 1
    with pytest.warns(
        WrongCubeWarning, match=r"genus\.zarr: partition demo isn't right: .*legal_codes: .*77"
    ) as caught:
        cube = open_cube(case, "forestpaths_genus")
    assert caught[0].filename == __file__
    assert int(cube["genus"][10, 10]) == 77
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_cube(case, "gami")


def test_an_unfinished_cube_on_its_native_grid_is_warned_of(trial: Trial) -> None:
    trial.data["datasets"] = [
        {key: value for key, value in dataset("genus", GENUS, "").items() if key != "grid_mapping"}
    ]
    case = trial.case()
    (spec,) = case.datasets
    planned = plan_partition(spec, case.storage, describe_source(spec), "native")
    prepare_cube(planned.plan, planned.store)
    with pytest.warns(IncompleteCubeWarning, match=r"^tiles of .*genus\.zarr aren't made yet.*--dataset genus`$"):
        open_cube(case, "genus")
    planned.store.write_document("cube.json", {"complete": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_cube(case, "genus")


def test_two_configurations_in_one_process_stay_apart(trial: Trial) -> None:
    """One is loaded, then another with the same names, other grids and another root; neither sees the other's."""
    trial.data["grid_mappings"] = [region("here", SMALL, 32)]
    trial.data["datasets"] = [dataset("genus", GENUS, "here")]
    first = trial.case()
    other = Trial(trial.folder / "other", trial.server)
    other.folder.mkdir()
    other.data["grid_mappings"] = [region("here", [3441000, 2450000, 3442920, 2451920], 64)]
    other.data["datasets"] = [dataset("genus", GENUS, "here")]
    second = other.case()
    assert other.run().code == 0
    with pytest.raises(CubeNotFoundError):
        open_cube(first, "genus")
    assert trial.run().code == 0
    here, there = open_cube(first, "genus"), open_cube(second, "genus")
    assert float(here["x"][0]) == 3430015.0
    assert float(there["x"][0]) == 3441015.0
    assert (here["genus"].chunks, there["genus"].chunks) == (((32, 32), (32, 32)), ((64,), (64,)))
    assert not np.array_equal(here["genus"].to_numpy(), there["genus"].to_numpy())
    again = other.run()
    assert "All current: nothing to do." in again.out
