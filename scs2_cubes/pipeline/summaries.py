"""What a finished partition tells its region, kept beside the cube: the parts of the region's means and shares.

A partition of a large region is made by a run of its own, which knows nothing of its neighbours but these documents,
``series/<partition>.json``. They are for pictures alone: nothing is decided by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Partition
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.pipeline.inspection import Inspection
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore

__all__ = ["RegionSummary", "note_summary", "region_partitions", "region_scales", "region_summary"]

Series = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RegionSummary:
    """The values of a whole region by step, of all its partitions at one data version."""

    means: Mapping[str, Series]
    """Layer (not categorical) → mean of its values, (steps,); NaN where there are none."""
    shares: Mapping[str, Mapping[int, Series]]
    """Categorical layer → class code → its share of the pixels with a value, (steps,); NaN where there are none."""


def region_partitions(dataset: DatasetSpec, partition: Partition) -> tuple[str, ...]:
    """Keys of the partitions of the cube that ``partition`` is part of, itself included. No I/O."""
    keys = tuple(one.key for one in dataset.partitions if one.region.name == partition.region.name)
    return keys or (partition.key,)


def note_summary(store: CubeStore, plan: CubePlan, inspection: Inspection, partitions: Sequence[str]) -> None:
    """Keep what ``inspection`` found of a partition that was just made; of one that is wrong nothing is kept.

    ``partitions``: those of the region, as :func:`region_partitions` tells them. Every layer that isn't categorical
    gets the scale of the first of them that has one at this data version, so that all their pictures have the same;
    where there is none yet, it's from the smallest to the largest value of this partition, as far as they lie in the
    product's valid range. Reads the others' documents. Raises StorageError.
    """
    key = inspection.partition.key
    if any(verdict.blocks for verdict in inspection.verdicts):
        store.remove_document(_document(key))
        return
    others = [one for one in partitions if one != key]
    scales = {**dict(_own_scales(plan, inspection)), **_noted_scales(store, others, inspection.data_version)}
    store.write_document(
        _document(key),
        {
            "data_version": inspection.data_version,
            "counts": {name: count.tolist() for name, count in inspection.counts.items()},
            "sums": {name: total.tolist() for name, total in inspection.sums.items()},
            "codes": {name: _codes(inspection, name) for name in inspection.shares},
            "scales": {name: list(ends) for name, ends in scales.items()},
        },
    )


def region_scales(store: CubeStore, partitions: Sequence[str], data_version: str) -> Mapping[str, tuple[float, float]]:
    """Layer → (first, last value) of the one scale of a region's ``partitions`` at ``data_version``.

    Lacks layers without any; empty for a region of one partition, whose pictures have no others to agree with. Reads
    the partitions' documents. Raises StorageError.
    """
    return _noted_scales(store, partitions, data_version) if len(partitions) > 1 else {}


def _noted_scales(store: CubeStore, partitions: Iterable[str], data_version: str) -> dict[str, tuple[float, float]]:
    # A range that holds for a product anywhere (biomass: 0 to 10 000 Mg/ha) leaves a picture dark, and percentiles
    # differ from one partition to the next. The extremes of a partition of up to 8192 x 8192 pixels hold nearly all
    # values of the others; what lies beyond is told at the ends of the colour bar.
    scales: dict[str, tuple[float, float]] = {}
    for document in _documents(store, partitions, data_version):
        for name, (low, high) in document["scales"].items():
            scales.setdefault(name, (low, high))
    return scales


def region_summary(store: CubeStore, partitions: Sequence[str], data_version: str) -> RegionSummary | None:
    """Means and shares of a region; None unless each of its ``partitions`` has told its own at ``data_version``.

    Reads their documents. Raises StorageError.
    """
    documents = list(_documents(store, partitions, data_version))
    if not documents or len(documents) < len(partitions):
        return None
    counts = {name: _total(documents, "counts", name) for name in documents[0]["counts"]}
    return RegionSummary(
        {name: _quotient(_total(documents, "sums", name), counts[name]) for name in documents[0]["sums"]},
        {name: dict(_shares(documents, name, counts[name])) for name in documents[0]["codes"]},
    )


def _own_scales(plan: CubePlan, inspection: Inspection) -> Iterator[tuple[str, tuple[float, float]]]:
    ranges = {layer.variable.name: layer.variable.valid_range for layer in plan.layers}
    for name, extremes in inspection.extremes.items():
        least, most = ranges.get(name) or extremes
        low, high = max(extremes[0], least), min(extremes[1], most)
        if np.isfinite([low, high]).all() and low < high:
            yield name, (low, high)


def _codes(inspection: Inspection, layer: str) -> dict[str, list[float]]:
    """Class code → its part of the layer's count, by step."""
    count = inspection.counts[layer]
    return {
        str(code): np.where(count > 0, share * count, 0.0).tolist() for code, share in inspection.shares[layer].items()
    }


def _documents(store: CubeStore, partitions: Iterable[str], data_version: str) -> Iterator[Mapping[str, Any]]:
    for key in partitions:
        document = store.read_document(_document(key))
        if document is not None and document.get("data_version") == data_version:
            yield document


def _total(documents: Iterable[Mapping[str, Any]], part: str, layer: str) -> Series:
    return _summed([document[part][layer] for document in documents])


def _summed(parts: Sequence[Sequence[float]]) -> Series:
    """The sum of several series, (steps,)."""
    return np.asarray(np.sum(np.array(parts, dtype=np.float64), axis=0))


def _shares(documents: Sequence[Mapping[str, Any]], layer: str, count: Series) -> Iterator[tuple[int, Series]]:
    codes = sorted({int(code) for document in documents for code in document["codes"][layer]})
    none = [0.0] * len(count)
    for code in codes:
        parts = [document["codes"][layer].get(str(code), none) for document in documents]
        yield code, _quotient(_summed(parts), count)


def _quotient(total: Series, count: Series) -> Series:
    quotient = np.full(len(count), np.nan)
    np.divide(total, count, out=quotient, where=count > 0)
    return quotient


def _document(partition: str) -> str:
    return f"series/{partition}.json"
