"""Makes one partition of a cube: what isn't done at the present version, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Partition, Tile
from scs2_cubes.pipeline.claims import PartitionClaim
from scs2_cubes.pipeline.compute import Compute
from scs2_cubes.pipeline.graph import TileResult, build_graph
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.pipeline.state import (
    STATE_DOCUMENT,
    PartitionState,
    partition_state,
    superseded_versions,
    version_document,
)
from scs2_cubes.pipeline.wanted import wanted_windows
from scs2_cubes.preload import WantedWindow, WindowReport
from scs2_cubes.storage import CubeStore

__all__ = ["Fetch", "PartitionReport", "Progress", "fetch_due", "materialize_partition", "prepare_cube"]

#: Tiles and seconds before which their rate tells nothing of the time left: the first ones compile what they need.
_ESTIMATED_FROM_TILES, _ESTIMATED_FROM_SECONDS = 2, 5.0

#: Makes sure that the windows lie near.
Fetch = Callable[[tuple[WantedWindow, ...]], WindowReport]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is."""

    done: int
    """Tiles made in this run."""
    total: int
    """Tiles that this run has to make."""
    seconds: float
    """Since its start."""
    bytes_written: int
    """So far."""

    @property
    def seconds_left(self) -> float:
        """Estimated from the tiles made so far."""
        return self.seconds / max(self.done, 1) * (self.total - self.done)

    @property
    def text(self) -> str:
        """For people: tiles done, rate, time left."""
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        left = f", about {self.seconds_left:.0f} s left" if self._is_estimated else ""
        return f"{self.done}/{self.total} tiles, {rate:.2f} tiles/s{left}"

    @property
    def _is_estimated(self) -> bool:
        is_settled = self.done >= _ESTIMATED_FROM_TILES and self.seconds >= _ESTIMATED_FROM_SECONDS
        return is_settled or self.done == self.total


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What making a partition came to."""

    partition: Partition
    """Which."""
    made: int
    """Tiles made in this run."""
    kept: int
    """Tiles that were done already."""
    empty: int
    """Tiles of the partition without any value."""
    seconds: float
    """Wall time."""
    bytes_written: int
    """In this run."""
    valid_fraction: dict[str, float]
    """Layer → share of the partition's pixels with a value, over all steps."""
    source_chunks_absent: int
    """Source chunks that the source doesn't store, over the partition's tiles."""
    fetched: WindowReport | None = None
    """What fetching the source's windows came to; None where there was nothing to be fetched first."""


def fetch_due(plan: CubePlan, partition: Partition, store: CubeStore, fetch: Fetch) -> WindowReport | None:
    """Fetch what the tiles of ``partition`` that are due need of the source; None where none is due.

    To be called before the cube is prepared: where fetching fails, nothing lies there that opens as a cube without
    values. Raises CubeIdentityError where another cube lies there, before anything is fetched, and what ``fetch``
    raises.
    """
    store.require_same(plan.schema)
    # Records without a cube are what is left where someone has removed it.
    records = store.records() if store.exists() else {}
    tiles = _due(partition_state(plan, partition, records))
    return fetch(wanted_windows(plan, tiles)) if tiles else None


def prepare_cube(plan: CubePlan, store: CubeStore) -> None:
    """Create the cube where it isn't yet, and note what its version is made of.

    Raises CubeIdentityError where another cube lies there, before anything is written.
    """
    if not store.exists():
        # Someone has removed the cube and left its records: what they say is done is gone.
        for tile in store.records():
            store.remove_record(tile)
    if not store.differences(plan.schema) and not store.is_created(plan.schema):
        # What it says won't be so, and the attributes that it speaks of are lost where the cube grows.
        store.remove_document(STATE_DOCUMENT)
    store.create(plan.schema)
    store.write_document(version_document(plan.data_version), plan.components)


def materialize_partition(
    plan: CubePlan,
    partition: Partition,
    store: CubeStore,
    compute: Compute,
    on_progress: Callable[[Progress], None],
    fetched: WindowReport | None = None,
    claim: PartitionClaim | None = None,
) -> PartitionReport:
    """Make the tiles of ``partition`` that aren't done at the plan's data version. The cube must have been prepared.

    ``fetched`` is what :func:`fetch_due` came to, for the report. ``claim`` is the right to do it; None where nobody
    else writes to this cube. Raises what the first failing tile raised, ClaimLostError where the claim is gone; tiles
    finished until then stay done.
    """
    started = time.monotonic()
    records = store.records()
    state = partition_state(plan, partition, records)
    tiles = _due(state)
    # Its own tiles are reported as they were made: another run on the same cube may be making them again already.
    mine = {key: records[key] for key in state.current}
    written = 0
    # The rate, and so the time left, is that of the tiles.
    begun = time.monotonic()

    def on_tile(result: TileResult) -> None:
        nonlocal written
        written += result.bytes_written
        mine[result.record.tile] = result.record
        done = len(mine) - len(state.current)
        on_progress(Progress(done, len(tiles), time.monotonic() - begun, written))

    if tiles:
        # Nothing that it says holds from here on, and it may never be written again.
        store.remove_document(STATE_DOCUMENT)
        compute.run(build_graph(plan, store if claim is None else claim.fence, tiles), on_tile)
    with nullcontext() if claim is None else claim.cube():
        if claim is not None:
            claim.fence.require()
        _conclude(plan, store)
    return PartitionReport(
        partition=partition,
        made=len(tiles),
        kept=len(state.current),
        empty=sum(record.chunks_written == 0 for record in mine.values()),
        seconds=time.monotonic() - started,
        bytes_written=written,
        valid_fraction=_valid_fraction(plan, list(mine.values())),
        source_chunks_absent=sum(record.source_chunks_absent for record in mine.values()),
        fetched=fetched,
    )


def _due(state: PartitionState) -> list[Tile]:
    keys = {*state.stale, *state.missing}
    return [tile for tile in state.partition.tiles() if tile.key in keys]


def _conclude(plan: CubePlan, store: CubeStore) -> None:
    """Tell the state of the whole cube.

    Another run may finish tiles of the same cube meanwhile: whoever tells last must have seen them all.
    """
    records = store.records()
    while not _tell(plan, store, records):
        seen, records = records, store.records()
        if records == seen:
            return


def _tell(plan: CubePlan, store: CubeStore, records: dict[str, TileRecord]) -> bool:
    """Write the state of the whole cube, and where its last tile is done its attributes; True where it is."""
    version = plan.data_version
    tiles = [tile.key for tile in plan.region.grid.tiles()]
    done = [key for key in tiles if key in records and records[key].data_version == version]
    if done and store.read_document(version_document(version)) is None:
        # Since this run wrote it, one of another partition has completed the version that lay there before.
        store.write_document(version_document(version), plan.components)
    # Where the cube has grown meanwhile, a run at a newer version has more to say of it; its metadata stay.
    complete = len(done) == len(tiles) and not store.differences(plan.schema)
    if complete:
        store.complete(plan.schema, plan.attrs)
        # What no tile is made from any more needs no description, and a cube that went back equals one that never left.
        for name in superseded_versions(plan, store):
            store.remove_document(name)
    # Last, because a cube of which it says complete isn't looked at again.
    store.write_document(
        STATE_DOCUMENT,
        {
            "identifier": plan.identifier,
            "region": plan.region.name,
            "data_version": version,
            "source_version": plan.source_version,
            "components": plan.components,
            "history": plan.attrs["history"],
            "scs2_cubes_version": plan.attrs["scs2_cubes_version"],
            "tiles": len(tiles),
            "tiles_done": len(done),
            "complete": complete,
        },
    )
    return complete


def _valid_fraction(plan: CubePlan, records: list[TileRecord]) -> dict[str, float]:
    pixels = sum(record.pixels for record in records) * plan.schema.n_steps
    return {
        layer.variable.name: sum(record.valid[layer.variable.name] for record in records) / pixels if pixels else 0.0
        for layer in plan.layers
    }
