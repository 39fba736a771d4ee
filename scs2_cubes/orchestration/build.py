"""A configuration as Dagster definitions. Asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from scs2_cubes.core.specification import Case
from scs2_cubes.orchestration.assets import cube_assets, source_assets
from scs2_cubes.orchestration.executors import jobs_on_dask
from scs2_cubes.orchestration.grids import grids_asset
from scs2_cubes.orchestration.io_managers import CubeIOManager
from scs2_cubes.orchestration.preloads import preload_assets
from scs2_cubes.orchestration.resources import DaskResource, LogProgress
from scs2_cubes.orchestration.sensors import version_sensors

__all__ = ["build_definitions"]


def build_definitions(case: Case, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Assets, their checks, sensors, jobs and resources for ``case``.

    ``resource_overrides`` replace resources by name, for tests and the shell.
    """
    return dg.Definitions(
        assets=[grids_asset(case), *source_assets(case), *preload_assets(case), *cube_assets(case)],
        jobs=jobs_on_dask(case),
        sensors=version_sensors(case),
        resources={
            "dask": DaskResource.of(case),
            "cubes": CubeIOManager(case),
            "progress": LogProgress(),
            **(resource_overrides or {}),
        },
        # Dask does the parallel work; a process per step would cost five seconds each.
        executor=dg.in_process_executor,
    )
