"""What a notebook needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.pipeline.cubes import store_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["open_cube"]


def open_cube(config: str | Path | Case | None, name: str, region: str | None = None) -> xr.Dataset:
    """Open the cube ``name`` lazily, in its stored dtypes: class codes stay integers.

    ``config`` is a configuration file (None: ``$SCS2_CONFIG`` or ``configs/scs2.yml``); ``region`` may be left out
    where the dataset has one. Dimensions are (y, x) or (time, y, x), lat and lon for a geographic CRS. Reads metadata
    and coordinates; pixels are read when they are used. Raises ConfigurationError, CubeNotFoundError or StorageError.
    """
    case = config if isinstance(config, Case) else load_case(config)
    dataset = _dataset(case, name)
    names = [one.name for one in dataset.regions]
    if region is None and len(names) <= 1:
        region = names[0] if names else None
    elif region not in names:
        given = "several regions; say which" if region is None else f"no region {region!r}"
        raise ConfigurationError(f"{case.name}: dataset {name!r} has {given}: {', '.join(names) or 'native grid only'}")
    return store_of(case.storage, dataset, region).open()


def _dataset(case: Case, name: str) -> DatasetSpec:
    try:
        return case.dataset(name)
    except KeyError:
        known = ", ".join(dataset.identifier for dataset in case.datasets)
        raise ConfigurationError(f"{case.name}: no dataset {name!r}; there are: {known}") from None
