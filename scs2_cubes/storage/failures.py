"""What goes wrong in object stores, told so that somebody can act on it, and without secrets.

fsspec passes on what its libraries raise: OSErrors, into which s3fs turns many answers of S3, and botocore's and
aiohttp's own errors. S3's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scs2_cubes.errors import StorageError, redact, redact_text

__all__ = ["Access", "failures", "is_absence"]

#: Module and name of the roots of the trees of errors that aren't OSErrors: those of s3fs, and of fsspec over HTTP.
_FOREIGN = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp.client_exceptions", "ClientError"),
)
_NO_BUCKET = "NoSuchBucket"
#: Answers to requests without a body, such as HEAD, say no more than the status.
_DENIED = frozenset({"AccessDenied", "403"})
_SECRET_OPTIONS = ("key", "secret", "token")
_SECRET_ARGUMENTS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_SHORTEST_SECRET = 4
_GIVE_KEYS = "give key and secret in storage_options, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_LATER = "What was finished is kept; run again when the server is back"
#: S3's code, or the name of a library's error → what to do.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        _NO_BUCKET: "There is no such bucket: create it, or correct root or endpoint_url",
        "InvalidAccessKeyId": "The server doesn't know this access key: check storage_options.key, or "
        "AWS_ACCESS_KEY_ID, and endpoint_url",
        "SignatureDoesNotMatch": "The secret isn't that of the access key: check storage_options.secret, or "
        "AWS_SECRET_ACCESS_KEY",
        "ExpiredToken": "The session's token has expired: get a new one",
        "InvalidToken": "The session's token isn't valid: get a new one",
        "RequestTimeTooSkewed": "The clock of this machine is wrong: set it",
        "NoCredentialsError": f"No access key was found: {_GIVE_KEYS}; anon: true is for what is public",
        "PartialCredentialsError": f"Half of the access key is missing: {_GIVE_KEYS}",
        "ProfileNotFound": "There is no such profile in the AWS configuration: check storage_options.profile",
        "EndpointConnectionError": _LATER,
        "ConnectionClosedError": _LATER,
        "ConnectTimeoutError": _LATER,
        "ReadTimeoutError": _LATER,
        "AioReadTimeoutError": _LATER,
        "ClientPayloadError": _LATER,
        "IncompleteReadError": _LATER,
        "ResponseStreamingError": _LATER,
        "SlowDown": _LATER,
        "ServiceUnavailable": _LATER,
        "InternalError": _LATER,
    }
)


@dataclass(frozen=True, slots=True)
class Access:
    """How an object store is reached, as far as messages need to know it."""

    server: str
    """Its address, without secrets; empty where the options name none."""
    is_anonymous: bool
    """Whether it is asked without a key."""
    secrets: tuple[str, ...]
    """What no message may hold."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Access:
        """That of fsspec's ``options``, in s3fs's terms. No I/O."""
        client = options.get("client_kwargs") or {}
        server = options.get("endpoint_url") or client.get("endpoint_url") or ""
        found = [options.get(name) for name in _SECRET_OPTIONS] + [client.get(name) for name in _SECRET_ARGUMENTS]
        # The longest first: one may be part of another. What is so short that words hold it hides nothing.
        texts = {text for text in found if isinstance(text, str) and len(text) >= _SHORTEST_SECRET}
        secrets = sorted(texts, key=len, reverse=True)
        return cls(redact(str(server)), bool(options.get("anon")), tuple(secrets))

    def __repr__(self) -> str:
        return f"Access({self.server!r})"

    def error(self, what: str, error: Exception) -> StorageError:
        """That ``what`` failed: says where, why and what to do."""
        code = _code(error)
        said = self._without_secrets(str(error)).strip()
        why = ": ".join(part for part in (code, said if said not in {"", "None", code} else "") if part)
        place = f" (server {self.server})" if self.server else ""
        advice = self._advice(code or type(error).__name__)
        return StorageError(f"{what}: {why or type(error).__name__}{place}" + (f". {advice}" if advice else ""))

    def cause(self, error: Exception) -> Exception | None:
        """``error``, unless it shows secrets: a traceback shows the whole chain."""
        return error if all(self._without_secrets(str(one)) == str(one) for one in _chain(error)) else None

    def _advice(self, code: str) -> str:
        if code not in _DENIED:
            return _ADVICE.get(code, "")
        if self.is_anonymous:
            return f"Without a key this isn't allowed: {_GIVE_KEYS}"
        return (
            "The access key may not do this there: ask the bucket's owner for the rights to list, read, write and "
            "remove, or use another key"
        )

    def _without_secrets(self, text: str) -> str:
        shown = redact_text(text)
        for secret in self.secrets:
            shown = shown.replace(secret, "…")
        return shown


def failures() -> tuple[type[Exception], ...]:
    """What filesystems raise where a store can't be reached or refuses.

    A library that nobody has imported has raised nothing.
    """
    loaded = [getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN]
    return (OSError, *(kind for kind in loaded if isinstance(kind, type) and issubclass(kind, Exception)))


def is_absence(error: Exception) -> bool:
    """Whether ``error`` says that an object or a folder isn't there; a bucket that isn't there is something else."""
    return isinstance(error, FileNotFoundError) and _code(error) != _NO_BUCKET


def _code(error: BaseException) -> str:
    """S3's code for what went wrong; empty where there is none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code") or "")
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
