"""Ours, through the assets' own path: source client, plan, tiles on threads, records, cube."""

from __future__ import annotations

import cloudpickle

# Imported by the first pixel; here, so that all measurements share the import.
import scs2_cubes.core.kernels  # noqa: F401 - for its effect
from scs2_cubes.core.specification import DaskSpec, DatasetSpec
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.cubes import PlannedPartition
from scs2_cubes.pipeline.graph import build_graph
from scs2_cubes.pipeline.materialize import Progress, materialize_partition, prepare_cube
from scs2_cubes_tests.benchmarks.contenders.base import Contender, GraphSize, Outcome
from scs2_cubes_tests.benchmarks.tasks import Task, planned_partitions

__all__ = ["OURS", "graph_size"]


def _run(task: Task, dataset: DatasetSpec) -> Outcome:
    partitions = planned_partitions(task, dataset)
    for planned in partitions:
        prepare_cube(planned.plan, planned.store)
        with open_compute(DaskSpec(mode="threads", n_workers=task.threads)) as compute:
            materialize_partition(planned.plan, planned.partition, planned.store, compute, _ignore)
    return Outcome(lambda: graph_size(partitions))


def graph_size(partitions: list[PlannedPartition]) -> GraphSize:
    """Tasks and pickled bytes of the largest partition's graph: each partition is a graph of its own."""
    sizes = []
    for planned in partitions:
        graph = build_graph(planned.plan, planned.store, planned.partition.tiles())
        sizes.append(GraphSize(len(graph.tasks), len(cloudpickle.dumps(dict(graph.tasks)))))
    return max(sizes, key=lambda size: size.n_bytes)


def _ignore(_: Progress) -> None:
    """Progress is for people."""


def _dataset(task: Task) -> DatasetSpec:
    """What an asset has from the configuration when it is asked to make a cube."""
    return task.dataset


OURS = Contender("ours", _run, lambda _: True, "", prepare=_dataset)
