"""The configuration's schema: frozen models, section by section, nothing resolved.

This is the schema that users of ``xcube-multistore`` have, whole, including what can't be done yet (that is refused in
:mod:`scs2_cubes.config.support`), plus extensions of our own, which are marked as such. Unknown keys are refused
except where a store's or a merge's own parameters stand.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pyproj import CRS
from pyproj.exceptions import CRSError

from scs2_cubes.config.shapes import (
    Integer,
    Number,
    OneOrEach,
    OneOrPair,
    OneOrSeveral,
    absent_as_empty,
)

__all__ = [
    "Bounded",
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
    "RegionTable",
    "Retry",
    "Section",
    "SingleSource",
    "SpatialResampling",
    "TemporalResampling",
    "VariableSource",
]

Identifier = Annotated[str, Field(min_length=1)]
PositiveNumber = Annotated[Number, Field(gt=0)]
PositiveInteger = Annotated[Integer, Field(ge=1)]
Interpolation = Literal["nearest", "bilinear", "triangular", "0", "1"]
Aggregation = Literal[
    "center", "count", "first", "last", "max", "mean", "median", "mode", "min", "prod", "std", "sum", "var"
]
_MEMORY_SIZE = re.compile(r"auto|\d+(\.\d+)? ?([kMGTP]i?)?B?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?")


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys refused, input never repeated in an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, use_attribute_docstrings=True
    )


def _iso_date(value: object) -> object:
    """YAML reads an unquoted 2020-01-01 as a date; both spellings mean the same here."""
    if isinstance(value, dt.datetime):
        value = value.replace(tzinfo=None).isoformat()
    elif isinstance(value, dt.date):
        value = value.isoformat()
    if isinstance(value, str):
        if not _DATE.fullmatch(value):
            message = "should be a date such as 2020-01-01, or null"
            raise ValueError(message)
        dt.datetime.fromisoformat(value)
    return value


def _in_order(value: tuple[str | None, ...]) -> tuple[str | None, ...]:
    first, last = value
    if first and last and dt.datetime.fromisoformat(first[:10]) > dt.datetime.fromisoformat(last[:10]):
        message = "should be the first date, then the last one"
        raise ValueError(message)
    return value


def _known_crs(value: str) -> str:
    try:
        crs = CRS.from_user_input(value)
    except CRSError as error:
        message = "unknown CRS: should be one that PROJ knows, such as EPSG:3035"
        raise ValueError(message) from error
    if not (crs.is_projected or crs.is_geographic):
        message = f"should be a projected or geographic CRS ({crs.name} is neither)"
        raise ValueError(message)
    return value


def _upright(value: tuple[float, ...]) -> tuple[float, ...]:
    west, south, east, north = value
    if west >= east or south >= north:
        message = f"should be west, south, east, north; here {'west >= east' if west >= east else 'south >= north'}"
        raise ValueError(message)
    return value


def _memory_size(value: str) -> str:
    if not _MEMORY_SIZE.fullmatch(value):
        message = "should be auto, or a size such as 4GiB"
        raise ValueError(message)
    return value


def _as_text(value: object) -> object:
    """A number where a string is wanted: xcube's short names 0 and 1, or bytes."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


IsoDate = Annotated[str | None, BeforeValidator(_iso_date)]
Crs = Annotated[str, AfterValidator(_known_crs)]
Bbox = Annotated[tuple[Number, ...], Field(min_length=4, max_length=4), AfterValidator(_upright)]
MemorySize = Annotated[str, BeforeValidator(_as_text), AfterValidator(_memory_size)]
TimeRange = Annotated[tuple[IsoDate, ...], Field(min_length=2, max_length=2), AfterValidator(_in_order)]


class OpenParams(Section):
    """What to take from the source. Each store has further keys of its own."""

    model_config = ConfigDict(extra="allow")

    time_range: TimeRange | None = None
    """First and last date, inclusive, ISO 8601; null: open."""
    variable_names: OneOrSeveral[Identifier] | None = None
    """Which variables."""


class CustomProcessing(Section):
    """A function Dataset → Dataset, applied right after opening. Not supported yet."""

    module_path: str
    """Python file, relative to the configuration file."""
    function_name: str
    """Function in it."""


class SpatialResampling(Section):
    """Methods for the resampling in space. Not supported yet."""

    interp_methods: OneOrEach[Annotated[Interpolation, BeforeValidator(_as_text)]] | None = None
    """How to interpolate; one for all, or by variable."""
    agg_methods: OneOrEach[Aggregation] | None = None
    """How to aggregate; one for all, or by variable."""
    fill_values: OneOrEach[Number] | None = None
    """Stored where there is no value; one for all, or by variable."""
    recover_nans: OneOrEach[bool] | None = None
    """Older name of ``prevent_nan_propagations``."""
    prevent_nan_propagations: OneOrEach[bool] | None = None
    """Whether missing neighbours are left out."""
    variables: OneOrSeveral[Identifier] | None = None
    """Which variables."""
    tile_size: OneOrPair[PositiveInteger] | None = None
    """Chunks, x and y."""


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
    """Function applied right after opening. Not supported yet."""
    spatial_resample_params: SpatialResampling | None = None
    """Methods for the resampling in space. Not supported yet."""
    temporal_resample_params: TemporalResampling | None = None
    """Resampling in time. Not supported yet."""
    format_id: Literal["zarr", "netcdf", "levels"] = "zarr"
    """Format of the output. Only zarr is supported yet."""
    chunksize: dict[str, PositiveInteger] | None = None
    """Output chunks by dimension. Not supported yet; chunks are the grid's tiles."""
    xr_merge_params: dict[str, Any] | None = None
    """For the merge of several sources. Not supported yet."""
    zarr_format: Literal[2, 3] = 2
    """Extension: Zarr format of the cube."""


class SingleSource(Cube):
    """A cube that comes from one source."""

    store: str
    """Which of ``data_stores``."""
    data_id: Identifier
    """Which of the store's datasets."""
    open_params: OpenParams | None = None
    """What to take from the source."""


class MultiSource(Cube):
    """A cube that comes from several sources. Not supported yet."""

    variables: Annotated[tuple[VariableSource, ...], Field(min_length=1)]
    """The sources."""


class DataStore(Section):
    """Where data are read from; the one called ``storage`` is where cubes are written."""

    identifier: Identifier
    """Name in this file."""
    store_id: Literal["stac", "file", "s3", "clms", "cciodp", "zenodo"]
    """Protocol. ``stac`` for sources and ``file`` for the storage are supported yet."""
    store_params: Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)] = {}
    """The protocol's own. ``stac``: ``url`` (a local path is relative to this file); extension: ``href_rewrite``,
    {prefix: replacement} for links. ``file`` as storage: ``root``, relative to the working directory, default
    ``data``."""


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


class PreloadDataset(Section):
    """Queued or archived data to fetch first. Not supported yet."""

    store: str
    """Which of ``data_stores``."""
    data_ids: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    """Which of the store's datasets, without ``.zarr``."""
    preload_params: dict[str, Any] | None = None
    """The protocol's own."""


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
    """Accepted; has no effect yet."""
    force_preload: bool | None = None
    """Accepted; has no effect as long as ``preload_datasets`` isn't supported."""
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
    """What has to be fetched first. Not supported yet."""
    general: General | None = None
    """What holds for the whole run."""
    dask: Dask | None = None
    """Extension: what computes the tiles."""
