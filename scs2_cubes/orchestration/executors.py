"""An executor besides the ordinary one: steps as tasks of an existing Dask cluster. Says nothing of how tiles are made.

Ordinarily a run's process asks Dask for tiles, and one cube after the other uses the whole cluster. The job here hands
whole steps to the workers: so many cubes are made side by side, each by the threads of one worker.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # no public name

from scs2_cubes.core.specification import Case
from scs2_cubes.orchestration.provenance import cube_key

__all__ = ["EVERYTHING_ON_DASK", "jobs_on_dask"]

#: The job that makes all cubes, each as one task of the cluster.
EVERYTHING_ON_DASK = "everything_on_dask"


def jobs_on_dask(case: Case) -> list[UnresolvedAssetJobDefinition]:
    """The job that materializes everything on the cluster of ``dask.address``; none without such a cluster. No I/O.

    Nor is there one where datasets have different partitions, which Dagster refuses in one job.
    """
    keys = {dataset.partition_keys for dataset in case.datasets}
    if case.dask.mode != "address" or case.dask.address is None or len(keys) != 1:
        return []
    from dagster_dask import dask_executor  # noqa: PLC0415  (a second of import, for clusters only)

    cubes = dg.AssetSelection.assets(*map(cube_key, case.datasets))
    executor = dask_executor.configured({"cluster": {"existing": {"address": case.dask.address}}}, name="dask")
    return [
        dg.define_asset_job(
            EVERYTHING_ON_DASK,
            cubes | cubes.upstream(),
            executor_def=executor,
            description="Makes all cubes side by side, each by the threads of one Dask worker. Workers must reach "
            "Dagster's instance and load this configuration.",
        )
    ]
