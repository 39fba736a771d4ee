"""Stores and catalogues written for a test with xarray and zarr, and a server that hands them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from pyproj import CRS

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.catalogue import Catalogue, Resource
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.sources.stac import StacSource

#: Impatient, so that tests are quick: four attempts within a moment.
QUICK = RetryPolicy(deadline=20.0, max_attempts=4, initial_wait=0.01, max_wait=0.02, timeout=5.0)

ZARR_TYPE = "application/vnd.zarr"
DATA_ID = "forest/forest.json"


class Folder(Catalogue):
    """What lies in a folder, served as an object store would; ``etag`` makes the ETag of a content."""

    def __init__(self, folder: Path, etag: Callable[[bytes], str] = lambda _: '"unknown"') -> None:
        super().__init__()
        self._folder = folder
        self._etag = etag

    def read(self, path: str) -> Resource | None:
        file = self._folder / path.lstrip("/")
        if not file.is_file():
            return None
        content = file.read_bytes()
        return Resource(content, "binary/octet-stream", self._etag(content), datetime(2026, 1, 1, tzinfo=UTC))


@contextmanager
def served(folder: Path) -> Iterator[DemoServer]:
    """A server of the files in ``folder``, with the embedded catalogue's faults and log."""
    with DemoServer(catalogue=Folder(folder)) as server:
        yield server


def forest(
    *, dims: tuple[str, str] = ("y", "x"), crs: str = "EPSG:3035", crs_at: str = "coordinate", dtype: str = "int16"
) -> xr.Dataset:
    """70 rows x 90 columns of 20 m (or 0.001 degrees), from north to south, in chunks of 32 x 32, without time.

    ``crs_at``: where the CRS is written: ``coordinate``, ``crs coordinate``, ``data variable``, ``attribute`` or
    ``nowhere``.
    """
    step = 0.001 if CRS.from_user_input(crs).is_geographic else 20.0
    left, top = (-1.0, 44.5) if step < 1 else (3_400_003.0, 2_500_007.0)
    values = np.random.default_rng(3).integers(0, 200, (70, 90)).astype(dtype)
    dataset = xr.Dataset(
        {"age": (dims, values, {"units": "years", "long_name": "Age"})},
        coords={
            dims[0]: top - step * (np.arange(70) + 0.5),
            dims[1]: left + step * (np.arange(90) + 0.5),
        },
        attrs={"title": "Synthetic"},
    )
    dataset["age"].encoding = {"chunks": (32, 32), "_FillValue": np.dtype(dtype).type(-9999)}
    wkt = {"crs_wkt": CRS.from_user_input(crs).to_wkt()}
    if crs_at == "coordinate":
        return _mapped(dataset.assign_coords(spatial_ref=((), 0, wkt)), "spatial_ref")
    if crs_at == "crs coordinate":
        return _mapped(dataset.assign_coords(crs=((), 0, wkt)).assign_attrs(spatial_ref="a mere string"), "crs")
    if crs_at == "data variable":
        return _mapped(dataset.assign(spatial_ref=((), 0, {"spatial_ref": wkt["crs_wkt"]})), "spatial_ref")
    if crs_at == "attribute":
        return dataset.assign_attrs(spatial_ref=crs)
    return dataset


def _mapped(dataset: xr.Dataset, name: str) -> xr.Dataset:
    dataset["age"].attrs["grid_mapping"] = name
    return dataset


def write_store(dataset: xr.Dataset, path: Path, zarr_format: int = 2) -> Path:
    """Write with xarray, consolidated."""
    dataset.to_zarr(path, mode="w", zarr_format=zarr_format, consolidated=True)
    return path


def item(href: str, *, media_type: str | None = ZARR_TYPE, **changes: Any) -> dict[str, Any]:
    """A STAC item with one asset, or with other ``assets``."""
    asset: dict[str, Any] = {"href": href, "roles": ["data"]}
    if media_type is not None:
        asset["type"] = media_type
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": "forest",
        "geometry": None,
        "properties": {"datetime": "2020-12-31T00:00:00Z"},
        "links": [
            {"rel": "self", "href": "https://elsewhere.example/forest.json"},
            {"rel": "cite-as", "href": "https://doi.org/10.1000/182"},
        ],
        "assets": {"zarr": asset},
        **changes,
    }


def write_catalogue(folder: Path, document: Mapping[str, Any] | bytes) -> Path:
    """A catalogue ``catalog.json`` with the one item ``forest/forest.json``."""
    root = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "root",
        "description": "A catalogue of one item.",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            {"rel": "item", "href": "./forest/forest.json", "type": "application/geo+json"},
        ],
    }
    (folder / "forest").mkdir(parents=True, exist_ok=True)
    (folder / "catalog.json").write_text(json.dumps(root), encoding="utf-8")
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    (folder / DATA_ID).write_bytes(content)
    return folder / "catalog.json"


def source(url: str, rewrites: Mapping[str, str] | None = None, retry: RetryPolicy = QUICK) -> StacSource:
    return StacSource.open(StoreSpec("forests", "stac", {"url": url}, tuple((rewrites or {}).items()), retry))


def centres(dataset: xr.Dataset, dim: str) -> npt.NDArray[np.float64]:
    return np.asarray(dataset[dim].to_numpy(), dtype=np.float64)
