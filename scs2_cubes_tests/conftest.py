"""What the tests of several rooms share: the embedded catalogue, a real S3 server, and the recorded archives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.s3.fixtures import bucket, rgw

__all__ = ["bucket", "demo_server", "recorded", "rgw"]


@pytest.fixture
def demo_server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture(scope="session")
def recorded() -> Path:
    """Folder of what was recorded of the real archives; it isn't part of the repository."""
    checkout = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("SCS2_RECORDED", checkout.parent / "shared/data/recorded"))
    if not folder.is_dir():
        pytest.skip(f"nothing recorded in {folder}; set SCS2_RECORDED")
    return folder
