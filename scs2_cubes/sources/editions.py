"""Which of several data ids are newer editions of the same product: a comparison of the version numbers in them. Pure.

An edition is a product's own version number (GAMI v3.1), part of its data id, so that another one is another id. It has
nothing to do with the source version, which tells what lies under one id now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["VERSION_WORD", "newer_data_ids", "version_number"]

#: ``v3.1`` as a word of an address, or three numbers without the letter.
VERSION_WORD = re.compile(
    r"(?<![A-Za-z0-9.])(?:[vV](?=[0-9])|(?=[0-9]{1,3}(?:\.[0-9]{1,3}){2}(?![0-9A-Za-z]|\.[0-9])))"
    r"(?P<number>[0-9]+(?:\.[0-9]+)*)(?![A-Za-z0-9]|\.[0-9])"
)
_DIGITS = re.compile(r"[0-9]+")


def version_number(text: str) -> tuple[int, ...]:
    """The numbers in ``text`` as they are compared: ``3.10`` is (3, 10), ``2-1-1`` (2, 1, 1), ``3`` and ``3.0`` (3,).

    Zeros at the end say nothing, so that a version and the same one written longer are equal.
    """
    numbers = [int(digits) for digits in _DIGITS.findall(text)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def newer_data_ids(data_id: str, offered: Iterable[str], versions: re.Pattern[str]) -> tuple[str, ...]:
    """Those of ``offered`` that are ``data_id`` but for higher version numbers, each once, the newest last.

    ``versions`` finds a version's numbers in an id, by its group ``number``. The text around them must be the same to
    the letter. Where an id holds several versions, the first one that differs decides. An id without any has no
    newer edition.
    """
    text, present = _taken_apart(data_id, versions)
    newer = [
        (numbers, other)
        for other in dict.fromkeys(offered)
        for around, numbers in [_taken_apart(other, versions)]
        if around == text and numbers > present
    ]
    return tuple(other for _, other in sorted(newer))


def _taken_apart(data_id: str, versions: re.Pattern[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """The text around the version numbers, and the numbers."""
    around, numbers, end = [], [], 0
    for found in versions.finditer(data_id):
        around.append(data_id[end : found.start("number")])
        numbers.append(version_number(found["number"]))
        end = found.end("number")
    return (*around, data_id[end:]), tuple(numbers)
