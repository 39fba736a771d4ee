"""The JSON tree of the embedded catalogue, with the layout, the links and the traps of the real one.

A static STAC 1.1.0 catalogue that lies there twice: a public tree under ``public/``, and an internal one beside it
whose themes were never written, so that it can't be walked from its root. Traps that are kept: the public documents
call themselves by addresses without ``public/``, the public root names the internal one as its root, an item's
``datetime`` is its end, and nothing tells the CRS or shape of a store.

Addresses inside the documents are those of the real host, whatever host serves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scs2_cubes.demo.listing import THEMES, Collection

__all__ = ["BUCKET", "ORIGIN", "catalogue_documents"]

ORIGIN: Final = "https://s3.gfz-potsdam.de"
BUCKET: Final = "dog.atlaseo-glm.eo-gridded-data"

_BASE: Final = f"{ORIGIN}/{BUCKET}/collections"
_INTERNAL_BASE: Final = f"s3://{BUCKET}/collections"
_VERSION: Final = "1.1.0"
_ROOT_TITLE: Final = "EOForestSTAC - synthetic demonstration catalogue"
_EXTENSIONS: Final = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    # There is no extension "proj"; its name is part of what clients have to bear.
    for name in ("eo/v1.1.0", "proj/v1.1.0", "file/v2.1.0", "raster/v1.1.0", "item-assets/v1.0.0", "scientific/v1.0.0")
)
_PROVIDERS: Final = (
    {
        "name": "scs2_cubes demonstration (synthetic data)",
        "roles": ["producer", "processor", "host"],
        "url": "https://example.org",
    },
)
_ZARR: Final = "application/vnd.zarr"


def catalogue_documents(collections: Sequence[Collection]) -> dict[str, dict[str, Any]]:
    """All documents of ``collections`` by their key below ``collections/``, for example ``public/catalog.json``."""
    documents = {"catalog.json": _root("./catalog.json", _INTERNAL_BASE)}
    documents["public/catalog.json"] = _root(f"{_BASE}/catalog.json", _BASE)
    for theme in THEMES:
        documents[f"public/{theme}/catalog.json"] = _theme(theme, collections)
    for collection in collections:
        for folder, base in (("", _INTERNAL_BASE), ("public/", _BASE)):
            home = f"{collection.theme}/{collection.identifier}"
            documents[f"{folder}{home}/collection.json"] = _collection(collection, f"{base}/{home}")
            for version in collection.versions:
                name = f"{collection.identifier}_v{version}"
                documents[f"{folder}{home}/{name}/{name}.json"] = _item(collection, version, f"{base}/{home}")
    return documents


def _root(root: str, base: str) -> dict[str, Any]:
    return {
        "type": "Catalog",
        "id": "EOForestSTAC",
        "stac_version": _VERSION,
        "description": "Synthetic forest data in the layout of the EO Forest catalogue, for demonstrations and tests.",
        "links": [
            _link("root", root, _ROOT_TITLE),
            *(_link("child", f"./{theme}/catalog.json", title) for theme, title in THEMES.items()),
            {"rel": "about", "href": "https://github.com/simonbesnard1/eoforeststac", "title": "The real catalogue"},
            _link("self", f"{base}/catalog.json"),
        ],
        "stac_browser": {"showThumbnailsAsAssets": True},
        "license": "various",
        "providers": list(_PROVIDERS),
        "keywords": ["forest", "synthetic", "demonstration", "STAC"],
        "title": _ROOT_TITLE,
    }


def _theme(theme: str, collections: Sequence[Collection]) -> dict[str, Any]:
    members = [collection for collection in collections if collection.theme == theme]
    return {
        "type": "Catalog",
        "id": theme,
        "stac_version": _VERSION,
        "description": f"Synthetic data under the theme {THEMES[theme]}.",
        "links": [
            _link("root", "../catalog.json", _ROOT_TITLE),
            *(_link("child", f"./{member.identifier}/collection.json", member.title) for member in members),
            _link("self", f"{_BASE}/{theme}/catalog.json"),
            _link("parent", "../catalog.json", _ROOT_TITLE),
        ],
        "title": THEMES[theme],
    }


def _collection(collection: Collection, home: str) -> dict[str, Any]:
    names = [f"{collection.identifier}_v{version}" for version in collection.versions]
    return {
        "type": "Collection",
        "id": collection.identifier,
        "stac_version": _VERSION,
        "description": collection.description,
        "links": [
            _link("root", "../../catalog.json", _ROOT_TITLE),
            *(dict(link) for link in (*collection.item_links, *collection.related_links)),
            *({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json"} for name in names),
            _link("self", f"{home}/collection.json"),
            _link("parent", "../catalog.json", THEMES[collection.theme]),
        ],
        "stac_extensions": list(_EXTENSIONS),
        "item_assets": {
            "zarr": {"title": "Zarr dataset", "description": collection.title, "roles": ["data"], "type": _ZARR}
        },
        "title": collection.title,
        "extent": {
            "spatial": {"bbox": [list(collection.bbox)]},
            "temporal": {"interval": [[f"{collection.start}T00:00:00Z", f"{collection.end}T00:00:00Z"]]},
        },
        "license": "various",
        "keywords": list(collection.keywords),
        "providers": list(_PROVIDERS),
        "summaries": _summaries(collection),
    }


def _summaries(collection: Collection) -> dict[str, Any]:
    return {
        "temporal_resolution": [collection.temporal_resolution],
        "variables": collection.variables,
        **collection.summaries,
        "eo:gsd": [collection.gsd],
        "proj:epsg": [collection.epsg],
        "product_family": [collection.identifier],
        "data_format": ["zarr"],
    }


def _item(collection: Collection, version: str, home: str) -> dict[str, Any]:
    name = f"{collection.identifier}_v{version}"
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": list(_EXTENSIONS),
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [_ring(*collection.bbox)]},
        "bbox": list(collection.bbox),
        "properties": _properties(collection, version),
        "links": [
            *(dict(link) for link in collection.item_links),
            _link("root", "../../../catalog.json", _ROOT_TITLE),
            _link("collection", "../collection.json", collection.title),
            _link("self", f"{home}/{name}/{name}.json"),
            _link("parent", "../collection.json", collection.title),
        ],
        "assets": {
            "zarr": {
                "href": f"{_BASE}/{collection.identifier}/{name}.zarr",
                "type": _ZARR,
                "title": f"{collection.identifier} v{version} (Zarr)",
                "description": collection.description,
                "raster:bands": [dict(band) for band in collection.bands],
                "roles": ["data"],
            }
        },
        "collection": collection.identifier,
    }


def _properties(collection: Collection, version: str) -> dict[str, Any]:
    return {
        "product_name": collection.title,
        "version": version,
        "start_datetime": f"{collection.start}T00:00:00+00:00",
        "end_datetime": f"{collection.end}T00:00:00+00:00",
        "temporal_resolution": collection.temporal_resolution,
        "variables": collection.variables,
        **collection.item_properties,
        "datetime": f"{collection.end}T00:00:00Z",
    }


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [west, north], [east, north], [east, south], [west, south]]


def _link(rel: str, href: str, title: str | None = None) -> Mapping[str, str]:
    link = {"rel": rel, "href": href, "type": "application/json"}
    return link if title is None else {**link, "title": title}
