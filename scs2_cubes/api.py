"""What a notebook needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scs2_cubes.config import load_case
from scs2_cubes.config.problems import nearest
from scs2_cubes.core.grid import Lattice, Region
from scs2_cubes.core.specification import Case, DatasetSpec, StoreSpec
from scs2_cubes.errors import ConfigurationError, CubeIdentityError, IncompleteCubeWarning, WrongCubeWarning
from scs2_cubes.pipeline.cubes import store_of
from scs2_cubes.pipeline.findings import noted_findings, noted_partitions
from scs2_cubes.pipeline.state import STATE_DOCUMENT, finished_tiles
from scs2_cubes.storage import CubeStore

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["cube_store", "open_cube", "source_store"]

_TILES_NAMED = 5


def open_cube(config: str | Path | Case | None, name: str, region: str | None = None) -> xr.Dataset:
    """Open the cube ``name`` lazily, in its stored dtypes: class codes stay integers.

    ``config`` is a configuration file (None: ``$SCS2_CONFIG`` or ``configs/scs2.yml``); ``region`` may be left out
    where the dataset has one. Dimensions are (y, x) or (time, y, x), lat and lon for a geographic CRS. Reads metadata
    and coordinates, and lists the tiles' records; pixels are read when they are used. Warns (IncompleteCubeWarning)
    where tiles aren't made yet: they read as no value; and (WrongCubeWarning) where a blocking check has found
    something wrong when the cube was last looked at. Raises ConfigurationError, CubeNotFoundError, CubeIdentityError
    where another configuration's cube lies there, or StorageError.
    """
    case = config if isinstance(config, Case) else load_case(config)
    store = cube_store(case, name, region)
    cube = store.open()
    chosen = [one for one in _dataset(case, name).regions if region in {None, one.name}]
    if chosen:
        _require_grid(cube, chosen[0].grid.lattice, store.url)
    missing = _missing(store, chosen[0] if chosen else None)
    if missing:
        narrowed = "".join(f" --region {one.name}" for one in chosen)
        text = f"{missing} aren't made yet and read as no value; run `scs2-cubes run --dataset {name}{narrowed}`"
        warnings.warn(text, IncompleteCubeWarning, stacklevel=2)
    for text in _wrong(store):
        warnings.warn(text, WrongCubeWarning, stacklevel=2)
    return cube


def _wrong(store: CubeStore) -> list[str]:
    """What blocking checks found of each partition when it was last looked at, for people."""
    findings = {key: noted_findings(store, key) for key in noted_partitions(store)}
    return [
        f"{store.url}: partition {key} isn't right: {'; '.join(f'{check}: {text}' for check, text in found.items())}"
        for key, found in findings.items()
        if found
    ]


def _missing(store: CubeStore, region: Region | None) -> str:
    """What of a cube has no record yet, for people; empty where all of it has."""
    if region is None:
        # On its native grid only the source knows how many tiles a cube has; the run that finished them has said so.
        state = store.read_document(STATE_DOCUMENT)
        return "" if state and state.get("complete") else f"tiles of {store.url}"
    keys, done = [tile.key for tile in region.grid.tiles()], finished_tiles(store)
    missing = [key for key in keys if key not in done]
    if not missing:
        return ""
    more = ", …" if len(missing) > _TILES_NAMED else ""
    return f"{len(missing)} of {len(keys)} tiles of {store.url} ({', '.join(missing[:_TILES_NAMED])}{more})"


def cube_store(case: Case, name: str, region: str | None = None) -> CubeStore:
    """Where the cube ``name`` lies; no I/O. Raises ConfigurationError for a name or region that isn't there."""
    dataset = _dataset(case, name)
    names = [one.name for one in dataset.regions]
    if region is None and len(names) <= 1:
        region = names[0] if names else None
    elif region not in names:
        given = "several regions; say which" if region is None else f"no region {region!r}"
        raise ConfigurationError(f"{case.name}: dataset {name!r} has {given}: {', '.join(names) or 'native grid only'}")
    return store_of(case.storage, dataset, region)


def source_store(case: Case, name: str) -> StoreSpec:
    """The store ``name`` that is read from; no I/O. Raises ConfigurationError, naming the nearest, for another name."""
    stores = {store.identifier: store for store in case.stores}
    if name not in stores:
        raise ConfigurationError(f"{case.name}: no data store {name!r} to read from; {nearest(name, stores)}")
    return stores[name]


def _require_grid(cube: xr.Dataset, lattice: Lattice, url: str) -> None:
    """Refuse a cube of another configuration that happens to lie at the same place."""
    y_dim, x_dim = ("y", "x") if "y" in cube.dims else ("lat", "lon")
    wanted = {y_dim: lattice.y_centres(), x_dim: lattice.x_centres()}
    for dim, centres in wanted.items():
        if not np.array_equal(cube[dim].to_numpy(), centres):
            raise CubeIdentityError(
                f"another cube lies at {url}: its {dim} goes from {cube[dim].to_numpy()[0]} to "
                f"{cube[dim].to_numpy()[-1]} ({cube.sizes[dim]} values), the configuration's from {centres[0]} to "
                f"{centres[-1]} ({len(centres)} values)"
            )


def _dataset(case: Case, name: str) -> DatasetSpec:
    try:
        return case.dataset(name)
    except KeyError:
        known = ", ".join(dataset.identifier for dataset in case.datasets)
        raise ConfigurationError(f"{case.name}: no dataset {name!r}; there are: {known}") from None
