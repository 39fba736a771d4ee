"""What the embedded CLMS service lists: data sets with their prepackaged files, in texts of our own.

The identifiers are of the kind that CLMS has; data and texts are synthetic. The listing keeps the irregularities of the
real one: files with and without the key ``file``, placeholders where there is no file, files without a path, the format
as a string and as an object, data sets that other providers (CDSE) deliver.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

__all__ = ["FOREST_TYPE", "Dataset", "DownloadableFile", "datasets", "with_delivery", "with_version"]

FOREST_TYPE: Final = "forest-type-2015"

_EUROPE: Final = {"west": "-31.2684", "south": "27.6375", "east": "44.8212", "north": "71.1855"}
_GLOBE: Final = {"west": "-180.0", "south": "-60.0", "east": "180.0", "north": "80.0"}
_BLOCKS: Final = (
    *("E00N20", "E10N00", "E10N10", "E10N20", "E20N10", "E20N20", "E20N30", "E20N40", "E20N50"),
    *("E30N10", "E30N20", "E30N30", "E30N40"),
)
#: Identifier, title, resolution, years of the European data sets that lie on this service.
_EUROPEAN: Final = (
    ("dominant-leaf-type", "Dominant Leaf Type", "20 m", (2012, 2015, 2018)),
    ("forest-additional-support-layer", "Forest Additional Support Layer", "20 m", (2012, 2015)),
    ("forest-type", "Forest Type", "20 m", (2012, 2018)),
    ("grassland", "Grassland", "10 m", (2015, 2018)),
    ("imperviousness-density", "Imperviousness Density", "20 m", (2006, 2009, 2012, 2015, 2018)),
    ("small-woody-features", "Small Woody Features", "5 m", (2015, 2018)),
    ("tree-cover-density", "Tree Cover Density", "20 m", (2012, 2015, 2018)),
    ("water-and-wetness", "Water and Wetness", "20 m", (2015, 2018)),
)
#: Identifier, title, years of those that are ordered by area and have no prepackaged file.
_BY_AREA: Final = (
    ("coastal-zones", "Coastal Zones", (2012, 2018)),
    ("natura-2000", "Natura 2000", (2006, 2012, 2018)),
    ("riparian-zones", "Riparian Zones", (2012, 2018)),
    ("urban-atlas", "Urban Atlas", (2006, 2012, 2018)),
)
#: Identifier, title, years of those that another provider delivers.
_ELSEWHERE: Final = (
    ("burnt-area-global", "Burnt Area, global", (2019, 2020, 2021, 2022)),
    ("dry-matter-productivity-global", "Dry Matter Productivity, global", (2019, 2020, 2021, 2022)),
    ("leaf-area-index-global", "Leaf Area Index, global", (2019, 2020, 2021, 2022)),
    ("soil-water-index-global", "Soil Water Index, global", (2019, 2020, 2021, 2022)),
    ("vegetation-phenology", "Vegetation Phenology", (2019, 2020, 2021, 2022)),
)


@dataclass(frozen=True, slots=True)
class DownloadableFile:
    """One entry under ``downloadable_files``."""

    document: Mapping[str, str]
    """Its JSON."""

    @property
    def file_id(self) -> str:
        """``@id``."""
        return self.document["@id"]

    @property
    def name(self) -> str:
        """``file``; empty where there is none."""
        return self.document.get("file", "")

    @property
    def can_be_ordered(self) -> bool:
        """The real service refuses entries without path or source."""
        return bool(self.document["path"] and self.document["source"])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set; its JSON but for what depends on the address of the service."""

    identifier: str
    """Short name, for example ``forest-type-2015``."""
    title: str
    """For people."""
    description: str
    """For people."""
    year: int
    """Reference year."""
    full_format: str | Mapping[str, str]
    """Format in which it can be ordered: a string or an object, both occur."""
    source: str
    """Who delivers it: ``EEA`` or ``CDSE``."""
    bounds: Mapping[str, str]
    """West, south, east, north in degrees."""
    crs: str
    """``EPSG:<code>``."""
    files: tuple[DownloadableFile, ...]
    """Entries under ``downloadable_files``: at least a placeholder."""
    years_around: int = 0
    """How many years before and after the reference year its images are of."""

    @property
    def uid(self) -> str:
        """``UID``: 32 hexadecimal digits."""
        return _identifier("dataset", self.identifier).hex

    def document(self, api_url: str) -> dict[str, Any]:
        """The complete object, for a service at ``api_url``."""
        name = self.identifier
        download = {
            "@id": str(_identifier("download", name)),
            "collection": "",
            "full_format": self.full_format,
            "full_path": f"demonstration/{name}",
            "full_source": self.source,
            "name": "RASTER",
            "wekeo_choices": "",
        }
        return {
            "@id": f"{api_url}/en/products/demonstration/{name}",
            "@type": "DataSet",
            "UID": self.uid,
            "coordinateReferenceSystemList": [self.crs],
            "created": "2026-01-15T08:00:00+00:00",
            "dataset_download_information": {"items": [download]},
            "dataset_full_format": None,
            "description": self.description,
            "downloadable_files": {"items": [dict(file.document) for file in self.files]},
            "geographicBoundingBox": {"items": [{"@id": str(_identifier("bounds", name)), **self.bounds}]},
            "id": name,
            "image_field": "image",
            "is_folderish": True,
            "modified": "2026-01-15T08:00:00+00:00",
            "review_state": "published",
            "temporalExtentEnd": f"{self.year + self.years_around}-12-31",
            "temporalExtentStart": f"{self.year - self.years_around}-01-01",
            "title": self.title,
        }


def datasets() -> tuple[Dataset, ...]:
    """All data sets, those of other providers first: what a demonstration needs isn't on the first page of 25."""
    elsewhere = [_elsewhere(name, title, year) for name, title, years in _ELSEWHERE for year in years]
    by_area = [_by_area(name, title, year) for name, title, years in _BY_AREA for year in years]
    european = [_european(name, title, step, year) for name, title, step, years in _EUROPEAN for year in years]
    return (*elsewhere, *by_area, *european, _forest_type())


def with_version(listed: Sequence[Dataset], file_name: str, version: str) -> tuple[Dataset, ...]:
    """``listed`` with another ``version`` of a file, under its name and identifier."""

    def changed(file: DownloadableFile) -> DownloadableFile:
        return DownloadableFile({**file.document, "version": version}) if file.name == file_name else file

    return tuple(replace(dataset, files=tuple(map(changed, dataset.files))) for dataset in listed)


def with_delivery(listed: Sequence[Dataset], delivery: int) -> tuple[Dataset, ...]:
    """``listed`` with that delivery (``d05``) of every forest type file of 20 m, beside those that are there."""

    def more(dataset: Dataset) -> Dataset:
        names = [re.sub(r"_d\d+_", f"_d{delivery:02d}_", file.name) for file in dataset.files if "_020m_" in file.name]
        new = [name for name in dict.fromkeys(names) if name not in {file.name for file in dataset.files}]
        return replace(dataset, files=(*dataset.files, *(_raster_file(name, "20 m", "1 MB") for name in new)))

    return tuple(more(dataset) if dataset.identifier == FOREST_TYPE else dataset for dataset in listed)


def _forest_type() -> Dataset:
    names = (
        "FTY_2015_100m_eu_03035_d02_Full",
        "FTY_2015_020m_eu_03035_d04_Full",
        *(f"FTY_2015_020m_eu_03035_d04_{block}" for block in _BLOCKS),
    )
    return Dataset(
        identifier=FOREST_TYPE,
        title="Forest Type 2015",
        description=(
            "Synthetic forest types of the scs2_cubes demonstration, in the layout of the European layer of 2015. All "
            "files are clips: block E30N20 and both full files hold 30 km x 30 km around the demonstration's region, "
            "every other block of 1000 km holds 10 km x 10 km in its north-western corner."
        ),
        year=2015,
        full_format={"title": "Geotiff", "token": "Geotiff"},
        source="EEA",
        bounds=_EUROPE,
        crs="EPSG:3035",
        files=tuple(_raster_file(name, "100 m" if "_100m_" in name else "20 m", "1 MB") for name in names),
        years_around=1,
    )


def _european(name: str, title: str, resolution: str, year: int) -> Dataset:
    stem = f"{name.replace('-', '_').upper()}_{year}"
    newer = year >= 2015  # noqa: PLR2004 - only that there are two kinds of entries matters
    files = (
        _raster_file(f"{stem}_{resolution.replace(' ', '')}_eu_03035", resolution, "7 GB"),
        # Listed, but not on the disk any more: orders of it are refused.
        DownloadableFile({**_raster_file(f"{stem}_withdrawn", resolution, "").document, "path": ""}),
        DownloadableFile({**_raster_file(f"{stem}_lines", resolution, "2 GB").document, "format": "GDB"}),
    )
    return _described(
        name, title, year, files if newer else tuple(map(_without_file_key, files)), "Geotiff", source="EEA"
    )


def _by_area(name: str, title: str, year: int) -> Dataset:
    return _described(name, title, year, (_placeholder(f"{name}-{year}"),), "GDB", source="EEA")


def _elsewhere(name: str, title: str, year: int) -> Dataset:
    full_format = {"title": "Netcdf", "token": "Netcdf"} if year % 2 else "Netcdf"
    return _described(name, title, year, (_placeholder(f"{name}-{year}"),), full_format, source="CDSE")


def _described(
    name: str,
    title: str,
    year: int,
    files: tuple[DownloadableFile, ...],
    full_format: str | Mapping[str, str],
    *,
    source: str,
) -> Dataset:
    elsewhere = source == "CDSE"
    return Dataset(
        identifier=f"{name}-{year}",
        title=f"{title} {year}",
        description="An entry of the scs2_cubes demonstration without data, so that there is something to search in.",
        year=year,
        full_format=full_format,
        source=source,
        bounds=_GLOBE if elsewhere else _EUROPE,
        crs="EPSG:4326" if elsewhere else "EPSG:3035",
        files=files,
    )


def _raster_file(name: str, resolution: str, size: str) -> DownloadableFile:
    return DownloadableFile(
        {
            "@id": str(_identifier("file", name)),
            "area": "Europe",
            "file": name,
            "format": "Geotiff",
            "path": f"H:\\Demonstration\\{name}.zip",
            "resolution": resolution,
            "size": size,
            "source": "EEA",
            "title": "",
            "type": "Raster",
            "version": "V1_1",
            "year": "",
        }
    )


def _without_file_key(file: DownloadableFile) -> DownloadableFile:
    """As older entries are."""
    return DownloadableFile({key: value for key, value in file.document.items() if key not in {"file", "title"}})


def _placeholder(name: str) -> DownloadableFile:
    """The entry of a data set without files."""
    keys = ("area", "file", "format", "path", "resolution", "size", "source", "title", "type", "version", "year")
    return DownloadableFile({"@id": str(_identifier("file", name)), **dict.fromkeys(keys, "")})


def _identifier(kind: str, name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"scs2-cubes-demo/{kind}/{name}")
