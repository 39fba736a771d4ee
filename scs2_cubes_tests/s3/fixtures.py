"""The server for a session's tests, and a bucket for each of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
import zarr.core.sync

from scs2_cubes_tests.s3.server import Bucket, Rgw, why_not

__all__ = ["bucket", "rgw"]


@pytest.fixture(scope="session")
def rgw() -> Iterator[Rgw]:
    """One for all tests of this process: it takes 15 seconds to start."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Not pytest's own folders: paths of sockets can't be long.
    folder = Path(tempfile.mkdtemp(prefix="scs2-rgw-"))
    server = Rgw(folder / "ceph")
    try:
        server.start()
        yield server
    finally:
        _disconnect()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bucket(rgw: Rgw, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new one, and no credentials but those that are given."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    yield rgw.bucket()
    _disconnect()


def _disconnect() -> None:
    """Close what s3fs keeps: it knows the environment of its first use, and what zarr reads with is never closed."""
    for filesystem in s3fs.S3FileSystem._cache.values():
        loop = zarr.core.sync._get_loop() if filesystem.asynchronous else filesystem.loop
        if filesystem._s3 is not None:
            asyncio.run_coroutine_threadsafe(filesystem._s3.close(), loop).result(10)
    s3fs.S3FileSystem.clear_instance_cache()
