"""Which datasets and partitions a command is about."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.errors import ConfigurationError

__all__ = ["select_datasets"]


def select_datasets(
    case: Case, datasets: Sequence[str] = (), regions: Sequence[str] = ()
) -> tuple[tuple[DatasetSpec, tuple[str, ...]], ...]:
    """(dataset, its partition keys) for the names that were asked for; all of them where none were.

    Raises ConfigurationError for a name that isn't there.
    """
    _require_known("dataset", datasets, [dataset.identifier for dataset in case.datasets], case)
    _require_known("region", regions, [region.name for region in case.regions], case)
    chosen = [dataset for dataset in case.datasets if not datasets or dataset.identifier in datasets]
    selection = tuple((dataset, keys) for dataset in chosen if (keys := _keys(dataset, regions)))
    if not selection:
        made_for = "; ".join(
            f"{dataset.identifier} is made for {', '.join(region.name for region in dataset.regions) or 'native'}"
            for dataset in chosen
        )
        raise ConfigurationError(f"{case.name}: nothing to do for region {', '.join(regions)}: {made_for}")
    return selection


def _keys(dataset: DatasetSpec, regions: Sequence[str]) -> tuple[str, ...]:
    if not regions:
        return dataset.partition_keys
    return tuple(partition.key for partition in dataset.partitions if partition.region.name in regions)


def _require_known(what: str, names: Sequence[str], known: Sequence[str], case: Case) -> None:
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ConfigurationError(f"{case.name}: no {what} {name!r}{hint}")
