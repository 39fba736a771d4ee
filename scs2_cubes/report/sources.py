"""What the sources have on offer, and whether they know what a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scs2_cubes.core.specification import Case, DatasetSpec, StoreSpec
from scs2_cubes.errors import ConfigurationError, NotPreloadedError, Scs2CubesError
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.sources import open_source

__all__ = ["matching_data_ids", "online_problems"]


def matching_data_ids(store: StoreSpec, words: Sequence[str] = ()) -> Iterator[str]:
    """The data ids of ``store`` that hold all of ``words``, whatever their case. Asks while it is iterated."""
    wanted = [word.casefold() for word in words]
    for data_id in open_source(store).data_ids():
        folded = data_id.casefold()
        if all(word in folded for word in wanted):
            yield data_id


def online_problems(case: Case) -> Iterator[str]:
    """What the sources say against ``case``: ids that aren't there, regions outside, variables missing.

    Asks for metadata and coordinates, no pixels, also of what lies in a cache. A dataset that has yet to be fetched is
    checked for its id alone. Raises ConfigurationError.
    """
    unknown = set()
    for preload in case.preloads:
        try:
            open_source(preload.store).probe(preload.data_id)
        except ConfigurationError:
            raise
        except Scs2CubesError as error:
            unknown.add((preload.store.identifier, preload.data_id))
            yield f"{case.name}: {preload.data_id} of {preload.store.identifier}: {type(error).__name__}: {error}"
    for number, dataset in enumerate(case.datasets):
        if (dataset.store.identifier, dataset.data_id) in unknown:
            continue
        problem = _problem(case, dataset)
        if problem is not None:
            yield f"{case.name}: datasets[{number}] ({dataset.identifier}): {type(problem).__name__}: {problem}"


def _problem(case: Case, dataset: DatasetSpec) -> Scs2CubesError | None:
    try:
        native = describe_source(dataset)
        for key in dataset.partition_keys:
            plan_partition(dataset, case.storage, native, key)
    except NotPreloadedError:
        # The source knows the id; the rest can be told once it is here.
        return None
    except ConfigurationError:
        raise
    except Scs2CubesError as error:
        return error
    return None
