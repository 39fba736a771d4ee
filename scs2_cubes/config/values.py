"""Single values of the schema: names, numbers, dates, boxes, reference systems, sizes, names of methods."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pyproj import CRS
from pyproj.exceptions import CRSError

from scs2_cubes.config.shapes import Integer, Number

__all__ = [
    "Aggregation",
    "Bbox",
    "Crs",
    "Date",
    "Identifier",
    "Interpolation",
    "IsoDate",
    "MemorySize",
    "PositiveInteger",
    "PositiveNumber",
    "TimeRange",
]

_MEMORY_SIZE = re.compile(r"auto|\d+(\.\d+)? ?([kMGTP]i?)?B?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?")


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


def _date(value: object) -> object:
    """The same where no date can be left out; a bare year is none."""
    if not isinstance(value, str | dt.date):
        message = "should be a date such as 2020-01-01"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a validation error
    try:
        return _iso_date(value)
    except ValueError as error:
        message = "should be a date such as 2020-01-01"
        raise ValueError(message) from error


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


Identifier = Annotated[str, Field(min_length=1)]
PositiveNumber = Annotated[Number, Field(gt=0)]
PositiveInteger = Annotated[Integer, Field(ge=1)]
IsoDate = Annotated[str | None, BeforeValidator(_iso_date)]
Date = Annotated[str, BeforeValidator(_date)]
Crs = Annotated[str, AfterValidator(_known_crs)]
Bbox = Annotated[tuple[Number, ...], Field(min_length=4, max_length=4), AfterValidator(_upright)]
MemorySize = Annotated[str, BeforeValidator(_as_text), AfterValidator(_memory_size)]
TimeRange = Annotated[tuple[IsoDate, ...], Field(min_length=2, max_length=2), AfterValidator(_in_order)]
Interpolation = Annotated[Literal["nearest", "bilinear", "triangular", "0", "1"], BeforeValidator(_as_text)]
Aggregation = Literal[
    "center", "count", "first", "last", "max", "mean", "median", "mode", "min", "prod", "std", "sum", "var"
]
