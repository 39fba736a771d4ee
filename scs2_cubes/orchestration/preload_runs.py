"""What has to be preloaded, in the runs of one call: each is asked for once, however many datasets read it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DatasetSpec, PreloadSpec
from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.orchestration.jobs import CaseJob, RunEnd
from scs2_cubes.orchestration.provenance import adopt_source, source_key
from scs2_cubes.preload import describe
from scs2_cubes.sources import open_source

__all__ = ["PreloadOutcome", "PreloadRuns"]


@dataclass(frozen=True, slots=True)
class PreloadOutcome:
    """What was preloaded, or couldn't be, in a call of :func:`scs2_cubes.orchestration.runs.run_due`."""

    preload: PreloadSpec
    """Which."""
    size: int
    """Bytes in the cache; 0 where it failed."""
    seconds: float
    """Wall time."""
    message: str
    """Why it failed; empty otherwise."""


class PreloadRuns:
    """The preloads of a case, and what became of them so far."""

    def __init__(self, case: Case, job: CaseJob) -> None:
        self._specs = {source_key(spec): spec for spec in case.preloads}
        self._job = job
        #: Those that are settled → why they failed, or None.
        self._settled: dict[dg.AssetKey, str | None] = {}

    def of(self, dataset: DatasetSpec) -> PreloadSpec | None:
        """What ``dataset`` is read from; None where its source is read where it is."""
        return self._specs.get(source_key(dataset))

    def problem(self, spec: PreloadSpec) -> str | None:
        """Why ``spec`` has failed already: trying again might take hours once more."""
        return self._settled.get(source_key(spec))

    def native(self, spec: PreloadSpec) -> NativeDataset | None:
        """What the cache holds of ``spec``, where that is what its source has now; None: its asset has to run.

        Asks the source for its version, unless ``spec`` is settled. Which problem there is the asset's run tells.
        """
        key = source_key(spec)
        if spec.force and key not in self._settled:
            return None
        try:
            native = describe(spec.store, spec.data_id)
            if key not in self._settled and open_source(spec.store).probe(spec.data_id) != native.version:
                return None
        except Scs2CubesError:
            return None
        self._settled[key] = None
        adopt_source(self._job.instance, spec, native.version)
        return native

    def run(self, spec: PreloadSpec) -> Iterator[PreloadOutcome]:
        """Run the asset of ``spec`` by itself, where it isn't settled; yields what there is to tell of it."""
        if self.native(spec) is not None:
            return
        started = time.monotonic()
        end = self._job.materialize([source_key(spec)])
        yield from self.conclude(spec, end, time.monotonic() - started)

    def conclude(self, spec: PreloadSpec, end: RunEnd, seconds: float) -> Iterator[PreloadOutcome]:
        """Note how a run of ``seconds`` with the asset of ``spec`` ended for it; yields what it fetched, or why not."""
        key = source_key(spec)
        # A cube's step reports its source's version, too, by an event of the same key.
        reported = [one for one in end.of(key) if "fresh" in one.metadata]
        # A run that has fetched it may have failed afterwards, with the cube.
        self._settled[key] = None if reported else end.problem
        for one in reported:
            if one.metadata["fresh"].value is True:
                yield PreloadOutcome(spec, int(_number(one, "bytes_in_cache")), _number(one, "seconds"), "")
        if problem := self.problem(spec):
            yield PreloadOutcome(spec, 0, seconds, problem)


def _number(reported: dg.AssetMaterialization, name: str) -> float:
    value = reported.metadata[name].value
    return float(value) if isinstance(value, int | float) else 0.0
