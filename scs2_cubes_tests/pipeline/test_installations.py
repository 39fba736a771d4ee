"""What workers of a cluster have installed: other versions, other files, nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scs2_cubes
from scs2_cubes.errors import ConfigurationError, TileError
from scs2_cubes.pipeline.admission import Admission
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.installations import differing_sources, disagreements, source_fingerprint
from scs2_cubes_tests.end_to_end.trial import CHECKOUT
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, connected, slow
from scs2_cubes_tests.pipeline.worlds import genus_world


def another_checkout(folder: Path) -> Path:
    """A copy of this one, of the same version; where Python finds it."""
    root = folder / "checkout"
    shutil.copytree(Path(scs2_cubes.__file__).parent, root / "scs2_cubes", ignore=shutil.ignore_patterns("__pycache__"))
    return root


#: Of the grid of 130 x 135 pixels, in tiles of 32.
ALL_TILES = 25
#: What a release appends that notes, by its finished tiles, who has made what.
NOTING = """
_finish = Workshop.finish


def _noted(self, tile, results):
    record = _finish(self, tile, results)
    with open({path!r}, "a") as file:
        file.write(tile.key + "\\n")
    return record


Workshop.finish = _noted
"""


def older_checkout(folder: Path) -> dict[str, str]:
    """An environment with one in which a kernel was something else, and that notes in ``recorded`` what it records."""
    root = another_checkout(folder)
    with (root / "scs2_cubes" / "core" / "resample.py").open("a") as file:
        file.write("# before\n")
    with (root / "scs2_cubes" / "pipeline" / "tile.py").open("a") as file:
        file.write(NOTING.format(path=str(folder / "recorded")))
    return {"PYTHONPATH": f"{root}:{CHECKOUT}"}


def without_the_package(folder: Path) -> dict[str, str]:
    """An environment in which pip says that it is installed, but where it can't be imported."""
    module = folder / "broken" / "scs2_cubes.py"
    module.parent.mkdir()
    module.write_text("raise ModuleNotFoundError(\"No module named 'scs2_cubes'\")\n")
    return {"PYTHONPATH": f"{module.parent}:{CHECKOUT}"}


def pretended(folder: Path, package: str, version: str) -> dict[str, str]:
    """An environment in which ``package`` is said to be installed as ``version``; what is imported is the same."""
    metadata = folder / "elsewhere" / f"{package}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": f"{metadata.parents[1]}:{CHECKOUT}"}


def test_a_worker_with_another_version_of_ours(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker()
    processes.start_worker(extra=pretended(tmp_path, "scs2_cubes", "9.9.9"))
    with (
        connected(processes, 2),
        pytest.raises(ConfigurationError, match=r"scs2_cubes is .* here, 9\.9\.9 on worker tcp://127") as raised,
        open_compute(processes.spec),
    ):
        pytest.fail("it must not be used")
    # The other one isn't blamed.
    assert str(raised.value).count("worker tcp://") == 1


@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_a_worker_with_another_numba_is_told_of(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker(extra=pretended(tmp_path, "numba", "0.1.2"))
    told: list[str] = []
    with connected(processes, 1), open_compute(processes.spec, told.append):
        pass
    (line,) = told
    assert "numba is" in line
    assert "0.1.2 on worker tcp://127.0.0.1:" in line


def test_a_worker_of_an_older_checkout(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker()
    processes.start_worker(extra=older_checkout(tmp_path))
    here = source_fingerprint()[:12]
    with (
        connected(processes, 2),
        pytest.raises(
            ConfigurationError,
            match=rf"the source text of scs2_cubes is {here} here, [0-9a-f]{{12}} on worker tcp://127",
        ) as raised,
        open_compute(processes.spec),
    ):
        pytest.fail("it must not be used")
    # The other one isn't blamed.
    assert str(raised.value).count("worker tcp://") == 1
    assert "start workers again" in str(raised.value)


def test_a_worker_of_an_older_checkout_that_comes_later(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker()
    world = slow(genus_world(tmp_path), 1.0)
    told: list[str] = []

    def on_progress(_: object) -> None:
        if len(processes.workers) == 1:
            processes.start_worker(extra=older_checkout(tmp_path))

    with (
        connected(processes, 1),
        open_compute(processes.spec, told.append) as compute,
        pytest.raises(ConfigurationError, match="the source text of scs2_cubes is"),
    ):
        world.make(compute, on_progress)
    assert told == []
    assert not (tmp_path / "recorded").exists()


def test_one_that_comes_later_refuses_by_itself(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given tasks before anybody has looked at it: here nobody ever does."""
    monkeypatch.setattr(Admission, "examine", lambda *_: None)
    processes.start_worker()
    world = slow(genus_world(tmp_path), 1.0)

    def on_progress(_: object) -> None:
        if len(processes.workers) == 1:
            processes.start_worker(extra=older_checkout(tmp_path))

    with (
        connected(processes, 1),
        open_compute(processes.spec) as compute,
        pytest.raises(TileError, match=r"^tile y\d\dx\d\d: ConfigurationError: this worker has loaded another source"),
    ):
        world.make(compute, on_progress)
    assert 0 < len(world.store.records()) < ALL_TILES
    assert not (tmp_path / "recorded").exists()


def test_what_an_older_release_records_is_noted(tmp_path: Path) -> None:
    """Else the tests above could not fail: a run of that release itself."""
    environment = older_checkout(tmp_path)
    program = (
        "from pathlib import Path; from scs2_cubes_tests.pipeline.worlds import genus_world; "
        f"genus_world(Path({str(tmp_path)!r})).make()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, **environment}, check=True)
    assert len((tmp_path / "recorded").read_text().split()) == ALL_TILES


def test_one_of_a_release_that_takes_other_arguments(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those from before tasks held the fingerprint: its tasks fail, instead of waiting for ever."""
    monkeypatch.setattr(Admission, "examine", lambda *_: None)
    environment = older_checkout(tmp_path)
    graph = tmp_path / "checkout" / "scs2_cubes" / "pipeline" / "graph.py"
    lines = [line.replace("sources: str, ", "") for line in graph.read_text().splitlines(keepends=True)]
    graph.write_text("".join(line for line in lines if "require_sources(sources)" not in line))
    processes.start_worker()
    world = slow(genus_world(tmp_path), 1.0)

    def on_progress(_: object) -> None:
        if len(processes.workers) == 1:
            processes.start_worker(extra=environment)

    with (
        connected(processes, 1),
        open_compute(processes.spec) as compute,
        pytest.raises(TypeError, match="positional arguments but"),
    ):
        world.make(compute, on_progress)
    assert not (tmp_path / "recorded").exists()


@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_a_cluster_without_workers_is_compared_when_they_come(tmp_path: Path, processes: DaskProcesses) -> None:
    with open_compute(processes.spec, lambda _: None) as compute:
        processes.start_worker(extra=pretended(tmp_path, "scs2_cubes", "9.9.9"))
        with pytest.raises(ConfigurationError, match=r"scs2_cubes is .* here, 9\.9\.9 on worker tcp://127"):
            genus_world(tmp_path).make(compute)


def test_a_worker_without_the_package(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker(extra=without_the_package(tmp_path))
    with (
        connected(processes, 1),
        pytest.raises(
            ConfigurationError, match=r"missing \(.*No module named 'scs2_cubes'.*\) on worker tcp://127\.0\.0\.1"
        ),
        open_compute(processes.spec),
    ):
        pytest.fail("it must not be used")


def fingerprint_of(root: Path) -> str:
    """As another process has it that finds the package in ``root``."""
    program = "from scs2_cubes.pipeline.installations import source_fingerprint as f; print(f())"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.check_output([sys.executable, "-c", program], cwd=root, env=environment, text=True).strip()


def test_the_fingerprint_is_of_the_python_files(tmp_path: Path) -> None:
    root = another_checkout(tmp_path)
    package = root / "scs2_cubes"
    first = fingerprint_of(root)
    assert len(first) == 64
    # Wherever it lies, and whatever lies beside.
    moved = root.rename(tmp_path / "elsewhere")
    package = moved / "scs2_cubes"
    (package / "notes.txt").write_text("nothing that runs")
    assert fingerprint_of(moved) == first
    (package / "added.py").write_text("")
    added = fingerprint_of(moved)
    (package / "added.py").rename(package / "core" / "added.py")
    renamed = fingerprint_of(moved)
    (package / "core" / "added.py").write_text("1")
    changed = fingerprint_of(moved)
    assert len({first, added, renamed, changed}) == 4
    (package / "core" / "added.py").unlink()
    assert fingerprint_of(moved) == first


def test_the_fingerprint_is_of_what_was_loaded(tmp_path: Path) -> None:
    """Files change, and nobody has asked for it before."""
    root = another_checkout(tmp_path)
    before = fingerprint_of(root)
    changed = root / "scs2_cubes" / "core" / "resample.py"
    program = (
        "import pathlib, scs2_cubes.pipeline.tile; "
        f"pathlib.Path({str(changed)!r}).write_text('# after'); "
        "from scs2_cubes.pipeline.installations import source_fingerprint as f; print(f())"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=root, env=environment, text=True).strip()
    assert loaded == before != fingerprint_of(root)


def test_whose_files_differ() -> None:
    assert differing_sources("a" * 64, {"tcp://w:1": "a" * 64, "tcp://w:2": OSError("gone")}) is None
    found = differing_sources(
        "a" * 64,
        {
            "tcp://w:1": "b" * 64,
            "tcp://w:2": AttributeError("Can't get attribute 'source_fingerprint'"),
            "tcp://w:3": "b" * 64,
            "tcp://w:4": ModuleNotFoundError("No module named 'scs2_cubes'"),
        },
    )
    assert found is not None
    assert found.is_fatal
    assert found.text == (
        "the source text of scs2_cubes is aaaaaaaaaaaa here, bbbbbbbbbbbb on worker tcp://w:1, worker tcp://w:3, "
        "another one (AttributeError: Can't get attribute 'source_fingerprint') on worker tcp://w:2, "
        "missing (No module named 'scs2_cubes') on worker tcp://w:4"
    )


def answer(**packages: str | None) -> dict[str, Any]:
    same = {"scs2_cubes": "1", "python": "3.11.2.final.0", "dask": "1", "distributed": "1", "zarr": "1", "numpy": "1"}
    decoders = {"numba": "1", "rasterio": "1", "pyproj": "1", "numcodecs": "1"}
    return {"packages": {**same, **decoders, **packages}}


@pytest.mark.parametrize(
    ("scheduler", "worker", "expected"),
    [
        ({}, {}, []),
        ({"dask": "2"}, {}, [("dask is 1 here, 2 on the scheduler", True)]),
        ({"scs2_cubes": None}, {}, [("scs2_cubes is 1 here, not installed on the scheduler", True)]),
        ({}, {"distributed": "2"}, [("distributed is 1 here, 2 on worker tcp://w:1", True)]),
        ({}, {"python": "3.12.2.final.0"}, [("python is 3.11.2 here, 3.12.2 on worker tcp://w:1", True)]),
        ({}, {"python": "3.11.9.final.0"}, [("python is 3.11.2 here, 3.11.9 on worker tcp://w:1", False)]),
        ({}, {"rasterio": "2"}, [("rasterio is 1 here, 2 on worker tcp://w:1", False)]),
        ({}, {"pyproj": None}, [("pyproj is 1 here, not installed on worker tcp://w:1", False)]),
        ({}, {"numcodecs": "2"}, [("numcodecs is 1 here, 2 on worker tcp://w:1", False)]),
        (
            {"zarr": "3"},
            {"zarr": "3", "numpy": "2"},
            [
                ("zarr is 1 here, 3 on the scheduler, worker tcp://w:1", False),
                ("numpy is 1 here, 2 on worker tcp://w:1", False),
            ],
        ),
    ],
)
def test_what_differs(
    scheduler: dict[str, str | None], worker: dict[str, str | None], expected: list[tuple[str, bool]]
) -> None:
    versions = {
        "client": answer(),
        "scheduler": answer(**scheduler),
        "workers": {"tcp://w:1": answer(**worker), "tcp://v:1": answer()},
    }
    assert [(one.text, one.is_fatal) for one in disagreements(versions)] == expected


def test_many_workers_are_counted() -> None:
    workers = {f"tcp://w:{number}": answer(numpy="2") for number in range(1, 7)}
    (found,) = disagreements({"client": answer(), "scheduler": answer(), "workers": workers})
    assert found.text == "numpy is 1 here, 2 on worker tcp://w:1, worker tcp://w:2, worker tcp://w:3 and 3 more"
