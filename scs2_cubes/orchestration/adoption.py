"""Finished partitions that the instance doesn't know of: reported to it, not made again.

Records are the truth, the event log is a view of it. Cubes come from other machines, and histories get lost.
"""

from __future__ import annotations

import dagster as dg

from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.orchestration.provenance import cube_key, cube_tags, is_known
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.pipeline.standing import Standing

__all__ = ["adoption"]

#: Code version of a partition that was made by another configuration, of which Dagster needs to know just that.
_ANOTHER = "another"


def adoption(instance: dg.DagsterInstance, dataset: DatasetSpec, standing: Standing) -> dg.AssetMaterialization | None:
    """The event that tells ``instance`` of a finished partition; None where it knows, or where there's nothing to tell.

    Finished is a partition whose tiles are all recorded at one version, be it the present one or not: what is known to
    be of another version is shown as stale. Reads the instance's history.
    """
    planned, state = standing.planned, standing.state
    done = [standing.records[key] for key in (*state.current, *state.stale)]
    versions = {(record.data_version, record.source_version) for record in done}
    # What was found to be wrong is nothing to build on: the run that looks at it will tell.
    if state.missing or standing.differences or standing.is_unfinished or standing.findings or len(versions) != 1:
        return None
    ((data_version, source_version),) = versions
    is_other = data_version != planned.plan.data_version and source_version == planned.plan.source_version
    code_version = _ANOTHER if is_other else specification_version(dataset)
    key = planned.partition.key
    if is_known(instance, dataset, key, data_version, source_version, code_version):
        return None
    return dg.AssetMaterialization(
        cube_key(dataset),
        partition=key,
        metadata={"adopted": True, "cube": planned.store.url, "source_version": source_version},
        tags=cube_tags(instance, dataset, data_version, source_version, code_version),
    )
