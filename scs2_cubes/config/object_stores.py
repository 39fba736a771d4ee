"""S3 as a place: where it is and how it is reached, in s3fs's terms. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from scs2_cubes.config.parameters import Parameters
from scs2_cubes.config.problems import nearest
from scs2_cubes.core.native import RetryPolicy

__all__ = ["S3_PARAMETERS", "S3Place", "s3_options", "s3_place"]

#: The keys of ``store_params`` of a place on S3.
S3_PARAMETERS = frozenset({"root", "storage_options"})

_SCHEME = "s3://"
#: A bucket and its folders: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, and capitals
#: and underscores, which other servers allow.
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}(/[^/\\?#]+)*")
#: Longest time in seconds until a connection is there.
_CONNECT_TIMEOUT = 15.0
_CONNECTIONS = 32
#: What botocore's create_client takes by name, but for what has its own option here: endpoint and config.
_CLIENT_SETTINGS = frozenset(
    {
        "region_name",
        "api_version",
        "use_ssl",
        "verify",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_account_id",
    }
)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A folder on S3."""

    url: str
    """``s3://bucket/prefix``, without a slash at its end."""
    options: Mapping[str, Any]
    """``storage_options`` as they stand in the file; may hold secrets."""

    def __repr__(self) -> str:
        return f"S3Place({self.url!r})"


def s3_place(parameters: Parameters) -> S3Place | None:
    """``root`` and ``storage_options`` of ``parameters``; None where one of them can't be used, which is reported."""
    root, options = _root(parameters), _options(parameters)
    return None if root is None or options is None else S3Place(root, options)


def s3_options(options: Mapping[str, Any], retry: RetryPolicy, *, attempts: int | None = None) -> Mapping[str, Any]:
    """What s3fs is given: ``options``, and what it needs to work for several processes, with the policy's patience.

    ``attempts``: of one request; None: as many as the policy has, each of which gets its share of the deadline at most,
    because botocore knows none. Whatever ``config_kwargs`` says goes before that.
    """
    most = attempts or retry.max_attempts
    timeout = min(retry.timeout, retry.deadline / most)
    patience = {
        "connect_timeout": min(_CONNECT_TIMEOUT, timeout),
        "read_timeout": timeout,
        # botocore's newer way: waits that double, with full jitter, up to 20 s.
        "retries": {"mode": "standard", "total_max_attempts": most},
        "max_pool_connections": _CONNECTIONS,
    }
    return {
        # Others write here, too.
        "use_listings_cache": False,
        # More would mean one request for the size before each that reads.
        "max_concurrency": 1,
        **options,
        "config_kwargs": {**patience, **options.get("config_kwargs", {})},
    }


def _root(parameters: Parameters) -> str | None:
    root = parameters.text("root")
    if root is None:
        return None
    place = root.removeprefix(_SCHEME).rstrip("/")
    folders = place.split("/")
    if not _PLACE.fullmatch(place) or not place.isprintable() or {".", ".."} & set(folders):
        parameters.add("root", "should be a bucket, with folders after it or without: bucket/folder")
        return None
    return f"{_SCHEME}{place}"


def _options(parameters: Parameters) -> Mapping[str, Any] | None:
    if not parameters.has("storage_options"):
        return {}
    inner = parameters.inner("storage_options")
    if inner is None:
        return None
    found = {key: _option(inner, key) for key in inner.values if inner.has(key)}
    return None if None in found.values() else found


def _option(inner: Parameters, key: str) -> Any:
    """The value of one option; None where it can't be used, which is reported."""
    if key not in _KINDS:
        inner.add(key, f"isn't supported for s3; {nearest(key, _KINDS)}")
        return None
    kind, what = _KINDS[key]
    value = kind(inner.values[key])
    if value is None:
        # Not the value: most of them are secrets, or hold some.
        inner.add(key, f"should be {what}")
    elif key == "client_kwargs" and "endpoint_url" in value:
        inner.add(key, "can't have endpoint_url, which stands beside client_kwargs")
        return None
    elif key in {"client_kwargs", "config_kwargs"} and (unknown := sorted(value.keys() - _settings_of(key))):
        # They would be a TypeError in the middle of a run.
        inner.add(key, f"{unknown[0]!r} isn't supported; {nearest(unknown[0], _settings_of(key))}")
        return None
    return value


def _settings_of(key: str) -> frozenset[str]:
    if key == "client_kwargs":
        return _CLIENT_SETTINGS
    # Only for those who configure it.
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415  # ships no type information

    return frozenset(Config.OPTION_DEFAULTS)


def _flag(value: object) -> bool | None:
    # From the environment everything comes as text.
    text = str(value).strip().lower()
    return {"true": True, "false": False}.get(text)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _settings(value: object) -> Mapping[str, Any] | None:
    """A mapping in which flags, which come as text from the environment, are flags at any depth."""
    if not isinstance(value, dict):
        return None
    return {key: _settings(one) if isinstance(one, dict) else _flag_or_same(one) for key, one in value.items()}


def _flag_or_same(value: object) -> object:
    flag = _flag(value) if isinstance(value, str) else None
    return value if flag is None else flag


def _address(value: object) -> str | None:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            return None
    except ValueError:
        return None
    return str(value)


_TEXT = (_text, "a string that isn't empty")
_FLAG = (_flag, "true or false")
_MAPPING = (_mapping, "a mapping")
_SETTINGS = (_settings, "a mapping")
#: s3fs's options: how to read each, and what it should be.
_KINDS: Mapping[str, tuple[Callable[[object], Any], str]] = MappingProxyType(
    {
        "anon": _FLAG,
        "key": _TEXT,
        "secret": _TEXT,
        "token": _TEXT,
        "profile": _TEXT,
        "endpoint_url": (_address, "an http or https URL without user and password"),
        "use_ssl": _FLAG,
        "requester_pays": _FLAG,
        "client_kwargs": _SETTINGS,
        "config_kwargs": _SETTINGS,
        "s3_additional_kwargs": _MAPPING,
    }
)
