"""A small case whose cubes lie in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scs2_cubes_tests.pipeline.editions import Archive, World
from scs2_cubes_tests.s3.server import OWNER, Bucket

__all__ = ["FOLDER", "on_s3", "storage_entry"]

FOLDER = "cubes"
#: Gives up within a second where nobody listens.
IMPATIENT = {"max_attempts": 2, "initial_wait": 0.01, "max_wait": 0.05, "deadline": 2, "timeout": 20}


def storage_entry(bucket: Bucket, **options: Any) -> dict[str, Any]:
    """``storage`` in the bucket: with the owner's key, unless ``login`` says otherwise."""
    login = options.pop("login", OWNER)
    return {
        "identifier": "storage",
        "store_id": "s3",
        "store_params": {
            "root": f"{options.pop('name', bucket.name)}/{FOLDER}",
            "storage_options": {"endpoint_url": bucket.server.url, **login, **options},
        },
    }


def on_s3(folder: Path, bucket: Bucket, **options: Any) -> World:
    """A case in ``folder`` with an archive beside it, whose storage is :func:`storage_entry`'s."""
    archive = Archive(folder / "archive")
    archive.publish()
    world = World(folder / "world", archive)
    world.data["data_stores"][0] = storage_entry(bucket, **options)
    world.data["general"] = {"retry": dict(IMPATIENT)}
    return world
