"""What an S3-like server answers to a request, as pure functions of the object and the request's headers.

Conditional requests and ranges after RFC 9110, sections 13 and 14; error documents as S3 words them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final
from xml.sax.saxutils import escape

from scs2_cubes.demo.catalogue import Resource

__all__ = ["Answer", "answer", "error_answer"]

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_CODES: Final[Mapping[int, str]] = {
    HTTPStatus.FORBIDDEN: "AccessDenied",
    HTTPStatus.NOT_FOUND: "NoSuchKey",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "InvalidRange",
    HTTPStatus.TOO_MANY_REQUESTS: "SlowDown",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
    HTTPStatus.SERVICE_UNAVAILABLE: "SlowDown",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response."""

    status: int
    """Status code."""
    headers: Mapping[str, str]
    """Header fields, Content-Length excepted."""
    body: bytes
    """What is sent."""
    content_length: int
    """What Content-Length says."""
    close: bool = False
    """Whether the connection is closed afterwards."""


def answer(resource: Resource | None, path: str, headers: Mapping[str, str]) -> Answer:
    """Answer to a GET of ``resource``; None is answered with 404. Names of the request's ``headers`` are lower case."""
    if resource is None:
        return error_answer(HTTPStatus.NOT_FOUND, path)
    fields = {
        "Content-Type": resource.content_type,
        "ETag": resource.etag,
        "Last-Modified": format_datetime(resource.last_modified, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if headers.get("if-none-match") == resource.etag:
        return Answer(HTTPStatus.NOT_MODIFIED, fields, b"", 0)
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    # A range that can't be read, several of them among these, counts as none: RFC 9110, section 14.2.
    if wanted is None or wanted.groups() == ("", ""):
        return Answer(HTTPStatus.OK, fields, resource.body, len(resource.body))
    return _part(resource.body, wanted[1], wanted[2], path, fields)


def error_answer(status: int, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer without an object: a small XML document, as S3 sends it."""
    code = _CODES.get(status, HTTPStatus(status).phrase.replace(" ", ""))
    text = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Resource>{escape(path)}</Resource></Error>"
    )
    body = text.encode()
    return Answer(status, {"Content-Type": "application/xml", **(headers or {})}, body, len(body))


def _part(body: bytes, first: str, last: str, path: str, fields: Mapping[str, str]) -> Answer:
    size = len(body)
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(size - int(last), 0), size
    if start >= stop:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return error_answer(status, path, {"Content-Range": f"bytes */{size}"})
    part = body[start:stop]
    headers = {**fields, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(HTTPStatus.PARTIAL_CONTENT, headers, part, len(part))
