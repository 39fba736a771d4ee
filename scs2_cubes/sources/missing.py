"""What to say of a data id that a store doesn't have."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from contextlib import suppress

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import DataIdNotFoundError, SourceError
from scs2_cubes.sources.base import Source

__all__ = ["HASTY", "nearest_hint", "unknown_data_id"]

#: For a list that is only there to suggest names: the error itself is certain, and shouldn't wait for it.
HASTY = RetryPolicy(deadline=5.0, max_attempts=1, timeout=5.0)
#: Seconds after which what is listed until then has to do.
_PATIENCE = 10.0


def nearest_hint(wanted: str, known: Iterable[str]) -> str:
    """``; nearest: …`` with at most three of ``known``; empty where none comes near."""
    nearest = difflib.get_close_matches(wanted, list(known), n=3, cutoff=0.3)
    return f"; nearest: {', '.join(nearest)}" if nearest else ""


def unknown_data_id(source: Source, store: str, data_id: str) -> DataIdNotFoundError:
    """The error for a ``data_id`` that ``source`` doesn't have, with the nearest of those that it lists when asked.

    Takes what it lists in ten seconds; how long one request may take is the source's policy, for which there is
    :data:`HASTY`.
    """
    known: list[str] = []
    started = time.monotonic()
    # That the ids can't be listed says nothing about this one, which stays the error to report.
    with suppress(SourceError):
        for one in source.data_ids():
            known.append(one)
            if time.monotonic() - started > _PATIENCE:
                break
    message = f"store {store!r} has no data_id {data_id!r}{nearest_hint(data_id, known)}"
    return DataIdNotFoundError(message, url=source.public_href(data_id))
