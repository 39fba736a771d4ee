"""Time series: markers at the sites' pixels, lines through the values, in the right colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.specification import SiteSpec
from scs2_cubes.pipeline.inspection import Inspection, Look
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.pipeline.summaries import RegionSummary
from scs2_cubes.report.pictures import draw_pictures
from scs2_cubes.report.series import draw_series
from scs2_cubes_tests.report import pictures
from scs2_cubes_tests.report.pictures import LIME, NAVY, RED, centre, cut, decoded, framed, where

SHAPE = (130, 135)
#: Of the first two sites; Okabe and Ito's vermilion and blue.
FIRST, SECOND = "#d55e00", "#0072b2"
GAP = float("nan")


def field() -> npt.NDArray[np.float32]:
    """Values in a frame without any."""
    values = np.full(SHAPE, np.nan, dtype=np.float32)
    values[5:-5, 5:-5] = np.linspace(10, 90, SHAPE[1] - 10)
    return values


def agb(plan: CubePlan) -> tuple[Inspection, Look]:
    """Two sites, of which one goes 0, 100, 0 and the other 100, 0, 25, and a mean of 50."""
    sites = {"oak": np.array([0, 100, 0], dtype=np.float32), "pine": np.array([100, 0, 25], dtype=np.float32)}
    found = pictures.inspection(plan, [field()] * 3, means=[50, 50, 50], sites=sites)
    return found, Look((2,), 1, {"oak": (20, 30), "pine": (100, 90)})


def picture_of(plan: CubePlan, found: Inspection, look: Look) -> npt.NDArray[np.uint8]:
    picture = draw_series(plan, found, look, plan.schema.layers[0].name)
    assert picture is not None
    assert len(picture) <= pictures.LIMIT
    return decoded(picture)


def right_axes(image: npt.NDArray[np.uint8], beyond: int) -> tuple[int, int, int, int]:
    """(top, bottom, left, right), half-open, within the outermost long lines right of column ``beyond``."""
    dark = where(image, "#1a1a1a")
    cols = np.flatnonzero(dark[:, beyond:].sum(axis=0) > 150) + beyond
    rows = np.flatnonzero(dark[:, cols[0] : cols[-1]].all(axis=1))
    return int(rows[0]) + 1, int(rows[-1]), int(cols[0]) + 1, int(cols[-1])


def test_one_step_has_no_series(tmp_path: Path) -> None:
    plan = pictures.quantity_plan(tmp_path, times=("2020-01-01T00:00:00",))
    found = pictures.inspection(plan, [field()], means=[1])
    assert draw_series(plan, found, Look((0,)), "agb") is None


def test_markers_lie_at_the_sites_pixels(quantity: CubePlan) -> None:
    found, look = agb(quantity)
    image = picture_of(quantity, found, look)
    box = framed(image, "#ececec")
    inside = cut(image, box)
    for colour, (row, col) in ((FIRST, (20, 30)), (SECOND, (100, 90))):
        at_row, at_col = centre(where(inside, colour))
        assert at_row == pytest.approx((row + 0.5) / SHAPE[0] * (box[1] - box[0]), abs=1.1)
        assert at_col == pytest.approx((col + 0.5) / SHAPE[1] * (box[3] - box[2]), abs=1.1)


def test_lines_go_through_the_values(quantity: CubePlan) -> None:
    found, look = agb(quantity)
    image = picture_of(quantity, found, look)
    top, bottom, left, right = right_axes(image, framed(image, "#ececec")[3] + 60)
    plot = image[top:bottom, left:right]
    # 2010-01-01, 2012-07-02, 2020-01-01, with a fortieth of the time before and after.
    days = np.array([0, 913, 3652])
    across = (days + 3652 / 40) / (3652 * 1.05) * plot.shape[1]
    marks = {}
    for colour in (FIRST, SECOND):
        mask = where(plot, colour)
        marks[colour] = [centre(_around(mask, col)) for col in across]
        assert [col for _, col in marks[colour]] == pytest.approx(list(across), abs=1.5)
    zero, hundred = marks[FIRST][0][0], marks[FIRST][1][0]
    assert zero > hundred + 100
    assert marks[FIRST][2][0] == pytest.approx(zero, abs=1)
    assert marks[SECOND][0][0] == pytest.approx(hundred, abs=1.5)
    assert marks[SECOND][1][0] == pytest.approx(zero, abs=1.5)
    assert marks[SECOND][2][0] == pytest.approx(zero + (hundred - zero) * 0.25, abs=1.5)
    # Half-way between the second and the third date the first site's line is at 50, where the mean's line hides it.
    rows = np.flatnonzero(where(plot, "#1a1a1a")[:, round(float(across[0] + across[1]) / 2 + 25)])
    assert float(rows.mean()) + 0.5 == pytest.approx((zero + hundred) / 2, abs=1)


def _around(mask: npt.NDArray[np.bool_], col: float) -> npt.NDArray[np.bool_]:
    """The marker near a column: the rows where most of it lies, lines left out by their thinness."""
    near = np.zeros_like(mask)
    near[:, max(0, int(col) - 3) : int(col) + 4] = mask[:, max(0, int(col) - 3) : int(col) + 4]
    thick = near.sum(axis=1) >= 5
    near[~thick] = False
    return near


def test_a_gap_is_a_gap(quantity: CubePlan) -> None:
    sites = {"oak": np.array([0, GAP, 100], dtype=np.float32)}
    found = pictures.inspection(quantity, [field()] * 3, means=[50, GAP, 50], sites=sites)
    image = picture_of(quantity, found, Look((2,), 1, {"oak": (20, 30)}))
    top, bottom, left, right = right_axes(image, framed(image, "#ececec")[3] + 60)
    plot = image[top:bottom, left:right]
    middle = plot[:, plot.shape[1] // 5 : plot.shape[1] * 4 // 5]
    assert not where(middle, FIRST).any()
    assert where(plot, FIRST).any()


def test_sites_elsewhere_are_left_out(quantity: CubePlan) -> None:
    found, look = agb(quantity)
    outside = replace(look, sites={**look.sites, "pine": (20, 135)})
    image = picture_of(quantity, found, outside)
    assert where(image, FIRST).any()
    assert not where(image, SECOND).any()
    none = draw_series(quantity, found, look, "agb", [SiteSpec("other", 0, 0, "EPSG:4326")])
    assert none is not None
    assert not where(decoded(none), FIRST).any()
    chosen = draw_series(quantity, found, look, "agb", [SiteSpec("oak", 0, 0, "EPSG:4326")])
    assert chosen is not None
    assert not where(decoded(chosen), SECOND).any()


def class_world(plan: CubePlan) -> tuple[Inspection, Look]:
    view = np.full(SHAPE, 1, dtype=np.uint8)
    view[:5], view[-5:], view[:, :5], view[:, -5:] = 0, 0, 0, 0
    shares = {0: [0.2, 0.2, 0.2], 1: [0.6, 0.5, 0.2], 2: [0.2, 0.3, 0.6]}
    sites = {"oak": np.array([1, 2, 255], dtype=np.uint8)}
    return pictures.inspection(plan, [view] * 3, shares=shares, sites=sites), Look((0, 2), 1, {"oak": (60, 60)})


def test_shares_of_classes_in_their_colours(classes: CubePlan) -> None:
    found, look = class_world(classes)
    image = picture_of(classes, found, look)
    _, _, left, right = right_axes(image, framed(image, RED)[3] + 20)
    dark = where(image, "#1a1a1a")[:, left:right].all(axis=1)
    lines = [int(row) for row in np.flatnonzero(dark)]
    assert len(lines) == 4
    upper, lower = image[lines[0] + 1 : lines[1], left:right], image[lines[2] + 1 : lines[3], left:right]
    edge = round((3652 / 40) / (3652 * 1.05) * upper.shape[1])
    rows = {colour: np.flatnonzero(where(upper, colour)[:, edge + 6]) for colour in (RED, NAVY)}
    # At the first date 20 and 60 per cent, at the last 60 and 20.
    assert rows[RED].mean() > rows[NAVY].mean() + 50
    last = {colour: np.flatnonzero(where(upper, colour)[:, -edge - 6]) for colour in (RED, LIME)}
    assert last[RED].mean() == pytest.approx(rows[RED].mean(), abs=1)
    assert last[LIME].mean() == pytest.approx(rows[NAVY].mean(), abs=8)
    # The site's classes: 1, 2, none.
    assert centre(where(lower, NAVY))[1] == pytest.approx(edge, abs=1.5)
    assert centre(where(lower, LIME))[1] == pytest.approx((913 + 3652 / 40) / (3652 * 1.05) * lower.shape[1], abs=1.5)
    assert not where(lower, RED).any()


def test_rare_classes_beside_a_dominant_one_are_seen(classes: CubePlan) -> None:
    found, look = class_world(classes)
    shares = {0: np.array([0.99, 0.98, 0.99]), 1: np.array([0.01, 0.015, 0.0099]), 2: np.array([0.0, 0.005, 0.0001])}
    image = picture_of(classes, replace(found, shares={"genus": shares}, site_values={}), look)
    top, bottom, left, right = right_axes(image, framed(image, RED)[3] + 20)
    plot = image[top:bottom, left:right]
    rows = {colour: np.flatnonzero(where(plot, colour).any(axis=1)) for colour in (RED, NAVY, LIME)}
    # Logarithmic: 0.01 to 0.5 per cent of the rarest take more room than 98 to 99 of the commonest.
    assert np.ptp(rows[LIME]) > 60
    assert np.ptp(rows[RED]) < 20


def test_a_logarithmic_axis_is_named_and_shows_absence(classes: CubePlan, words: list[str]) -> None:
    """A class that occurs in the first and the last step alone has a line all the same, by way of the lower edge."""
    found, look = class_world(classes)
    shares = {1: np.array([0.99, 1.0, 0.99]), 2: np.array([0.01, 0.0, 0.01])}
    image = picture_of(classes, replace(found, shares={"genus": shares}, site_values={}), look)
    assert "Share of the pixels with a value (%, log scale)" in words
    assert "0, at the lower edge" in words
    top, bottom, left, right = right_axes(image, framed(image, RED)[3] + 20)
    plot = where(image[top:bottom, left:right], LIME)
    across = (np.array([0, 913, 3652]) + 3652 / 40) / (3652 * 1.05) * plot.shape[1]
    between = round((across[0] + across[1]) / 2)
    assert plot[:, between].any()
    assert plot[:, round((across[1] + across[2]) / 2)].any()
    lowest = np.flatnonzero(plot[:, round(across[1]) - 2 : round(across[1]) + 3].any(axis=1))
    assert lowest.max() > plot.shape[0] * 0.93
    assert lowest.min() > np.flatnonzero(plot[:, between]).max()


def test_a_linear_axis_says_nothing_of_logarithms(classes: CubePlan, words: list[str]) -> None:
    found, look = class_world(classes)
    picture_of(
        classes, replace(found, shares={"genus": {0: np.array([0.0, 0.5, 1]), 1: np.array([1, 0.5, 0.0])}}), look
    )
    assert "Share of the pixels with a value (%)" in words
    assert not [word for word in words if "lower edge" in word or "log" in word]


def one_of_several(found: Inspection) -> Inspection:
    return replace(found, partition=replace(found.partition, key="here-y00x00"))


def test_the_mean_is_the_region_s_where_it_is_known(quantity: CubePlan, words: list[str]) -> None:
    sites = {"oak": np.array([0, 100, 0], dtype=np.float32)}
    found = one_of_several(pictures.inspection(quantity, [field()] * 3, means=[100, 100, 100], sites=sites))
    look = Look((2,), 1, {"oak": (20, 30)})
    heights = {}
    for region in (None, RegionSummary({"agb": np.array([50.0, 50.0, 50.0])}, {})):
        words.clear()
        picture = draw_series(quantity, found, look, "agb", region=region)
        assert picture is not None
        image = decoded(picture)
        top, bottom, left, right = right_axes(image, framed(image, "#ececec")[3] + 60)
        plot = image[top:bottom, left:right]
        rows = np.flatnonzero(where(plot, "#1a1a1a")[:, plot.shape[1] // 2])
        site = np.flatnonzero(where(plot, FIRST).any(axis=1))
        heights[region is None] = (site.max() - rows.mean()) / np.ptp(site)
        assert f"mean of {'here-y00x00' if region is None else 'here'}" in words
    # In units of what the site's line takes from 0 to 100, and of its markers' size.
    assert heights[True] == pytest.approx(1, abs=0.03)
    assert heights[False] == pytest.approx(0.5, abs=0.03)


def test_shares_are_the_region_s_with_classes_from_elsewhere(classes: CubePlan, words: list[str]) -> None:
    found, look = class_world(classes)
    found = replace(one_of_several(found), shares={"genus": {1: np.array([1.0, 1.0, 1.0])}}, site_values={})
    elsewhere = RegionSummary({}, {"genus": {1: np.array([0.5, 0.5, 0.5]), 77: np.array([0.5, 0.5, 0.5])}})
    own = decoded(draw_series(classes, found, look, "genus") or b"")
    assert "shares of here-y00x00" in words
    assert "77 (not in the legend)" not in words
    words.clear()
    image = decoded(draw_series(classes, found, look, "genus", region=elsewhere) or b"")
    assert "shares of here" in words
    assert "77 (not in the legend)" in words
    # Half of the pixels instead of all of them: the line is elsewhere.
    assert own.shape != image.shape or (own != image).any()


def test_pictures_of_several_partitions_have_one_scale(quantity: CubePlan, words: list[str]) -> None:
    """What is 80 has the same colour in a partition of 0 to 100 as in one of 70 to 90, in both pictures."""
    low, high = np.linspace(0, 100, SHAPE[1]), np.linspace(70, 90, SHAPE[1])
    colours = set()
    for values in (low, high):
        view = np.broadcast_to(values, SHAPE).astype(np.float32).copy()
        view[20:110, 30:100] = 80
        view[:5], view[-5:], view[:, :5], view[:, -5:] = (np.nan,) * 4
        found = pictures.inspection(
            quantity, [view] * 3, means=[1, 2, 3], extremes=(float(values[0]), float(values[-1]))
        )
        drawn = draw_pictures(quantity, found, Look((2,)), scales={"agb": (0.0, 100.0)})
        for picture in drawn.values():
            inside = cut(decoded(picture), framed(decoded(picture), "#ececec"))
            colours.add(tuple(int(part) for part in inside[inside.shape[0] // 2, inside.shape[1] // 2]))
    assert len(colours) == 1


def test_noise_and_many_sites_stay_small(quantity: CubePlan) -> None:
    rng = np.random.default_rng(5)
    names = [f"a site with a long name {index}" for index in range(60)]
    sites = {name: rng.normal(size=40).astype(np.float32) for name in names}
    times = tuple(f"{1980 + index}-01-01T00:00:00" for index in range(40))
    plan = replace(quantity, schema=replace(quantity.schema, times=times))
    view = rng.normal(size=(600, 600)).astype(np.float32)
    found = pictures.inspection(plan, [view] * 40, means=list(rng.normal(size=40)), sites=sites)
    places = {name: (int(rng.integers(130)), int(rng.integers(135))) for name in names}
    image = picture_of(plan, found, Look((39,), 1, places))
    assert image.shape[1] > 900


def test_the_same_input_makes_the_same_bytes(quantity: CubePlan) -> None:
    found, look = agb(quantity)
    assert draw_series(quantity, found, look, "agb") == draw_series(quantity, found, look, "agb")
