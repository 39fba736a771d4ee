"""Assets: a probe for each source that is read where it is, a partitioned asset for each cube.

What a cube is, is pipeline's business; what is fetched first is in ``preloads``.
"""

from collections.abc import Iterator

import dagster as dg

# Dagster's own mark on an output whose events the step has logged itself: without it Dagster would report every
# partition a second time, with a data version of its own making, the same for all. It has no public name.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as _REPORTED_ALREADY

from scs2_cubes.core.specification import Case, DatasetSpec
from scs2_cubes.orchestration.checks import check_outputs, check_specs
from scs2_cubes.orchestration.cube_runs import CubeRun
from scs2_cubes.orchestration.editions import asked_edition_check, edition_spec
from scs2_cubes.orchestration.partitions import partitions_definition
from scs2_cubes.orchestration.pools import cube_pool_of
from scs2_cubes.orchestration.provenance import cube_key, op_name, source_key
from scs2_cubes.orchestration.resources import DaskResource, ProgressSink
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.sources import open_source

__all__ = ["cube_assets", "source_assets"]


def source_assets(case: Case) -> list[dg.AssetsDefinition]:
    """One probe for each (store, data id) that some dataset reads where it is: what is preloaded has its own asset."""
    preloaded = {source_key(preload) for preload in case.preloads}
    firsts = {key: dataset for dataset in reversed(case.datasets) if (key := source_key(dataset)) not in preloaded}
    return [_source_asset(dataset) for dataset in firsts.values()]


def cube_assets(case: Case) -> list[dg.AssetsDefinition]:
    """One partitioned asset for each dataset."""
    return [_cube_asset(dataset, case) for dataset in case.datasets]


def _source_asset(dataset: DatasetSpec) -> dg.AssetsDefinition:
    source = open_source(dataset.store)
    key = source_key(dataset)

    @dg.asset(
        key=key,
        group_name="sources",
        kinds={dataset.store.protocol},
        description=f"{dataset.data_id} in store {dataset.store.identifier}. Materializing it asks the source which "
        "version it has now: metadata only.",
        metadata={"address": dg.MetadataValue.url(source.public_href(dataset.data_id))},
        check_specs=[edition_spec(key)],
    )
    # Where there are checks Dagster knows only the bare class.
    def probe() -> dg.MaterializeResult:  # type: ignore[type-arg]  # see above
        version = source.probe(dataset.data_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={"source_version": version},
            check_results=[asked_edition_check(source, dataset.data_id)],
        )

    return probe


def _cube_asset(dataset: DatasetSpec, case: Case) -> dg.AssetsDefinition:
    key = cube_key(dataset)
    code_version = specification_version(dataset)
    product = dataset.product

    @dg.multi_asset(
        name=op_name(key),
        # An output by name rather than a spec: Dagster would name a spec's after the identifier, whatever it holds.
        outs={
            "cube": dg.AssetOut(
                key=key,
                # Each partition reports itself when it is finished; the step yields an output only for others' sake.
                is_required=False,
                io_manager_key="cubes",
                group_name="cubes",
                kinds={"zarr", "dask"},
                code_version=code_version,
                description=dataset.description,
                metadata={
                    "data_id": dataset.data_id,
                    **({"licence": product.licence, "citation": product.citation} if product else {}),
                },
                dagster_type=dg.Nothing,
            )
        },
        deps=[source_key(dataset)],
        partitions_def=partitions_definition(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(dataset),
        # The checks can be run without making anything.
        can_subset=True,
        pool=cube_pool_of(dataset.store),
    )
    def cube(
        context: dg.AssetExecutionContext, dask: DaskResource, progress: dg.ResourceParam[ProgressSink]
    ) -> Iterator[dg.MaterializeResult[None]]:
        def tell(line: str) -> None:
            context.log.warning(line)
            progress.tell(line)

        with dask.connect(tell) as compute:
            CubeRun(context, dataset, case, compute, progress).run()
        if _has_dependents(context, key):
            yield dg.MaterializeResult(key, metadata={_REPORTED_ALREADY: True})
        yield from check_outputs(context.selected_asset_check_keys)

    return cube


def _has_dependents(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """True where another asset of the same run waits for this one: without an output Dagster would skip it."""
    graph = context.job_def.asset_layer.asset_graph
    chosen = context.run.asset_selection or graph.executable_asset_keys
    return any(child in chosen for child in graph.get(key).child_keys)
