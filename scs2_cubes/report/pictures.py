"""The pictures of a partition: what is drawn of which variable, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scs2_cubes.pipeline.inspection import Inspection, Look
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.pipeline.summaries import RegionSummary
from scs2_cubes.report.quicklook import draw_quicklook
from scs2_cubes.report.series import draw_series

__all__ = ["draw_pictures"]


def draw_pictures(
    plan: CubePlan,
    inspection: Inspection,
    look: Look,
    region: RegionSummary | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, bytes]:
    """Name (``quicklook_agb``, ``series_agb``) → PNG, for each layer of ``plan``. No I/O.

    ``region``: what is drawn as the series instead of the partition's own; ``scales``: layer → first and last value of
    its colours, which are those of what is drawn otherwise.
    """
    names = [layer.variable.name for layer in plan.layers]
    limits = scales or {}
    return {
        name: picture
        for layer in names
        for name, picture in _drawn(plan, inspection, look, layer, region, limits.get(layer))
    }


def _drawn(
    plan: CubePlan,
    inspection: Inspection,
    look: Look,
    layer: str,
    region: RegionSummary | None,
    limits: tuple[float, float] | None,
) -> Iterator[tuple[str, bytes]]:
    yield f"quicklook_{layer}", draw_quicklook(plan, inspection, look, layer, limits)
    series = draw_series(plan, inspection, look, layer, region=region, limits=limits)
    if series is not None:
        yield f"series_{layer}", series
