"""Building on the cubes: the example in ``configs``, and what the IO manager hands to partitioned assets."""

from __future__ import annotations

import csv
import importlib.util
import shlex
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import dask.array
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
import zarr

from scs2_cubes.core.specification import Case
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes_tests.docs.cases import REFERENCE
from scs2_cubes_tests.docs.markdown import blocks
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, GENUS, Trial, dataset, ended
from scs2_cubes_tests.orchestration.archives import FILE, FOREST, Archives, preload_key, with_forest
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, events, materialize, with_sites

Array = npt.NDArray[Any]

EXAMPLE = CHECKOUT / "configs/biomass_by_genus.py"
KEY = dg.AssetKey("biomass_by_genus")
LIU = "biomass-carbon/LIU_BIOMASS/LIU_BIOMASS_v0.1/LIU_BIOMASS_v0.1.json"
CUBES = ("forest_type_2015", "liu", "forestpaths_genus")
#: Code → name, as the map's makers have them.
GENERA = ("larix", "picea", "pinus", "fagus", "quercus", "other_needleleaf", "other_broadleaf", "no_trees")
#: What the example says of its percentiles.
STEP = 25


def example(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as Dagster's ``-f`` loads it, for the configuration of ``trial``."""
    monkeypatch.setenv("SCS2_CONFIG", str(trial.write()))
    spec = importlib.util.spec_from_file_location("biomass_by_genus", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_example(module: ModuleType, instance: dg.DagsterInstance, partition: str) -> dg.ExecuteInProcessResult:
    job = module.defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[KEY], instance=instance, partition_key=partition, raise_on_error=False
    )
    assert isinstance(result, dg.ExecuteInProcessResult)
    return result


@pytest.fixture
def three_cubes(trial: Trial, archives: Archives) -> Trial:
    """The example's three cubes on two sites, and in the configuration on a third one, too."""
    names = ["first", "second", "third"]
    (forest,) = with_forest(trial, *names).data["datasets"]
    # Tiles of 32 x 32 pixels; the genus map has smaller chunks, which the others needn't have.
    small = dataset("forestpaths_genus", GENUS, names) | {"chunksize": {"y": 16, "x": 32}}
    trial.data["datasets"] = [forest | {"identifier": "forest_type_2015"}, dataset("liu", LIU, names), small]
    case = trial.case()
    with trial.instance() as instance:
        assert materialize(case, instance, preload_key(trial, FOREST)).success
        for name in CUBES:
            assert materialize(case, instance, dg.AssetKey(name), span=("first", "second")).success
    return trial


def stored(trial: Trial, site: str, cube: str, variable: str) -> Array:
    """What lies on disk, (y, x), undecoded."""
    array = zarr.open_group(trial.root / site / f"{cube}.zarr", mode="r")[variable]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check(table: list[dict[str, str]], forest: Array, genus: Array, biomass: Array) -> None:
    """``table`` against the arrays, by the definitions."""
    expected = {}
    for code, name in enumerate(GENERA):
        values = biomass[((forest == 1) | (forest == 2)) & (genus == code)]
        values = values[~np.isnan(values)].astype(np.float64)
        if values.size:
            expected[name] = values
    assert [row["genus"] for row in table] == list(expected)
    for row in table:
        values = expected[row["genus"]]
        assert int(row["pixels"]) == values.size
        assert float(row["area (km2)"]) == pytest.approx(values.size * 0.0009, abs=0.005)
        assert float(row["mean (kg)"]) == pytest.approx(values.mean(), abs=0.01)
        for share in (25, 50, 75):
            found = float(row[f"p{share} (kg)"])
            # At least so many are no larger, at most so many are smaller; to a step.
            assert np.mean(values <= found + STEP) >= share / 100
            assert np.mean(values < found - STEP) <= share / 100


def test_the_example_says_what_numpy_says(three_cubes: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example(three_cubes, monkeypatch)
    with three_cubes.instance() as instance:
        assert run_example(module, instance, "first").success
        (event,) = events(instance, KEY)
    path = three_cubes.root / "tables/biomass_by_genus-first.csv"
    table = table_of(path)
    forest = stored(three_cubes, "first", "forest_type_2015", FILE)
    genus = stored(three_cubes, "first", "forestpaths_genus", "genus")
    biomass = stored(three_cubes, "first", "liu", "aboveground_biomass")
    check(table, forest, genus, biomass)
    # All that the mask keeps out is there.
    assert {0, 1, 2, 254} <= set(np.unique(forest))
    assert len(table) >= 2
    assert sum(int(row["pixels"]) for row in table) < np.count_nonzero(~np.isnan(biomass) & (forest > 0))
    # The same in Dagster's metadata, as Markdown.
    assert event.partition == "first"
    shown = event.metadata["table"]
    assert isinstance(shown, dg.MarkdownMetadataValue)
    header, line, *rows = (tuple(row.strip("| ").split(" | ")) for row in str(shown.value).splitlines())
    assert set("".join(line)) <= {"-", "|"}
    assert [dict(zip(header, row, strict=True)) for row in rows] == table
    assert event.metadata["file"].value == str(path)


def test_the_command_in_the_reference(three_cubes: Trial) -> None:
    (block,) = (text for text in blocks(REFERENCE, "bash") if EXAMPLE.name in text)
    materializing, developing = (shlex.split(line) for line in block.splitlines())
    assert developing[1:] == ["dagster", "dev", "-f", f"configs/{EXAMPLE.name}"]
    assert materializing[:2] == ["SCS2_CONFIG=configs/scs2.yml", "dagster"]
    assert materializing[-2:] == ["--partition", "landes"]
    command = [*materializing[2:-1], "second"]
    path = str(three_cubes.write())
    result = ended(three_cubes.start_python(["-m", "dagster"], *command, extra={"SCS2_CONFIG": path}))
    assert result.code == 0, result.err
    check(
        table_of(three_cubes.root / "tables/biomass_by_genus-second.csv"),
        stored(three_cubes, "second", "forest_type_2015", FILE),
        stored(three_cubes, "second", "forestpaths_genus", "genus"),
        stored(three_cubes, "second", "liu", "aboveground_biomass"),
    )


def test_a_cube_that_is_not_there_is_named(three_cubes: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example(three_cubes, monkeypatch)
    (three_cubes.root / "second/liu.records/tiles/y01x00.json").unlink()
    with three_cubes.instance() as instance:
        refused = {key: run_example(module, instance, key) for key in ("second", "third")}
        assert events(instance, KEY) == []
    assert not (three_cubes.root / "tables").exists()
    for key, reason in {"second": "1 unfinished tiles (y01x00", "third": "third/forest_type_2015.zarr"}.items():
        (failure,) = [event.step_failure_data.error for event in refused[key].all_events if event.is_step_failure]
        assert failure is not None
        assert failure.cause is not None
        assert "CubeNotFoundError" in failure.cause.message
        assert reason in failure.cause.message
        assert "materialize it first" in failure.cause.message


def layers(forest: Array, genus: Array, biomass: Array, chunk: int) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Lazy arrays (y, x) with the attributes of cubes."""
    ny, nx = genus.shape
    coords = {"y": -30.0 * np.arange(ny), "x": 30.0 * np.arange(nx)}
    attrs = {"flag_values": list(range(8)), "flag_meanings": " ".join(GENERA)}

    def lazy(values: Array, **attrs: Any) -> xr.DataArray:
        return xr.DataArray(dask.array.from_array(values, chunks=chunk), coords, ("y", "x"), attrs=attrs)

    return lazy(forest), lazy(genus, **attrs), lazy(biomass, units="kg")


def test_known_distributions(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = example(_with_the_three_names(trial), monkeypatch).summary
    forest = np.full((40, 100), 1, np.uint8)
    genus = np.full((40, 100), 2, np.uint8)
    biomass = np.arange(4000, dtype=np.float32).reshape(40, 100) * 10
    # None of these may count.
    forest[0], forest[1], forest[2] = 0, 254, 255
    genus[3] = 255
    biomass[4] = np.nan
    # One is far beyond the histogram's end.
    genus[39, 99], biomass[39, 99] = 7, 3e6
    header, pinus, no_trees = summary(*layers(forest, genus, biomass, 16), 0.0009)
    assert header[:3] == ["genus", "pixels", "area (km2)"]
    assert pinus[:3] == ["pinus", "3499", "3.15"]
    # 5000, 5010 … 39980
    assert float(pinus[3]) == pytest.approx(22490)
    np.testing.assert_allclose([float(number) for number in pinus[4:]], [13745, 22490, 31235], atol=STEP)
    assert no_trees[:4] == ["no_trees", "1", "0.00", "3000000.00"]


def test_other_grids_are_refused(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = example(_with_the_three_names(trial), monkeypatch).summary
    ones = np.ones((4, 4), np.uint8)
    forest, genus, biomass = layers(ones, ones, ones.astype(np.float32), 2)
    with pytest.raises(ValueError, match="join='exact'"):
        summary(forest, genus, biomass.assign_coords(x=biomass["x"] + 1e-9), 0.0009)


def test_memory_depends_on_the_tile(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = example(_with_the_three_names(trial), monkeypatch).summary
    size, chunk = 2048, 256
    arrays = [
        dask.array.full((size, size), value, dtype=dtype, chunks=chunk)
        for value, dtype in ((1, np.uint8), (2, np.uint8), (500, np.float32))
    ]
    shapes = layers(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), 1)
    lazy = [xr.DataArray(one, dims=("y", "x"), attrs=like.attrs) for one, like in zip(arrays, shapes, strict=True)]
    tracemalloc.start()
    try:
        _, pinus = summary(*lazy, 0.0009)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pinus[1] == str(size * size)
    # The biomass alone takes 16 MiB.
    assert peak < 10 * 2**20


def _with_the_three_names(trial: Trial) -> Trial:
    trial.data["datasets"] = [dataset(name, GENUS, "demo") for name in CUBES]
    return trial


# What the IO manager hands to assets that take several partitions, or all.


def taking(
    seen: list[Any], partitions: list[str] | None, mapping: dg.PartitionMapping | None = None
) -> dg.AssetsDefinition:
    @dg.asset(
        ins={"cube": dg.AssetIn(GENUS_KEY, input_manager_key="cubes", partition_mapping=mapping)},
        partitions_def=dg.StaticPartitionsDefinition(partitions) if partitions else None,
    )
    def consumer(cube: Any) -> dg.MaterializeResult[None]:
        seen.append(cube)
        return dg.MaterializeResult()

    return consumer


def run_consumer(
    case: Case, instance: dg.DagsterInstance, consumer: dg.AssetsDefinition, **how: Any
) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(build_definitions(case), dg.Definitions(assets=[consumer]))
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(asset_selection=[consumer.key], instance=instance, raise_on_error=False, **how)


def span(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def test_one_some_and_all_partitions(trial: Trial) -> None:
    names = ["first", "second", "third"]
    case = with_sites(trial, *names).case()
    seen: list[Any] = []
    several = taking(seen, names)
    # Partitions of its own, each of which takes a subset of the cube's.
    pairs = dg.StaticPartitionMapping({"first": "west", "second": "east", "third": "west"})
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, span=("first", "third")).success
        assert run_consumer(case, instance, several, partition_key="second").success
        assert run_consumer(case, instance, several, tags=span("second", "third")).success
        assert run_consumer(case, instance, taking(seen, ["west", "east"], pairs), partition_key="west").success
        assert run_consumer(case, instance, taking(seen, None)).success
    one, some, subset, everything = seen
    assert isinstance(one, xr.Dataset)
    for found, expected in ((some, names[1:]), (subset, ["first", "third"]), (everything, names)):
        assert isinstance(found, Mapping)
        assert list(found) == expected
        for name, cube in found.items():
            np.testing.assert_array_equal(cube["genus"].to_numpy(), stored(trial, name, "genus", "genus"))
    np.testing.assert_array_equal(one["genus"].to_numpy(), stored(trial, "second", "genus", "genus"))


def test_of_several_partitions_each_has_to_be_there(trial: Trial) -> None:
    case = with_sites(trial, "first", "second", "third").case()
    seen: list[Any] = []
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, span=("first", "second")).success
        refused = run_consumer(case, instance, taking(seen, None))
    assert seen == []
    (failure,) = [event.step_failure_data.error for event in refused.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    assert "third/genus.zarr" in failure.cause.message
