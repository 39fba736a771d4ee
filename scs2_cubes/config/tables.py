"""Tables of regions: CSV or GeoJSON files in, names and bounding boxes out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from scs2_cubes.errors import ConfigurationError

__all__ = ["Row", "read_table"]

Bbox = tuple[float, float, float, float]

_EDGES = ("west", "south", "east", "north")
_NAMES = ("identifier", "name")
#: Names of longitude and latitude on WGS 84 in the ``crs`` member of older GeoJSON files.
_LON_LAT = ("CRS84", "EPSG::4326", "EPSG:4326")
#: Points on each edge of a box that is transformed: edges become curves.
_DENSIFY_POINTS = 21


@dataclass(frozen=True, slots=True)
class Row:
    """One region of a table."""

    name: str
    """Its name."""
    bbox: Bbox
    """West, south, east, north in units of the table's CRS."""
    where: str
    """Where it stands, for messages: ``sites.csv, line 3``."""


def read_table(path: Path, crs: CRS) -> tuple[Row, ...]:
    """Read the regions in ``path``: a CSV file in units of ``crs``, or GeoJSON, transformed to ``crs``.

    The box of a GeoJSON geometry (longitude and latitude, RFC 7946) is densified before it is transformed, so that
    curved edges stay inside. Raises ConfigurationError (one line, without the configuration's own name) for what
    can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
        message = f"the table {path.name} can't be read: {reason}; paths are relative to the configuration file"
        raise ConfigurationError(message) from error
    if path.suffix.lower() in {".json", ".geojson"}:
        rows = tuple(_features(path.name, text, crs))
    elif path.suffix.lower() == ".csv":
        try:
            rows = tuple(_lines(path.name, text))
        except csv.Error as error:
            message = f"the table {path.name} isn't valid CSV: {error}"
            raise ConfigurationError(message) from error
    else:
        message = f"the table {path.name} should be a .csv, .geojson or .json file"
        raise ConfigurationError(message)
    if not rows:
        message = f"the table {path.name} has no regions"
        raise ConfigurationError(message)
    return rows


def _lines(file: str, text: str) -> Iterator[Row]:
    reader = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True)
    columns = [column.strip() for column in reader.fieldnames or () if column]
    reader.fieldnames = columns
    name_column = next((name for name in _NAMES if name in columns), "")
    missing = [edge for edge in _EDGES if edge not in columns] + ([] if name_column else ["identifier"])
    if missing:
        message = f"the table {file} has no column {missing[0]!r}; its columns: {', '.join(columns) or 'none'}"
        raise ConfigurationError(message)
    for line in reader:
        where = f"{file}, line {reader.line_num}"
        west, south, east, north = (_number(line[edge], edge, where) for edge in _EDGES)
        yield Row(_name(line[name_column], where), (west, south, east, north), where)


def _number(text: str | None, column: str, where: str) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        message = f"{where}: {column} should be a number, not {text!r}"
        raise ConfigurationError(message) from error


def _name(value: object, where: str) -> str:
    name = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not name:
        message = f"{where}: no identifier (a property or column called identifier or name)"
        raise ConfigurationError(message)
    return name


def _features(file: str, text: str, crs: CRS) -> Iterator[Row]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"the table {file} isn't valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        raise ConfigurationError(message) from error
    transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    for index, feature in enumerate(_feature_list(file, document)):
        where = f"{file}, feature {index}"
        properties = feature.get("properties") if isinstance(feature, dict) else None
        named = properties if isinstance(properties, dict) else {}
        name = _name(next((named[key] for key in _NAMES if key in named), None), where)
        yield Row(name, _projected(_lon_lat_box(feature.get("geometry"), where), transformer, where), where)


def _feature_list(file: str, document: object) -> Sequence[Any]:
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(features, list):
        message = f"the table {file} should be a GeoJSON FeatureCollection"
        raise ConfigurationError(message)
    crs = document.get("crs")
    if crs is not None and not any(name in json.dumps(crs) for name in _LON_LAT):
        message = f"the table {file} has a CRS of its own; GeoJSON is longitude and latitude (EPSG:4326)"
        raise ConfigurationError(message)
    return features


def _lon_lat_box(geometry: object, where: str) -> Bbox:
    points = list(_points(geometry))
    if not points:
        message = f"{where}: no geometry with coordinates"
        raise ConfigurationError(message)
    lon, lat = [point[0] for point in points], [point[1] for point in points]
    if not all(-180 <= value <= 180 for value in lon) or not all(-90 <= value <= 90 for value in lat):  # noqa: PLR2004 - degrees
        message = f"{where}: coordinates should be longitude and latitude in degrees"
        raise ConfigurationError(message)
    return min(lon), min(lat), max(lon), max(lat)


def _points(geometry: object) -> Iterator[tuple[float, float]]:
    """All positions in a geometry, however deep its lists of coordinates are."""
    if isinstance(geometry, Mapping):
        for part in geometry.get("geometries") or ():
            yield from _points(part)
        yield from _points(geometry.get("coordinates"))
    elif isinstance(geometry, list):
        match geometry:
            case [int() | float() as x, int() | float() as y, *_]:
                yield float(x), float(y)
            case _:
                for part in geometry:
                    yield from _points(part)


def _projected(box: Bbox, transformer: Transformer, where: str) -> Bbox:
    west, south, east, north = box
    if west >= east or south >= north:
        message = f"{where}: the geometry has no area (box {list(box)})"
        raise ConfigurationError(message)
    try:
        edges = transformer.transform_bounds(*box, densify_pts=_DENSIFY_POINTS)
    except ProjError as error:
        message = f"{where}: the geometry can't be transformed to the table's crs"
        raise ConfigurationError(message) from error
    if not all(isfinite(edge) for edge in edges):
        message = f"{where}: the geometry lies outside the area of the table's crs"
        raise ConfigurationError(message)
    return edges
