"""Which windows of the source a partition needs: what must lie near before its tiles can be made. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.preload import WantedWindow

__all__ = ["wanted_windows"]


def wanted_windows(plan: CubePlan, tiles: Sequence[Tile]) -> tuple[WantedWindow, ...]:
    """The windows that ``tiles`` read, each once: per array, with all steps of the cube.

    Those of neighbours overlap by the margin of interpolation. A function sees every array of the source; one that
    isn't local in space the whole region.
    """
    windows = tuple(dict.fromkeys(_windows(plan, tiles)))
    steps = tuple(dict.fromkeys(plan.source_steps))
    return tuple(WantedWindow(array, steps, window) for array in _arrays(plan) for window in windows)


def _arrays(plan: CubePlan) -> tuple[str, ...]:
    if plan.processing is not None:
        return tuple(array.name for array in plan.native.arrays)
    return tuple(dict.fromkeys(layer.array for layer in plan.layers))


def _windows(plan: CubePlan, tiles: Sequence[Tile]) -> Iterable[Window]:
    needed = [plan.tile_window(tile) for tile in tiles]
    if plan.processing is not None and plan.processing.whole and any(window is not None for window in needed):
        needed = [plan.region_window()]
    return [window for window in needed if window is not None]
