"""What a notebook needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scs2_cubes.config import load_case
from scs2_cubes.config.problems import nearest
from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.specification import Case, DatasetSpec, StoreSpec
from scs2_cubes.errors import ConfigurationError, CubeIdentityError
from scs2_cubes.pipeline.cubes import store_of
from scs2_cubes.storage import CubeStore

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["cube_store", "open_cube", "source_store"]


def open_cube(config: str | Path | Case | None, name: str, region: str | None = None) -> xr.Dataset:
    """Open the cube ``name`` lazily, in its stored dtypes: class codes stay integers.

    ``config`` is a configuration file (None: ``$SCS2_CONFIG`` or ``configs/scs2.yml``); ``region`` may be left out
    where the dataset has one. Dimensions are (y, x) or (time, y, x), lat and lon for a geographic CRS. Reads metadata
    and coordinates; pixels are read when they are used. Raises ConfigurationError,
    CubeNotFoundError, CubeIdentityError where another configuration's cube lies there, or StorageError.
    """
    case = config if isinstance(config, Case) else load_case(config)
    store = cube_store(case, name, region)
    cube = store.open()
    chosen = [one for one in _dataset(case, name).regions if region in {None, one.name}]
    if chosen:
        _require_grid(cube, chosen[0].grid.lattice, store.url)
    return cube


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
