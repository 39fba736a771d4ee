"""From a service key of the Copernicus Land Monitoring Service to an access token.

The grant is RFC 7523's: a JSON Web Token, signed with the key's private half (RS256), is exchanged for an opaque token
at the key's own ``token_uri``. There is no refresh token: where a token ends, the grant is repeated.

Neither key nor assertion nor token leaves this room but in the requests that need them. Errors of the libraries that
see them aren't chained, because they carry what they couldn't read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import (
    AccessDeniedError,
    ConfigurationError,
    SourceFormatError,
    SourceUnavailableError,
    redact,
)
from scs2_cubes.sources.http import Answer, Documents, Request, is_local, json_object, reported_reason

__all__ = ["ServiceKey", "Token", "TokenKeeper", "is_inline", "read_service_key"]

_LOGGER = logging.getLogger(__name__)

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEYS = ("client_id", "user_id", "token_uri", "private_key")
#: Seconds for which an assertion is valid; the service wants at most an hour.
_LIFETIME = 3600
#: The service refuses assertions of the future: seconds by which this machine's clock may be ahead of its clock.
_CLOCK_SKEW = 30
#: A token is renewed when this part of its life, but no more than so many seconds, is left.
_MARGIN_FRACTION, _MARGIN = 0.1, 300.0
#: Visible ASCII: nothing else may stand in a header field, whose library would show it in its refusal.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ERROR_NAME = re.compile(r"[A-Za-z_.-]{1,40}")
#: Answers to a grant that are about the key or the assertion; RFC 6749, section 5.2.
_REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: Answers of what isn't a token endpoint.
_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE})


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """What the service hands out to a user for programs that act for them."""

    origin: str
    """File that it was read from, or the parameter that holds it; for messages."""
    client_id: str
    """Public name of the key."""
    user_id: str
    """Whose key it is."""
    token_uri: str
    """Where tokens are granted; also the assertion's audience."""
    private_key: RSAPrivateKey = field(repr=False)
    """The secret half."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a service key stays in the process that read it")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, which its repr doesn't show."""

    value: str = field(repr=False)
    """What goes into the Authorization field."""
    renewal: float
    """Reading of the monotonic clock, in seconds, from which on another one is asked for."""


class TokenKeeper:
    """Holds one store's token, in memory alone. Safe to share between threads, of which one asks for a new token."""

    def __init__(self, store: StoreSpec, documents: Documents) -> None:
        self._store = store
        self._documents = documents
        self._lock = threading.Lock()
        self._key: ServiceKey | None = None
        self._token: Token | None = None

    def __repr__(self) -> str:
        return f"TokenKeeper({self._store.identifier!r})"

    def token(self, rejected: Token | None = None) -> Token:
        """A token that should be good: the one at hand, unless it is ``rejected`` or about to end, or a new one.

        Reads the service key's file when it is first called. Raises ConfigurationError where that can't be used,
        AccessDeniedError where the service refuses it, SourceFormatError, or SourceUnavailableError after retries.
        """
        with self._lock:
            held = self._token
            if held is None or held is rejected or time.monotonic() >= held.renewal:
                self._key = self._key or read_service_key(self._store)
                self._token = held = self._grant(self._key)
            return held

    def _grant(self, key: ServiceKey) -> Token:
        asked = time.monotonic()
        request = _grant_request(key)
        answer = self._documents.send(request)
        if answer.status in _NOT_THERE:
            raise SourceUnavailableError(
                f"HTTP {answer.status}: no tokens are granted there; check 'token_uri' in {key.origin}", url=answer.url
            )
        if answer.status in _REFUSALS:
            raise AccessDeniedError(
                f"the service refuses the key {key.client_id} of {key.origin}: {_refusal(answer)}",
                url=answer.url,
            )
        _LOGGER.debug("new token from %s", redact(key.token_uri))
        return _read_token(answer, asked)


def is_inline(credentials: object) -> bool:
    """True where the parameter ``credentials`` is the key's JSON text, False where it's the path of its file."""
    return isinstance(credentials, str) and credentials.lstrip().startswith("{")


def read_service_key(store: StoreSpec) -> ServiceKey:
    """The service key that ``store``'s parameter ``credentials`` names or holds. Reads the file, if it's one.

    Raises ConfigurationError, which names the file and the key in it that is wrong, and shows no value.
    """
    given = store.params.get("credentials")
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(
            f"data store {store.identifier!r}: store_params.credentials is missing: give the path of the service key's "
            "JSON file, which the service's website makes under “API tokens” of your profile"
        )
    if is_inline(given):
        origin = f"store_params.credentials of data store {store.identifier!r}"
        return _checked_key(given.encode(), origin)
    return _checked_key(_read_file(given, store), given)


def _read_file(path: str, store: StoreSpec) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = error.strerror
    except ValueError:
        problem = "no file has such a name"
    # Not raised from the error, which names the path: a secret that was written in its place must not be shown.
    shown = f" ({path})" if path.endswith(".json") or os.path.exists(path) else ""  # noqa: PTH110  (a Path raises where a name is too long)
    raise ConfigurationError(
        f"data store {store.identifier!r}: the file that store_params.credentials names can't be read{shown}: {problem}"
    )


def _checked_key(content: bytes, origin: str) -> ServiceKey:
    document = _parsed(content)
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{origin}: not a JSON object, so it isn't a CLMS service key")
    wrong = [name for name in _KEYS if not isinstance(document.get(name), str) or not document[name].strip()]
    if wrong:
        raise ConfigurationError(
            f"{origin}: not a CLMS service key, because it lacks {', '.join(wrong)} (or they aren't text). Such a key "
            f"has {', '.join(_KEYS)}"
        )
    token_uri = document["token_uri"]
    if is_local(token_uri) or not token_uri.startswith(("https://", "http://")):
        raise ConfigurationError(f"{origin}: 'token_uri' isn't an http(s) address")
    private_key = _loaded(document["private_key"])
    if not isinstance(private_key, RSAPrivateKey):
        raise ConfigurationError(
            f"{origin}: 'private_key' isn't an unencrypted RSA private key in PEM form, with its line ends written \\n"
        )
    return ServiceKey(origin, document["client_id"], document["user_id"], token_uri, private_key)


def _parsed(content: bytes) -> Any:
    # The parser's errors hold the whole document, so they end here.
    try:
        return json.loads(content)
    except ValueError:
        return None


def _loaded(pem: str) -> object:
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not PEM, or encrypted, or of a kind that isn't known: the caller says so, without the library's words.
        return None


def _grant_request(key: ServiceKey) -> Request:
    issued = int(time.time()) - _CLOCK_SKEW
    claims = {
        "iss": key.client_id,
        "sub": key.user_id,
        "aud": key.token_uri,
        "iat": issued,
        "exp": issued + _LIFETIME,
    }
    assertion = jwt.encode(claims, key.private_key, algorithm="RS256")
    return Request(
        key.token_uri,
        "POST",
        {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        urlencode({"grant_type": _GRANT_TYPE, "assertion": assertion}).encode(),
        secrets=(assertion,),
        accepted=_REFUSALS | _NOT_THERE,
    )


def _refusal(answer: Answer) -> str:
    """What the token endpoint says of a refused grant; by RFC 6749 an error's name and its description."""
    reason = reported_reason(answer)
    error = json_object(answer).get("error")
    # Names of errors are short; whatever is longer is something else.
    name = error if isinstance(error, str) and _ERROR_NAME.fullmatch(error) else "no error named"
    return f"{name}: {reason or 'no reason given'} (HTTP {answer.status})"


def _read_token(answer: Answer, asked: float) -> Token:
    said = json_object(answer)
    value, lifetime = said.get("access_token"), said.get("expires_in", _LIFETIME)
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise SourceFormatError("the grant's answer has no 'access_token' that could be sent", url=answer.url)
    try:
        seconds = float(lifetime)
    except (TypeError, ValueError):
        # Only advice: a token that ends earlier is refused, and then renewed.
        seconds = float(_LIFETIME)
    return Token(value, asked + seconds - min(_MARGIN, _MARGIN_FRACTION * seconds))
