"""What a run measured, as values: medians per cube and contender, sums, and how they stand to goals and floors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from scs2_cubes_tests.benchmarks.worker import Measurement

__all__ = ["Entry", "Sample", "Verdict", "summarise", "verdicts"]

#: Cubes where majority or sparse chunks rule, which have a goal of their own.
_SPARSE = frozenset({"forestpaths_genus", "forest_type_2015", "efda"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement with what lies around it."""

    cube: str
    """Identifier of the cube."""
    contender: str
    """Name of the contender."""
    measurement: Measurement
    """What its process measured."""
    chunks_needed: int
    """Source chunks that the target needs."""
    chunks_read: int
    """Distinct source chunks that were asked for."""
    requests: int
    """Requests for source chunks, HEAD and GET."""
    other_requests: int
    """Requests for metadata and coordinates."""
    bytes_read: int
    """Bytes of source chunks."""
    bytes_needed: int
    """Bytes of the source chunks that the target needs, as stored."""
    bytes_written: int
    """Bytes of the cube's pixels."""
    different: float | None
    """Share of pixels that differ from the exact ones; None where it isn't judged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table: medians over the repetitions."""

    cube: str
    contender: str
    repetitions: int
    cpu: float
    wall: float
    peak_above_base: float
    ratio: float | None
    """CPU over the limit's; None without the limit."""
    sample: Sample
    """The repetition whose pixels were judged, else the first; for what doesn't vary."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal with its floor."""

    subject: str
    figure: float
    goal: float
    floor: float
    more_is_better: bool

    @property
    def word(self) -> str:
        sign = -1 if self.more_is_better else 1
        if sign * self.figure <= sign * self.goal:
            return "goal"
        return "floor" if sign * self.figure <= sign * self.floor else "MISSED"


def summarise(samples: Iterable[Sample]) -> list[Entry]:
    """Medians, in the order in which cubes and contenders first appear."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.cube, sample.contender), []).append(sample)
    limits = {
        cube: median(one.measurement.cpu for one in members)
        for (cube, contender), members in groups.items()
        if contender == "limit"
    }
    return [_entry(members, limits) for members in groups.values()]


def verdicts(entries: list[Entry], threads: int) -> list[Verdict]:
    """How ours stands to each goal and floor that these entries can tell."""
    found: list[Verdict] = []
    table = {(entry.cube, entry.contender): entry for entry in entries}
    for ours in (entry for entry in entries if entry.contender == "ours"):
        found += _cube_verdicts(ours, table, threads)
    for rival, goal, floor in (("odc-geo", 2.5, 1.5), ("xcube", 8.0, 4.0)):
        ratio = _ratio_of_sums(table, rival)
        if ratio is not None:
            found.append(Verdict(f"sum: CPU of {rival} over ours", ratio, goal, floor, more_is_better=True))
    return found


def _entry(members: list[Sample], limits: Mapping[str, float]) -> Entry:
    # Only the first round is judged by its pixels.
    judged = next((one for one in members if one.different is not None), members[0])
    cpu = median(one.measurement.cpu for one in members)
    return Entry(
        cube=judged.cube,
        contender=judged.contender,
        repetitions=len(members),
        cpu=cpu,
        wall=median(one.measurement.wall for one in members),
        peak_above_base=median(one.measurement.peak_above_base for one in members),
        ratio=cpu / limits[judged.cube] if judged.cube in limits else None,
        sample=judged,
    )


def _cube_verdicts(ours: Entry, table: Mapping[tuple[str, str], Entry], threads: int) -> list[Verdict]:
    cube, sample = ours.cube, ours.sample
    found = []
    rivals = [table[cube, name].cpu for name in ("odc-geo", "rasterio") if (cube, name) in table]
    if ours.ratio is not None:
        goal = 2.0 if cube in _SPARSE else 1.5
        # Its floor isn't a ratio to the limit, but that the rivals need more: the next line.
        found.append(Verdict(f"{cube}: CPU over the limit", ours.ratio, goal, float("inf"), more_is_better=False))
    if rivals:
        least = min(rivals) / ours.cpu
        found.append(Verdict(f"{cube}: least CPU of rasterio, odc-geo over ours", least, 1, 1, more_is_better=True))
    per_chunk = sample.requests / max(sample.chunks_needed, 1)
    found.append(Verdict(f"{cube}: requests per source chunk", per_chunk, 1.0, 1.1, more_is_better=False))
    fetched = sample.bytes_read / max(sample.bytes_needed, 1)
    found.append(Verdict(f"{cube}: bytes fetched over needed", fetched, 1.3, 2.0, more_is_better=False))
    memory = ours.peak_above_base / threads / 2**20
    found.append(Verdict(f"{cube}: MiB above the base per thread", memory, 250, 400, more_is_better=False))
    graph = (sample.measurement.graph_bytes or 0) / 2**20
    found.append(Verdict(f"{cube}: MiB of graph", graph, 1, 1, more_is_better=False))
    if sample.different is not None:
        found.append(Verdict(f"{cube}: % of pixels not exact", 100 * sample.different, 0.1, 0.1, more_is_better=False))
    return found


def _ratio_of_sums(table: Mapping[tuple[str, str], Entry], rival: str) -> float | None:
    cubes = [cube for cube, contender in table if contender == "ours" and (cube, rival) in table]
    if not cubes:
        return None
    return sum(table[cube, rival].cpu for cube in cubes) / sum(table[cube, "ours"].cpu for cube in cubes)
