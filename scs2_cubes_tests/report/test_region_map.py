"""The map of the regions: everything where independent transformations put it, readable, and by itself."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from itertools import combinations
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pytest
from pyproj import Geod, Transformer

from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.core.specification import Case, DatasetSpec, SiteSpec, StorageSpec, StoreSpec
from scs2_cubes.report.region_map import region_map, region_map_png
from scs2_cubes_tests.report.pictures import LIMIT, decoded

SVG = "{http://www.w3.org/2000/svg}"
LANDES = Region("landes", Grid.from_bbox([3401404, 2346797, 3556068, 2539337], "EPSG:3035", 30, 2048))
FRANCE = Region("france", Grid.from_bbox([3200000, 2000000, 4200000, 3200000], "EPSG:3035", 30, 2048))
DEGREES = Region("degrees", Grid.from_bbox([-3, 43, 2, 47], "EPSG:4326", 0.001, 1024))
SALLES = SiteSpec("Salles", -0.87, 44.55, "EPSG:4326")


def case(*regions: Region, sites: tuple[SiteSpec, ...] = (), native: bool = False) -> Case:
    store = StoreSpec("archive", "stac")
    on_regions = DatasetSpec("gami", store, "a", regions[:1], region_folders=True, product=None)
    on_its_own = DatasetSpec("other", store, "a", (), region_folders=False, product=None)
    datasets = (*((on_regions,) if regions else ()), *((on_its_own,) if native else ()))
    return Case("folder/scs2.yml", datasets, (store,), regions, StorageSpec("cubes"), sites=sites)


def many() -> tuple[Region, ...]:
    """200 of 3 km across Europe."""
    rng = np.random.default_rng(3)
    places = zip(rng.integers(3_000_000, 5_500_000, 200), rng.integers(1_700_000, 4_500_000, 200), strict=True)
    return tuple(
        Region(f"site_{index:03d}", Grid.from_bbox([x, y, x + 3000, y + 3000], "EPSG:3035", 30, 100))
        for index, (x, y) in enumerate(places)
    )


def svg(document: str) -> ET.Element:
    return ET.fromstring(document[document.index("<svg") : document.index("</svg>") + 6])


def points(document: str, kind: str, name: str) -> npt.NDArray[np.float64]:
    (path,) = [
        one for one in svg(document).iter(f"{SVG}path") if one.get("class") == kind and one.get("data-name") == name
    ]
    numbers = re.findall(r"-?\d+\.\d+", str(path.get("d")))
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def corners(region: Region) -> npt.NDArray[np.float64]:
    """Closed, from the upper left; with the edges' middles, (9, 2)."""
    west, south, east, north = region.grid.bbox
    x, y = (west + east) / 2, (south + north) / 2
    return np.array(
        [
            (west, north),
            (x, north),
            (east, north),
            (east, y),
            (east, south),
            (x, south),
            (west, south),
            (west, y),
            (west, north),
        ]
    )


def scale_of(screen: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """(scale, x0, y0) of screen x = x0 + scale * x and screen y = y0 - scale * y, by least squares."""
    left = np.concatenate(
        [
            np.column_stack([places[:, 0], np.ones(len(places)), np.zeros(len(places))]),
            np.column_stack([-places[:, 1], np.zeros(len(places)), np.ones(len(places))]),
        ]
    )
    right = np.concatenate([screen[:, 0], screen[:, 1]])
    scale, x0, y0 = np.linalg.lstsq(left, right, rcond=None)[0]
    assert np.abs(left @ [scale, x0, y0] - right).max() < 0.02
    return float(scale), float(x0), float(y0)


def eighths(outline: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nine places of :func:`corners` on a densified outline of four equal edges."""
    places: npt.NDArray[np.float64] = outline[np.linspace(0, len(outline) - 1, 9).round().astype(int)]
    return places


class TestPlaces:
    def test_regions_that_share_a_projected_crs_are_shown_in_it(self) -> None:
        document = region_map(case(LANDES, FRANCE, sites=(SALLES,)))
        screen = np.concatenate([eighths(points(document, "region", region.name)) for region in (LANDES, FRANCE)])
        scale, x0, y0 = scale_of(screen, np.concatenate([corners(LANDES), corners(FRANCE)]))
        assert scale > 0
        x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(-0.87, 44.55)
        (dot,) = svg(document).iter(f"{SVG}circle")
        assert float(str(dot.get("cx"))) == pytest.approx(x0 + scale * x, abs=0.02)
        assert float(str(dot.get("cy"))) == pytest.approx(y0 - scale * y, abs=0.02)
        assert "ETRS89-extended / LAEA Europe (EPSG:3035)" in document

    def test_others_in_plate_carree_with_curved_edges(self) -> None:
        document = region_map(case(LANDES, DEGREES))
        to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
        landes = np.column_stack(to_degrees.transform(*corners(LANDES).T))
        screen = [eighths(points(document, "region", region.name)) for region in (LANDES, DEGREES)]
        scale, _, _ = scale_of(np.concatenate(screen), np.concatenate([landes, corners(DEGREES)]))
        # The northern edge bends: its middle isn't the middle of its ends.
        bend = landes[1] - (landes[0] + landes[2]) / 2
        assert (screen[0][1] - (screen[0][0] + screen[0][2]) / 2) * [1, -1] / scale == pytest.approx(bend, abs=1e-3)
        assert abs(bend[1]) > 1e-3
        assert "Plate Carrée" in document

    def test_partitions_and_tiles(self) -> None:
        document = region_map(case(FRANCE))
        scale, x0, y0 = scale_of(eighths(points(document, "region", "france")), corners(FRANCE))
        # 40000 rows and 33334 columns of 30 m: 5 x 5 partitions of 8192.
        kinds = [one.get("class") for one in svg(document).iter(f"{SVG}path")]
        assert kinds.count("partition") == 25
        assert kinds.count("tile") == 16 + 19
        part = points(document, "partition", "france-y01x02")
        west, north = 3_200_000 + 2 * 8192 * 30, 3_200_000 - 8192 * 30
        assert part[0] == pytest.approx([x0 + scale * west, y0 - scale * north], abs=0.02)
        assert part.max(axis=0) == pytest.approx(
            [x0 + scale * (west + 8192 * 30), y0 - scale * (north - 8192 * 30)], abs=0.02
        )

    @pytest.mark.parametrize("regions", [(LANDES,), (DEGREES, LANDES)])
    def test_the_graticule_is_labelled_where_its_degrees_are(self, regions: tuple[Region, ...]) -> None:
        document = region_map(case(*regions))
        first = regions[0]
        scale, x0, y0 = scale_of(eighths(points(document, "region", first.name)), corners(first))
        to_degrees = Transformer.from_crs(first.grid.crs, "EPSG:4326", always_xy=True)
        labels = [one for one in svg(document).iter(f"{SVG}text") if one.get("class") == "degrees"]
        (frame,) = [one for one in svg(document).iter(f"{SVG}rect") if one.get("class") == "frame"]
        left, bottom = float(frame.get("x", 0)), float(frame.get("y", 0)) + float(frame.get("height", 0))
        seen = set()
        for label in labels:
            value, letter = re.fullmatch(r"([\d.]+)°([NSEW]?)", str(label.text)).groups()  # type: ignore[union-attr]  # that it matches is tested, too
            number = float(value) * (-1 if letter in "SW" and letter else 1)
            at_side = label.get("text-anchor") == "end"
            x, y = (left, float(label.get("y", 0)) - 3) if at_side else (float(label.get("x", 0)), bottom)
            lon, lat = to_degrees.transform((x - x0) / scale, (y0 - y) / scale)
            assert (lat if at_side else lon) == pytest.approx(number, abs=0.02)
            seen.add((at_side, number))
        assert len([one for one in seen if one[0]]) >= 3
        assert len([one for one in seen if not one[0]]) >= 3

    def test_the_scale_bar_is_as_long_as_it_says(self) -> None:
        document = region_map(case(LANDES))
        scale, x0, y0 = scale_of(eighths(points(document, "region", "landes")), corners(LANDES))
        root = svg(document)
        (bar,) = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "scale"]
        (text,) = [one.text for one in root.iter(f"{SVG}text") if one.get("class") is None]
        (frame,) = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "frame"]
        left, top, width, height = (float(frame.get(key, 0)) for key in ("x", "y", "width", "height"))
        y = (y0 - top - height / 2) / scale
        to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4258", always_xy=True)
        ends = [to_degrees.transform((x - x0) / scale, y) for x in (left, left + width)]
        across = Geod(ellps="GRS80").inv(*ends[0], *ends[1])[2]
        number, unit = str(text).split()
        assert unit == "km"
        assert float(bar.get("width", 0)) == pytest.approx(float(number) * 1000 / across * width, rel=0.002)

    def test_small_regions_lie_above_large_ones(self) -> None:
        for order in ((LANDES, FRANCE), (FRANCE, LANDES)):
            drawn = [one.get("data-name") for one in svg(region_map(case(*order))).iter(f"{SVG}path")]
            assert drawn.index("france") < drawn.index("landes")


class TestManyRegions:
    def test_every_region_is_a_dot_that_says_what_it_is(self) -> None:
        regions = many()
        document = region_map(case(*regions))
        dots = {one.get("data-name"): one for one in svg(document).iter(f"{SVG}circle")}
        assert set(dots) == {region.name for region in regions}
        title = str(dots["site_007"].findtext(f"{SVG}title"))
        west, south, east, north = regions[7].grid.bbox
        assert f"bbox: {west:.10g}, {south:.10g}, {east:.10g}, {north:.10g}" in title
        for part in ("EPSG:3035", "resolution: 30 x 30", "100 rows x 100 columns", "partitions: 1", "datasets: none"):
            assert part in title
        assert "datasets: gami" in str(dots["site_000"].findtext(f"{SVG}title"))
        to_screen = np.array([(float(one.get("cx", 0)), float(one.get("cy", 0))) for one in dots.values()])
        places = np.array([np.add(region.grid.bbox[:2], 1500) for region in regions])
        scale_of(to_screen, places)

    def test_names_hide_neither_each_other_nor_dots(self) -> None:
        root = svg(region_map(case(*many())))
        names = [one for one in root.iter(f"{SVG}text") if one.get("class") == "name"]
        assert len(names) > 180
        boxes = []
        for one in names:
            wide, x = 5.5 * len(str(one.text)), float(one.get("x", 0))
            start = {"start": x, "middle": x - wide / 2, "end": x - wide}[str(one.get("text-anchor"))]
            boxes.append((start, float(one.get("y", 0)) - 8, start + wide, float(one.get("y", 0))))
        for box, other in combinations(boxes, 2):
            assert box[0] >= other[2] or other[0] >= box[2] or box[1] >= other[3] or other[1] >= box[3]
        for dot in root.iter(f"{SVG}circle"):
            x, y = float(dot.get("cx", 0)), float(dot.get("cy", 0))
            assert not [box for box in boxes if box[0] - 2 < x < box[2] + 2 and box[1] < y < box[3]]

    def test_what_has_no_room_is_counted_and_in_the_table(self) -> None:
        grid = Grid.from_bbox([3_000_000, 3_000_000, 3_000_900, 3_000_900], "EPSG:3035", 30, 10)
        far = Grid.from_bbox([4_000_000, 3_000_000, 4_000_900, 3_000_900], "EPSG:3035", 30, 10)
        regions = (Region("far", far), *(Region(f"heap_{index}", grid) for index in range(60)))
        document = region_map(case(*regions))
        named = [one for one in svg(document).iter(f"{SVG}text") if one.get("class") == "name"]
        (count,) = re.findall(r"(\d+) names have no room", document)
        assert len(named) + int(count) == 61
        assert document.count("<tr>") == 62


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.data: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for name, value in attrs if name != "xmlns"]

    def handle_data(self, data: str) -> None:
        self.data.append(data)


class TestDocument:
    def test_it_needs_nothing_from_elsewhere(self) -> None:
        document = region_map(case(LANDES, FRANCE, DEGREES, sites=(SALLES,), native=True))
        assert not re.search(
            r"https?:|//\w|url\((?!#map\))|@import", document.replace("http://www.w3.org/2000/svg", "")
        )
        reader = _Reader()
        reader.feed(document)
        assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
        # Well-formed, apart from the declaration.
        ET.fromstring(document.removeprefix("<!DOCTYPE html>\n"))
        assert "own grids, and so not on this map: other" in document

    def test_names_are_text(self) -> None:
        name = '<script>alert("1")</script>&amp;'
        region = Region(name, LANDES.grid)
        document = region_map(case(region, sites=(SiteSpec("<b>&'\"", -0.8, 44.5, "EPSG:4326"),)))
        reader = _Reader()
        reader.feed(document)
        assert not {"script", "b"} & set(reader.tags)
        assert name in reader.values
        assert name in reader.data
        assert "<b>&'\"" in reader.data

    def test_no_regions(self) -> None:
        document = region_map(case(native=True))
        assert "0 regions" in document
        names = [one.get("data-name") for one in svg(document).iter(f"{SVG}path")]
        assert {"90°W", "0°", "90°E", "30°N"} <= set(names)
        assert len(names) < 20
        assert region_map_png(case(native=True))

    def test_what_the_map_cannot_show_is_said(self) -> None:
        site = SiteSpec("nowhere", 0, 95, "EPSG:4326")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            document = region_map(case(LANDES, sites=(site,)))
        assert "can show: nowhere" in document

    def test_across_the_antimeridian(self) -> None:
        fiji = Region("fiji", Grid.from_bbox([1_500_000, 3_500_000, 2_500_000, 4_500_000], "EPSG:3460", 1000, 100))
        document = region_map(case(fiji, DEGREES))
        assert np.ptp(points(document, "region", "fiji")[:, 0]) < 60
        labels = [
            str(one.text) for one in svg(region_map(case(fiji))).iter(f"{SVG}text") if one.get("class") == "degrees"
        ]
        assert {one[-1] for one in labels} >= {"E", "W", "S"}
        assert len(labels) < 20


class TestPicture:
    @pytest.mark.parametrize("regions", [(LANDES,), (LANDES, FRANCE, DEGREES), many()], ids=["one", "three", "many"])
    def test_small_and_the_same_again(self, regions: tuple[Region, ...]) -> None:
        picture = region_map_png(case(*regions, sites=(SALLES,)))
        assert len(picture) <= LIMIT
        assert region_map_png(case(*regions, sites=(SALLES,))) == picture

    def test_the_region_lies_where_the_document_has_it(self) -> None:
        """Its line is the only thing of its colour, and the picture has the document's proportions."""
        image = decoded(region_map_png(case(LANDES))).astype(int)
        line = np.abs(image - (0x1F, 0x5F, 0x8B)).sum(axis=2) < 40
        rows, cols = np.flatnonzero(line.sum(axis=1) > 100), np.flatnonzero(line.sum(axis=0) > 100)
        west, south, east, north = LANDES.grid.bbox
        assert (rows[-1] - rows[0]) / (cols[-1] - cols[0]) == pytest.approx((north - south) / (east - west), rel=0.01)

    def test_unwritable_names(self) -> None:
        region = Region("森 $x_2$", LANDES.grid)
        assert region_map_png(case(region))
