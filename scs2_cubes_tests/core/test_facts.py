"""Facts of planes, and where samples lie on a source, against plain numpy and areas computed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pyproj import Transformer

from scs2_cubes.core.facts import count_source_pixels, plane_facts, sample_of, source_pixels
from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.transform import index_map
from scs2_cubes_tests.core import oracles

LAEA = "EPSG:3035"
TARGET = Lattice(LAEA, 3_401_404.0, 2_348_000.0, 30.0, -30.0, 300, 200)


def planes() -> dict[str, tuple[npt.NDArray[Any], float]]:
    """Name → (plane of 90 x 70 pixels, fill)."""
    rng = np.random.default_rng(5)
    holes = rng.random((90, 70)) < 0.3
    codes = rng.integers(0, 8, holes.shape)
    ages = rng.normal(100, 30, holes.shape)
    return {
        "uint8": (np.where(holes, 255, codes).astype(np.uint8), 255),
        "fill 0": (np.where(holes, 0, codes + 1).astype(np.uint8), 0),
        "uint16": (np.where(holes, 65535, codes * 5000).astype(np.uint16), 65535),
        "int16": (np.where(holes, -9999, codes - 4).astype(np.int16), -9999),
        "float32": (np.where(holes, np.nan, ages).astype(np.float32), float("nan")),
        "float32 with a number": (np.where(holes, -1, np.abs(ages)).astype(np.float32), -1.0),
        "empty": (np.full(holes.shape, 255, np.uint8), 255),
        "nothing but NaN": (np.full(holes.shape, np.nan, np.float32), float("nan")),
    }


@pytest.mark.parametrize("name", planes())
def test_facts_are_numpys(name: str) -> None:
    values, fill = planes()[name]
    window = Window(180, 270, 70, 140)
    facts = plane_facts(values, window, fill=fill, is_categorical=values.dtype.kind in "iu")
    there = values[~np.isnan(values) if np.isnan(fill) else values != fill].astype(np.float64)
    assert facts.valid == there.size
    assert facts.minimum == (there.min() if there.size else None)
    assert facts.maximum == (there.max() if there.size else None)
    assert facts.total == pytest.approx(there.sum(), rel=1e-12)
    if values.dtype.kind in "iu":
        assert facts.codes == {int(code): int((there == code).sum()) for code in set(there.tolist())}
    else:
        assert facts.codes == {}
    sample = sample_of(window)
    marked = sum(
        bool(values[row - 180, col - 70] != fill and not np.isnan(float(values[row - 180, col - 70])))
        for row in sample.rows.tolist()
        for col in sample.cols.tolist()
    )
    assert facts.sampled_valid == marked


@pytest.mark.parametrize("name", planes())
def test_sums_are_weighted_by_row(name: str) -> None:
    values, fill = planes()[name]
    weights = np.random.default_rng(8).random(90)
    is_categorical = values.dtype.kind in "iu"
    facts, plain = (
        plane_facts(values, Window(0, 90, 0, 70), fill=fill, is_categorical=is_categorical, row_weights=one)
        for one in (weights, None)
    )
    valid = ~np.isnan(values) if np.isnan(fill) else values != fill
    spread = np.repeat(weights[:, np.newaxis], 70, axis=1)
    assert facts.weight == pytest.approx(float(spread[valid].sum()))
    assert facts.total == pytest.approx(float((values[valid].astype(np.float64) * spread[valid]).sum()))
    assert facts.class_weights == pytest.approx(
        {code: float(spread[values == code].sum()) for code in (np.unique(values[valid]) if is_categorical else ())}
    )
    assert (facts.valid, facts.codes, facts.sampled_valid) == (plain.valid, plain.codes, plain.sampled_valid)
    assert (plain.weight, plain.class_weights) == (plain.valid, plain.codes)


def test_codes_that_are_not_whole_are_not_counted() -> None:
    values = np.array([[1.0, 2.5], [1.0, np.nan]], dtype=np.float32)
    facts = plane_facts(values, Window(0, 2, 0, 2), fill=float("nan"), is_categorical=True)
    assert (facts.valid, facts.codes) == (3, {1: 2})


@pytest.mark.parametrize("size", [1, 5, 63, 64, 127, 128, 256, 1000, 2048])
def test_a_sample_is_a_regular_lattice_over_all_of_the_tile(size: int) -> None:
    sample = sample_of(Window(3 * size, 4 * size, 7 * size, 8 * size))
    for first, numbers in ((3 * size, sample.rows), (7 * size, sample.cols)):
        steps = set(np.diff(numbers).tolist())
        assert len(steps) <= 1
        step = steps.pop() if steps else 1
        assert first <= numbers[0] < first + step
        assert first + size - step <= numbers[-1] < first + size
        assert min(size, 64) <= len(numbers) < 2 * 64
    assert sample.size == len(sample.rows) * len(sample.cols)


def _counted(source: Lattice, valid: npt.NDArray[np.bool_], window: Window, *, spread: bool) -> int:
    mapping = index_map(source, TARGET)
    sample = sample_of(window)
    pixels = source_pixels(sample, mapping, mapping.nodes(window), spread=spread)
    # A window of the source that begins elsewhere, and an edge that lies outside of it.
    part = Window(2, source.ny, 3, source.nx)
    values = np.where(valid, 7, 255).astype(np.uint8)[part.slices]
    return count_source_pixels(values, part, 255, pixels)


def _raster(lattice: Lattice) -> oracles.Raster:
    return lattice.crs, lattice.x_origin, lattice.y_origin, lattice.dx, lattice.dy


def test_centres_lie_where_pyproj_says() -> None:
    to_degrees = Transformer.from_crs(LAEA, "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(TARGET.x_origin, TARGET.y_origin)
    # Its rim covers the target but for the west.
    source = Lattice("EPSG:4326", longitude + 0.01, latitude + 0.02, 0.0009, -0.0009, 160, 120)
    valid = np.random.default_rng(3).random((120, 160)) < 0.4
    window = Window(64, 192, 0, 128)
    sample = sample_of(window)
    u, v = oracles.source_index(_raster(source), _raster(TARGET), sample.rows.tolist(), sample.cols.tolist())
    inside = (u >= 3) & (u < 160) & (v >= 2) & (v < 120)
    cols, rows = np.where(inside, u, 0).astype(int), np.where(inside, v, 0).astype(int)
    expected = int((valid[rows, cols] & inside).sum())
    assert 0 < inside.sum() < inside.size
    # Between nodes, geolocation is off by 0.00025 of a pixel at most: a few centres are that near to an edge.
    assert abs(_counted(source, valid, window, spread=False) - expected) <= 4


@pytest.mark.parametrize(("row_sign", "col_sign"), [(1, 1), (-1, 1), (1, -1)])
def test_pixels_that_are_copied(row_sign: int, col_sign: int) -> None:
    source = Lattice(
        LAEA,
        TARGET.x_origin - 150 if col_sign > 0 else TARGET.x_origin + 310 * 30,
        TARGET.y_origin + 90 if row_sign > 0 else TARGET.y_origin - 210 * 30,
        30.0 * col_sign,
        -30.0 * row_sign,
        320,
        230,
    )
    valid = np.random.default_rng(4).random((230, 320)) < 0.5
    window = Window(0, 100, 0, 70)
    sample = sample_of(window)
    expected = 0
    for row in sample.rows.tolist():
        for col in sample.cols.tolist():
            x, y = TARGET.x_origin + (col + 0.5) * 30, TARGET.y_origin - (row + 0.5) * 30
            j, i = int((x - source.x_origin) // source.dx), int((y - source.y_origin) // source.dy)
            expected += bool(2 <= i < 230 and 3 <= j < 320 and valid[i, j])
    assert _counted(source, valid, window, spread=False) == _counted(source, valid, window, spread=True) == expected


def _valid_areas(source: Lattice, valid: npt.NDArray[np.bool_], window: Window) -> int:
    """How many footprints of a sample are valid by at least half of their area, one after the other."""
    sample = sample_of(window)
    known = valid.copy()
    known[:2], known[:, :3] = False, False
    count = 0
    for row in sample.rows.tolist():
        for col in sample.cols.tolist():
            left = (TARGET.x_origin + col * 30 - source.x_origin) / source.dx
            top = (TARGET.y_origin - row * 30 - source.y_origin) / source.dy
            size = 30 / source.dx
            area = sum(
                max(0.0, min(i + 1, top + size) - max(i, top)) * max(0.0, min(j + 1, left + size) - max(j, left))
                for i in range(int(np.floor(top)), int(np.ceil(top + size)))
                for j in range(int(np.floor(left)), int(np.ceil(left + size)))
                if 0 <= i < source.ny and 0 <= j < source.nx and known[i, j]
            )
            count += area >= size * size / 2 - 1e-9
    return count


@pytest.mark.parametrize(
    ("pixel", "shift", "share"),
    # On a common lattice nothing is off; 0.02 is what the verdict allows.
    [(10.0, 0.0, 0.0), (10.0, -3.3, 0.02), (20.0, -7.0, 0.02), (14.3, -5.0, 0.02)],
)
@pytest.mark.parametrize("density", [0.3, 0.5, 0.7])
def test_footprints_are_judged_by_half_of_their_area(pixel: float, shift: float, share: float, density: float) -> None:
    n = int(130 * 30 / pixel)
    source = Lattice(LAEA, TARGET.x_origin - 5 * pixel + shift, TARGET.y_origin + 3 * pixel, pixel, -pixel, n, n)
    valid = np.random.default_rng(6).random((n, n)) < density
    window = Window(0, 64, 0, 64)
    found, expected = _counted(source, valid, window, spread=True), _valid_areas(source, valid, window)
    assert abs(found - expected) <= share * sample_of(window).size
    assert 100 < expected < 4000
