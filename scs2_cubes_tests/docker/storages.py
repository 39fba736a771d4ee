"""Where the cubes of a trial lie: a folder, or a bucket. Read without the platform's own code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import yaml

from scs2_cubes_tests.docker.composition import DOCKER
from scs2_cubes_tests.end_to_end.trial import Tree
from scs2_cubes_tests.s3.server import OWNER, Bucket

__all__ = ["Folder", "InBucket", "Place", "tree"]

#: The region that the demonstration's cubes lie in.
_REGION = "demo"
_OF_CUBES = ("zarr", "records")


class Place(Protocol):
    """A storage of the platform's."""

    @property
    def entry(self) -> Mapping[str, Any] | None:
        """The configuration's ``storage``; None for the demonstration's own, a folder by ``SCS2_DEMO_ROOT``."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """What ``.env`` holds for it."""
        ...

    @property
    def ports(self) -> Mapping[str, int]:
        """Ports of services that run already: the container's → the one on loopback."""
        ...

    def tree(self, cube: str) -> Tree:
        """Path → bytes, of all files of a cube and its records."""
        ...

    def records(self, cube: str) -> Mapping[str, Any]:
        """Records of the tiles that are done, by their names."""
        ...

    def moments(self) -> Mapping[str, object]:
        """Path → when it was written last, of all files of all cubes."""
        ...


@dataclass(frozen=True)
class Folder:
    """On the volume of the containers."""

    volume: Path
    entry: None = None

    @property
    def variables(self) -> Mapping[str, str]:
        return {}

    @property
    def ports(self) -> Mapping[str, int]:
        return {}

    def tree(self, cube: str) -> Tree:
        return tree(self._region, cube)

    def records(self, cube: str) -> Mapping[str, Any]:
        found = {}
        for path in self._region.glob(f"{cube}.records/tiles/*.json"):
            # One that is being replaced at this moment isn't there.
            with suppress(FileNotFoundError, json.JSONDecodeError):
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def moments(self) -> Mapping[str, object]:
        return {str(path): path.stat().st_mtime_ns for path in self._region.rglob("*.zarr/**/*")}

    @property
    def _region(self) -> Path:
        return self.volume / _REGION


@dataclass(frozen=True)
class InBucket:
    """On S3, configured as ``docker/README.md`` says: the server has to run, and is told by the environment."""

    bucket: Bucket

    @property
    def entry(self) -> Mapping[str, Any]:
        text = (DOCKER / "README.md").read_text(encoding="utf-8")
        (entry,) = (
            store
            for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
            for store in yaml.safe_load(block)["data_stores"]
            if store["store_id"] == "s3"
        )
        return dict(entry)

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "S3_ACCESS_KEY_ID": OWNER["key"],
            "S3_SECRET_ACCESS_KEY": OWNER["secret"],
            "S3_BUCKET": self.bucket.name,
        }

    @property
    def ports(self) -> Mapping[str, int]:
        # By the name and port of the compose file's own server, in whose place this one is.
        port = urlsplit(self.bucket.server.url).port
        return {} if port is None else {"3900": port}

    def tree(self, cube: str) -> Tree:
        found: dict[str, bytes] = {}
        for suffix in _OF_CUBES:
            name = f"{cube}.{suffix}"
            found |= {f"{name}/{key}": value for key, value in self.bucket.objects(f"{self._region}/{name}").items()}
        return found

    def records(self, cube: str) -> Mapping[str, Any]:
        client, found = self.bucket.client, {}
        for key in self.bucket.keys(f"{self._region}/{cube}.records/tiles/"):
            # Listed, and being replaced at this moment.
            with suppress(client.exceptions.NoSuchKey):
                answer = client.get_object(Bucket=self.bucket.name, Key=key)
                found[Path(key).stem] = json.load(answer["Body"])
        return found

    def moments(self) -> Mapping[str, object]:
        return {entry["Key"]: entry["LastModified"] for entry in self._listed() if ".zarr/" in entry["Key"]}

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        pages = self.bucket.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket.name, Prefix=f"{self._region}/"):
            yield from page.get("Contents", ())

    @property
    def _region(self) -> str:
        (_, _, prefix) = self.entry["store_params"]["root"].partition("/")
        return f"{prefix}/{_REGION}"


def tree(folder: Path, cube: str = "*") -> Tree:
    """Path below ``folder`` → bytes, of all files of cubes and records."""
    paths = (path for suffix in _OF_CUBES for path in folder.glob(f"{cube}.{suffix}/**/*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}
