"""What the configuration says, as frozen values: handed down from ``config`` to everything that makes cubes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scs2_cubes.core.grid import Partition, Region, partitions_of
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.variables import Product, Statistic
from scs2_cubes.errors import redact

__all__ = [
    "NATIVE_PARTITION",
    "AutomationSpec",
    "Case",
    "DaskSpec",
    "DatasetSpec",
    "FunctionSpec",
    "PreloadSpec",
    "ResampleSpec",
    "SiteSpec",
    "StorageSpec",
    "StoreSpec",
    "VariableOptions",
]

#: Key of the one partition of a dataset on its native grid.
NATIVE_PARTITION = "native"


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A folder that is written to: of the cubes (the store called ``storage``), or of a store's cache."""

    root: str
    """Absolute path or fsspec URL of the folder."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """fsspec storage options; may hold secrets, so they're never printed."""

    def __repr__(self) -> str:
        # A URL may hold a password, and clusters log what their tasks are given.
        return f"StorageSpec({redact(self.root)!r})"


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """An entry of ``data_stores`` that is read from."""

    identifier: str
    """Name in the configuration."""
    protocol: str
    """``store_id``: ``stac``, ``clms``, ``cciodp``, ``s3``, ``file``, ``https``."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """``store_params`` without ``href_rewrite``; paths are absolute. May hold secrets, so it's never printed."""
    href_rewrite: tuple[tuple[str, str], ...] = ()
    """(prefix, replacement) for absolute links, longest prefix first. Not part of any version."""
    retry: RetryPolicy = RetryPolicy()
    """Policy for every request to this store."""
    cache: StorageSpec | None = None
    """Where lies what must be fetched before it can be read; None for stores that are read where they are."""

    def __repr__(self) -> str:
        return f"StoreSpec({self.identifier!r}, {self.protocol!r})"


@dataclass(frozen=True, slots=True)
class DaskSpec:
    """What computes the tiles."""

    mode: Literal["threads", "local", "address"] = "threads"
    """``threads`` in this process, ``local`` cluster of processes, or ``address`` of a running scheduler."""
    address: str | None = None
    """Scheduler's address, where the mode is ``address``."""
    n_workers: int | None = None
    """Threads (mode ``threads``) or worker processes (mode ``local``); None: one per core."""
    threads_per_worker: int = 1
    """Threads of each worker process, where the mode is ``local``."""
    memory_limit: str = "auto"
    """Memory limit of each worker process, where the mode is ``local``."""
    steps: bool = False
    """Whether whole steps may be tasks of the cluster, where the mode is ``address``: its workers can run them."""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A user's function, by value: it reaches workers that don't have its file."""

    name: str
    """Name of the function."""
    module: str
    """Name of the module, without folders and suffix."""
    path: str
    """Path of the module's file, for messages and tracebacks."""
    source: str
    """Text of the module: part of the data version."""
    whole: bool = False
    """``processing: whole``: the function isn't local in space, so it gets the whole region's window at once."""
    timeout: float = 900.0
    """Seconds that one call may take."""


@dataclass(frozen=True, slots=True)
class VariableOptions:
    """What a configuration asks for one variable; None: as the kind has it."""

    refine: str | None = None
    """``interp_methods``: ``nearest`` or ``bilinear``, for target pixels not larger than the source's."""
    coarsen: str | None = None
    """``agg_methods``, by the schema's name, for target pixels larger than the source's: ``mean``, ``mode`` …"""
    fill: float | None = None
    """``fill_values``: the number stored where there is no value."""


@dataclass(frozen=True, slots=True)
class ResampleSpec:
    """``spatial_resample_params``."""

    default: VariableOptions = VariableOptions()
    """For every variable, where the configuration gives one value for all."""
    variables: Mapping[str, VariableOptions] = field(default_factory=dict)
    """By the variable's name in the cube."""
    only: tuple[str, ...] | None = None
    """``variables``: the variables that are resampled, and so are in the cube; None: all."""
    error_model: str = "correlated"
    """How errors of standard deviations go together where pixels are averaged: ``correlated`` or ``independent``."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """An entry of ``datasets``: one cube on each of its regions."""

    identifier: str
    """Name of the cube; may contain ``/``."""
    store: StoreSpec
    """Where the source is."""
    data_id: str
    """Which of the store's datasets."""
    regions: tuple[Region, ...]
    """The regions it is made for; empty: the source's own grid."""
    region_folders: bool
    """True where cubes lie in a folder per region: whenever the grid is a list, group or table of regions."""
    product: Product | None
    """What its values mean; None where no known product matches the data id."""
    time_range: tuple[str | None, str | None] | None = None
    """``open_params.time_range``: first and last date, inclusive, ISO 8601."""
    variable_names: tuple[str, ...] | None = None
    """``open_params.variable_names``: which variables, by their names in the cube; None: all."""
    zarr_format: int = 2
    """Zarr format of the cube: 2 or 3."""
    description: str = ""
    """For the asset's page."""
    bbox: tuple[float, float, float, float] | None = None
    """``open_params.bbox`` (west, south, east, north): the part of the source that is used; None: all of it."""
    bbox_crs: str | None = None
    """``open_params.crs``: the CRS of ``bbox``; None: the source's own."""
    processing: FunctionSpec | None = None
    """``custom_processing``: Dataset → Dataset, applied to each tile's window of the source."""
    resampling: ResampleSpec = ResampleSpec()
    """``spatial_resample_params``."""
    statistics: Mapping[str, tuple[Statistic, ...]] = field(default_factory=dict)
    """Ensemble variable → statistics of its members, each a layer of the cube; default: mean."""
    zero_is_value: frozenset[str] = frozenset()
    """Variables whose 0 is a value although the source declares it as nodata: ``zero: value``."""
    chunks: tuple[int, int] | None = None
    """``chunksize``: (rows, columns) of the cube's chunks; None: one chunk per tile."""
    remade_on_new_version: bool = False
    """``automation: on_new_version``: what a new version of the source makes stale is made again by itself."""
    quicklook_times: tuple[str, ...] = ()
    """``quicklook_times``: dates (ISO 8601) whose nearest steps are drawn; empty: the first, the middle, the last."""

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions of all regions, in the order of the configuration; empty for the native grid."""
        return tuple(partition for region in self.regions for partition in partitions_of(region))

    @property
    def partition_keys(self) -> tuple[str, ...]:
        """Dagster's partition keys."""
        return tuple(partition.key for partition in self.partitions) or (NATIVE_PARTITION,)


@dataclass(frozen=True, slots=True)
class PreloadSpec:
    """One dataset of a store that has to be ordered and fetched before it can be read."""

    store: StoreSpec
    """Where it is ordered, and where its cache lies."""
    data_id: str
    """Which of the store's datasets, without ``.zarr``."""
    max_wait: float = 7200.0
    """Seconds for which a run waits for an order; past them the order is remembered, and the next run goes on."""
    cleanup: bool = True
    """Whether downloaded archives are removed once the cache is complete."""
    force: bool = False
    """Whether it is ordered and fetched anew although the cache is good."""


@dataclass(frozen=True, slots=True)
class AutomationSpec:
    """``automation``: how the sources are watched."""

    interval: int = 3600
    """Seconds between two looks at the sources."""
    running: bool = True
    """Whether the sensors run without being switched on in the web UI."""


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """An entry of ``sites``: a point of which time series are drawn."""

    name: str
    """Its identifier."""
    x: float
    """Easting or longitude, in units of ``crs``."""
    y: float
    """Northing or latitude."""
    crs: str
    """CRS of the point."""


@dataclass(frozen=True, slots=True)
class Case:
    """A whole configuration, resolved and checked."""

    name: str
    """Path of the file, for messages."""
    datasets: tuple[DatasetSpec, ...]
    """In the order of the file."""
    stores: tuple[StoreSpec, ...]
    """Everything that is read from."""
    regions: tuple[Region, ...]
    """Every region of ``grid_mappings``."""
    storage: StorageSpec
    """Where cubes are written."""
    preloads: tuple[PreloadSpec, ...] = ()
    """What has to be fetched first: what ``preload_datasets`` names, and what else the datasets need of such stores."""
    dask: DaskSpec = DaskSpec()
    """What computes."""
    automation: AutomationSpec = AutomationSpec()
    """How the sources are watched."""
    sites: tuple[SiteSpec, ...] = ()
    """Points of which time series are drawn."""
    visualize: bool = True
    """``general.visualize``: whether pictures of the cubes are drawn."""
    warnings: tuple[str, ...] = ()
    """What is accepted but should be mended, for example a secret in the file."""

    def dataset(self, identifier: str) -> DatasetSpec:
        """The dataset of that name. Raises KeyError where there is none."""
        for dataset in self.datasets:
            if dataset.identifier == identifier:
                return dataset
        raise KeyError(identifier)
