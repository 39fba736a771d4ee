"""A double of the seam to ordered archives, and trials that need it. What it delivers is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from scs2_cubes import preload
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import PreloadSpec, StoreSpec
from scs2_cubes.orchestration.provenance import source_key
from scs2_cubes.preload import ArchiveReport, Tell
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.sources import open_source
from scs2_cubes_tests.end_to_end.trial import Trial, region
from scs2_cubes_tests.orchestration.sites import SITES
from scs2_cubes_tests.preload.files import write_tif

FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
FOREST = f"forest-type-2015|{FILE}"
#: Another file of the service that nobody reads.
OTHER = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N30"
FOREST_KEY = dg.AssetKey("forest")


@dataclass
class Archives:
    """Stands for ``ARCHIVES["clms"]``: asks the source for its version, as the real one does, and orders nothing."""

    folder: Path
    fetches: list[str] = field(default_factory=list)
    """Data ids that were asked for."""
    orders: list[str] = field(default_factory=list)
    """Those of them that weren't in the cache."""
    failure: Exception | None = None
    """What asking for one raises."""

    def __call__(self, store: StoreSpec) -> Archive:
        return Archive(self, store)


@dataclass(frozen=True)
class Archive:
    """One store's."""

    archives: Archives
    store: StoreSpec

    @property
    def cache(self) -> ArchiveCache:
        assert self.store.cache is not None
        return ArchiveCache.open(self.store.cache)

    def fetch(self, spec: PreloadSpec, tell: Tell) -> ArchiveReport:
        self.archives.fetches.append(spec.data_id)
        tell(f"{spec.data_id}: looking for it")
        if self.archives.failure is not None:
            raise self.archives.failure
        version = open_source(spec.store).probe(spec.data_id)
        record = None if spec.force or self.cache.fault(spec.data_id) else self.cache.record(spec.data_id)
        if record is not None and record.version == version:
            url = self.cache.location(spec.data_id).url
            return ArchiveReport(spec.data_id, version, False, None, False, 0.0, 0, url, record.bytes, 0.25)
        self.archives.orders.append(spec.data_id)
        tell(f"{spec.data_id}: task 77 is Queued")
        return self.put(spec.data_id, version)

    def put(self, data_id: str, version: str) -> ArchiveReport:
        values = np.kron(
            np.random.default_rng(5).choice(np.array([0, 1, 2, 254], np.uint8), (150, 150)), np.ones((10, 10), np.uint8)
        )
        picture = write_tif(self.archives.folder / "picture.tif", values, west=3_421_000, north=2_465_000)
        record = self.cache.write(
            data_id,
            version,
            Mosaic.open([picture]),
            variable=data_id.partition("|")[2],
            attrs={},
            provenance={},
            href="https://land.example/forest",
            on_progress=lambda *_: None,
        )
        url = self.cache.location(data_id).url
        return ArchiveReport(data_id, version, True, "77", True, 1.5, 4321, url, record.bytes, 2.25)

    def describe(self, data_id: str) -> NativeDataset:
        return self.cache.describe(data_id)


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archives:
    found = Archives(tmp_path)
    monkeypatch.setattr(preload, "ARCHIVES", {"clms": found})
    return found


def with_forest(trial: Trial, *names: str) -> Trial:
    """``trial`` with one dataset, a forest type map that has to be preloaded, on a list of sites."""
    clms = {"credentials": "nowhere.json", "api_url": trial.server.clms.api_url}
    trial.data["data_stores"] = [
        *trial.data["data_stores"][:2],
        {"identifier": "clms", "store_id": "clms", "store_params": clms},
    ]
    trial.data["grid_mappings"] = [region(name, SITES[name][0], 32) for name in names]
    trial.data["datasets"] = [
        {"identifier": "forest", "store": "clms", "data_id": f"{FOREST}.zarr", "grid_mapping": list(names)}
    ]
    return trial


def searches(trial: Trial) -> int:
    """How often the service was asked what it offers; its answer has several pages."""
    return sum(
        request.path.endswith("@search") or request.path.endswith("@search/")
        for request in trial.server.requests.entries()
        if "b_start" not in request.query
    )


def preload_key(trial: Trial, data_id: str = FOREST) -> dg.AssetKey:
    (spec,) = (one for one in trial.case().preloads if one.data_id == data_id)
    return source_key(spec)


def archive(trial: Trial, archives: Callable[[StoreSpec], Archive]) -> Archive:
    """The store's."""
    (store,) = (one for one in trial.case().stores if one.identifier == "clms")
    return archives(store)
