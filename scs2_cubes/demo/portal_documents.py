"""The portal's documents: OpenSearch descriptions, the ISO 19115 record, the manifest, and searches as Atom.

Element names after OpenSearch 1.1 with its parameter extension, ISO 19139 (GEMINI 2.3) and RFC 4287.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

from scs2_cubes.demo.portal_archive import Portal
from scs2_cubes.demo.portal_listing import FACETS, ROOT
from scs2_cubes.demo.portal_products import Collection, Granule, updated

__all__ = ["atom", "description", "iso_record", "manifest"]

_OS: Final = "{http://a9.com/-/spec/opensearch/1.1/}"
_PARAM: Final = "{http://a9.com/-/spec/opensearch/extensions/parameters/1.0/}"
_ATOM: Final = "{http://www.w3.org/2005/Atom}"
_NAMESPACES: Final[Mapping[str, str]] = {
    "gmd": "http://www.isotc211.org/2005/gmd",
    "gco": "http://www.isotc211.org/2005/gco",
    "gml": "http://www.opengis.net/gml/3.2",
}
_TYPES: Final = ("application/geo+json", "application/atom+xml")
_FREE: Final = ("query", "maximumRecords", "startPage", "startDate", "endDate", "bbox", "uuid")

_ABSTRACT: Final = (
    "Synthetic above-ground biomass and its standard deviation in the layout of ESA CCI Biomass v6.0, for 2007, 2010 "
    "and 2015 to 2022. Made for demonstrations and tests; nothing in it was ever observed."
)
_LICENCE: Final = "Synthetic data under the licence of the software that makes them (MIT)."


def description(portal: Portal, base: str, parent: str) -> bytes | None:
    """Description document of all collections or of one; None where there is no such ``parent``."""
    collection = _known(portal, parent)
    if parent != ROOT and collection is None:
        return None
    granules = portal.granules(collection)
    root = ET.Element(f"{_OS}OpenSearchDescription")
    ET.SubElement(root, f"{_OS}ShortName").text = "Embedded portal"
    ET.SubElement(root, f"{_OS}Description").text = "Search of the demonstration's synthetic files."
    for media_type in _TYPES:
        template = f"{base}/opensearch/request?httpAccept={media_type.replace('+', '%2B')}&parentIdentifier={parent}"
        template += "".join(f"&{name}={{{name}?}}" for name in (*_FREE, *FACETS))
        url = ET.SubElement(root, f"{_OS}Url", {"rel": "results", "type": media_type, "template": template})
        for name in (*_FREE, *FACETS):
            parameter = ET.SubElement(url, f"{_PARAM}Parameter", {"name": name, "value": f"{{{name}}}"})
            for value, count in _options(granules, name):
                ET.SubElement(parameter, f"{_PARAM}Option", {"value": value, "label": f"{value} ({count})"})
    return _dump(root, {"": _OS, "param": _PARAM})


def manifest(portal: Portal, uuid: str) -> bytes | None:
    """Variables of each dataset of a collection; None where there is no such collection."""
    collection = _known(portal, uuid)
    if collection is None:
        return None
    variables = [{"var_id": name} for name in ("agb", "agb_sd")]
    return json.dumps(
        {product.drs_id: variables for product in (collection.fine, collection.coarse)}, indent=2
    ).encode()


def iso_record(portal: Portal, uuid: str) -> bytes | None:
    """ISO 19115 record of a collection in ISO 19139's XML; None where there is no such collection."""
    collection = _known(portal, uuid)
    if collection is None:
        return None
    granules = portal.granules(collection)
    root = ET.Element(_qualified("gmd:MD_Metadata"))
    _add(root, "gmd:fileIdentifier/gco:CharacterString", uuid)
    data = _add(root, "gmd:identificationInfo/gmd:MD_DataIdentification")
    citation = _add(data, "gmd:citation/gmd:CI_Citation")
    _add(citation, "gmd:title/gco:CharacterString", collection.title)
    published = _add(citation, "gmd:date/gmd:CI_Date")
    _add(published, "gmd:date/gco:DateTime", f"{updated(1):%Y-%m-%dT%H:%M:%S}")
    _add(published, "gmd:dateType/gmd:CI_DateTypeCode", "publication")
    _add(data, "gmd:abstract/gco:CharacterString", _ABSTRACT)
    _add(data, "gmd:resourceFormat/gmd:MD_Format/gmd:name/gco:CharacterString", "Data are in NetCDF format")
    _add(data, "gmd:resourceConstraints/gmd:MD_Constraints/gmd:useLimitation/gco:CharacterString", _LICENCE)
    extent = _add(data, "gmd:extent/gmd:EX_Extent")
    box = _add(extent, "gmd:geographicElement/gmd:EX_GeographicBoundingBox")
    west, south, east, north = collection.fine.lattice.bbox
    for side, value in (("west", west), ("east", east), ("south", south), ("north", north)):
        axis = "Longitude" if side in {"west", "east"} else "Latitude"
        _add(box, f"gmd:{side}Bound{axis}/gco:Decimal", str(round(value, 6)))
    period = _add(extent, "gmd:temporalElement/gmd:EX_TemporalExtent/gmd:extent/gml:TimePeriod")
    _add(period, "gml:beginPosition", f"{min(g.start for g in granules):%Y-%m-%dT%H:%M:%S}")
    _add(period, "gml:endPosition", f"{max(g.end for g in granules):%Y-%m-%dT%H:%M:%S}")
    return _dump(root, {prefix: f"{{{uri}}}" for prefix, uri in _NAMESPACES.items()})


def atom(response: Mapping[str, Any]) -> bytes:
    """A search's answer as an Atom feed: titles, identifiers and links of the entries."""
    feed = ET.Element(f"{_ATOM}feed")
    ET.SubElement(feed, f"{_ATOM}title").text = response["title"]
    ET.SubElement(feed, f"{_OS}totalResults").text = str(response["totalResults"])
    for feature in response["features"]:
        entry, properties = ET.SubElement(feed, f"{_ATOM}entry"), feature["properties"]
        ET.SubElement(entry, f"{_ATOM}id").text = feature["id"]
        ET.SubElement(entry, f"{_ATOM}title").text = properties["title"]
        for rel, links in properties["links"].items():
            for link in links:
                ET.SubElement(entry, f"{_ATOM}link", {"rel": rel, **link})
    return _dump(feed, {"": _ATOM, "os": _OS})


def _known(portal: Portal, uuid: str) -> Collection | None:
    return next((one for one in portal.collections() if one.uuid == uuid), None)


def _options(granules: Sequence[Granule], name: str) -> Sequence[tuple[str, int]]:
    if name not in FACETS:
        return ()
    return sorted(Counter(granule.product.facets[name] for granule in granules).items())


def _qualified(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}"


def _add(parent: ET.Element, path: str, text: str | None = None) -> ET.Element:
    for name in path.split("/"):
        parent = ET.SubElement(parent, _qualified(name))
    parent.text = text
    return parent


def _dump(root: ET.Element, prefixes: Mapping[str, str]) -> bytes:
    """The document with these prefixes, without the process-wide registry of ElementTree."""
    for element in root.iter():
        element.tag = _short(str(element.tag), prefixes)
    for prefix, space in prefixes.items():
        root.set(f"xmlns:{prefix}" if prefix else "xmlns", space[1:-1])
    return bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True))


def _short(tag: str, prefixes: Mapping[str, str]) -> str:
    for prefix, space in prefixes.items():
        if tag.startswith(space):
            return f"{prefix}:{tag.removeprefix(space)}" if prefix else tag.removeprefix(space)
    return tag
