"""What a cube's variable looks like: its steps side by side, as one small PNG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.variables import Kind
from scs2_cubes.pipeline.inspection import Inspection, Look
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.report.indexed_png import bounded_png
from scs2_cubes.report.map_panel import (
    MapFrame,
    draw_classes,
    draw_colour_bar,
    draw_scale_bar,
    map_frame,
    place_view,
)
from scs2_cubes.report.palette import ClassColours, Colours, ScaleColours, class_colours, missing
from scs2_cubes.report.sheet import Sheet, fitted

__all__ = ["Subject", "draw_quicklook", "subject_of"]

#: Places on the sheet, in screen pixels.
_LEFT, _TOP, _BOTTOM, _GAP, _HEADING, _LEGEND = 74, 60, 92, 16, 20, 196
_NARROWEST = 640
#: Maps in one row.
_ACROSS = 4

#: (colours of a scale, screen pixels that show the same), in less and less detail.
_SCALE_DETAILS = ((128, 1), (48, 1), (24, 1), (24, 2), (16, 3), (16, 4), (16, 6), (8, 8), (8, 12), (8, 20))
_CLASS_CELLS = (1, 2, 3, 4, 6, 8, 12, 20)


@dataclass(frozen=True, slots=True)
class Subject:
    """One layer of one partition, and what its pictures say about it."""

    plan: CubePlan
    """How the cube is made."""
    layer: LayerPlan
    """The layer."""
    frame: MapFrame
    """Where the partition lies."""
    stride: int
    """Every so manyth pixel is in a view."""
    views: tuple[tuple[int, npt.NDArray[Any]], ...]
    """(step, (rows, columns) in the stored dtype), by step."""
    codes: frozenset[int]
    """Class codes that occur; empty unless the layer is categorical."""
    extremes: tuple[float, float] | None = None
    """Smallest and largest value of all pixels and steps, not only those in the views; None where that isn't known."""
    limits: tuple[float, float] | None = None
    """First and last value of the colours; None: those of the views."""

    @property
    def is_categorical(self) -> bool:
        return self.layer.variable.kind is Kind.CATEGORICAL

    @property
    def quantity(self) -> str:
        """The variable's long name."""
        return str(self.plan.schema.layer(self.layer.variable.name).attrs.get("long_name", self.layer.variable.name))

    @property
    def units(self) -> str:
        """UDUNITS string; empty where there is none."""
        return str(self.plan.schema.layer(self.layer.variable.name).attrs.get("units", ""))

    def details(self) -> Iterator[tuple[Colours, int]]:
        """(colours, screen pixels that show the same), in less and less detail."""
        colours = self.colours()
        if isinstance(colours, ClassColours):
            yield from ((colours, cell) for cell in _CLASS_CELLS)
        else:
            yield from ((replace(colours, levels=levels), cell) for levels, cell in _SCALE_DETAILS)

    def colours(self) -> Colours:
        """The colours of the values, the same for all steps."""
        variable = self.layer.variable
        if self.is_categorical:
            return class_colours(variable, self.plan.schema.layer(variable.name).attrs, self.codes)
        valid = [view[~missing(view, variable.fill)] for _, view in self.views]
        return ScaleColours.of(np.concatenate(valid), variable.kind, self.extremes, self.limits)

    def image(
        self, view: npt.NDArray[Any], colours: Colours, size: tuple[int, int], cell: int
    ) -> npt.NDArray[np.uint8]:
        """A view as ``size`` = (columns, rows) screen pixels, (rows, columns, 3)."""
        values = place_view(view, self.stride, self.frame.partition, size, cell)
        return colours.paint(values, missing(values, self.layer.variable.fill))

    def date(self, step: int) -> str:
        """The step's date; empty where the source has none."""
        times = self.plan.schema.times
        return times[step].partition("T")[0] if step < len(times) else ""

    def draw_words(self, sheet: Sheet) -> None:
        """Write title and footer: dataset, variable, partition; source version, licence, citation."""
        attrs = self.plan.schema.attrs
        wide = sheet.width - 24
        # The variable first: titles of products are long, and are cut at their end.
        title = f"{self.quantity}: {attrs.get('title', self.plan.identifier)}"
        sheet.text(12, 18, fitted(title, wide, 11), size=11, weight="bold")
        sheet.text(12, 37, fitted(f"{self.plan.identifier}, {self.frame.partition.key}", wide, 9), size=9)
        cited = attrs.get("citation") or attrs.get("references")
        sources = [f"Source version: {self.plan.source_version}"]
        terms = [f"Licence: {attrs['license']}"] if attrs.get("license") else []
        terms += [f"Cite: {cited}"] if cited else []
        for line, words in enumerate((sources, terms)):
            sheet.text(12, sheet.height - 24 + 13 * line, fitted("; ".join(words), wide, 6.5), size=6.5)


def subject_of(
    plan: CubePlan, inspection: Inspection, look: Look, layer: str, limits: tuple[float, float] | None = None
) -> Subject:
    """The layer's subject, in colours between ``limits``.

    Raises KeyError where the plan has no such layer, or the inspection no view of it.
    """
    planned = next((one for one in plan.layers if one.variable.name == layer), None)
    views = tuple((step, inspection.views[layer, step]) for step in look.steps if (layer, step) in inspection.views)
    if planned is None or not views:
        raise KeyError(f"no {'view' if planned else 'layer'} {layer!r} of {plan.identifier!r} to draw")
    counted = {code for code, share in inspection.shares.get(layer, {}).items() if np.nansum(share) > 0}
    if planned.variable.kind is Kind.CATEGORICAL:
        for _, view in views:
            counted |= {int(code) for code in np.unique(view[~missing(view, planned.variable.fill)])}
    return Subject(
        plan,
        planned,
        map_frame(inspection.partition),
        look.stride,
        views,
        frozenset(counted),
        inspection.extremes.get(layer),
        limits,
    )


def draw_quicklook(
    plan: CubePlan, inspection: Inspection, look: Look, layer: str, limits: tuple[float, float] | None = None
) -> bytes:
    """PNG of one layer of a partition, of at most 70 000 bytes: the views of ``look.steps`` side by side.

    Classes in their legend's colours, drawn as the nearest pixel; quantities on one scale for all steps, between
    ``limits``, or from the 2nd to the 98th percentile of what is drawn where there are none, rounded. Axes are in the
    region's CRS, in km or degrees. North is up. What would be too large is drawn with fewer colours of the scale, then
    with larger pixels, then smaller. The same input makes the same bytes. No I/O. Raises KeyError where there is no
    such layer, or no view of it.
    """
    subject = subject_of(plan, inspection, look, layer, limits)
    return bounded_png(partial(_drawn, subject, colours, cell) for colours, cell in subject.details())


def _drawn(subject: Subject, colours: Colours, cell: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    across = min(len(subject.views), _ACROSS)
    down = -(-len(subject.views) // across)
    edge = 420 if across == 1 else 300 if down == 1 else 220
    cols, rows = subject.frame.size(edge, edge)
    right = _LEFT + across * (cols + _GAP)
    tall = down * (rows + _HEADING)
    entries = len(colours.shown) + 2 if isinstance(colours, ClassColours) else 0
    sheet = Sheet.blank(max(_NARROWEST, right + _LEGEND), _TOP + max(tall, _HEADING + min(entries, 20) * 17) + _BOTTOM)
    subject.draw_words(sheet)
    for (left, top), (step, view) in zip(_places(across, cols, rows), subject.views, strict=False):
        axes = sheet.axes(left, top, cols, rows)
        subject.frame.draw(axes, subject.image(view, colours, (cols, rows), cell))
        axes.tick_params(labelleft=left == _LEFT, labelbottom=top + 2 * rows + _HEADING > _TOP + tall)
        sheet.text(left + cols / 2, top - 9, subject.date(step), align="center")
    bottom = _TOP + tall
    _label_axes(sheet, subject.frame, _LEFT + (across * (cols + _GAP) - _GAP) / 2, bottom, tall)
    draw_scale_bar(sheet, subject.frame, _LEFT, bottom + 44, cols)
    if isinstance(colours, ClassColours):
        draw_classes(sheet, colours, right + 4, _TOP + _HEADING, _LEGEND - 16)
    else:
        draw_colour_bar(sheet, colours, subject.units, right + 4, _TOP + _HEADING, min(rows, 300))
        sheet.box(right + 4, _TOP + _HEADING + min(rows, 300) + 12, 14, 11, colours.fill)
        sheet.text(right + 24, _TOP + _HEADING + min(rows, 300) + 18, "no value", size=7.5)
    return sheet.pixels(), colours.exact()


def _places(across: int, cols: int, rows: int) -> Iterator[tuple[int, int]]:
    """(left, top) of one map after the other, row by row; endless."""
    index = 0
    while True:
        down, right = divmod(index, across)
        yield _LEFT + right * (cols + _GAP), _TOP + _HEADING + down * (rows + _HEADING)
        index += 1


def _label_axes(sheet: Sheet, frame: MapFrame, middle: float, bottom: int, tall: int) -> None:
    wide = min(2 * (middle - 8), 2 * (sheet.width - middle - 8))
    sheet.text(middle, bottom + 28, fitted(frame.labels[0], wide, 7.5), size=7.5, align="center")
    sheet.text(12, bottom - tall / 2, frame.labels[1], size=7.5, align="center", rotation=90)
