"""Assets: a probe for each source that is read where it is, a partitioned asset for each cube.

What a cube is, is pipeline's business; what is fetched first is in ``preloads``.
"""

from collections.abc import Iterable, Iterator

import dagster as dg

# Dagster's own mark on an output whose events the step has logged itself: without it Dagster would report every
# partition a second time, with a data version of its own making, the same for all. It has no public name.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as _REPORTED_ALREADY

from scs2_cubes.core.specification import Case, DatasetSpec, StorageSpec
from scs2_cubes.errors import ConfigurationError, MaterializationError
from scs2_cubes.orchestration.metadata import report_metadata
from scs2_cubes.orchestration.partitions import partitions_definition
from scs2_cubes.orchestration.provenance import cube_key, cube_tags, op_name, report_source, source_key
from scs2_cubes.orchestration.resources import DaskResource, ProgressSink
from scs2_cubes.pipeline.compute import Compute
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition, window_fetch
from scs2_cubes.pipeline.materialize import Fetch, materialize_partition, prepare_cube
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.sources import open_source
from scs2_cubes.storage import sweep

__all__ = ["cube_assets", "source_assets"]


def source_assets(case: Case) -> list[dg.AssetsDefinition]:
    """One probe for each (store, data id) that some dataset reads where it is: what is preloaded has its own asset."""
    preloaded = {source_key(preload) for preload in case.preloads}
    firsts = {key: dataset for dataset in reversed(case.datasets) if (key := source_key(dataset)) not in preloaded}
    return [_source_asset(dataset) for dataset in firsts.values()]


def cube_assets(case: Case) -> list[dg.AssetsDefinition]:
    """One partitioned asset for each dataset."""
    return [_cube_asset(dataset, case.storage) for dataset in case.datasets]


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
    )
    def probe() -> dg.MaterializeResult[None]:
        version = source.probe(dataset.data_id)
        return dg.MaterializeResult(data_version=dg.DataVersion(version), metadata={"source_version": version})

    return probe


def _cube_asset(dataset: DatasetSpec, storage: StorageSpec) -> dg.AssetsDefinition:
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
    )
    def cube(
        context: dg.AssetExecutionContext, dask: DaskResource, progress: dg.ResourceParam[ProgressSink]
    ) -> Iterator[dg.MaterializeResult[None]]:
        run = _CubeRun(context, dataset, storage, code_version, progress)
        with dask.connect() as compute:
            run.materialize(compute)
        if _has_dependents(context, key):
            yield dg.MaterializeResult(key, metadata={_REPORTED_ALREADY: True})

    return cube


class _CubeRun:
    """One step: the partitions of one cube that one Dagster run asks for."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        dataset: DatasetSpec,
        storage: StorageSpec,
        code_version: str,
        progress: ProgressSink,
    ) -> None:
        self._context = context
        self._dataset = dataset
        self._storage = storage
        self._code_version = code_version
        self._progress = progress

    def materialize(self, compute: Compute) -> None:
        """Make each partition by itself; raise at the end for those that failed."""
        wanted = sorted(self._context.partition_keys)
        sweep(self._storage)
        native = describe_source(self._dataset)
        report_source(self._context, self._dataset, native.version)
        fetch = window_fetch(self._dataset, native, self._tell)
        failures: dict[str, Exception] = {}
        for key in wanted:
            try:
                self._materialize_one(plan_partition(self._dataset, self._storage, native, key), compute, fetch)
            except ConfigurationError:
                # True of every partition: waiting for an absent scheduler once is enough.
                raise
            except Exception as error:  # noqa: BLE001  (whatever fails one partition mustn't stop the others; raised below)
                # The traceback comes with the step's failure; here the message is what helps.
                self._context.log.error(f"{self._dataset.identifier} {key}: {error}")  # noqa: TRY400  (see above)
                failures[key] = error
        if failures:
            raise _summary(self._dataset.identifier, failures, wanted) from next(iter(failures.values()))

    def _tell(self, line: str) -> None:
        self._context.log.info(line)
        self._progress.tell(line)

    def _materialize_one(self, planned: PlannedPartition, compute: Compute, fetch: Fetch | None) -> None:
        key = planned.partition.key
        prepare_cube(planned.plan, planned.store)
        listener = self._progress.listener(self._context.log, f"{self._dataset.identifier} {key}")
        report = materialize_partition(planned.plan, planned.partition, planned.store, compute, listener, fetch)
        self._context.log.info(f"{self._dataset.identifier} {key}: {report.made} tiles made, {report.kept} kept")
        self._context.log_event(
            dg.AssetMaterialization(
                cube_key(self._dataset),
                partition=key,
                metadata=report_metadata(planned.plan, report, planned.store, compute.dashboard),
                tags=cube_tags(
                    self._context.instance,
                    self._dataset,
                    planned.plan.data_version,
                    planned.plan.source_version,
                    self._code_version,
                ),
            )
        )


def _summary(identifier: str, failures: dict[str, Exception], wanted: Iterable[str]) -> MaterializationError:
    total = len(list(wanted))
    causes = "; ".join(f"{key}: {type(error).__name__}: {error}" for key, error in failures.items())
    return MaterializationError(f"{identifier}: {len(failures)} of {total} partitions failed: {causes}")


def _has_dependents(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """True where another asset of the same run waits for this one: without an output Dagster would skip it."""
    graph = context.job_def.asset_layer.asset_graph
    chosen = context.run.asset_selection or graph.executable_asset_keys
    return any(child in chosen for child in graph.get(key).child_keys)
