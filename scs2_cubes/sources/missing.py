"""What to say of a data id that a store doesn't have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from scs2_cubes.errors import DataIdNotFoundError, SourceError
from scs2_cubes.sources.base import Source

__all__ = ["nearest_hint", "unknown_data_id"]


def nearest_hint(wanted: str, known: Iterable[str]) -> str:
    """``; nearest: …`` with at most three of ``known``; empty where none comes near."""
    nearest = difflib.get_close_matches(wanted, list(known), n=3, cutoff=0.3)
    return f"; nearest: {', '.join(nearest)}" if nearest else ""


def unknown_data_id(source: Source, store: str, data_id: str) -> DataIdNotFoundError:
    """The error for a ``data_id`` that ``source`` doesn't have, with the nearest of those that it lists when asked."""
    try:
        known = list(source.data_ids())
    except SourceError:
        # That the ids can't be listed says nothing about this one, which stays the error to report.
        known = []
    message = f"store {store!r} has no data_id {data_id!r}{nearest_hint(data_id, known)}"
    return DataIdNotFoundError(message, url=source.public_href(data_id))
