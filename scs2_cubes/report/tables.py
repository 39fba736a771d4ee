"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from scs2_cubes.report.cubes import CubeSummary

__all__ = ["StatusRow", "status_table"]

_COLUMNS = ("cube", "status", "variables", "shape", "dtype", "valid", "size", "seconds", "message")
_STYLES = {
    "made": "green",
    "preloaded": "green",
    "current": "green",
    "failed": "red",
    "partly made": "red",
    "missing": "yellow",
}


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One line of the status table."""

    summary: CubeSummary
    """The cube, or what was preloaded: its data id, and its store instead of a region."""
    status: str
    """``made``, ``current``, ``preloaded``, ``failed`` …"""
    seconds: float
    """Wall time."""
    message: str
    """What went wrong, and what to do; empty where all is well."""


def status_table(rows: Iterable[StatusRow]) -> Table:
    """Cube, status, variables, shape, dtype, valid fraction, size on disk, seconds, message."""
    table = Table(title="Cubes", show_lines=False, title_justify="left")
    for name in _COLUMNS:
        # Broken rather than shortened: a URL is a word that is longer than its column.
        table.add_column(name, overflow="fold")
    for row in rows:
        cube = row.summary
        name = cube.identifier if cube.region is None else f"{cube.identifier} ({cube.region})"
        style = _STYLES.get(row.status, "")
        # As Text, because a string's square brackets, such as those around a URL, would be read as markup.
        table.add_row(
            Text(name),
            Text(row.status, style),
            Text(_lines(cube.variables)),
            " x ".join(str(size) for size in cube.shape),
            _lines(cube.dtypes),
            _lines([f"{fraction:.3f}" for fraction in cube.valid_fraction]),
            decimal(cube.size) if cube.size else "",
            f"{row.seconds:.1f}",
            Text(row.message),
        )
    return table


def _lines(parts: Sequence[str]) -> str:
    return "\n".join(parts)
