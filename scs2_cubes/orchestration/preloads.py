"""Assets of what has to be fetched before it can be read. How it is fetched is preload's business."""

import dagster as dg

from scs2_cubes import preload
from scs2_cubes.core.specification import Case, PreloadSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.orchestration.editions import asked_edition_check, edition_spec
from scs2_cubes.orchestration.executors import require_run
from scs2_cubes.orchestration.pools import pool_of
from scs2_cubes.orchestration.provenance import source_key
from scs2_cubes.orchestration.resources import ProgressSink
from scs2_cubes.preload import ArchivePreload, ArchiveReport
from scs2_cubes.sources import open_source

__all__ = ["preload_assets", "unread_preloads"]


def preload_assets(case: Case) -> list[dg.AssetsDefinition]:
    """One asset for each entry of ``case.preloads``, whether a dataset reads it or not. No I/O."""
    return [_preload_asset(spec) for spec in case.preloads]


def unread_preloads(case: Case) -> tuple[PreloadSpec, ...]:
    """What is wanted in the cache although no dataset reads it."""
    read = {source_key(dataset) for dataset in case.datasets}
    return tuple(spec for spec in case.preloads if source_key(spec) not in read)


def _preload_asset(spec: PreloadSpec) -> dg.AssetsDefinition:
    key = source_key(spec)

    @dg.asset(
        key=key,
        group_name="sources",
        kinds={spec.store.protocol, "zarr"},
        description=f"{spec.data_id} of store {spec.store.identifier}, in its cache. Materializing it asks the source "
        "which version it has now; where the cache has another or none, it is ordered, waited for and fetched.",
        metadata={"address": dg.MetadataValue.url(open_source(spec.store).public_href(spec.data_id))},
        check_specs=[edition_spec(key)],
        pool=pool_of(spec.store),
    )
    # Where there are checks Dagster knows only the bare class of what is returned.
    def fetched(context: dg.AssetExecutionContext, progress: dg.ResourceParam[ProgressSink]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # see above
        def tell(line: str) -> None:
            # This is heard while an order is waited for, too, and what is ordered is remembered.
            require_run(context)
            context.log.info(line)
            progress.tell(line)

        report = _open(spec).fetch(spec, tell)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.version),
            metadata=_metadata(report),
            check_results=[asked_edition_check(open_source(spec.store), spec.data_id)],
        )

    return fetched


def _open(spec: PreloadSpec) -> ArchivePreload:
    opener = preload.ARCHIVES.get(spec.store.protocol)
    if opener is None:
        able = ", ".join(sorted(preload.ARCHIVES)) or "none"
        raise ConfigurationError(
            f"data store {spec.store.identifier!r}: nothing is fetched as a whole from a store with store_id "
            f"{spec.store.protocol!r}; known for that: {able}"
        )
    return opener(spec.store)


def _metadata(report: ArchiveReport) -> dict[str, dg.MetadataValue | str | float | int | bool]:
    return {
        "source_version": report.version,
        "fresh": report.is_fresh,
        "status": _status(report),
        **({} if report.task_id is None else {"task": report.task_id}),
        "seconds_waited": round(report.waited, 3),
        "bytes_downloaded": report.downloaded,
        "cache": dg.MetadataValue.path(report.cache_url),
        "bytes_in_cache": report.cache_bytes,
        "seconds": round(report.seconds, 3),
    }


def _status(report: ArchiveReport) -> str:
    if not report.is_fresh:
        return "the cache is good already"
    return "fetched by an order that was there already" if report.is_reused else "ordered and fetched"
