"""A place to try the whole platform in: a configuration, a folder for cubes, a Dagster history, embedded sources."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from scs2_cubes.cli import main
from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.stac import ORIGIN
from scs2_cubes.orchestration.instance import open_instance

CHECKOUT = Path(__file__).resolve().parents[2]
CATALOGUE = f"{ORIGIN}/dog.atlaseo-glm.eo-gridded-data/collections/public/catalog.json"
GAMI = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
GENUS = "structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json"
#: Paths of pixels: all other requests are for metadata, coordinates or documents.
CHUNK = re.compile(r"\.zarr/(forest_age|genus)/\d+(\.\d+)+$")
#: The command line, with the interpreter that runs this.
CLI = ("-c", "from scs2_cubes.cli import main; main()")
#: Quick to give up, so that a trial of a failure lasts a second.
IMPATIENT = {"max_attempts": 2, "initial_wait": 0.01, "max_wait": 0.05, "deadline": 2, "timeout": 20}
DEMO_BBOX = [3425404, 2440817, 3446390, 2460000]

Tree = Mapping[str, bytes]


def region(identifier: str, bbox: list[int], tile_size: int = 256) -> dict[str, Any]:
    return {"identifier": identifier, "bbox": bbox, "crs": "EPSG:3035", "spatial_res": 30, "tile_size": tile_size}


def dataset(identifier: str, data_id: str, grid_mapping: str | list[str]) -> dict[str, Any]:
    return {"identifier": identifier, "store": "eoforest_stac", "data_id": data_id, "grid_mapping": grid_mapping}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed, without white space: tables break long lines in the middle of a word."""
        return squeezed(self.out + self.err)

    @property
    def message_column(self) -> str:
        """The table's last column, put together again, without white space."""
        rows = [line for line in self.out.splitlines() if line.startswith("│")]
        return squeezed("".join(row.strip("│").rpartition("│")[2] for row in rows))

    def status_of(self, cube: str) -> str:
        """Second column of the table's row for ``cube``."""
        for line in self.out.splitlines():
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if cells[0] == cube:
                return cells[1]
        raise AssertionError(f"no row for {cube} in\n{self.out}")


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


class Trial:
    """One configuration that can be changed, run and looked at. Starts as the demonstration's."""

    def __init__(self, folder: Path, server: DemoServer) -> None:
        self.folder = folder
        self.server = server
        self.root = folder / "cubes"
        self.home = folder / "history"
        self.path = folder / "case.yml"
        self._started: list[subprocess.Popen[str]] = []
        self.data: dict[str, Any] = {
            "data_stores": [
                {"identifier": "storage", "store_id": "file", "store_params": {"root": str(self.root)}},
                {
                    "identifier": "eoforest_stac",
                    "store_id": "stac",
                    "store_params": {"url": CATALOGUE, "href_rewrite": {ORIGIN: server.url}},
                },
            ],
            "grid_mappings": [region("demo", DEMO_BBOX)],
            "datasets": [dataset("gami", GAMI, "demo"), dataset("forestpaths_genus", GENUS, "demo")],
            # Pictures have tests of their own; here they'd take most of the time.
            "general": {"retry": dict(IMPATIENT), "visualize": False},
        }

    def write(self) -> Path:
        self.path.write_text(yaml.safe_dump(self.data), encoding="utf-8")
        return self.path

    def case(self) -> Case:
        return load_case(self.write())

    def run(self, *arguments: str) -> Ended:
        """``scs2-cubes run`` in this process."""
        return in_process("run", "--config", str(self.write()), *arguments, home=self.home)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with open_instance(self.home) as instance:
            yield instance

    def start(self, *arguments: str, as_group: bool = False) -> subprocess.Popen[str]:
        """``scs2-cubes run`` in a process of its own; as a group, with what it starts, as in a terminal."""
        return self.start_python(CLI, "run", "--config", str(self.write()), *arguments, as_group=as_group)

    def start_python(
        self,
        how: Sequence[str],
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        folder: Path = CHECKOUT,
        as_group: bool = False,
    ) -> subprocess.Popen[str]:
        """This Python in a process of its own, which ends with the trial at the latest."""
        process = subprocess.Popen(
            [sys.executable, *how, *arguments],
            env=environment(self.home, extra),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=as_group,
        )
        self._started.append(process)
        return process

    def stop_all(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                process.communicate()

    def records(self, cube: str) -> set[str]:
        """Keys of the tiles of ``cube`` that are recorded as done."""
        return {path.stem for path in self.root.glob(f"{cube}.records/tiles/*.json")}

    def tree(self, cube: str = "*") -> Tree:
        """Path below the root → bytes, of all files of cubes and records."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for suffix in ("zarr", "records")
            for folder in self.root.glob(f"{cube}.{suffix}")
            for path in folder.rglob("*")
            if path.is_file()
        }

    def moments(self, cube: str = "*") -> dict[str, int]:
        """Path below the root → time of the last change, of all files of cubes and records."""
        return {name: (self.root / name).stat().st_mtime_ns for name in self.tree(cube)}

    def chunk_requests(self) -> list[str]:
        return sorted(request.path for request in self.server.requests.entries(CHUNK))


def in_process(*arguments: str, home: Path) -> Ended:
    """``scs2-cubes`` with ``arguments``, in this process: as the command line would, seconds faster."""
    out, err = io.StringIO(), io.StringIO()
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(arguments)
    except SystemExit as ended:
        return Ended(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        os.environ.pop("DAGSTER_HOME")
        if before is not None:
            os.environ["DAGSTER_HOME"] = before
    raise AssertionError("the command line came back without an exit code")


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of ours, with those that are given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SCS2_", "DAGSTER_", "PYTEST_", "COV"))
    }
    return {**kept, "DAGSTER_HOME": str(home), **(extra or {})}


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Ended:
    """What became of ``process``; it is killed where it doesn't end in time."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"still running after {seconds} s:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Poll until ``condition`` holds; fails after minutes, or where ``process`` ends before."""
    limit = time.monotonic() + 150
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended too early: {ended(process)}")
        if time.monotonic() > limit:
            raise AssertionError("waited for minutes in vain")
        time.sleep(0.01)
