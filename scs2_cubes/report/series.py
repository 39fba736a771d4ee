"""How a cube's variable goes through time: its last map with the chosen sites, and the series beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from scs2_cubes.core.specification import SiteSpec
from scs2_cubes.pipeline.inspection import Inspection, Look
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.pipeline.summaries import RegionSummary
from scs2_cubes.report.indexed_png import bounded_png
from scs2_cubes.report.map_panel import draw_classes, draw_colour_bar, draw_scale_bar
from scs2_cubes.report.palette import ClassColours, Colours, ScaleColours, line_colour, missing, rgb_of
from scs2_cubes.report.quicklook import Subject, subject_of
from scs2_cubes.report.sheet import FONT, Sheet, fitted, number

__all__ = ["draw_series"]

#: Places on the sheet, in screen pixels.
_LEFT, _TOP, _BOTTOM, _PANEL, _WIDE, _LEGEND = 74, 78, 92, 320, 430, 190
#: Sites whose series are drawn; more can't be told apart.
_MOST_SITES = 20
_MARKERS = ("o", "s", "^", "D", "v")
_MEAN = "#1a1a1a"
#: Of a share of 0 on a logarithmic axis.
_ABSENT = "v"
#: A class that covers so many times more than the second leaves the others flat on a linear axis.
_DOMINANT = 20


@dataclass(frozen=True, slots=True)
class _Site:
    """A site in the partition."""

    name: str
    place: tuple[float, float]
    colour: str
    marker: str
    values: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Series:
    """Everything that is drawn."""

    subject: Subject
    whole: str
    """Name of what mean and shares are of: the region, or the partition."""
    dates: npt.NDArray[np.datetime64]
    mean: npt.NDArray[np.float64] | None
    shares: dict[int, npt.NDArray[np.float64]]
    sites: tuple[_Site, ...]
    unshown: int


def draw_series(
    plan: CubePlan,
    inspection: Inspection,
    look: Look,
    layer: str,
    sites: Sequence[SiteSpec] | None = None,
    *,
    region: RegionSummary | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes | None:
    """PNG of one layer's time series, of at most 70 000 bytes; None where there is one step only.

    On the left the last of ``look.steps`` as :func:`~scs2_cubes.report.quicklook.draw_quicklook` draws it, with the
    sites that lie in the partition. On the right, by date, the mean (a quantity) or each class's share of the pixels
    with a value in per cent (classes), over ``region`` or, where that is None, the partition, and each site's own
    value. A share of 0 is marked at the lower edge where the axis is logarithmic. ``sites``: those of ``look.sites``
    that are drawn; None: all. ``limits``: as for the quicklook. The same input makes the same bytes. No I/O. Raises
    KeyError where there is no such layer, or no view of it.
    """
    if plan.schema.n_steps == 1:
        return None
    names = None if sites is None else frozenset(site.name for site in sites)
    series = _series(subject_of(plan, inspection, look, layer, limits), inspection, look, names)
    if region is not None:
        series = _regional(series, region)
    return bounded_png(partial(_drawn, series, colours, cell) for colours, cell in series.subject.details())


def _regional(series: _Series, region: RegionSummary) -> _Series:
    """``series`` with the region's mean and shares."""
    subject = series.subject
    layer = subject.layer.variable.name
    shares = region.shares.get(layer, {})
    # A class that occurs in other partitions alone needs a colour, too.
    codes = subject.codes | {code for code, share in shares.items() if np.nansum(share) > 0}
    return replace(
        series,
        subject=replace(subject, codes=codes),
        whole=subject.plan.region.name,
        mean=region.means.get(layer),
        shares=dict(sorted(shares.items())),
    )


def _series(subject: Subject, inspection: Inspection, look: Look, names: frozenset[str] | None) -> _Series:
    layer = subject.layer.variable.name
    window = inspection.partition.window
    fill = subject.layer.variable.fill
    inside = [
        (name, place)
        for name, place in look.sites.items()
        if name in inspection.site_values and (names is None or name in names) and _is_in(place, window.slices)
    ]
    sites = tuple(
        _Site(
            name,
            subject.frame.place(*place),
            line_colour(index),
            _MARKERS[index % len(_MARKERS)],
            _with_gaps(inspection.site_values[name][layer], fill),
        )
        for index, (name, place) in enumerate(inside[:_MOST_SITES])
    )
    return _Series(
        subject,
        inspection.partition.key,
        np.array(subject.plan.schema.times, dtype="datetime64[s]"),
        None if subject.is_categorical else inspection.means[layer],
        dict(sorted(inspection.shares[layer].items())) if subject.is_categorical else {},
        sites,
        len(inside) - len(sites),
    )


def _is_in(place: tuple[int, int], slices: tuple[slice, slice]) -> bool:
    return all(one.start <= index < one.stop for index, one in zip(place, slices, strict=True))


def _with_gaps(values: npt.NDArray[Any], fill: float) -> npt.NDArray[np.float64]:
    return np.where(missing(values, fill), np.nan, values.astype(np.float64))


def _drawn(series: _Series, colours: Colours, cell: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    subject = series.subject
    cols, rows = subject.frame.size(_PANEL, _PANEL)
    bar = 90 if isinstance(colours, ScaleColours) else 0
    left = _LEFT + cols + bar + 82
    listed = len(series.sites) + 5 + (len(colours.shown) + 2 if isinstance(colours, ClassColours) else 0)
    tall = max(rows, 220, listed * 17 - 20)
    sheet = Sheet.blank(left + _WIDE + 14 + _LEGEND, _TOP + tall + _BOTTOM)
    subject.draw_words(sheet)
    _draw_map(sheet, series, colours, (cols, rows), cell)
    _draw_lines(sheet, series, colours, left, max(rows, 220))
    beside = left + _WIDE + 14
    below = _draw_names(sheet, series, beside)
    if isinstance(colours, ClassColours):
        draw_classes(sheet, colours, beside, below, _LEGEND - 12)
    own = [rgb_of(site.colour) for site in series.sites] + [rgb_of(_MEAN), (255, 255, 255)]
    return sheet.pixels(), np.concatenate([colours.exact(), np.array(own, dtype=np.uint8)])


def _draw_map(sheet: Sheet, series: _Series, colours: Colours, size: tuple[int, int], cell: int) -> None:
    subject, (cols, rows) = series.subject, size
    step, view = subject.views[-1]
    axes = sheet.axes(_LEFT, _TOP, cols, rows)
    subject.frame.draw(axes, subject.image(view, colours, size, cell))
    for site in series.sites:
        axes.plot(
            *site.place,
            marker=site.marker,
            color=site.colour,
            markersize=8,
            mec="white",
            mew=1.4,
            zorder=4,
            clip_on=False,
        )
    sheet.text(_LEFT + cols / 2, _TOP - 9, subject.date(step), align="center")
    middle = _LEFT + cols / 2
    sheet.text(
        middle, _TOP + rows + 28, fitted(subject.frame.labels[0], 2 * middle - 16, 7.5), size=7.5, align="center"
    )
    sheet.text(12, _TOP + rows / 2, subject.frame.labels[1], size=7.5, align="center", rotation=90)
    draw_scale_bar(sheet, subject.frame, _LEFT, _TOP + rows + 44, cols)
    if isinstance(colours, ScaleColours):
        draw_colour_bar(sheet, colours, subject.units, _LEFT + cols + 10, _TOP, rows)


def _draw_lines(sheet: Sheet, series: _Series, colours: Colours, left: int, tall: int) -> None:
    subject = series.subject
    if isinstance(colours, ScaleColours):
        axes = sheet.axes(left, _TOP, _WIDE, tall)
        _dated(axes, series)
        if series.mean is not None:
            axes.plot(series.dates, series.mean, color=_MEAN, marker="o", markersize=4, linewidth=2.2, zorder=4)
        for site in series.sites:
            axes.plot(
                series.dates,
                site.values,
                color=site.colour,
                marker=site.marker,
                markersize=4.5,
                linewidth=1.4,
                zorder=3,
            )
        label = f"{subject.quantity} ({subject.units})" if subject.units else subject.quantity
        sheet.text(left - 52, _TOP + tall / 2, fitted(label, tall), align="center", rotation=90)
        return
    below = len(series.sites) * 16
    shares = sheet.axes(left, _TOP, _WIDE, max(100, tall - below - (10 if below else 0)))
    _dated(shares, series)
    _draw_shares(shares, series, colours)
    scale = ", log scale" if _is_logarithmic(series) else ""
    label = fitted(f"Share of the pixels with a value (%{scale})", tall, 7.5)
    sheet.text(left - 52, _TOP + tall / 2, label, size=7.5, align="center", rotation=90)
    if series.sites:
        shares.tick_params(labelbottom=False)
        _draw_site_classes(sheet.axes(left, _TOP + tall - below, _WIDE, below), series, colours)


def _draw_shares(axes: Axes, series: _Series, colours: ClassColours) -> None:
    lowest = _lowest_share(series) * 100 if _is_logarithmic(series) else 0.0
    for code, share in series.shares.items():
        # 0 has no place on a logarithmic axis. At its lower edge it's seen, and lines go on where a class is absent.
        axes.plot(
            series.dates,
            np.maximum(share * 100, lowest),
            color=colours.colour(code),
            marker="o",
            markersize=3.5,
            linewidth=2,
            mec="none",
        )
        if lowest and (share == 0).any():
            axes.plot(
                series.dates[share == 0],
                np.full(np.count_nonzero(share == 0), lowest),
                color=colours.colour(code),
                marker=_ABSENT,
                markersize=6,
                mec=_MEAN,
                mew=0.5,
                linestyle="None",
                zorder=5,
            )
    if lowest:
        axes.set_yscale("log")
        # A little below, or the frame's line would cover half of each mark.
        axes.set_ylim(bottom=lowest * (lowest / 100) ** 0.03)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(lambda value, _: number(value))


def _is_logarithmic(series: _Series) -> bool:
    """Whether one class is so common that the others would lie flat on a linear axis."""
    largest = sorted((float(np.nanmax(share, initial=0)) for share in series.shares.values()), reverse=True)
    return len(largest) > 1 and largest[1] > 0 and largest[0] > _DOMINANT * largest[1]


def _lowest_share(series: _Series) -> float:
    """The lower edge of a logarithmic axis: half of the smallest share that isn't 0."""
    return min(float(share[share > 0].min()) for share in series.shares.values() if (share > 0).any()) / 2


def _has_absent(series: _Series) -> bool:
    return _is_logarithmic(series) and any((share == 0).any() for share in series.shares.values())


def _draw_site_classes(axes: Axes, series: _Series, colours: ClassColours) -> None:
    """A row for each site, with a square in its class's colour for each step; none where there is no value."""
    _dated(axes, series)
    for row, site in enumerate(series.sites):
        for date, value in zip(series.dates, site.values, strict=True):
            if np.isfinite(value):
                axes.plot(date, row, marker="s", markersize=7, color=colours.colour(int(value)), mec=_MEAN, mew=0.5)
    axes.set_ylim(len(series.sites) - 0.5, -0.5)
    axes.yaxis.set_major_locator(FixedLocator(range(len(series.sites))))
    axes.yaxis.set_major_formatter(FixedFormatter([""] * len(series.sites)))
    for row, site in enumerate(series.sites):
        axes.plot(
            -0.018,
            row,
            marker=site.marker,
            color=site.colour,
            markersize=6,
            clip_on=False,
            transform=axes.get_yaxis_transform(),
        )


def _dated(axes: Axes, series: _Series) -> None:
    """Give ``axes`` a time axis from the first step to the last, with a margin."""
    margin = max((series.dates[-1] - series.dates[0]) / 40, np.timedelta64(1, "h"))
    axes.set_xlim(series.dates[0] - margin, series.dates[-1] + margin)
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]  # matplotlib hasn't annotated it
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # nor this
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.get_offset_text().set(fontfamily=FONT, fontsize=7)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.7, linestyle="-")
    axes.set_axisbelow(True)


def _draw_names(sheet: Sheet, series: _Series, left: int) -> int:
    """What the lines and markers mean; return where that ends."""
    top = _TOP
    if series.mean is not None:
        sheet.line(left, top + 6, 18, _MEAN, "o")
        sheet.text(left + 24, top + 6, fitted(f"mean of {series.whole}", _LEGEND - 36, 7.5), size=7.5)
        top += 17
    elif series.shares:
        sheet.text(left, top + 6, fitted(f"shares of {series.whole}", _LEGEND - 12, 7.5), size=7.5)
        top += 17
    if _has_absent(series):
        sheet.line(left, top + 6, 18, _MEAN, _ABSENT, "None")
        sheet.text(left + 24, top + 6, "0, at the lower edge", size=7.5)
        top += 17
    for site in series.sites:
        style = "None" if series.subject.is_categorical else "-"
        sheet.line(left, top + 6, 18, site.colour, site.marker, style)
        sheet.text(left + 24, top + 6, fitted(site.name, _LEGEND - 36, 7.5), size=7.5)
        top += 17
    if series.unshown:
        sheet.text(left + 24, top + 6, f"… and {series.unshown} more sites", size=7.5)
        top += 17
    return top + 8
