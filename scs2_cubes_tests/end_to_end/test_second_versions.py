"""A cube's second version, through the command line and Dagster, from the embedded catalogue."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import xarray as xr
import yaml
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from scs2_cubes.cli import main
from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.stac import BUCKET, ORIGIN
from scs2_cubes.orchestration.assets import source_assets
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.instance import open_instance
from scs2_cubes_tests.pipeline.editions import Tree, tree

CHECKOUT = Path(__file__).resolve().parents[2]
TILES, SIZE = 9, 64
CATALOGUE = f"{ORIGIN}/{BUCKET}/collections/public/catalog.json"
CUBES = {
    "gami": "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json",
    "forestpaths_genus": (
        "structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json"
    ),
    "efda": "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json",
}
#: ``scs2-cubes``, which kills itself at a call of one of the store's methods: so many of them are begun, no more.
DYING = """
import os, signal, sys, threading
from scs2_cubes.cli import main
from scs2_cubes.storage.zarr_cube import ZarrCube

name, number = sys.argv[1], int(sys.argv[2])
real, lock, calls = getattr(ZarrCube, name), threading.Lock(), 0

def dying(*arguments, **options):
    global calls
    with lock:
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

setattr(ZarrCube, name, dying)
main(sys.argv[3:])
"""
EFDA = """
def modify(dataset):
    agent = dataset["disturbance_agent"]
    return dataset.drop_vars("disturbance_occurrence").assign(disturbance_agent={expression})
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Trial:
    """Three cubes of 192 x 192 pixels in nine tiles each, one of them made by a user's function."""

    def __init__(self, folder: Path, server: DemoServer) -> None:
        self.folder, self.server = folder, server
        self.root, self.home, self.path = folder / "cubes", folder / "history", folder / "case.yml"
        west, south, edge = 3_430_404, 2_446_817, 3 * SIZE * 30
        self.data: dict[str, Any] = {
            "data_stores": [
                {"identifier": "storage", "store_id": "file", "store_params": {"root": str(self.root)}},
                {
                    "identifier": "eoforest_stac",
                    "store_id": "stac",
                    "store_params": {"url": CATALOGUE, "href_rewrite": dict(server.href_rewrite)},
                },
            ],
            "grid_mappings": [
                {
                    "identifier": "demo",
                    "bbox": [west, south, west + edge, south + edge],
                    "crs": "EPSG:3035",
                    "spatial_res": 30,
                    "tile_size": SIZE,
                }
            ],
            "datasets": [
                {"identifier": cube, "store": "eoforest_stac", "data_id": data_id, "grid_mapping": "demo"}
                for cube, data_id in CUBES.items()
            ],
        }
        self.dataset("efda")["open_params"] = {"time_range": ["2022-01-01", None]}
        self.dataset("efda")["custom_processing"] = {"module_path": "mine", "function_name": "modify"}
        folder.mkdir(parents=True, exist_ok=True)
        self.function("agent.astype('uint8')")

    def dataset(self, identifier: str) -> dict[str, Any]:
        (entry,) = (entry for entry in self.data["datasets"] if entry["identifier"] == identifier)
        found: dict[str, Any] = entry
        return found

    def function(self, expression: str) -> None:
        (self.folder / "mine.py").write_text(EFDA.format(expression=expression), encoding="utf-8")

    def write(self, head: str = "") -> str:
        self.path.write_text(head + yaml.safe_dump(self.data), encoding="utf-8")
        return str(self.path)

    def case(self) -> Case:
        return load_case(self.write())

    def command(self, name: str, *arguments: str) -> Ended:
        """``scs2-cubes`` in this process."""
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        os.environ["DAGSTER_HOME"] = str(self.home)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main([name, "--config", self.write(), *arguments])
        except SystemExit as ended:
            return Ended(int(ended.code or 0), out.getvalue(), err.getvalue())
        finally:
            os.environ.clear()
            os.environ.update(before)
        raise AssertionError("the command line came back without an exit code")

    def states(self) -> dict[str, list[str]]:
        """Cube → status, tiles current, stale and missing, and why, from the command's table."""
        rows = [line for line in self.command("status").out.splitlines() if line.startswith("│")]
        cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
        return {row[0]: row[2:] for row in cells}

    def die(self, method: str, number: int, dataset: str) -> None:
        """``scs2-cubes run`` in a process that is killed (SIGKILL) at a call of the store's ``method``."""
        process = self.start(DYING, method, str(number), "run", "--config", self.write(), "--dataset", dataset)
        out, err = process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL, out + err

    def start(self, code: str, *arguments: str, home: Path | None = None) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCS2_", "DAGSTER_"))}
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**kept, "DAGSTER_HOME": str(home or self.home)},
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tree(self, cube: str | None = None) -> Tree:
        return {name: value for name, value in tree(self.root).items() if cube is None or name.startswith(f"{cube}.")}

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with open_instance(self.home) as instance:
            yield instance

    def probe(self) -> None:
        """Materialize the source assets, as a schedule would."""
        case = self.case()
        job = build_definitions(case).resolve_implicit_global_asset_job_def()
        with self.instance() as instance:
            for source in source_assets(case):
                assert job.execute_in_process(asset_selection=[source.key], instance=instance).success

    def dagster_states(self) -> dict[str, StaleStatus]:
        """Cube → what Dagster itself says of its partition."""
        graph = build_definitions(self.case()).resolve_asset_graph()
        with self.instance() as instance:
            resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
            return {cube: resolver.get_status(dg.AssetKey(cube), "demo") for cube in CUBES}

    def dagster_causes(self, cube: str) -> str:
        graph = build_definitions(self.case()).resolve_asset_graph()
        with self.instance() as instance:
            resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
            return "; ".join(cause.reason for cause in resolver.get_stale_causes(dg.AssetKey(cube), "demo"))

    def events(self, cube: str) -> list[dg.AssetMaterialization]:
        """All materializations of a cube, oldest first."""
        with self.instance() as instance:
            records = instance.fetch_materializations(dg.AssetKey(cube), limit=1000, ascending=True).records
        return [event for record in records if (event := record.asset_materialization) is not None]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture(scope="module")
def server(catalogue: Catalogue) -> Iterator[DemoServer]:
    with DemoServer(catalogue=catalogue) as running:
        yield running


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, server: DemoServer) -> Trial:
    """Version 1 of everything, made without any trouble."""
    trial = Trial(tmp_path_factory.mktemp("first") / "case", server)
    ended = trial.command("run")
    assert ended.code == 0, ended.out + ended.err
    return trial


@pytest.fixture
def trial(tmp_path: Path, first: Trial, catalogue: Catalogue) -> Iterator[Trial]:
    """A place in which version 1 of everything has been made."""
    shutil.copytree(first.folder, tmp_path / "case")
    yield Trial(tmp_path / "case", first.server)
    for collection in ("GAMI", "FORESTPATHS_GENUS", "EFDA"):
        catalogue.publish(collection, 1)


# Forth and back, for each of the three cubes in another way.


@dataclass(frozen=True)
class Change:
    """What makes one cube stale, and how that is taken back."""

    cube: str
    forth: Callable[[Trial], object]
    back: Callable[[Trial], object]
    why: str


CHANGES = {
    "source": Change(
        "forestpaths_genus",
        lambda trial: trial.server.catalogue.publish("FORESTPATHS_GENUS", 2),
        lambda trial: trial.server.catalogue.publish("FORESTPATHS_GENUS", 1),
        "changed: source",
    ),
    "function": Change(
        "efda",
        lambda trial: trial.function("agent.where(agent != 1, 2).astype('uint8')"),
        lambda trial: trial.function("agent.astype('uint8')"),
        "changed: function",
    ),
    "method": Change(
        "gami",
        lambda trial: trial.dataset("gami").update(spatial_resample_params={"interp_methods": "nearest"}),
        lambda trial: trial.dataset("gami").pop("spatial_resample_params"),
        "changed: configuration (method of forest_age)",
    ),
}
CURRENT = ["current", str(TILES), "0", "0", ""]


def require_agreement(trial: Trial, cube: str) -> None:
    """Pixels' records, attributes, the state of the whole and Dagster's history name the same versions."""
    folder = trial.root / f"{cube}.records"
    records = [json.loads(path.read_text()) for path in sorted((folder / "tiles").iterdir())]
    state = json.loads((folder / "cube.json").read_text())
    tags = trial.events(cube)[-1].tags or {}
    assert len(records) == TILES
    assert {record["data_version"] for record in records} == {state["data_version"]} == {tags["dagster/data_version"]}
    (source,) = {record["source_version"] for record in records}
    assert source == state["source_version"]
    assert [value for name, value in tags.items() if name.startswith("dagster/input_data_version/")] == [source]
    assert [path.stem for path in (folder / "versions").iterdir()] == [state["data_version"]]
    with xr.open_zarr(trial.root / f"{cube}.zarr") as opened:
        assert opened.attrs["source_version"] == source
        assert opened.attrs["history"] == state["history"]
    assert state["complete"] is True
    assert trial.dagster_states() == dict.fromkeys(CUBES, StaleStatus.FRESH)


@pytest.mark.parametrize("what", CHANGES)
def test_the_tiles_of_that_cube_alone_are_stale_and_are_remade(trial: Trial, first: Trial, what: str) -> None:
    change = CHANGES[what]
    assert trial.states() == dict.fromkeys(CUBES, CURRENT)
    assert trial.dagster_states() == dict.fromkeys(CUBES, StaleStatus.FRESH)
    change.forth(trial)
    trial.probe()
    expected = {cube: CURRENT for cube in CUBES if cube != change.cube}
    assert trial.states() == expected | {change.cube: ["stale", "0", str(TILES), "0", change.why]}
    assert trial.command("status").code == 1
    states = dict.fromkeys(CUBES, StaleStatus.FRESH) | {change.cube: StaleStatus.STALE}
    assert trial.dagster_states() == states
    assert trial.dagster_causes(change.cube) == (
        "has a new dependency data version" if what == "source" else "has a new code version"
    )
    ended = trial.command("run")
    assert ended.code == 0, ended.out + ended.err
    assert trial.states() == dict.fromkeys(CUBES, CURRENT)
    require_agreement(trial, change.cube)
    second = trial.tree()
    assert second != first.tree()
    assert {name for name in second if second[name] != first.tree().get(name)} <= trial.tree(change.cube).keys()
    assert trial.events(change.cube)[-1].metadata["tiles_made"].value == TILES
    assert [len(trial.events(cube)) for cube in CUBES] == [1 + (cube == change.cube) for cube in CUBES]


@pytest.mark.parametrize(
    ("what", "method", "number"),
    [
        ("source", "write_record", 4),
        ("function", "write_record", 5),
        ("method", "write_record", 3),
        pytest.param("source", "write_plane", 2, marks=pytest.mark.full),
        pytest.param("source", "complete", 1, marks=pytest.mark.full),
        pytest.param("source", "remove_record", 1, marks=pytest.mark.full),
        pytest.param("method", "remove_document", 1, marks=pytest.mark.full),
        pytest.param("function", "remove_document", 2, marks=pytest.mark.full),
    ],
)
def test_killed_in_the_middle_and_taken_back(trial: Trial, first: Trial, what: str, method: str, number: int) -> None:
    change = CHANGES[what]
    whole = first.tree()
    change.forth(trial)
    trial.die(method, number, change.cube)
    change.back(trial)
    # Whatever is recorded as version 1 is version 1.
    lying = trial.tree(change.cube)
    for name, value in lying.items():
        if "/tiles/" in name and value == whole[name]:
            row, col = int(name[-10:-8]), int(name[-7:-5])
            mine = [chunk for chunk in whole if chunk.startswith(change.cube) and chunk.endswith(f"{row}.{col}")]
            assert [lying.get(chunk) for chunk in mine] == [whole[chunk] for chunk in mine]
    status = trial.states()
    assert {cube: status[cube] for cube in CUBES if cube != change.cube} == {
        cube: CURRENT for cube in CUBES if cube != change.cube
    }
    ended = trial.command("run")
    assert ended.code == 0, ended.out + ended.err
    assert trial.tree() == whole
    assert trial.states() == dict.fromkeys(CUBES, CURRENT)
    require_agreement(trial, change.cube)


def test_what_changes_no_pixel_makes_nothing_stale(trial: Trial, first: Trial) -> None:
    trial.data["general"] = {"retry": {"max_attempts": 4}}
    trial.data["dask"] = {"mode": "threads", "n_workers": 1}
    trial.data["grid_mappings"][0]["crs"] = "epsg:3035"
    with DemoServer(catalogue=trial.server.catalogue) as mirror:
        trial.data["data_stores"][1]["store_params"]["href_rewrite"] = dict(mirror.href_rewrite)
        trial.write("# A mirror is nearer.\n")
        trial.probe()
        assert trial.states() == dict.fromkeys(CUBES, CURRENT)
        assert trial.dagster_states() == dict.fromkeys(CUBES, StaleStatus.FRESH)
        ended = trial.command("run")
    assert ended.code == 0
    assert "All current: nothing to do." in ended.out
    assert trial.tree() == first.tree()


def test_an_option_that_changes_nothing_is_told_to_dagster_and_makes_nothing(trial: Trial, first: Trial) -> None:
    """``bilinear`` is what GAMI's age gets anyway."""
    trial.dataset("gami")["spatial_resample_params"] = {"interp_methods": "bilinear"}
    assert trial.states()["gami"] == CURRENT
    assert trial.dagster_states()["gami"] == StaleStatus.STALE
    ended = trial.command("run")
    assert "All current: nothing to do." in ended.out
    assert trial.tree() == first.tree()
    assert trial.dagster_states() == dict.fromkeys(CUBES, StaleStatus.FRESH)
    assert trial.command("run").code == 0
    assert len(trial.events("gami")) == 2


def test_another_instance_adopts_what_is_finished(trial: Trial, first: Trial) -> None:
    shutil.rmtree(trial.home)
    trial.server.requests.clear()
    ended = trial.command("run")
    assert ended.code == 0, ended.out + ended.err
    assert "All current: nothing to do." in ended.out
    assert trial.tree() == first.tree()
    assert not [request for request in trial.server.requests.entries("forest_age/") if request.path[-1].isdigit()]
    for cube in CUBES:
        (event,) = trial.events(cube)
        assert (event.partition, event.metadata["adopted"].value) == ("demo", True)
        require_agreement(trial, cube)
    trial.command("run")
    assert [len(trial.events(cube)) for cube in CUBES] == [1, 1, 1]


# Time grows.


def test_the_atlas_gets_a_year(trial: Trial, first: Trial, tmp_path: Path) -> None:
    before = trial.tree("efda")
    trial.server.catalogue.publish("EFDA", 3)
    assert trial.states()["efda"] == ["stale", "0", str(TILES), "0", "changed: source"]
    ended = trial.command("run")
    assert ended.code == 0, ended.out + ended.err
    after = trial.tree("efda")
    pixels = [name for name in before if "/disturbance_agent/" in name and name[-1].isdigit()]
    # A tile at sea has none.
    assert len(pixels) == 2 * (TILES - 1)
    assert [after[name] for name in pixels] == [before[name] for name in pixels]
    new = [name for name in after if name not in before and name[-1].isdigit() and ".zarr/" in name]
    assert sorted(new) == sorted(name.replace("/1.", "/2.") for name in pixels if "/1." in name)
    with xr.open_zarr(trial.root / "efda.zarr", mask_and_scale=False) as opened:
        assert list(opened["time"].to_numpy()) == [np.datetime64(f"{year}-01-01") for year in (2022, 2023, 2024)]
        values = opened["disturbance_agent"].to_numpy()
    assert set(np.unique(values)) <= {0, 1, 2, 3, 255}
    assert not np.array_equal(values[2], values[1])
    require_agreement(trial, "efda")
    fresh = Trial(tmp_path / "fresh", trial.server)
    assert fresh.command("run", "--dataset", "efda").code == 0
    assert after == fresh.tree("efda")
    # The way back is refused, with what to do, and the others don't mind.
    trial.server.catalogue.publish("EFDA", 1)
    assert trial.states()["efda"][0] == "other cube"
    ended = trial.command("run")
    assert ended.code == 1
    said = "".join(ended.out.split()).replace("│", "")
    assert "time:3stepsthere,2here" in said
    assert trial.tree("efda") == after
    assert trial.command("retire", "efda").code == 0
    assert trial.command("run").code == 0
    assert trial.tree("efda") == {
        **{name.replace("efda.", "efda.retired-1.", 1): value for name, value in after.items()},
        **before,
    }


@pytest.mark.full
@pytest.mark.parametrize(("method", "number"), [("create", 1), ("write_plane", 5), ("write_record", 6)])
def test_the_atlas_gets_a_year_and_the_run_is_killed(trial: Trial, tmp_path: Path, method: str, number: int) -> None:
    trial.server.catalogue.publish("EFDA", 3)
    trial.die(method, number, "efda")
    assert trial.states()["efda"][0] in {"stale", "partly done"}
    assert trial.command("run").code == 0
    fresh = Trial(tmp_path / "fresh", trial.server)
    assert fresh.command("run", "--dataset", "efda").code == 0
    assert trial.tree("efda") == fresh.tree("efda")


# Retired, and several at once.


def test_a_retired_cube_makes_room_for_a_new_one(trial: Trial, first: Trial) -> None:
    before = trial.tree("gami")
    assert trial.command("retire", "gami").code == 0
    assert trial.states()["gami"] == ["missing", "0", "0", str(TILES), ""]
    assert trial.command("run").code == 0
    aside = {name.replace("gami.", "gami.retired-1.", 1): value for name, value in before.items()}
    assert trial.tree() == {**first.tree(), **aside}
    require_agreement(trial, "gami")


@pytest.mark.full
def test_two_processes_make_the_same_partition_at_once(trial: Trial, tmp_path: Path) -> None:
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    code = "from scs2_cubes.cli import main; main()"
    arguments = ("run", "--config", trial.write(), "--dataset", "forestpaths_genus")
    running = [trial.start(code, *arguments, home=tmp_path / f"history-{number}") for number in range(2)]
    for process in running:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, out + err
    fresh = Trial(tmp_path / "fresh", trial.server)
    assert fresh.command("run", "--dataset", "forestpaths_genus").code == 0
    assert trial.tree("forestpaths_genus") == fresh.tree("forestpaths_genus")
    assert trial.states()["forestpaths_genus"] == CURRENT
