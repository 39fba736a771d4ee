"""Small sources in the real layouts, served over loopback, for the benchmark's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scs2_cubes_tests.benchmarks.layouts import LAYOUTS
from scs2_cubes_tests.benchmarks.server import FileServer
from scs2_cubes_tests.benchmarks.stores import ensure_source, step_numbers, write_catalogue
from scs2_cubes_tests.benchmarks.tasks import Extent, Task

#: Four tiles, within the case's region; they share source chunks, and lie across an edge of some.
EXTENT = Extent("guard", (3461404.0, 2406797.0, 3461404.0 + 30 * 192, 2406797.0 + 30 * 192), 96)
STEPS = 2

MakeTask = Callable[..., Task]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the catalogue and of the six stores."""
    root: Path = tmp_path_factory.mktemp("benchmark-sources")
    write_catalogue(root, tuple(LAYOUTS.values()))
    for layout in LAYOUTS.values():
        ensure_source(root, layout, EXTENT.grid, step_numbers(layout, STEPS))
    return root


@pytest.fixture(scope="session")
def server(sources: Path) -> Iterator[FileServer]:
    with FileServer(sources) as running:
        yield running


@pytest.fixture
def make_task(server: FileServer, tmp_path: Path) -> MakeTask:
    """Task of a contender and a cube; its session is called ``<test's folder>-<cube>``."""

    def make(contender: str, cube: str, extent: Extent = EXTENT) -> Task:
        return Task(
            contender=contender,
            cube=cube,
            url=server.url(session_of(tmp_path, cube)),
            output=str(tmp_path / contender),
            reference=str(tmp_path / "ours"),
            extent=extent,
            steps=None if LAYOUTS[cube].default_steps is None else STEPS,
            threads=2,
            wraps_window=True,
        )

    return make


def session_of(folder: Path, cube: str) -> str:
    return f"{folder.name}-{cube}"
