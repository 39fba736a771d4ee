"""The map of a configuration's regions: as a document that works offline, and as a small picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from html import escape
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from pyproj import CRS

from scs2_cubes.core.grid import Region, partitions_of
from scs2_cubes.core.specification import Case
from scs2_cubes.report.indexed_png import bounded_png
from scs2_cubes.report.map_labels import SIZE
from scs2_cubes.report.map_layout import PLATE_CARREE, Dot, Drawing, Outline, lay_out
from scs2_cubes.report.map_panel import name_of_crs
from scs2_cubes.report.palette import line_colour
from scs2_cubes.report.sheet import Sheet, fitted

__all__ = ["region_map", "region_map_png"]

_REGION, _SITE = "#1f5f8b", line_colour(0)
#: From so many regions on the document's map is larger.
_MANY = 40

_STYLE = f"""
body {{ font-family: system-ui, "DejaVu Sans", sans-serif; margin: 1.5em; color: #1a1a1a; background: #ffffff }}
h1 {{ font-size: 1.3em }}
svg {{ max-width: 100%; height: auto }}
svg text {{ font-family: "DejaVu Sans", sans-serif; font-size: {SIZE}px; fill: #1a1a1a }}
svg text.name, svg text.site {{ paint-order: stroke; stroke: #ffffff; stroke-width: 2.5px }}
svg text.degrees {{ fill: #5c5c5c }}
.region {{ fill: {_REGION}; fill-opacity: 0.16; stroke: {_REGION}; stroke-width: 1.5 }}
.dot.region {{ fill-opacity: 1; stroke: #ffffff; stroke-width: 0.8 }}
.region:hover {{ fill-opacity: 0.45 }}
.partition, .tile {{ fill: none; stroke: {_REGION}; pointer-events: none }}
.partition {{ stroke-width: 1 }}
.tile {{ stroke-width: 0.4; stroke-opacity: 0.6 }}
.graticule {{ fill: none; stroke: #d4d4d4; stroke-width: 0.8 }}
.dot.site {{ fill: {_SITE}; stroke: #ffffff; stroke-width: 1 }}
.frame {{ fill: none; stroke: #1a1a1a; stroke-width: 1 }}
.scale {{ fill: #1a1a1a }}
table {{ border-collapse: collapse; font-size: 0.85em; margin-top: 1em }}
th, td {{ text-align: left; padding: 0.2em 0.8em 0.2em 0; border-bottom: 1px solid #e0e0e0; vertical-align: top }}
"""


def region_map(case: Case) -> str:
    """One HTML document with the map of ``case``'s regions and sites, and a table of the regions.

    It needs nothing else: no scripts, no tiles, no fonts. In the regions' CRS where they share a projected one, else
    Plate Carrée; north is up. Regions of a few pixels are dots; whatever one points at says what it is. No I/O.
    """
    many = len(case.regions) > _MANY
    drawing = lay_out(case, *((1280, 900) if many else (900, 620)))
    title = f"Regions of {PurePath(case.name).name}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8"/>',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *_svg(case, drawing),
            *(f"<p>{escape(line)}</p>" for line in _caption(case, drawing)),
            *_table(case),
            "</body></html>",
            "",
        ]
    )


def region_map_png(case: Case) -> bytes:
    """The same map as a PNG of at most 70 000 bytes, for metadata; the same bytes for the same case. No I/O."""
    drawing = lay_out(case, 720, 460)
    return bounded_png(_pictures(case, drawing))


def _svg(case: Case, drawing: Drawing) -> Iterator[str]:
    left, top, right, bottom = drawing.frame
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    frame = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    yield f'<defs><clipPath id="map"><rect {frame}/></clipPath></defs><g clip-path="url(#map)">'
    for outline in drawing.outlines:
        yield _path(case, outline)
    yield "</g>"
    yield f'<rect class="frame" {frame}/>'
    for dot in drawing.dots:
        yield _circle(case, dot)
    for label in drawing.labels:
        place = f'x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.align}"'
        yield f'<text class="{label.kind}" {place}>{escape(label.text)}</text>'
    length, text = drawing.scale
    if text:
        yield f'<rect class="scale" x="{left:.1f}" y="{bottom + 30:.1f}" width="{length:.2f}" height="4"/>'
        yield f'<text x="{left + length + 6:.1f}" y="{bottom + 36:.1f}">{text}</text>'
    yield "</svg>"


def _path(case: Case, outline: Outline) -> str:
    points = "L".join(f"{x:.2f} {y:.2f}" for x, y in outline.points)
    closed = "Z" if outline.kind in {"region", "partition"} else ""
    name = f' data-name="{escape(outline.name)}"' if outline.name else ""
    title = f"<title>{escape(_facts(case, outline.region))}</title>" if outline.region else ""
    return f'<path class="{outline.kind}"{name} d="M{points}{closed}">{title}</path>'


def _circle(case: Case, dot: Dot) -> str:
    facts = _facts(case, dot.region) if dot.region else _site_facts(case, dot.name)
    place = f'cx="{dot.place[0]:.2f}" cy="{dot.place[1]:.2f}" r="4"'
    name = f'data-name="{escape(dot.name)}"'
    return f'<circle class="dot {dot.kind}" {name} {place}><title>{escape(facts)}</title></circle>'


def _facts(case: Case, region: Region) -> str:
    return "\n".join([region.name, *(f"{name}: {value}" for name, value in _described(case, region).items())])


def _site_facts(case: Case, name: str) -> str:
    return "\n".join(
        f"{name}\nx {site.x:.10g}, y {site.y:.10g} ({site.crs})" for site in case.sites if site.name == name
    )


def _described(case: Case, region: Region) -> dict[str, str]:
    grid = region.grid
    datasets = [dataset.identifier for dataset in case.datasets if region.name in {one.name for one in dataset.regions}]
    return {
        "bbox": ", ".join(f"{edge:.10g}" for edge in grid.bbox),
        "CRS": _crs_name(grid.crs),
        "resolution": f"{grid.x_res:.10g} x {grid.y_res:.10g}",
        "shape": f"{grid.ny} rows x {grid.nx} columns",
        "tiles": f"{grid.tile_rows} x {grid.tile_cols}",
        "partitions": str(len(partitions_of(region))),
        "datasets": ", ".join(datasets) or "none",
    }


@lru_cache(maxsize=16)
def _crs_name(crs: str) -> str:
    # Kept because many regions share one, and finding its code takes long.
    return name_of_crs(CRS.from_user_input(crs), crs)


def _caption(case: Case, drawing: Drawing) -> Iterator[str]:
    """What is shown, and what isn't."""
    name = "Plate Carrée (EPSG:4326)" if drawing.crs == PLATE_CARREE else _crs_name(drawing.crs)
    sites = f" and {len(case.sites)} sites" if case.sites else ""
    yield (
        f"{len(case.regions)} regions{sites}, in {name}, with partitions and tiles where there is room. Grey lines are "
        "meridians and parallels; coastlines and borders aren't drawn. The scale holds along the middle of the map. "
        "Point at a region to see its grid."
    )
    native = [dataset.identifier for dataset in case.datasets if not dataset.regions]
    if native:
        yield f"On their sources' own grids, and so not on this map: {', '.join(native)}."
    if drawing.unnamed:
        yield f"{drawing.unnamed} names have no room on the map; the table has them all."
    if drawing.unplaced:
        yield f"Outside of what {name} can show: {', '.join(drawing.unplaced)}."


def _table(case: Case) -> Iterator[str]:
    if not case.regions:
        return
    rows = [(region.name, *_described(case, region).values()) for region in case.regions]
    heads = ("region", *_described(case, case.regions[0]))
    yield "<table><thead><tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table>"


Image = npt.NDArray[np.uint8]


def _pictures(case: Case, drawing: Drawing) -> Iterator[Callable[[], tuple[Image, Image]]]:
    """The map with everything, then without tiles, then without the regions' names."""
    for hidden in (frozenset[str](), frozenset({"tile"}), frozenset({"tile", "name"})):
        yield partial(_picture, case, drawing, hidden)


def _picture(case: Case, drawing: Drawing, hidden: frozenset[str]) -> tuple[Image, Image]:
    head = 26
    left, top, right, bottom = drawing.frame
    sheet = Sheet.blank(drawing.width, drawing.height + head)
    sheet.text(12, 15, fitted(f"Regions of {PurePath(case.name).name}", drawing.width - 24, 10), size=10, weight="bold")
    axes = sheet.axes(round(left), round(top) + head, round(right - left), round(bottom - top))
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    widths = {"region": 1.4, "partition": 0.9, "tile": 0.4, "graticule": 0.7}
    for outline in drawing.outlines:
        colour = "#d4d4d4" if outline.kind == "graticule" else _REGION
        if outline.kind not in hidden:
            axes.plot(*outline.points.T, color=colour, linewidth=widths[outline.kind], linestyle="-", marker="None")
        if outline.kind == "region":
            axes.fill(*outline.points.T, facecolor=_REGION, alpha=0.16, edgecolor="none")
    for dot in drawing.dots:
        colour, size = (_SITE, 6) if dot.kind == "site" else (_REGION, 5)
        axes.plot(*dot.place, marker="o", color=colour, markersize=size, mec="white", mew=0.7, zorder=3)
    for label in drawing.labels:
        if label.kind not in hidden:
            align = {"start": "left", "middle": "center", "end": "right"}[label.align]
            sheet.text(label.x, label.y + head - 3, label.text, size=7, align=align)
    length, text = drawing.scale
    if text:
        sheet.box(left, bottom + head + 30, length, 4, "#1a1a1a", outline=False)
        sheet.text(left + length + 6, bottom + head + 33, text, size=7)
    return sheet.pixels(), np.zeros((0, 3), dtype=np.uint8)
