"""Service keys and access tokens of the embedded CLMS service: the JWT grant of RFC 7523.

Which claims are wanted, and what is said about wrong ones, follows the OAuth 2.0 endpoint of the real service.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.clms_answers import json_answer, oauth_refusal
from scs2_cubes.demo.services import HttpRequest

__all__ = ["DEFAULT_USER", "GRANT_TYPE", "Tokens"]

DEFAULT_USER: Final = "n00015mf"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_FORM: Final = "application/x-www-form-urlencoded"
_MAX_AHEAD: Final = 24 * 3600
_MAX_AGE: Final = 3600
#: How far the clock of a client may be ahead.
_CLOCK_SKEW: Final = 60


@dataclass(frozen=True, slots=True)
class _Grant:
    user_id: str
    expires: float
    """POSIX seconds."""


class Tokens:
    """The token endpoint with its service keys. Safe to use from several threads.

    ``token_uri`` tells its address, which is the audience that an assertion must name.
    """

    def __init__(self, token_uri: Callable[[], str]) -> None:
        #: Lifetime of tokens that are handed out from now on, in seconds.
        self.lifetime = 3600.0
        self._token_uri = token_uri
        self._keys: dict[str, dict[str, Any]] = {}
        self._grants: dict[str, _Grant] = {}
        self._lock = Lock()

    def credentials(self, user_id: str) -> dict[str, Any]:
        """Service key of a user, made when it is first asked for. All users share one RSA key of 2048 bits."""
        with self._lock:
            if user_id not in self._keys:
                self._keys[user_id] = {
                    "client_id": secrets.token_hex(16),
                    "user_id": user_id,
                    "key_id": secrets.token_hex(20),
                    "issued": datetime.now(UTC).replace(tzinfo=None).isoformat(),
                    "title": f"Demonstration key of {user_id}",
                    "ip_range": None,
                    "private_key": self._private_key.private_bytes(
                        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
                    ).decode("ascii"),
                }
            return {**self._keys[user_id], "token_uri": self._token_uri()}

    @cached_property
    def _private_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def grant(self, request: HttpRequest) -> Answer:
        """Answer to a request for a token. Raises RefusedError where it isn't granted."""
        user_id = self._user_of_assertion(_assertion(request))
        token = secrets.token_urlsafe(64)
        with self._lock:
            self._grants[token] = _Grant(user_id, time.time() + self.lifetime)
        document = {"access_token": token, "expires_in": int(self.lifetime), "token_type": "Bearer"}
        return json_answer(HTTPStatus.OK, document, {"Cache-Control": "no-store", "Pragma": "no-cache"})

    def user(self, headers: Mapping[str, str]) -> str | None:
        """User whose token a request shows; None for an anonymous one, as whoever shows an unknown token is.

        Raises RefusedError for a token that has expired.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        with self._lock:
            grant = self._grants.get(token.strip()) if scheme.lower() == "bearer" else None
        if grant is not None and grant.expires <= time.time():
            raise oauth_refusal(HTTPStatus.UNAUTHORIZED, "invalid_token", "Access token expired")
        return None if grant is None else grant.user_id

    def revoke(self) -> None:
        """Forget all tokens: who shows one is anonymous."""
        with self._lock:
            self._grants.clear()

    def expire(self) -> None:
        """Let all tokens expire now."""
        with self._lock:
            self._grants = {token: _Grant(grant.user_id, 0.0) for token, grant in self._grants.items()}

    def _user_of_assertion(self, assertion: str) -> str:
        try:
            if jwt.get_unverified_header(assertion).get("alg") != "RS256":
                raise oauth_refusal(
                    HTTPStatus.BAD_REQUEST, "invalid_request", "Only RS256 signature algorithm is supported"
                )
            issuer = jwt.decode(assertion, options={"verify_signature": False}).get("iss")
            key = self._key_of_client(issuer)
            claims = jwt.decode(
                assertion,
                self._private_key.public_key(),
                algorithms=["RS256"],
                audience=self._token_uri(),
                # The endpoint has its own words about these two.
                options={"verify_iat": False, "verify_nbf": False},
            )
        except jwt.InvalidTokenError as error:
            raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_grant", str(error)) from error
        complaint = _complaint(claims, key["user_id"])
        if complaint is not None:
            raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_grant", complaint)
        return str(key["user_id"])

    def _key_of_client(self, client_id: object) -> dict[str, Any]:
        with self._lock:
            key = next((key for key in self._keys.values() if key["client_id"] == client_id), None)
        if key is None:
            raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_grant", "No associated key found")
        return key


def _assertion(request: HttpRequest) -> str:
    if request.method != "POST":
        raise oauth_refusal(HTTPStatus.METHOD_NOT_ALLOWED, "invalid_request", "POST only")
    is_form = request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
    form = parse_qs(request.body.decode("utf-8", errors="replace")) if is_form else {}
    if "grant_type" not in form:
        raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "Missing 'grant_type'")
    if form["grant_type"] != [GRANT_TYPE]:
        supported = f"Only grant type '{GRANT_TYPE}' is supported"
        raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_request", supported)
    if "assertion" not in form:
        raise oauth_refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "Missing 'assertion'")
    return form["assertion"][0]


def _complaint(claims: Mapping[str, Any], user_id: str) -> str | None:
    """What is wrong with claims whose signature, audience and expiry are right; None where nothing is."""
    missing = next((name for name in ("exp", "iat") if name not in claims), None)
    if missing is not None:
        return f"Missing '{missing}' claim"
    try:
        expires, issued = int(claims["exp"]), int(claims["iat"])
    except (TypeError, ValueError):
        return "Issued At claim (iat) must be an integer."
    now = time.time()
    complaints = (
        (expires > now + _MAX_AHEAD, "JWT expiration is more than a day in the future"),
        (issued < now - _MAX_AGE, "JWT was issued more than an hour in the past"),
        (issued > now + _CLOCK_SKEW, "JWT issue time is in the future"),
        # Spelt as the real service spells it.
        ("nbf" in claims, "The 'nbf' claim is not suppported"),
        ("scope" in claims, "Scopes are not supported yet"),
        (claims.get("sub") != user_id, "JWT subject doesn't match user_id of service key."),
    )
    return next((text for wrong, text in complaints if wrong), None)
