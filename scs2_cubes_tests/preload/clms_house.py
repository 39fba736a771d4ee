"""A store of the embedded land monitoring service with its cache, and what it was asked."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import xarray as xr

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import PreloadSpec, StorageSpec, StoreSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.preload.base import ArchiveReport
from scs2_cubes.preload.clms import ClmsPreload
from scs2_cubes.preload.clms_orders import Polling
from scs2_cubes_tests.preload.files import deliver, write_tif

#: The block of which the service holds 30 km x 30 km.
FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
DATA_ID = f"forest-type-2015|{FILE}"
NAME = DATA_ID.replace("|", "%7C")
POLLING = Polling(first=0.02, longest=0.05, told_every=60.0)
RETRY = RetryPolicy(deadline=20.0, max_attempts=4, initial_wait=0.01, max_wait=0.02, timeout=5.0)


@dataclass
class House:
    """``server`` runs; everything else lies in ``folder``."""

    server: DemoServer
    folder: Path
    place: StorageSpec
    told: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, server: DemoServer, folder: Path, place: StorageSpec | None = None) -> House:
        server.clms.queue_seconds = 0.05
        server.clms.write_credentials(folder / "key.json")
        return cls(server, folder, place or StorageSpec(str(folder / "cache")))

    def store(self, **params: Any) -> StoreSpec:
        """As the configuration gives it; a parameter None is left out."""
        usual = {"api_url": self.server.clms.api_url, "credentials": str(self.folder / "key.json")}
        given = {name: value for name, value in (usual | params).items() if value is not None}
        return StoreSpec("clms", "clms", given, (), RETRY, self.place)

    def preload(self, **params: Any) -> ClmsPreload:
        opened = ClmsPreload.open(self.store(**params))
        return ClmsPreload(opened.source, opened.cache, POLLING)

    def fetch(self, data_id: str = DATA_ID, params: Mapping[str, Any] | None = None, **spec: Any) -> ArchiveReport:
        preload = self.preload(**(params or {}))
        return preload.fetch(PreloadSpec(preload.source.store, data_id, **spec), self.told.append)

    @property
    def orders(self) -> int:
        return self.server.requests.count("@datarequest_post", method="POST", status=201)

    @property
    def downloads(self) -> int:
        return self.server.requests.count("/results/", method="GET")

    @property
    def text(self) -> str:
        return "\n".join(self.told)

    def journal(self) -> dict[str, Any] | None:
        content = self.files().get(f"orders/{NAME}.json")
        return None if content is None else dict(json.loads(content))

    def files(self) -> dict[str, bytes]:
        """Everything in the cache's folder, looked at with fsspec alone."""
        filesystem, path = fsspec.core.url_to_fs(self.place.root)
        if not filesystem.exists(path):
            return {}
        return {name.removeprefix(f"{path}/"): filesystem.cat_file(name) for name in filesystem.find(path)}

    def is_tidy(self) -> bool:
        """Whether nothing but finished groups and their records is left."""
        groups = {key.split("/")[2] for key in self.files() if ".zarr/" in key}
        return len(groups) <= 1 and all(
            re.fullmatch(r"archives/[^/]+/(record\.json|[0-9a-f]{32}\.zarr/.+)", key) for key in self.files()
        )

    def content(self) -> dict[str, bytes]:
        """The same as :meth:`files`, but for what only says what the groups are called: their names are random."""
        return {
            re.sub(r"[0-9a-f]{32}\.zarr", "zarr", key): content
            for key, content in self.files().items()
            if not key.endswith("record.json")
        }

    @property
    def record(self) -> Path:
        """What says that the cache is good, of a cache in a folder."""
        return Path(self.place.root) / "archives" / NAME / "record.json"

    @property
    def group(self) -> str:
        """Path or URL of the group, of which there is one."""
        (found,) = {key.partition(".zarr/")[0] for key in self.files() if ".zarr/" in key}
        return f"{self.place.root}/{found}.zarr"

    def pixels(self) -> npt.NDArray[np.uint8]:
        """What the cache holds, as xarray alone reads it."""
        with xr.open_zarr(self.group, mask_and_scale=False, chunks=None) as dataset:
            return np.asarray(dataset[FILE])

    def plant(self, values: npt.NDArray[np.uint8] | None = None, ballast: int = 0) -> npt.NDArray[np.uint8]:
        """Deliver a raster of our own, and so many bytes that can't be compressed beside it."""
        if values is None:
            values = RASTER
        tif = write_tif(self.folder / "planted.tif", values)
        members = {f"{FILE}/{FILE}.tif": tif.read_bytes(), f"{FILE}/notes.bin": np.random.default_rng(5).bytes(ballast)}
        self.server.clms.deliver(FILE, deliver(self.folder / "planted", members))
        return values

    def damage(self) -> None:
        """Flip a bit in the middle of the raster of the planted delivery."""
        path = self.folder / "planted" / "delivery.zip"
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("Results/delivery.zip").header_offset
        content = bytearray(path.read_bytes())
        content[start + 2000] ^= 1
        path.write_bytes(content)


def _raster() -> npt.NDArray[np.uint8]:
    """More rows than a chunk of the cache has."""
    codes = np.random.default_rng(11).choice(np.array([0, 1, 2, 254, 255], np.uint8), (120, 12))
    return np.kron(codes, np.ones((25, 25), np.uint8))


RASTER = _raster()
