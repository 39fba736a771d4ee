"""The lattice of pieces, and rectangles of them: properties over generated worlds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray
from scs2_cubes.preload.window_pieces import PieceLattice, Place, cover, places_in

#: A busy machine isn't a failure.
UNHURRIED = settings(deadline=None)

PLACES = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)))


def boxes_of(blocks: tuple[Window, ...]) -> list[Place]:
    return [
        (row, col) for b in blocks for row in range(b.row_start, b.row_stop) for col in range(b.col_start, b.col_stop)
    ]


@UNHURRIED
@given(places=PLACES, others=PLACES, most=st.integers(1, 120))
def test_blocks_cover_what_is_needed_once(places: set[Place], others: set[Place], most: int) -> None:
    held = others - places
    blocks = cover(places, held, most)
    covered = boxes_of(blocks)
    assert len(covered) == len(set(covered))
    assert places <= set(covered)
    assert not held & set(covered)
    assert len(covered) <= 1.3 * len(places)
    assert all(block.height * block.width <= most for block in blocks)
    assert all(places & set(places_in(block)) for block in blocks)


@UNHURRIED
@given(
    row=st.integers(0, 5),
    col=st.integers(0, 5),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    most=st.integers(1, 30),
)
def test_a_rectangle_takes_few_requests(row: int, col: int, rows: int, cols: int, most: int) -> None:
    places = {(row + i, col + j) for i in range(rows) for j in range(cols)}
    blocks = cover(places, set(), most)
    assert len(boxes_of(blocks)) == rows * cols
    if rows * cols <= most:
        assert blocks == (Window(row, row + rows, col, col + cols),)


def test_a_turned_outline_is_one_request() -> None:
    """What ``landes`` needs of the 100 m product."""
    outline = ["..####", "######", "######", "######", ".#####"]
    places = {(i, j) for i, line in enumerate(outline) for j, mark in enumerate(line) if mark == "#"}
    assert cover(places, set(), 64) == (Window(0, 5, 0, 6),)
    # One of the corners lies in the cache.
    assert len(cover(places, {(0, 0)}, 64)) == 2


def test_what_lies_apart_is_asked_for_apart() -> None:
    places = {(0, 0), (0, 1), (40, 40), (40, 41)}
    assert set(cover(places, set(), 10_000)) == {Window(0, 1, 0, 2), Window(40, 41, 40, 42)}


@UNHURRIED
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    piece=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    start=st.tuples(st.integers(-5, 45), st.integers(-5, 45)),
    extent=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_pieces_are_those_under_the_window(
    size: tuple[int, int], piece: tuple[int, int], start: tuple[int, int], extent: tuple[int, int]
) -> None:
    lattice = PieceLattice(*size, *piece)
    window = Window(start[0], start[0] + extent[0], start[1], start[1] + extent[1])
    expected = {
        (row // piece[0], col // piece[1])
        for row in range(max(0, window.row_start), min(size[0], window.row_stop))
        for col in range(max(0, window.col_start), min(size[1], window.col_stop))
    }
    found = list(lattice.places(window))
    assert len(found) == len(set(found))
    assert set(found) == expected
    owners: dict[tuple[int, int], Place] = {}
    for place in lattice.places(Window(0, size[0], 0, size[1])):
        pixels = lattice.pixels_at(place)
        for row in range(pixels.row_start, pixels.row_stop):
            for col in range(pixels.col_start, pixels.col_stop):
                assert owners.setdefault((row, col), place) == place
    assert set(owners) == {(row, col) for row in range(size[0]) for col in range(size[1])}


@pytest.mark.parametrize("chunks", [(1, 512, 512), (1, 280, 512)])
def test_pieces_are_the_chunks(chunks: tuple[int, int, int]) -> None:
    array = NativeArray("agb", ("time", "lat", "lon"), (10, 280, 720), chunks, "int16", -32768.0)
    lattice = PieceLattice.of(array)
    assert (lattice.ny, lattice.nx, lattice.piece_ny, lattice.piece_nx) == (280, 720, *chunks[1:])
