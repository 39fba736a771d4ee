"""What each ``store_id`` that can be read from wants to know, in one table. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from scs2_cubes.config.object_stores import S3_PARAMETERS, s3_place
from scs2_cubes.config.parameters import Parameters

__all__ = ["CREDENTIALS", "PROTOCOLS", "STORAGE_OPTIONS", "Protocol", "canonical_data_id"]

#: The parameter that holds a secret, or the path of a file that does.
CREDENTIALS = "credentials"
#: The parameter that holds s3fs's options.
STORAGE_OPTIONS = "storage_options"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_CLMS_API = "https://land.copernicus.eu/api"
_CCI_SEARCH = "https://archive.opensearch.ceda.ac.uk/opensearch/request"
#: The description of the whole portal lies beside its search.
_CCI_DESCRIPTION = "description.xml?parentIdentifier=cci"
_CCI_CONNECTIONS = 4
#: Bytes.
_CCI_CACHE_SIZE = 20 * 10**9


@dataclass(frozen=True, slots=True)
class Protocol:
    """A kind of source."""

    parameters: frozenset[str]
    """The keys of ``store_params`` that have an effect."""
    read: Callable[[Parameters, Path], Mapping[str, Any] | None]
    """``store_params`` and the configuration's folder → ``StoreSpec.params``; None where something is wrong."""
    is_cached: bool = False
    """Whether what is read lies in a cache of the store's own."""
    is_preloaded: bool = False
    """Whether whole datasets have to be ordered and fetched before they can be read."""


def canonical_data_id(store_id: str, data_id: str) -> str:
    """The one spelling of ``data_id``: where datasets are preloaded, ids with and without ``.zarr`` mean the same."""
    protocol = PROTOCOLS.get(store_id)
    return data_id.removesuffix(".zarr") if protocol and protocol.is_preloaded else data_id


def _stac(parameters: Parameters, folder: Path) -> Mapping[str, Any] | None:
    url = parameters.address("url")
    if url and "://" not in url:
        url = parameters.file("url", url, folder)
    return {"url": url} if url else None


def _clms(parameters: Parameters, folder: Path) -> Mapping[str, Any] | None:
    credentials = _credentials(parameters, folder)
    api_url = parameters.url("api_url", _CLMS_API)
    return {CREDENTIALS: credentials, "api_url": api_url.rstrip("/")} if credentials and api_url else None


def _credentials(parameters: Parameters, folder: Path) -> str | None:
    """The service key's JSON text, beginning with ``{``, or the absolute path of its file, which needn't be there yet.

    That is decided here, once: whoever is handed the value needs to look at its first character only.
    """
    text = parameters.text(CREDENTIALS)
    if text is None or text.lstrip().startswith("{"):
        return text.lstrip() if text else None
    if "\n" in text.strip():
        # A key by itself: as a path it would be shown in messages.
        parameters.add(CREDENTIALS, "should be the path of a JSON file, or the JSON text, which begins with {")
        return None
    return parameters.file(CREDENTIALS, text, folder)


def _cci(parameters: Parameters, _: Path) -> Mapping[str, Any] | None:
    search = parameters.url("endpoint_url", _CCI_SEARCH)
    description = parameters.url("endpoint_description_url", urljoin(search or _CCI_SEARCH, _CCI_DESCRIPTION))
    connections = parameters.count("max_connections", _CCI_CONNECTIONS)
    cache_size = parameters.count("cache_size", _CCI_CACHE_SIZE)
    if search is None or description is None or connections is None or cache_size is None:
        return None
    return {
        "endpoint_url": search,
        "endpoint_description_url": description,
        "max_connections": connections,
        "cache_size": cache_size,
    }


def _folder(parameters: Parameters, folder: Path) -> Mapping[str, Any] | None:
    root = parameters.address("root")
    if root and "://" in root:
        parameters.add("root", "should be the path of a folder; store_id: s3 is for buckets, https for web servers")
        return None
    path = parameters.file("root", root, folder) if root else None
    return {"root": path} if path else None


def _bucket(parameters: Parameters, _: Path) -> Mapping[str, Any] | None:
    place = s3_place(parameters)
    return {"root": place.url, STORAGE_OPTIONS: place.options} if place else None


def _web(parameters: Parameters, _: Path) -> Mapping[str, Any] | None:
    root = parameters.address("root")
    parts = urlsplit(root) if root else None
    if root is None or parts is None:
        return None
    is_secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not (is_secure and parts.hostname) or "@" in parts.netloc or parts.query or parts.fragment:
        text = "should be an https URL without user, query and fragment (http is for this computer alone)"
        parameters.add("root", text)
        return None
    return {"root": root.rstrip("/")}


#: ``store_id`` → what it wants to know.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "stac": Protocol(frozenset({"url", "href_rewrite"}), _stac),
        "file": Protocol(frozenset({"root"}), _folder),
        "s3": Protocol(S3_PARAMETERS, _bucket),
        "https": Protocol(frozenset({"root"}), _web),
        "clms": Protocol(
            frozenset({CREDENTIALS, "api_url", "href_rewrite", "cache", "cache_store_params"}),
            _clms,
            is_cached=True,
            is_preloaded=True,
        ),
        "cciodp": Protocol(
            frozenset(
                {
                    "endpoint_url",
                    "endpoint_description_url",
                    "max_connections",
                    "href_rewrite",
                    "cache",
                    "cache_size",
                }
            ),
            _cci,
            is_cached=True,
        ),
    }
)
