"""Which keys a graph takes along to the scheduler and the workers of a cluster."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cloudpickle

from scs2_cubes.core.native import Location
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import redact
from scs2_cubes.pipeline.graph import TileGraph
from scs2_cubes.storage.failures import Access

__all__ = ["exposed"]


def exposed(graph: TileGraph[Any]) -> list[str]:
    """Where lies what ``graph``'s tasks have an access key for: roots and addresses, without secrets, sorted.

    Pickles the tasks' arguments as Dask does, since what counts is what travels. No I/O.
    """
    finder = _Finder(io.BytesIO())
    # Plan and store are the same object in every task; the strings are names of other tasks.
    parts = {id(part): part for task in graph.tasks.values() for part in task if not isinstance(part, str | list)}
    finder.dump(list(parts.values()))
    return sorted(finder.found)


class _Finder(cloudpickle.Pickler):  # type: ignore[misc]  # it has no type information
    """Notes what it pickles that holds keys."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: set[str] = set()

    def persistent_id(self, part: object) -> None:
        """Look at ``part``; None: it is pickled as always."""
        if isinstance(part, StorageSpec) and _holds_keys(part.options):
            self.found.add(redact(part.root))
        elif isinstance(part, Location) and _holds_keys(part.options):
            self.found.add(redact(part.url))


def _holds_keys(options: Mapping[str, Any]) -> bool:
    # A cache's location has those of its storage one level below.
    nested = options.get("storage_options")
    return any(Access.of(one).secrets for one in (options, nested) if isinstance(one, Mapping))
