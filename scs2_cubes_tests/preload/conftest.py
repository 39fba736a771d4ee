from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from scs2_cubes.core.specification import StorageSpec


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageSpec]:
    """Somewhere for a cache: a folder, and an object store."""
    if request.param == "folder":
        yield StorageSpec(str(tmp_path / "cache"))
        return
    root = f"memory://scs2-{uuid.uuid4().hex}"
    yield StorageSpec(root)
    filesystem, path = fsspec.core.url_to_fs(root)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)
