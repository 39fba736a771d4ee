"""The seam between the embedded server and the services that it carries: a request in, an answer out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from scs2_cubes.demo.answers import Answer, answer, error_answer
from scs2_cubes.demo.catalogue import Catalogue

__all__ = ["CatalogueService", "HttpRequest", "Service"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, as a service sees it."""

    method: str
    """GET, POST, DELETE. A HEAD comes as a GET, whose body the server keeps back."""
    path: str
    """Decoded URL path."""
    query: str
    """Query string without its question mark, as it was sent."""
    headers: Mapping[str, str]
    """Header fields; names in lower case."""
    body: bytes
    """What was sent along."""


class Service(Protocol):
    """One embedded service. Answers from several threads at once."""

    def answer(self, request: HttpRequest) -> Answer | None:
        """The answer to ``request``; None where its path is none of this service's."""
        ...


class CatalogueService:
    """The EO Forest catalogue's bucket. It takes every path, so it is asked last."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def answer(self, request: HttpRequest) -> Answer | None:
        if request.method != "GET":
            return error_answer(HTTPStatus.METHOD_NOT_ALLOWED, request.path)
        return answer(self._catalogue.read(request.path), request.path, request.headers)
