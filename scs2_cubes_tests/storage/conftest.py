from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from scs2_cubes_tests.storage.worlds import Place

SECOND_FORMAT = 3


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Somewhere to store cubes. An object store joins the tests of this room by one more parameter."""
    if request.param == "folder":
        yield Place(str(tmp_path))
        return
    if request.param == "s3":
        spec = request.getfixturevalue("bucket").spec()
        yield Place(spec.root, spec.options)
        return
    root = f"memory://scs2-{uuid.uuid4().hex}"
    yield Place(root)
    filesystem, path = fsspec.core.url_to_fs(root)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One Zarr format on S3 is enough for every day: they differ in what is stored, not in how."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if params.get("place") == "s3" and params.get("schema") == SECOND_FORMAT:
            item.add_marker(pytest.mark.full)
