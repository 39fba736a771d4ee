"""Fixtures that several folders' conftest.py take over: embedded sources, a place to try things in, a reference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.trial import Tree, Trial

__all__ = ["Undisturbed", "catalogue", "server", "trial", "undisturbed"]


@dataclass(frozen=True)
class Undisturbed:
    """The demonstration's two cubes, made without any trouble."""

    folder: Path
    tree: Tree
    chunks: tuple[str, ...]
    """Paths of the source chunks that were asked for."""

    def part(self, cube: str) -> Tree:
        return {name: content for name, content in self.tree.items() if name.startswith(f"{cube}.")}

    def copy_to(self, trial: Trial) -> None:
        """Cubes and history as if ``trial`` had made them."""
        shutil.copytree(self.folder / "cubes", trial.root)
        shutil.copytree(self.folder / "history", trial.home)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """One for all servers, because it keeps the chunks that it has computed."""
    return Catalogue()


@pytest.fixture
def server(catalogue: Catalogue) -> Iterator[DemoServer]:
    with DemoServer(catalogue=catalogue) as running:
        yield running
    for collection in ("GAMI", "FORESTPATHS_GENUS"):
        catalogue.publish(collection, 1)


@pytest.fixture
def trial(tmp_path: Path, server: DemoServer) -> Iterator[Trial]:
    begun = Trial(tmp_path, server)
    yield begun
    begun.stop_all()


@pytest.fixture(scope="session")
def undisturbed(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    with DemoServer(catalogue=catalogue) as server:
        trial = Trial(folder, server)
        result = trial.run()
        assert result.code == 0, result.out + result.err
        return Undisturbed(folder, trial.tree(), tuple(sorted(set(trial.chunk_requests()))))
