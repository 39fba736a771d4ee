"""The fixed lattice of pieces in which windows are cached, and how pieces are put together to large requests.

Pure: integers in, integers out. A *place* is a (row, column) of pieces, counted from the first stored row and column of
an array; a block of places is a :class:`~scs2_cubes.core.grid.Window` that counts pieces instead of pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray

__all__ = ["PieceLattice", "Place", "bounds", "cover", "places_in"]

Place = tuple[int, int]

#: A rectangle may have so many times the pieces that are needed of it: a region's outline, turned by the projection,
#: would otherwise take a request for each step of its stairs. The surplus is kept, and needn't be asked for later.
_MOST_SURPLUS = 1.3


@dataclass(frozen=True, slots=True)
class PieceLattice:
    """How an array with the dimensions (time, y, x) is cut into pieces: as its chunks say."""

    ny: int
    """Rows of pixels."""
    nx: int
    """Columns of pixels."""
    piece_ny: int
    """Rows of a piece."""
    piece_nx: int
    """Columns of a piece."""

    @classmethod
    def of(cls, array: NativeArray) -> PieceLattice:
        return cls(*array.shape[-2:], *array.chunks[-2:])

    @property
    def piece_pixels(self) -> int:
        """Pixels of a whole piece."""
        return self.piece_ny * self.piece_nx

    def places(self, window: Window) -> Iterator[Place]:
        """The places that ``window``, in pixels, touches; those beyond the array's ends don't exist."""
        part = window.intersection(Window(0, self.ny, 0, self.nx))
        if part is None:
            return
        for row in range(part.row_start // self.piece_ny, -(-part.row_stop // self.piece_ny)):
            for col in range(part.col_start // self.piece_nx, -(-part.col_stop // self.piece_nx)):
                yield row, col

    def pixels(self, block: Window) -> Window:
        """The pixels of a block of places; those at the array's ends are cut."""
        return Window(
            block.row_start * self.piece_ny,
            min(block.row_stop * self.piece_ny, self.ny),
            block.col_start * self.piece_nx,
            min(block.col_stop * self.piece_nx, self.nx),
        )

    def pixels_at(self, place: Place) -> Window:
        """The pixels of one piece."""
        return self.pixels(Window(place[0], place[0] + 1, place[1], place[1] + 1))


def bounds(places: Iterable[Place]) -> Window:
    """The smallest block that holds all ``places``, of which there must be one at least."""
    rows, cols = zip(*places, strict=True)
    return Window(min(rows), max(rows) + 1, min(cols), max(cols) + 1)


def places_in(block: Window) -> Iterator[Place]:
    """The places of a block, row-major."""
    for row in range(block.row_start, block.row_stop):
        for col in range(block.col_start, block.col_stop):
            yield row, col


def cover(places: AbstractSet[Place], held: AbstractSet[Place], most: int) -> tuple[Window, ...]:
    """Blocks of at most ``most`` places (one at least) that cover ``places``, each place once, none of ``held``.

    As few as cutting through and through finds. A block may hold other places, too, up to 0.3 times those needed.
    """
    if not places:
        return ()
    block = bounds(places)
    area = block.height * block.width
    if area == 1:
        return (block,)
    if area <= most and area <= _MOST_SURPLUS * len(places) and not any(place in held for place in places_in(block)):
        return (block,)
    before, after = _halves(places, block)
    return cover(before, held, most) + cover(after, held, most)


def _halves(places: AbstractSet[Place], block: Window) -> tuple[frozenset[Place], frozenset[Place]]:
    """``places`` on both sides of the cut that leaves out most of what isn't needed; among equals, of the middlest."""
    starts, stops = (block.row_start, block.col_start), (block.row_stop, block.col_stop)
    best: tuple[tuple[int, int], frozenset[Place], frozenset[Place]] | None = None
    for axis in (0, 1):
        for cut in range(starts[axis] + 1, stops[axis]):
            before = frozenset(place for place in places if place[axis] < cut)
            after = frozenset(places - before)
            sizes = [part.height * part.width for part in (bounds(before), bounds(after))]
            cost = (sum(sizes), max(sizes))
            if best is None or cost < best[0]:
                best = cost, before, after
    if best is None:
        raise ValueError(f"a block of one place can't be cut: {block!r}")
    return best[1], best[2]
