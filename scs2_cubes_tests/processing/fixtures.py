"""Fixtures that other rooms' tests take over, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from scs2_cubes_tests.processing.archive import write_archive
from scs2_cubes_tests.processing.workbench import Workbench

__all__ = ["archive", "bench"]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small archive; to read only."""
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder)
    return folder


@pytest.fixture
def bench(tmp_path: Path, archive: Path) -> Workbench:
    """Reads the small archive."""
    return Workbench.of_archive(tmp_path, archive)
