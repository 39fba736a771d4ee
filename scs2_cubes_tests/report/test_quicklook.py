"""Quicklooks, pixel by pixel: known fields have the right colours at the right places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.ticker import FixedFormatter
from pyproj import Geod, Transformer

from scs2_cubes.core.grid import Grid, Region, partitions_of
from scs2_cubes.core.variables import Kind, LegendEntry, Variable
from scs2_cubes.pipeline.inspection import Look
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.report.indexed_png import encode_png
from scs2_cubes.report.map_panel import map_frame, place_view
from scs2_cubes.report.palette import ScaleColours, class_colours
from scs2_cubes.report.quicklook import draw_quicklook
from scs2_cubes_tests.report import pictures
from scs2_cubes_tests.report.pictures import LIME, NAVY, PINK, RED, TEAL, cut, decoded, framed, rgb, where

SHAPE = (130, 135)
VIRIDIS_ENDS = (68, 1, 84), (253, 231, 36)


def quadrants() -> npt.NDArray[np.uint8]:
    """A frame of class 0 around north-west 1, north-east 2, south-west 3, south-east 4, and a hole in the middle."""
    field = np.zeros(SHAPE, dtype=np.uint8)
    field[5:65, 5:70], field[5:65, 70:-5] = 1, 2
    field[65:-5, 5:70], field[65:-5, 70:-5] = 3, 4
    field[55:75, 60:80] = 255
    return field


def ramp() -> npt.NDArray[np.float32]:
    """From 0 in the west to 100 in the east, in a frame without values."""
    field = np.full(SHAPE, np.nan, dtype=np.float32)
    field[5:-5, 5:-5] = np.linspace(0, 100, SHAPE[1] - 10)
    return field


class TestClasses:
    def test_every_screen_pixel_has_its_class_colour(self, classes: CubePlan) -> None:
        field = quadrants()
        image = decoded(draw_quicklook(classes, pictures.inspection(classes, [field]), Look((0,)), "genus"))
        found = cut(image, framed(image, RED))
        height, width = found.shape[:2]
        rows = ((np.arange(height) + 0.5) / height * SHAPE[0]).astype(int)
        cols = ((np.arange(width) + 0.5) / width * SHAPE[1]).astype(int)
        fill = tuple(int(part) for part in found[height // 2, width // 2])
        table = np.zeros((256, 3), dtype=np.uint8)
        table[:5] = [rgb(colour) for colour in (RED, NAVY, LIME, TEAL, PINK)]
        table[255] = fill
        expected = table[field[np.ix_(rows, cols)]]
        assert (found == expected).all()
        assert max(fill) - min(fill) < 10
        assert min(fill) > 150
        assert fill not in {rgb(entry.colour) for entry in pictures.LEGEND}

    def test_north_is_up_and_west_is_left(self, classes: CubePlan) -> None:
        image = decoded(draw_quicklook(classes, pictures.inspection(classes, [quadrants()]), Look((0,)), "genus"))
        found = cut(image, framed(image, RED))
        rows, cols = found.shape[0] // 4, found.shape[1] // 4
        assert tuple(found[rows, cols]) == rgb(NAVY)
        assert tuple(found[rows, -cols]) == rgb(LIME)
        assert tuple(found[-rows, cols]) == rgb(TEAL)
        assert tuple(found[-rows, -cols]) == rgb(PINK)

    def test_steps_are_side_by_side_in_order(self, classes: CubePlan, words: list[str]) -> None:
        fields = [np.full(SHAPE, code, dtype=np.uint8) for code in (1, 2, 3)]
        image = decoded(draw_quicklook(classes, pictures.inspection(classes, fields), Look((0, 1, 2)), "genus"))
        boxes = [framed(image, colour) for colour in (NAVY, LIME, TEAL)]
        assert boxes[0][3] < boxes[1][2] < boxes[1][3] < boxes[2][2]
        assert len({box[:2] for box in boxes}) == 1
        dates = [word for word in words if word[:3] == "201" or word[:3] == "202"]
        assert dates == ["2010-01-01", "2012-07-02", "2020-01-01"]

    def test_the_legend_has_all_classes_of_few_and_those_that_occur_of_many(self, words: list[str]) -> None:
        many = tuple(LegendEntry(code, "a", str(code), f"#{code:02x}4080") for code in range(30))
        variable = replace(Variable("a", Kind.CATEGORICAL, "uint8", 255), legend=many)
        assert [entry.code for entry in class_colours(variable, {}, {3, 7}).shown] == [3, 7]
        few = replace(variable, legend=many[:10])
        assert [entry.code for entry in class_colours(few, {}, {3, 7}).shown] == list(range(10))

    def test_a_code_beyond_the_legend_is_seen(self, classes: CubePlan, words: list[str]) -> None:
        field = quadrants()
        field[10:60, 10:60] = 99
        image = decoded(draw_quicklook(classes, pictures.inspection(classes, [field]), Look((0,)), "genus"))
        found = cut(image, framed(image, RED))
        fill = found[found.shape[0] // 2, found.shape[1] // 2]
        colour = tuple(int(part) for part in found[found.shape[0] // 4, found.shape[1] // 4])
        assert colour not in {rgb(entry.colour) for entry in pictures.LEGEND} | {tuple(fill)}
        assert "99 (not in the legend)" in words

    @pytest.mark.parametrize(
        ("attrs", "label"), [({"flag_values": [4], "flag_meanings": "old_oak"}, "old oak"), ({}, "4")]
    )
    def test_classes_without_a_legend(self, attrs: dict[str, Any], label: str) -> None:
        variable = Variable("a", Kind.CATEGORICAL, "uint8", 255)
        (entry,) = class_colours(variable, attrs, {4}).shown
        assert entry.label == label
        assert len({class_colours(variable, {}, {code}).colour(code) for code in range(60)}) == 60

    def test_no_class_looks_like_no_value(self) -> None:
        """Of any product: the fill differs from all its classes by more than eyes need."""
        light = tuple(
            LegendEntry(code, "a", "a", colour) for code, colour in enumerate(("#f0f0f0", "#ffffff", "#d0d0d0"))
        )
        variable = Variable("a", Kind.CATEGORICAL, "uint8", 255, legend=light)
        assert class_colours(variable, {}, ()).fill == "#bdbdbd"


class TestQuantities:
    def test_the_ramp_rises_to_the_right_between_the_ends_of_the_scale(self, quantity: CubePlan) -> None:
        image = decoded(draw_quicklook(quantity, pictures.inspection(quantity, [ramp()]), Look((0,)), "agb"))
        found = cut(image, framed(image, "#ececec"))
        line = found[found.shape[0] // 2].astype(int)
        line = line[~(line == 0xEC).all(axis=1)]
        scale = np.array(mpl.colormaps["viridis"](np.arange(256), bytes=True))[:, :3].astype(int)
        place = ((line[:, None] - scale[None]) ** 2).sum(axis=2).argmin(axis=1)
        assert (np.diff(place) >= 0).all()
        assert len(set(place)) > 100
        assert np.abs(line[0] - VIRIDIS_ENDS[0]).max() <= 1
        assert np.abs(line[-1] - VIRIDIS_ENDS[1]).max() <= 1
        # Linear, too: the middle of the map has the middle of the scale.
        assert abs(place[len(place) // 2] - 127.5) < 5

    def test_the_colour_bar_rises_and_ends_where_the_scale_does(self, quantity: CubePlan, words: list[str]) -> None:
        image = decoded(draw_quicklook(quantity, pictures.inspection(quantity, [ramp()]), Look((0,)), "agb"))
        right = framed(image, "#ececec")[3] + 6
        yellow = where(image, _last(image, right))
        col = right + int(np.flatnonzero(yellow[:, right:].any(axis=0))[3])
        rows = np.flatnonzero(image[:, col].max(axis=1).astype(int) - image[:, col].min(axis=1) > 20)
        line = image[rows[0] : rows[-1] + 1, col].astype(int)
        assert np.abs(line[0] - VIRIDIS_ENDS[1]).max() <= 1
        assert np.abs(line[-1] - VIRIDIS_ENDS[0]).max() <= 1
        assert (np.diff(line[:, 1]) <= 0).all()
        assert "Mg ha-1" in words

    def test_all_steps_have_one_scale(self, quantity: CubePlan) -> None:
        fields = [np.full(SHAPE, value, dtype=np.float32) for value in (0, 50, 100)]
        image = decoded(draw_quicklook(quantity, pictures.inspection(quantity, fields), Look((0, 1, 2)), "agb"))
        boxes = [framed(image, colour) for colour in (VIRIDIS_ENDS[0], VIRIDIS_ENDS[1])]
        assert boxes[0][3] < boxes[1][2]

    @pytest.mark.parametrize("seed", range(5))
    def test_limits_are_round_and_hold_nearly_all(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        values = rng.gamma(2, 10.0 ** rng.integers(-3, 4), 5000) - rng.normal()
        scale = ScaleColours.of(values, Kind.CONTINUOUS)
        low, high = np.percentile(values, 2), np.percentile(values, 98)
        assert low - (high - low) / 10 < scale.low <= low < high <= scale.high < high + (high - low) / 10
        assert float(f"{scale.high:.2g}") == pytest.approx(scale.high, rel=0.1)
        assert scale.beyond == (values.min() < scale.low, values.max() > scale.high)

    @pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 7e8])
    def test_one_value_everywhere(self, quantity: CubePlan, value: float) -> None:
        field = np.full(SHAPE, value, dtype=np.float32)
        assert draw_quicklook(quantity, pictures.inspection(quantity, [field]), Look((0,)), "agb")

    def test_no_value_anywhere(self, quantity: CubePlan) -> None:
        field = np.full(SHAPE, np.nan, dtype=np.float32)
        image = decoded(draw_quicklook(quantity, pictures.inspection(quantity, [field]), Look((0,)), "agb"))
        found = cut(image, framed(image, "#ececec"))
        assert where(found, "#ececec").all()

    @pytest.mark.parametrize(
        ("extremes", "ends"),
        [((-40.0, 500.0), (True, True)), ((0.0, 500.0), (False, True)), ((0.0, 100.0), (False, False))],
    )
    def test_what_lies_between_the_viewed_pixels_is_told(
        self,
        quantity: CubePlan,
        monkeypatch: pytest.MonkeyPatch,
        extremes: tuple[float, float],
        ends: tuple[bool, bool],
    ) -> None:
        """The views hold 0 to 100; a single pixel between them may be anything."""
        texts: list[str] = []
        kept = FixedFormatter.__init__

        def formatter(self: FixedFormatter, seq: list[str]) -> None:
            texts.extend(seq)
            kept(self, seq)

        monkeypatch.setattr(FixedFormatter, "__init__", formatter)
        field = np.full(SHAPE, 0, dtype=np.float32)
        field[:, SHAPE[1] // 2 :] = 100
        draw_quicklook(quantity, pictures.inspection(quantity, [field], extremes=extremes), Look((0,)), "agb")
        assert ("≤ 0" in texts, "≥ 100" in texts) == ends
        assert ("0" in texts, "100" in texts) == (not ends[0], not ends[1])

    def test_given_limits_are_the_ends_whatever_is_seen(self) -> None:
        for values in (np.array([]), np.array([5.0]), np.arange(200.0)):
            scale = ScaleColours.of(values, Kind.CONTINUOUS, limits=(0.0, 100.0))
            assert (scale.low, scale.high) == (0, 100)
            assert scale.beyond == (False, bool(values.size and values.max() > 100))

    def test_spreads_have_a_scale_of_their_own(self) -> None:
        values = np.arange(100.0)
        spread, mean = (ScaleColours.of(values, kind) for kind in (Kind.STANDARD_DEVIATION, Kind.CONTINUOUS))
        assert (spread.name, mean.name) == ("cividis", "viridis")


def _last(image: npt.NDArray[np.uint8], right: int) -> tuple[int, int, int]:
    """The lightest yellow right of the map: the end of the colour bar."""
    beside = image[:, right:].reshape(-1, 3).astype(int)
    red, green, blue = beside[(beside[:, 0] + beside[:, 1] - 2 * beside[:, 2]).argmax()]
    return int(red), int(green), int(blue)


class TestPlaces:
    @pytest.mark.parametrize("stride", [1, 3, 7])
    @pytest.mark.parametrize("size", [(40, 50), (300, 211)])
    def test_the_nearest_pixel_of_the_view(self, classes: CubePlan, stride: int, size: tuple[int, int]) -> None:
        (partition,) = partitions_of(classes.region)
        whole = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
        view = whole[stride // 2 :: stride, stride // 2 :: stride]
        found = place_view(view, stride, partition, size)
        stored = [np.arange(stride // 2, edge, stride) + 0.5 for edge in SHAPE]
        for axis, screen in ((0, size[1]), (1, size[0])):
            wanted = (np.arange(screen) + 0.5) / screen * SHAPE[axis]
            distance = np.abs(stored[axis][:, None] - wanted)
            shown = (found[:, 0] // SHAPE[1] if axis == 0 else found[0] % SHAPE[1]) + 0.5
            assert np.allclose(np.abs(shown - wanted), distance.min(axis=0))

    def test_the_frame_of_one_of_several_partitions(self) -> None:
        grid = Grid.from_bbox([3_400_000, 2_300_000, 3_400_000 + 90 * 30, 2_300_000 + 50 * 30], "EPSG:3035", 30, 20)
        parts = {part.key: part for part in partitions_of(Region("a", grid), 40)}
        frame = map_frame(parts["a-y01x02"])
        # Rows 40 to 50 and columns 80 to 90, from the upper left.
        assert frame.bbox == pytest.approx((3402.4, 2300.0, 3402.7, 2300.3))
        # Column 85.5, row 44.5 are centres' places.
        assert frame.place(44, 85) == pytest.approx((3400 + 85.5 * 0.03, 2301.5 - 44.5 * 0.03))
        assert "EPSG:3035" in frame.labels[0]
        assert "km" in frame.labels[0]

    def test_degrees(self) -> None:
        grid = Grid.from_bbox([10, 59, 12, 61], "EPSG:4326", 0.1, 20)
        frame = map_frame(partitions_of(Region("a", grid))[0])
        assert frame.bbox == pytest.approx((10, 59, 12, 61))
        assert frame.ratio == pytest.approx(2, rel=0.01)
        assert "°" in frame.labels[0]
        assert "WGS 84" in frame.labels[0]

    def test_the_scale_bar_is_as_long_as_it_says(self, classes: CubePlan, words: list[str]) -> None:
        image = decoded(draw_quicklook(classes, pictures.inspection(classes, [quadrants()]), Look((0,)), "genus"))
        _, bottom, left, right = framed(image, RED)
        (text,) = [word for word in words if word.endswith((" km", " m"))]
        metres = float(text.split()[0]) * (1000 if text.endswith(" km") else 1)
        dark = where(image, "#1a1a1a")[bottom + 38 :]
        # The longest run: what is written beside the bar has its colour.
        bar = max(len(run) for row in dark for run in "".join("#" if one else " " for one in row).split())
        west, south, east, north = classes.region.grid.bbox
        to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4258", always_xy=True)
        ends = [to_degrees.transform(x, (south + north) / 2) for x in (west, east)]
        across = Geod(ellps="GRS80").inv(*ends[0], *ends[1])[2]
        assert bar == pytest.approx(metres / across * (right - left), abs=1)
        assert 0.15 < bar / (right - left) < 0.5


class TestFile:
    def test_white_noise_of_eight_classes_is_small_and_keeps_its_colours(self, tmp_path: Path) -> None:
        colours = ("#d9a441", "#1b4f72", "#2e86ab", "#6aa84f", "#8c5a2b", "#76a5af", "#b6d7a8", "#e8e4da")
        legend = tuple(LegendEntry(code, "a", f"class {code}", colour) for code, colour in enumerate(colours))
        plan = pictures.classes_plan(tmp_path, legend=legend)
        rng = np.random.default_rng(1)
        fields = [rng.integers(0, 8, SHAPE).astype(np.uint8) for _ in range(3)]
        fields = [field.repeat(4, axis=0).repeat(4, axis=1) for field in fields]
        fields = [np.where(rng.random(field.shape) < 0.9, rng.integers(0, 8, field.shape), field) for field in fields]
        picture = draw_quicklook(plan, pictures.inspection(plan, fields), Look((0, 1, 2)), "genus")
        assert len(picture) <= pictures.LIMIT
        image = decoded(picture)
        assert all(where(image, colour).sum() > 1000 for colour in colours)

    @pytest.mark.parametrize("steps", [1, 3, 9])
    def test_white_noise_of_numbers_is_small(self, quantity: CubePlan, steps: int) -> None:
        rng = np.random.default_rng(2)
        fields = [rng.normal(size=(700, 700)).astype(np.float32) for _ in range(steps)]
        look = Look(tuple(range(steps)))
        plan = replace(quantity, schema=replace(quantity.schema, times=quantity.schema.times * 3))
        picture = draw_quicklook(plan, pictures.inspection(plan, fields), look, "agb")
        assert len(picture) <= pictures.LIMIT
        assert decoded(picture).shape[1] > 600

    def test_more_classes_than_a_palette_holds(self, tmp_path: Path) -> None:
        plan = pictures.classes_plan(tmp_path, legend=())
        field = np.random.default_rng(3).integers(0, 255, SHAPE).astype(np.uint8)
        picture = draw_quicklook(plan, pictures.inspection(plan, [field]), Look((0,)), "genus")
        assert len(picture) <= pictures.LIMIT

    def test_the_same_input_makes_the_same_bytes(self, quantity: CubePlan) -> None:
        look = Look((0,))
        first = draw_quicklook(quantity, pictures.inspection(quantity, [ramp()]), look, "agb")
        strange = {"font.size": 22, "axes.grid": True, "axes.linewidth": 4, "image.origin": "lower", "savefig.dpi": 300}
        with mpl.rc_context(strange):  # type: ignore[arg-type]  # its keys are literals in the annotation
            assert draw_quicklook(quantity, pictures.inspection(quantity, [ramp()]), look, "agb") == first

    def test_colours_are_exact_up_to_256_and_else_the_nearest(self) -> None:
        rng = np.random.default_rng(4)
        few = rng.integers(0, 256, (200, 3)).astype(np.uint8)
        image = few[rng.integers(0, 200, (50, 60))]
        assert (decoded(encode_png(image, few[:0])) == image).all()
        many = rng.integers(0, 256, (50, 60, 3)).astype(np.uint8)
        kept = many.reshape(-1, 3)[:9]
        found = decoded(encode_png(many, kept))
        palette = np.unique(found.reshape(-1, 3), axis=0).astype(int)
        assert len(palette) <= 256
        assert (found.reshape(-1, 3)[:9] == kept).all()
        distance = ((many.reshape(-1, 1, 3).astype(int) - palette) ** 2).sum(axis=2)
        assert (((many.astype(int) - found) ** 2).sum(axis=2).ravel() == distance.min(axis=1)).all()


class TestWords:
    def test_what_is_said(self, classes: CubePlan, words: list[str]) -> None:
        draw_quicklook(classes, pictures.inspection(classes, [quadrants()]), Look((0,)), "genus")
        said = "\n".join(words)
        for part in (
            "Dominant genus: Some product",
            "here",
            classes.source_version[:20],
            "CC-BY-4.0",
            "Someone (2026)",
        ):
            assert part in said
        assert [word for word in words if word.startswith("Class ")] == [f"Class {code}" for code in range(5)]
        assert "no value" in words

    @pytest.mark.parametrize("title", ["$x^2$ \\frac{", "森林 \N{EVERGREEN TREE}", "a\nb\tc", "W" * 500, ""])
    def test_strange_titles(self, classes: CubePlan, title: str) -> None:
        schema = replace(classes.schema, attrs={"title": title, "citation": title, "license": title})
        plan = replace(classes, schema=schema)
        assert draw_quicklook(plan, pictures.inspection(plan, [quadrants()]), Look((0,)), "genus")

    def test_what_isn_t_there(self, classes: CubePlan) -> None:
        found = pictures.inspection(classes, [quadrants()])
        with pytest.raises(KeyError, match="layer 'other'"):
            draw_quicklook(classes, found, Look((0,)), "other")
        with pytest.raises(KeyError, match="view 'genus'"):
            draw_quicklook(classes, found, Look(()), "genus")
