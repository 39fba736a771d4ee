"""The configuration's schema: frozen models, section by section, nothing resolved.

This is the schema that users of ``xcube-multistore`` have, whole, including what can't be done yet (that is refused in
:mod:`scs2_cubes.config.support`), plus extensions of our own, which are marked as such. Unknown keys are refused
except where a store's or a merge's own parameters stand.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from scs2_cubes.config.shapes import (
    Integer,
    Number,
    OneOrEach,
    OneOrPair,
    OneOrSeveral,
    absent_as_empty,
)
from scs2_cubes.config.values import (
    Aggregation,
    Bbox,
    Crs,
    Date,
    Identifier,
    Interpolation,
    MemorySize,
    PositiveInteger,
    PositiveNumber,
    TimeRange,
)
from scs2_cubes.core.variables import Statistic

__all__ = [
    "Automation",
    "Bounded",
    "ChunkSize",
    "Cube",
    "CustomProcessing",
    "Dask",
    "DataStore",
    "Document",
    "GdalHttp",
    "General",
    "MultiSource",
    "OpenParams",
    "PreloadDataset",
    "PreloadParams",
    "RegionTable",
    "Retry",
    "Section",
    "SingleSource",
    "Site",
    "SpatialResampling",
    "TemporalResampling",
    "VariableSource",
]


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys refused, input never repeated in an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class OpenParams(Section):
    """What to take from the source. Each store has further keys of its own."""

    model_config = ConfigDict(extra="allow")

    time_range: TimeRange | None = None
    """First and last date, inclusive, ISO 8601; null: open."""
    variable_names: OneOrSeveral[Identifier] | None = None
    """Which variables."""
    bbox: Bbox | None = None
    """West, south, east, north: the part of the source that is used; null: all of it."""
    crs: Crs | None = None
    """CRS of ``bbox``; null: the source's own."""

    @model_validator(mode="after")
    def _crs_has_a_bbox(self) -> OpenParams:
        if self.crs and not self.bbox:
            message = "crs is the CRS of bbox, and there is none; leave it out, or say bbox"
            raise ValueError(message)
        return self


class CustomProcessing(Section):
    """A function Dataset → Dataset, applied right after opening."""

    module_path: Identifier
    """Python file, relative to the configuration file; ``.py`` may be left out. It's read when the configuration is."""
    function_name: Identifier
    """Function that is defined at its top level."""
    timeout: PositiveNumber = 900.0
    """Extension: seconds that one call may take."""
    processing: Literal["tile", "whole"] = "tile"
    """Extension: what the function gets. ``tile``: each tile's window of the source, so it must be local in space;
    ``whole``: the whole region's window at once."""


class SpatialResampling(Section):
    """Methods for the resampling in space. Default: what the kind of each variable asks for.

    A method that computes with class codes is refused: for classes only nearest, center, first, last and mode will do.
    """

    # NaN is the usual fill of floats.
    model_config = ConfigDict(allow_inf_nan=True)

    interp_methods: OneOrEach[Interpolation] | None = None
    """How to interpolate, where target pixels aren't larger than the source's: ``nearest`` (0) or ``bilinear`` (1);
    one for all, or by variable. ``triangular`` isn't supported."""
    agg_methods: OneOrEach[Aggregation] | None = None
    """How to aggregate, where target pixels are larger than the source's; one for all, or by variable."""
    fill_values: OneOrEach[Number] | None = None
    """Stored where there is no value; one for all, or by variable."""
    recover_nans: OneOrEach[bool] | None = None
    """Older name of ``prevent_nan_propagations``."""
    prevent_nan_propagations: OneOrEach[bool] | None = None
    """Whether missing neighbours are left out. Accepted without effect: they always are, so that a missing value never
    spreads, also where this says false."""
    variables: OneOrSeveral[Identifier] | None = None
    """Which variables are resampled, and so are in the cube; null: all."""
    tile_size: OneOrPair[PositiveInteger] | None = None
    """Accepted where it equals the grid's own ``tile_size``; a pair is x, y."""
    error_model: Literal["correlated", "independent"] = "correlated"
    """Extension: how errors of standard deviations go together where pixels are averaged."""


class ChunkSize(Section):
    """Pixels of an output chunk. The grid's tile has to be a multiple of it: a tile is the unit of writing.

    Default: the grid's tile. Rows are called y or lat, columns x or lon, as the grid's CRS has it; either is accepted.
    """

    y: PositiveInteger | None = None
    """Rows."""
    x: PositiveInteger | None = None
    """Columns."""
    lat: PositiveInteger | None = None
    """Rows."""
    lon: PositiveInteger | None = None
    """Columns."""
    time: PositiveInteger | None = None
    """Time steps; only 1 is supported."""


class TemporalResampling(Section):
    """Resampling in time. Not supported yet."""

    frequency: str | None = None
    """Target frequency, for example ``1Y``."""
    variables: OneOrSeveral[Identifier] | None = None
    """Which variables."""
    interp_methods: OneOrEach[str] | None = None
    """How to interpolate; one for all, or by variable."""
    agg_methods: OneOrEach[str] | None = None
    """How to aggregate; one for all, or by variable."""
    offset: str | None = None
    """Offset of the steps."""
    tolerance: str | None = None
    """Largest distance in time."""


class VariableSource(Section):
    """One of the sources of a cube that has several. Not supported yet."""

    identifier: Identifier
    """Name, or prefix, of the variables that it gives."""
    store: str
    """Which of ``data_stores``."""
    data_id: Identifier
    """Which of the store's datasets."""
    open_params: OpenParams | None = None
    """What to take from the source."""
    custom_processing: CustomProcessing | None = None
    """Function applied right after opening."""
    spatial_resample_params: SpatialResampling | None = None
    """Methods for the resampling in space."""
    temporal_resample_params: TemporalResampling | None = None
    """Resampling in time."""


class Cube(Section):
    """What all entries of ``datasets`` have in common: one output cube."""

    identifier: Identifier
    """Name of the cube; may contain ``/``."""
    grid_mapping: OneOrSeveral[Identifier] | None = None
    """One of ``grid_mappings``, or another dataset, whose grid is used; none: the source's own grid.

    Extension: a list of ``grid_mappings``, or a table of regions, makes one cube in each region's folder.
    """
    custom_processing: CustomProcessing | None = None
    """Function applied right after opening."""
    spatial_resample_params: SpatialResampling | None = None
    """Methods for the resampling in space."""
    temporal_resample_params: TemporalResampling | None = None
    """Resampling in time. Not supported yet."""
    format_id: Literal["zarr", "netcdf", "levels"] = "zarr"
    """Format of the output. Only zarr is supported yet."""
    chunksize: ChunkSize | None = None
    """Output chunks by dimension; default: the grid's tiles."""
    xr_merge_params: dict[str, Any] | None = None
    """For the merge of several sources. Not supported yet."""
    zarr_format: Literal[2, 3] = 2
    """Extension: Zarr format of the cube."""
    automation: Literal["manual", "on_new_version"] = "manual"
    """Extension: what follows where the source has a new version. ``manual``: the cube is shown as stale;
    ``on_new_version``: its stale tiles are made again by themselves."""
    quicklook_times: OneOrSeveral[Date] | None = None
    """Extension: dates whose nearest steps are drawn; default: the first, the middle and the last."""


class SingleSource(Cube):
    """A cube that comes from one source."""

    store: str
    """Which of ``data_stores``."""
    data_id: Identifier
    """Which of the store's datasets."""
    open_params: OpenParams | None = None
    """What to take from the source."""
    statistics: dict[str, OneOrSeveral[Statistic]] | None = None
    """Extension: ensemble variable → statistics of its members, each a layer of the cube; default: mean."""
    zero: dict[str, Literal["nodata", "value"]] | None = None
    """Extension: variable → whether its 0 is ``nodata``, where the source declares it so, or a ``value`` all the same;
    default: what the product's description says."""


class MultiSource(Cube):
    """A cube that comes from several sources. Not supported yet."""

    variables: Annotated[tuple[VariableSource, ...], Field(min_length=1)]
    """The sources."""


class DataStore(Section):
    """Where data are read from; the one called ``storage`` is where cubes are written."""

    identifier: Identifier
    """Name in this file."""
    store_id: Literal["stac", "file", "s3", "https", "clms", "cciodp", "zenodo"]
    """Protocol: for the storage ``file`` or ``s3``, for sources all but ``zenodo``, which isn't supported yet."""
    store_params: Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)] = {}
    """The protocol's own. ``stac``: ``url`` (a local path is relative to this file); extension: ``href_rewrite``,
    {prefix: replacement} for links. ``clms``: ``credentials`` (a JSON file relative to this one, or the JSON text);
    extensions: ``api_url``, ``href_rewrite`` and ``cache``, a folder relative to the working directory or a URL,
    default: in ``.cache`` below the storage. ``cciodp``: ``endpoint_url``, ``endpoint_description_url``; extensions:
    ``max_connections``, ``href_rewrite`` and ``cache``. ``file``: ``root``, for the storage relative to the working
    directory, default ``data``, for a source relative to this file. ``s3``: ``root`` (``bucket/folder``) and
    ``storage_options``, those of s3fs. ``https``: ``root``, a URL."""


class Bounded(Section):
    """A region: a bounding box with its grid."""

    identifier: Identifier
    """Name of the region."""
    bbox: Bbox
    """West, south, east, north in units of ``crs``."""
    crs: Crs
    """Anything that PROJ understands, for example EPSG:3035."""
    spatial_res: OneOrPair[PositiveNumber]
    """Pixel size in units of ``crs``; a pair is x, y."""
    tile_size: OneOrPair[PositiveInteger] = 1024
    """Pixels of a chunk; a pair is x, y."""


class RegionTable(Section):
    """Extension: many regions, from a table."""

    identifier: Identifier
    """Name of the table."""
    table: Identifier
    """CSV (identifier, west, south, east, north in units of ``crs``) or GeoJSON; relative to this file."""
    crs: Crs
    """CRS of the regions' grids."""
    spatial_res: OneOrPair[PositiveNumber]
    """Pixel size in units of ``crs``; a pair is x, y."""
    tile_size: OneOrPair[PositiveInteger] = 1024
    """Pixels of a chunk; a pair is x, y."""


class PreloadParams(Section):
    """How to wait for an order, and what to keep of it."""

    model_config = ConfigDict(extra="allow")

    max_wait: Annotated[Number, Field(ge=0)] = 7200.0
    """Extension: seconds for which a run waits for an order; past them the order is remembered, and the next run goes
    on waiting for it."""
    cleanup: bool = True
    """Whether downloaded archives are removed once the cache is complete."""
    blocking: bool = True
    """Accepted; has no effect: a run always waits for its order. ``false`` is refused."""
    silent: bool = False
    """Accepted; has no effect: a run always tells of its progress."""


class PreloadDataset(Section):
    """Queued or archived data to order and fetch first; only of ``clms`` stores."""

    store: str
    """Which of ``data_stores``."""
    data_ids: OneOrSeveral[Identifier]
    """Which of the store's datasets, with or without ``.zarr``."""
    preload_params: PreloadParams | None = None
    """How to wait for an order, and what to keep of it."""


class GdalHttp(Section):
    """Retries, in GDAL's words."""

    gdal_http_max_retry: Annotated[Integer, Field(ge=0)] = 10
    """Further attempts after the first one."""
    gdal_http_retry_delay: Annotated[Number, Field(ge=0)] = 5
    """Seconds before the second attempt."""


class Retry(Section):
    """Extension: how patiently something on the network is asked again. Goes before ``gdal_http_params``."""

    deadline: PositiveNumber | None = None
    """Seconds after the first attempt at which no further one is started."""
    max_attempts: PositiveInteger | None = None
    """Attempts in all."""
    initial_wait: Annotated[Number, Field(ge=0)] | None = None
    """Seconds before the second attempt."""
    max_wait: Annotated[Number, Field(ge=0)] | None = None
    """Longest wait between two attempts in seconds."""
    timeout: PositiveNumber | None = None
    """Seconds without a byte after which an attempt has failed."""


class General(Section):
    """What holds for the whole run."""

    visualize: bool = True
    """Whether pictures of finished cubes are drawn: beside them, and in Dagster's metadata."""
    force_preload: bool | None = None
    """Whether datasets are ordered and fetched anew although they lie in the cache."""
    dask_scheduler: (
        Literal["threads", "threading", "processes", "multiprocessing", "single-threaded", "sync", "synchronous"] | None
    ) = None
    """Older way to choose what computes; the section ``dask`` says it better."""
    gdal_http_params: GdalHttp | None = None
    """Retries, in GDAL's words."""
    retry: Retry | None = None
    """Extension: retries, in all detail."""


class Dask(Section):
    """Extension: what computes the tiles."""

    mode: Literal["threads", "local", "address"] = "threads"
    """Threads in this process, a local cluster of processes, or a running scheduler."""
    address: str | None = None
    """The running scheduler, for example tcp://127.0.0.1:8786."""
    n_workers: PositiveInteger | None = None
    """Threads or worker processes; default: one per core."""
    threads_per_worker: PositiveInteger = 1
    """Threads of each worker process, where the mode is local."""
    memory_limit: MemorySize = "auto"
    """Memory of each worker process, where the mode is local, for example 4GiB."""
    steps: bool = False
    """Whether Dagster offers the job everything_on_dask, where the mode is address: whole steps as tasks of workers,
    which must be able to run them."""


class Automation(Section):
    """Extension: how sources are watched for new versions."""

    interval: Annotated[Integer, Field(ge=30)] = 3600
    """Seconds between two looks at a source; at least 30, Dagster's own default for sensors."""
    sensors: Literal["running", "stopped"] = "running"
    """Whether they run by themselves, or only once they are switched on in the web UI."""


class Site(Section):
    """Extension: a point of which time series are drawn."""

    identifier: Identifier
    """Name of the site."""
    point: Annotated[tuple[Number, ...], Field(min_length=2, max_length=2)]
    """x and y in units of ``crs``, in this order: longitude before latitude, easting before northing."""
    crs: Crs = "EPSG:4326"
    """CRS of ``point``, anything that PROJ understands."""


def _form_of_dataset(value: object) -> str:
    return "(MultiSource)" if isinstance(value, dict) and "variables" in value else "(SingleSource)"


def _form_of_grid(value: object) -> str:
    return "(RegionTable)" if isinstance(value, dict) and "table" in value else "(Bounded)"


Dataset = Annotated[
    Annotated[SingleSource, Tag("(SingleSource)")] | Annotated[MultiSource, Tag("(MultiSource)")],
    Discriminator(_form_of_dataset),
]
GridMapping = Annotated[
    Annotated[Bounded, Tag("(Bounded)")] | Annotated[RegionTable, Tag("(RegionTable)")], Discriminator(_form_of_grid)
]


class Document(Section):
    """A configuration of scs2_cubes."""

    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    """One output cube per entry."""
    data_stores: Annotated[tuple[DataStore, ...], Field(min_length=1)]
    """Where data are read from, and the ``storage`` where cubes are written."""
    grid_mappings: Annotated[tuple[GridMapping, ...], BeforeValidator(absent_as_empty)] = ()
    """The regions."""
    preload_datasets: Annotated[tuple[PreloadDataset, ...], BeforeValidator(absent_as_empty)] = ()
    """What has to be fetched first; what ``datasets`` need of ``clms`` stores is, even if it isn't named here."""
    general: General | None = None
    """What holds for the whole run."""
    dask: Dask | None = None
    """Extension: what computes the tiles."""
    automation: Automation | None = None
    """Extension: how sources are watched for new versions."""
    sites: Annotated[tuple[Site, ...], BeforeValidator(absent_as_empty)] = ()
    """Extension: points of which time series are drawn."""
