from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from scs2_cubes_tests.storage.worlds import Place


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Somewhere to store cubes. An object store joins the tests of this room by one more parameter."""
    if request.param == "folder":
        yield Place(str(tmp_path))
        return
    root = f"memory://scs2-{uuid.uuid4().hex}"
    yield Place(root)
    filesystem, path = fsspec.core.url_to_fs(root)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)
