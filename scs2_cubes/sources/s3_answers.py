"""Files that fsspec opens, above all in S3: asked once, and what s3fs and its libraries raise in this package's words.

s3fs turns many answers of S3 into OSErrors and keeps the answer itself as their cause; connections fail with botocore's
own errors. S3's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from scs2_cubes.errors import AccessDeniedError, DataIdNotFoundError, redact_text
from scs2_cubes.sources.http import refuse_status
from scs2_cubes.sources.transport import TransientAnswerError

__all__ = ["open_filesystem", "refuse_answer", "s3_failures"]

_ROOTS = ("BotoCoreError", "ClientError")
_NO_KEY = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
_NO_BUCKET = "NoSuchBucket"
_HINT = (
    "Check key and secret in storage_options, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (anon: true is for what "
    "is public), and the rights to read and to list: where nobody may list a bucket, a server says this of objects "
    "that aren't there, too"
)


def open_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """(fsspec's filesystem, path) of ``url``, which asks once: whoever reads asks again by the policy. No I/O."""
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    if url.startswith("s3://"):
        # Otherwise s3fs makes 5 attempts of each call.
        filesystem.retries = 1
    return filesystem, path


def s3_failures() -> tuple[type[Exception], ...]:
    """The roots of botocore's errors; none where nobody has imported it, so that it has raised nothing."""
    module = sys.modules.get("botocore.exceptions")
    found = [getattr(module, name, None) for name in _ROOTS]
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))


def refuse_answer(error: Exception, url: str) -> None:
    """Raise what ``error`` means, where it is an answer of S3's, or one of botocore's own errors.

    Raises AccessDeniedError, DataIdNotFoundError for a bucket that isn't there, TransientAnswerError for what may pass,
    or SourceUnavailableError. Returns where it says no more than that something isn't there, or isn't S3's at all.
    """
    if type(error).__name__ in _NO_KEY:
        raise AccessDeniedError(f"{type(error).__name__}: no access key was found. {_HINT}", url=url) from error
    response = next((found for one in _chain(error) if isinstance(found := getattr(one, "response", None), dict)), None)
    if response is not None:
        _refuse(response, url)
    elif isinstance(error, s3_failures()):
        raise TransientAnswerError(f"{type(error).__name__}: {redact_text(str(error))}") from error


def _refuse(response: dict[str, Any], url: str) -> None:
    code = str(response.get("Error", {}).get("Code") or "")
    if code == _NO_BUCKET:
        raise DataIdNotFoundError(f"{code}: there is no such bucket; check root and endpoint_url", url=url)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    reason = f"{code}. {_HINT}" if status in {401, 403} else code
    if status != 404:  # noqa: PLR2004 - "not found" is left to whoever asked
        refuse_status(status, {}, url, reason)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
