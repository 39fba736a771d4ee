"""Asset keys, and the tags by which Dagster knows which version was made from which.

The tag names are Dagster's own (``dagster/data_version`` …); they are written here because a partition that is
finished in the middle of a range run reports itself, with its own version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import dagster as dg

from scs2_cubes.core.specification import DatasetSpec, PreloadSpec

__all__ = [
    "adopt_source",
    "cube_key",
    "cube_tags",
    "is_known",
    "latest_version",
    "op_name",
    "report_source",
    "source_event",
    "source_key",
    "version_tags",
]

_DATA_VERSION = "dagster/data_version"
_CODE_VERSION = "dagster/code_version"
_USER_PROVIDED = "dagster/data_version_is_user_provided"
_INPUT_VERSION = "dagster/input_data_version"
_INPUT_POINTER = "dagster/input_event_pointer"


def cube_key(dataset: DatasetSpec) -> dg.AssetKey:
    """Key of a cube's asset: its identifier, one part for each folder."""
    return dg.AssetKey(dataset.identifier.split("/"))


def source_key(spec: DatasetSpec | PreloadSpec) -> dg.AssetKey:
    """Key of the asset that stands for the source of ``spec``: store, then a readable and unambiguous name.

    Datasets with the same store and data id share it, and share it with what is preloaded for them.
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "_", PurePosixPath(spec.data_id).stem).strip("_")
    digest = hashlib.sha256(f"{spec.store.identifier}|{spec.data_id}".encode()).hexdigest()[:4]
    store = re.sub(r"[^A-Za-z0-9_]+", "_", spec.store.identifier)
    return dg.AssetKey(["sources", store, f"{name}_{digest}"])


def op_name(key: dg.AssetKey) -> str:
    """Name of the op behind an asset: identifiers may hold what op names may not, and differ in that alone."""
    readable = re.sub(r"[^A-Za-z0-9_]+", "_", "__".join(key.path)).strip("_")
    digest = hashlib.sha256(key.to_user_string().encode()).hexdigest()[:4]
    return readable if readable == key.to_user_string() else f"{readable}_{digest}"


def source_event(key: dg.AssetKey, version: str) -> dg.AssetMaterialization:
    """The event that tells which version the source with the asset ``key`` has."""
    return dg.AssetMaterialization(key, metadata={"source_version": version}, tags=version_tags(version))


def version_tags(version: str) -> dict[str, str]:
    """Tags of a materialization at the data version ``version``."""
    return {_DATA_VERSION: version, _USER_PROVIDED: "true"}


def latest_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """The data version of the asset ``key`` that was told last; None where none was."""
    return _latest_tags(instance, key).get(_DATA_VERSION)


def is_known(
    instance: dg.DagsterInstance,
    dataset: DatasetSpec,
    partition: str,
    data_version: str,
    source_version: str,
    code_version: str,
) -> bool:
    """True where the latest materialization of a cube's partition that ``instance`` knows is of these versions."""
    known = _latest_tags(instance, cube_key(dataset), partition)
    wanted = _version_tags(dataset, data_version, source_version, code_version)
    return all(known.get(name) == value for name, value in wanted.items())


def _latest_tags(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None) -> Mapping[str, str]:
    keys = [partition] if partition is not None else None
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=keys), limit=1
    ).records
    materialization = records[0].asset_materialization if records else None
    return (materialization.tags or {}) if materialization else {}


def _version_tags(dataset: DatasetSpec, data_version: str, source_version: str, code_version: str) -> dict[str, str]:
    return {
        _DATA_VERSION: data_version,
        _CODE_VERSION: code_version,
        f"{_INPUT_VERSION}/{source_key(dataset).to_user_string()}": source_version,
    }


def report_source(context: dg.AssetExecutionContext, dataset: DatasetSpec, version: str) -> None:
    """Tell Dagster the source version that this run has seen, where it knows another or none."""
    key = source_key(dataset)
    if latest_version(context.instance, key) != version:
        context.log_event(source_event(key, version))


def adopt_source(instance: dg.DagsterInstance, spec: DatasetSpec | PreloadSpec, version: str) -> None:
    """Tell ``instance`` outside of any run which version a source has, where it knows another or none."""
    key = source_key(spec)
    if latest_version(instance, key) != version:
        instance.report_runless_asset_event(source_event(key, version))


def cube_tags(
    instance: dg.DagsterInstance, dataset: DatasetSpec, data_version: str, source_version: str, code_version: str
) -> dict[str, str]:
    """Tags of a cube partition's materialization: its data version, and what it was made from."""
    key = source_key(dataset)
    name = key.to_user_string()
    records = instance.fetch_materializations(key, limit=1).records
    pointer = str(records[0].storage_id) if records else "NULL"
    return {
        **_version_tags(dataset, data_version, source_version, code_version),
        _USER_PROVIDED: "true",
        f"{_INPUT_POINTER}/{name}": pointer,
    }
