"""Asset keys, and the tags by which Dagster knows which version was made from which.

The tag names are Dagster's own (``dagster/data_version`` …); they are written here because a partition that is
finished in the middle of a range run reports itself, with its own version.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

import dagster as dg

from scs2_cubes.core.specification import DatasetSpec

__all__ = ["cube_key", "cube_tags", "known_version", "report_source", "source_key", "source_tags"]

_DATA_VERSION = "dagster/data_version"
_CODE_VERSION = "dagster/code_version"
_USER_PROVIDED = "dagster/data_version_is_user_provided"
_INPUT_VERSION = "dagster/input_data_version"
_INPUT_POINTER = "dagster/input_event_pointer"


def cube_key(dataset: DatasetSpec) -> dg.AssetKey:
    """Key of a cube's asset: its identifier, one part for each folder."""
    return dg.AssetKey(dataset.identifier.split("/"))


def source_key(dataset: DatasetSpec) -> dg.AssetKey:
    """Key of the asset that stands for ``dataset``'s source: store, then a readable and unambiguous name.

    Datasets with the same store and data id share it.
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "_", PurePosixPath(dataset.data_id).stem).strip("_")
    digest = hashlib.sha256(dataset.data_id.encode()).hexdigest()[:4]
    return dg.AssetKey(["sources", dataset.store.identifier, f"{name}_{digest}"])


def source_tags(version: str) -> dict[str, str]:
    """Tags of a source's materialization."""
    return {_DATA_VERSION: version, _USER_PROVIDED: "true"}


def known_version(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None) -> str | None:
    """Data version of the latest materialization that ``instance`` knows, or None."""
    keys = [partition] if partition is not None else None
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=keys), limit=1
    ).records
    materialization = records[0].asset_materialization if records else None
    return (materialization.tags or {}).get(_DATA_VERSION) if materialization else None


def report_source(context: dg.AssetExecutionContext, dataset: DatasetSpec, version: str) -> None:
    """Tell Dagster the source version that this run has seen, where it knows another or none."""
    key = source_key(dataset)
    if known_version(context.instance, key) != version:
        context.log_event(dg.AssetMaterialization(key, tags=source_tags(version)))


def cube_tags(
    instance: dg.DagsterInstance, dataset: DatasetSpec, data_version: str, source_version: str, code_version: str
) -> dict[str, str]:
    """Tags of a cube partition's materialization: its data version, and what it was made from."""
    key = source_key(dataset)
    name = key.to_user_string()
    records = instance.fetch_materializations(key, limit=1).records
    pointer = str(records[0].storage_id) if records else "NULL"
    return {
        _DATA_VERSION: data_version,
        _USER_PROVIDED: "true",
        _CODE_VERSION: code_version,
        f"{_INPUT_VERSION}/{name}": source_version,
        f"{_INPUT_POINTER}/{name}": pointer,
    }
