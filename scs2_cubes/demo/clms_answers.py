"""Answers of the embedded CLMS service: JSON documents, and the refusals that end a request early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from scs2_cubes.demo.answers import Answer

__all__ = ["RefusedError", "json_answer", "no_content", "oauth_refusal", "plone_refusal", "queue_refusal"]


class RefusedError(Exception):
    """A request isn't granted. It never leaves the service, which sends ``answer``."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"answered with {answer.status}")
        self.answer = answer


def json_answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a JSON document."""
    body = json.dumps(document, indent=2).encode()
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, body, len(body))


def no_content() -> Answer:
    """204: done, and nothing to say."""
    return Answer(HTTPStatus.NO_CONTENT, {}, b"", 0)


def oauth_refusal(status: int, error: str, description: str) -> RefusedError:
    """Refusal in the words of OAuth 2.0, RFC 6749 section 5.2."""
    return RefusedError(json_answer(status, {"error": error, "error_description": description}))


def queue_refusal(status: int, message: str) -> RefusedError:
    """Refusal in the words of the download queue."""
    return RefusedError(json_answer(status, {"status": "error", "msg": message}))


def plone_refusal(status: int, kind: str, message: str) -> RefusedError:
    """Refusal in the words of Plone's REST API, on which the service is built."""
    return RefusedError(json_answer(status, {"type": kind, "message": message}))
