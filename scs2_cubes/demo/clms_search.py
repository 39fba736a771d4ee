"""The search of the embedded CLMS service: pages of data sets, as Plone's REST API gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.clms_answers import json_answer, plone_refusal
from scs2_cubes.demo.clms_listing import Dataset

__all__ = ["search_answer"]

_PAGE_SIZE: Final = 25
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
#: What an item has that was asked for neither as a complete object nor by ``metadata_fields``.
_SUMMARY: Final = ("@id", "@type", "description", "image_field", "review_state", "title")

_Parameters = list[tuple[str, str]]


def search_answer(datasets: Sequence[Dataset], url: str, api_url: str, query: str) -> Answer:
    """One page of ``datasets``. ``url`` is the address that was asked, without its query.

    Raises RefusedError where ``b_start`` or ``b_size`` can't be used.
    """
    parameters = parse_qsl(query, keep_blank_values=True)
    kinds = {value for name, value in parameters if name == "portal_type"}
    found = datasets if not kinds or "DataSet" in kinds else ()
    start, size = _number(parameters, "b_start", 0, 0), _number(parameters, "b_size", _PAGE_SIZE, 1)
    page: dict[str, Any] = {
        "@id": _address(url, [pair for pair in parameters if pair[0] not in {"b_start", "b_size"}]),
        "items": [_item(dataset.document(api_url), parameters) for dataset in found[start : start + size]],
        "items_total": len(found),
    }
    # As in Plone: no batching where everything fits on one page.
    if len(found) > size:
        page["batching"] = _batching(url, parameters, start, size, len(found))
    return json_answer(HTTPStatus.OK, page)


def _item(document: dict[str, Any], parameters: _Parameters) -> dict[str, Any]:
    if any(name == "fullobjects" for name, _ in parameters):
        return document
    names = {value for name, value in parameters if name == "metadata_fields"}
    if "_all" in names:
        names |= document.keys()
    return {name: document.get(name) for name in sorted({*_SUMMARY, *names} - {"_all"})}


def _batching(url: str, parameters: _Parameters, start: int, size: int, total: int) -> dict[str, str]:
    rest = [pair for pair in parameters if pair[0] != "b_start"]

    def at(position: int) -> str:
        return _address(url, [*rest, ("b_start", str(position))])

    links = {"@id": _address(url, parameters), "first": at(0), "last": at((total - 1) // size * size)}
    if start + size < total:
        links["next"] = at(start + size)
    if start > 0:
        links["prev"] = at(max(0, start - size))
    return links


def _address(url: str, parameters: _Parameters) -> str:
    return f"{url}?{urlencode(parameters)}" if parameters else url


def _number(parameters: _Parameters, name: str, default: int, least: int) -> int:
    value = next((value for key, value in parameters if key == name), None)
    if value is None:
        return default
    if _NUMBER.fullmatch(value) is None or int(value) < least:
        raise plone_refusal(HTTPStatus.BAD_REQUEST, "BadRequest", f"Invalid {name}")
    return int(value)
