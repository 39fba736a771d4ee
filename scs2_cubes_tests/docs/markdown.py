"""As much of Markdown as the documents use: headings, tables, fenced blocks, code spans, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHECKOUT", "Table", "blocks", "code_spans", "headings", "links", "tables"]

CHECKOUT = Path(__file__).resolve().parents[2]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Table:
    """One table, as text."""

    heading: str
    """The heading that it stands under."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def blocks(text: str, language: str) -> tuple[str, ...]:
    """Contents of the fenced blocks in ``language``."""
    return tuple(match[2] for match in _FENCED.finditer(text) if match[1] == language)


def without_blocks(text: str) -> str:
    return _FENCED.sub("", text)


def code_spans(text: str) -> tuple[str, ...]:
    """Contents of the code spans outside of fenced blocks."""
    return tuple(_CODE_SPAN.findall(without_blocks(text)))


def headings(text: str) -> tuple[str, ...]:
    return tuple(_HEADING.findall(without_blocks(text)))


def links(text: str) -> tuple[str, ...]:
    """Targets of the links, in order."""
    return tuple(_LINK.findall(without_blocks(text)))


def tables(text: str) -> Iterator[Table]:
    heading, lines = "", list[str]()
    for line in [*without_blocks(text).splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
            continue
        if lines:
            columns, _, *rows = (tuple(cell.strip() for cell in row.strip("|").split("|")) for row in lines)
            yield Table(heading, columns, tuple(rows))
            lines = []
        if line.startswith("#"):
            heading = line.lstrip("# ")
