"""The IO manager: a downstream asset gets the cube lazily, in its stored dtypes. It writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from scs2_cubes.core.grid import Partition
from scs2_cubes.core.specification import Case, DatasetSpec, StorageSpec
from scs2_cubes.errors import ChecksFailedError, CubeNotFoundError, StorageError
from scs2_cubes.pipeline.cubes import store_of
from scs2_cubes.pipeline.findings import noted_findings
from scs2_cubes.pipeline.state import STATE_DOCUMENT, finished_tiles

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CubeIOManager"]


class CubeIOManager(dg.IOManager):
    """Opens the cubes of a case.

    One partition is the part of its region's cube that it covers, (y, x) or (time, y, x). Several partitions are a
    mapping from partition key to dataset.
    """

    def __init__(self, case: Case) -> None:
        self._case = case

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Refuse: pixels are written by the tiles, never here."""
        raise StorageError(
            f"asset {context.asset_key.to_user_string()} returned {type(obj).__name__}; the IO manager 'cubes' only "
            "opens cubes. Give the asset an IO manager of its own, or return nothing"
        )

    def load_input(self, context: dg.InputContext) -> xr.Dataset | Mapping[str, xr.Dataset]:
        """The cube of the upstream asset. Raises CubeNotFoundError where a tile of it isn't done."""
        dataset = self._case.dataset("/".join(context.asset_key.path))
        keys = sorted(context.asset_partition_keys) if context.has_asset_partitions else list(dataset.partition_keys)
        opened = {key: open_partition(self._case.storage, dataset, key) for key in keys}
        return opened[keys[0]] if len(keys) == 1 else opened


def open_partition(storage: StorageSpec, dataset: DatasetSpec, key: str) -> xr.Dataset:
    """The part of a cube that the partition ``key`` covers, lazily.

    Raises CubeNotFoundError where there is no cube or where not every tile of the partition is recorded as done,
    ChecksFailedError where a blocking check found it to be wrong when it was last looked at.
    """
    partition = next((one for one in dataset.partitions if one.key == key), None)
    store = store_of(storage, dataset, partition.region.name if partition else None)
    findings = noted_findings(store, key)
    if findings:
        found = "; ".join(f"{check}: {text}" for check, text in findings.items())
        raise ChecksFailedError(f"{store.url}: partition {key} isn't right, so nothing is built on it: {found}")
    if partition is None:
        if key not in dataset.partition_keys:
            raise CubeNotFoundError(f"{store.url}: there is no partition {key!r}: {', '.join(dataset.partition_keys)}")
        # On its native grid only the source knows how many tiles a cube has; the run that finished them has said so.
        state = store.read_document(STATE_DOCUMENT)
        if not state or not state.get("complete"):
            raise CubeNotFoundError(f"{store.url}: the cube isn't complete; materialize it first")
        return store.open()
    _require_complete(partition, finished_tiles(store), store.url)
    rows, cols = partition.window.slices
    opened = store.open()
    y_dim, x_dim = ("y", "x") if "y" in opened.dims else ("lat", "lon")
    return opened.isel({y_dim: rows, x_dim: cols})


def _require_complete(partition: Partition, done: Collection[str], url: str) -> None:
    missing = [tile.key for tile in partition.tiles() if tile.key not in done]
    if missing:
        raise CubeNotFoundError(
            f"{url}: partition {partition.key} has {len(missing)} unfinished tiles ({', '.join(missing[:5])} …); "
            "materialize it first"
        )
