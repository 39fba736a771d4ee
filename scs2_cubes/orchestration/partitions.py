"""Partitions definitions: Dagster's keys for the partitions of a dataset. Holds no geometry; that is core.grid's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dagster as dg

from scs2_cubes.core.specification import DatasetSpec

__all__ = ["contiguous_ranges", "partitions_definition"]


def partitions_definition(dataset: DatasetSpec) -> dg.StaticPartitionsDefinition:
    """One key for each partition of ``dataset``, in the order of the configuration."""
    return dg.StaticPartitionsDefinition(list(dataset.partition_keys))


def contiguous_ranges(all_keys: Iterable[str], wanted: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Cut ``wanted`` into runs of keys that follow each other in ``all_keys``: a Dagster run takes one such range."""
    chosen = set(wanted)
    current: list[str] = []
    for key in all_keys:
        if key in chosen:
            current.append(key)
        elif current:
            yield tuple(current)
            current = []
    if current:
        yield tuple(current)
