"""Small regions of 64 x 64 pixels with four tiles each, and Dagster's view of them."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from scs2_cubes.core.specification import Case
from scs2_cubes.orchestration.assets import source_assets
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes_tests.end_to_end.trial import GENUS, Trial, dataset, region

TILES = 4
#: The genus map's chunks are 20 480 m wide and begin at 2600000, 5450000, southwards: each site lies within one.
SITES = {
    "first": ([3430000, 2450000, 3431920, 2451920], "genus/146.40"),
    "second": ([3441000, 2450000, 3442920, 2451920], "genus/146.41"),
    "third": ([3430000, 2462000, 3431920, 2463920], "genus/145.40"),
    # At least 2 km west of where the coast ever winds.
    "at_sea": ([3416000, 2450000, 3417920, 2451920], "genus/146.39"),
    # 35 km off the shore, where the source stores nothing.
    "far_out": ([3380000, 2450000, 3381920, 2451920], "genus/146.38"),
    # East of 6600000 the source has no pixels at all.
    "outside": ([6700000, 2450000, 6701920, 2451920], ""),
}
GENUS_KEY = dg.AssetKey("genus")


def with_sites(trial: Trial, *names: str) -> Trial:
    """``trial`` with one dataset, the genus map, on a list of sites."""
    trial.data["grid_mappings"] = [region(name, SITES[name][0], 32) for name in names]
    trial.data["datasets"] = [dataset("genus", GENUS, list(names))]
    return trial


def source_key_of(case: Case) -> dg.AssetKey:
    (source,) = source_assets(case)
    return source.key


def materialize(
    case: Case,
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    *,
    partition: str | None = None,
    span: tuple[str, str] | None = None,
    resources: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """One run, as Dagster starts it for a partition or for a range of them."""
    tags = {}
    if span:
        tags = {"dagster/asset_partition_range_start": span[0], "dagster/asset_partition_range_end": span[1]}
    job = build_definitions(case, resources).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[key], instance=instance, partition_key=partition, tags=tags, raise_on_error=False
    )


def events(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[dg.AssetMaterialization]:
    """All materializations of ``key``, oldest first."""
    records = instance.fetch_materializations(key, limit=1000, ascending=True).records
    return [event for record in records if (event := record.asset_materialization) is not None]


def tags(event: dg.AssetMaterialization) -> dict[str, str]:
    return dict(event.tags or {})


def staleness(case: Case, instance: dg.DagsterInstance, partition: str, key: dg.AssetKey = GENUS_KEY) -> StaleStatus:
    """What Dagster itself says about a partition."""
    graph = build_definitions(case).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return resolver.get_status(key, partition)


def record(trial: Trial, cube: str, tile: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((trial.root / f"{cube}.records/tiles/{tile}.json").read_text())
    return document
