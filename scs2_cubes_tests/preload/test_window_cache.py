"""Pieces in a folder and in an object store: whole, absent or damaged, and never more than there is room for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numcodecs import Zstd

from scs2_cubes.core.native import NativeArray
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import NotPreloadedError, PreloadError, SourceFormatError
from scs2_cubes.preload import open_reader
from scs2_cubes.preload.window_cache import Pieces, WindowCache
from scs2_cubes.preload.window_pieces import Place

DATA_ID = "esacci.A~b/c"
GRANULES = ("g0", "g1")
#: 3 x 2 pieces, of which the last row and column are cut.
ARRAY = NativeArray("agb", ("time", "lat", "lon"), (2, 20, 15), (1, 8, 8), "int16", -32768.0, metadata="{}")


def pixels(place: Place, seed: int = 0) -> npt.NDArray[np.int16]:
    shape = min(8, 20 - 8 * place[0]), min(8, 15 - 8 * place[1])
    random = np.random.default_rng((*place, seed))
    values: npt.NDArray[np.int16] = random.integers(-32768, 32767, shape).astype(np.int16)
    return values


def pieces_at(place: StorageSpec, data_id: str = DATA_ID) -> Pieces:
    return Pieces.at(WindowCache.open(place).location(data_id, GRANULES))


def stored_keys(pieces: Pieces) -> list[str]:
    return list(pieces.objects.walk(""))


class TestPieces:
    def test_what_is_put_is_read(self, place: StorageSpec) -> None:
        pieces = pieces_at(place)
        for row in range(3):
            for col in range(2):
                pieces.put(ARRAY, 1, (row, col), pixels((row, col)))
        reader = open_reader(WindowCache.open(place).location(DATA_ID, GRANULES))
        for row in range(3):
            for col in range(2):
                encoded = reader.fetch_chunk(ARRAY, (1, row, col))
                assert encoded is not None
                made = reader.decode_chunk(ARRAY, (1, row, col), encoded)
                assert made.dtype == np.dtype("int16")
                np.testing.assert_array_equal(made, pixels((row, col))[np.newaxis])

    def test_the_stored_bytes_are_little_endian(self, place: StorageSpec) -> None:
        pieces, values = pieces_at(place), pixels((0, 0))
        for order in ("<", ">"):
            pieces.put(ARRAY, 0, (0, 0), values.astype(np.dtype("int16").newbyteorder(order)))
            content = Zstd().decode(pieces.get(ARRAY, 0, (0, 0)))
            assert content[-128:] == b"".join(int(value).to_bytes(2, "little", signed=True) for value in values.ravel())

    def test_nothing_but_fill_is_stored_too(self, place: StorageSpec) -> None:
        pieces = pieces_at(place)
        pieces.put(ARRAY, 0, (1, 1), np.full((8, 7), -32768, np.int16))
        assert pieces.holds(ARRAY, 0, (1, 1))
        reader = open_reader(WindowCache.open(place).location(DATA_ID, GRANULES))
        encoded = reader.fetch_chunk(ARRAY, (0, 1, 1))
        assert encoded is not None
        assert (reader.decode_chunk(ARRAY, (0, 1, 1), encoded) == -32768).all()

    def test_what_is_absent_is_no_fill(self, place: StorageSpec) -> None:
        pieces_at(place).put(ARRAY, 0, (0, 0), pixels((0, 0)))
        reader = open_reader(WindowCache.open(place).location(DATA_ID, GRANULES))
        for index in ((1, 0, 0), (0, 0, 1)):
            with pytest.raises(NotPreloadedError, match=r"agb, step.*isn't in the cache.*Run again"):
                reader.fetch_chunk(ARRAY, index)

    @pytest.mark.parametrize("damage", ["bit", "cut", "longer", "empty", "text", "another piece", "another size"])
    def test_damage_is_noticed(self, place: StorageSpec, damage: str) -> None:
        pieces = pieces_at(place)
        pieces.put(ARRAY, 0, (0, 0), pixels((0, 0)))
        pieces.put(ARRAY, 0, (1, 0), pixels((1, 0)))
        assert pieces.holds(ARRAY, 0, (0, 0))
        (key,) = [key for key in stored_keys(pieces) if key.endswith("/0.0")]
        good = pieces.objects.get(key) or b""
        other = pieces.get(ARRAY, 0, (1, 0)) or b""
        damaged = {
            "bit": good[:60] + bytes([good[60] ^ 1]) + good[61:],
            "cut": good[:-7],
            "longer": good + b"\0",
            "empty": b"",
            "text": b"<html>",
            "another piece": other,
            "another size": Zstd().encode(Zstd().decode(good) + b"\0\0"),
        }[damage]
        pieces.objects.put(key, damaged)
        assert not pieces.holds(ARRAY, 0, (0, 0))
        reader = open_reader(WindowCache.open(place).location(DATA_ID, GRANULES))
        encoded = reader.fetch_chunk(ARRAY, (0, 0, 0))
        assert encoded is not None
        with pytest.raises(SourceFormatError, match=r"is damaged.*Run again.*0\.0"):
            reader.decode_chunk(ARRAY, (0, 0, 0), encoded)

    @pytest.mark.parametrize(
        "other",
        [
            NativeArray("agb_sd", ARRAY.dims, ARRAY.shape, ARRAY.chunks, "int16", -32768.0, metadata="{}"),
            NativeArray("agb", ARRAY.dims, ARRAY.shape, ARRAY.chunks, "uint16", -32768.0, metadata="{}"),
            NativeArray("agb", ARRAY.dims, (2, 20, 16), ARRAY.chunks, "int16", -32768.0, metadata="{}"),
            NativeArray("agb", ARRAY.dims, ARRAY.shape, (1, 8, 4), "int16", -32768.0, metadata="{}"),
            NativeArray("agb", ARRAY.dims, ARRAY.shape, ARRAY.chunks, "int16", -32768.0, metadata='{"corner": 1}'),
        ],
    )
    def test_another_layout_is_elsewhere(self, place: StorageSpec, other: NativeArray) -> None:
        pieces = pieces_at(place)
        pieces.put(ARRAY, 0, (0, 0), pixels((0, 0)))
        assert not pieces.holds(other, 0, (0, 0))

    def test_more_steps_are_no_other_layout(self, place: StorageSpec) -> None:
        """A year that is added mustn't make the others be asked for again."""
        pieces = pieces_at(place)
        pieces.put(ARRAY, 0, (0, 0), pixels((0, 0)))
        longer = NativeArray("agb", ARRAY.dims, (3, 20, 15), ARRAY.chunks, "int16", -32768.0, metadata="{}")
        assert pieces.holds(longer, 0, (0, 0))

    def test_discarding_a_step(self, place: StorageSpec) -> None:
        pieces = pieces_at(place)
        for step in (0, 1):
            pieces.put(ARRAY, step, (0, 0), pixels((0, 0)))
        pieces.discard(1)
        assert [pieces.holds(ARRAY, step, (0, 0)) for step in (0, 1)] == [True, False]


class TestEntries:
    def test_list_and_clear(self, place: StorageSpec) -> None:
        cache = WindowCache.open(place)
        assert cache.entries() == ()
        for data_id in (DATA_ID, "esacci.B"):
            pieces_at(place, data_id).put(ARRAY, 0, (0, 0), pixels((0, 0)))
        cache.note_source(DATA_ID, "v1")
        cache.note_source(DATA_ID, "v2")
        first, second = cache.entries()
        assert (first.data_id, first.version) == (DATA_ID, "v2")
        assert (second.data_id, second.version) == ("esacci.B", None)
        assert first.bytes == sum(
            len(cache.objects.get(key) or b"") for key in cache.objects.walk("") if key.startswith("esacci.A~b%2Fc")
        )
        assert first.bytes > 128
        assert cache.clear(DATA_ID) == first.bytes
        assert [entry.data_id for entry in cache.entries()] == ["esacci.B"]
        assert cache.clear(DATA_ID) == 0
        assert pieces_at(place, "esacci.B").holds(ARRAY, 0, (0, 0))

    @pytest.mark.parametrize("data_id", ["../../x", "a/b", ".hidden", "ä ~x", "100%"])
    def test_names_stay_in_the_folder(self, place: StorageSpec, data_id: str) -> None:
        pieces = pieces_at(place, data_id)
        pieces.put(ARRAY, 0, (0, 0), pixels((0, 0)))
        (key,) = WindowCache.open(place).objects.walk("")
        assert key.count("/") == 4
        assert not key.startswith(".")
        assert [entry.data_id for entry in WindowCache.open(place).entries()] == [data_id]


class TestRoom:
    #: Pieces so far apart that each has a shelf of its own.
    WIDE = NativeArray("agb", ARRAY.dims, (2, 8, 800), ARRAY.chunks, "int16", -32768.0, metadata="{}")

    @pytest.fixture
    def shelves(self, place: StorageSpec, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Four shelves, each used 100 s after the one before, but for the second: nobody knows when."""
        pieces = pieces_at(place)
        found = []
        for number in range(4):
            where = (0, 20 * number)
            pieces.put(self.WIDE, 0, where, pixels((0, 0), number))
            found.append(pieces.shelf(self.WIDE, 0, where))
            monkeypatch.setattr("time.time", lambda number=number: 1_000_000.0 + 100 * number)
            if number != 1:
                pieces.note_use(found[-1])
        assert len(set(found)) == 4
        return found

    def left(self, place: StorageSpec) -> list[int]:
        pieces = pieces_at(place)
        return [number for number in range(4) if pieces.holds(self.WIDE, 0, (0, 20 * number))]

    def test_room_enough(self, place: StorageSpec, shelves: list[str]) -> None:
        cache = WindowCache.open(place)
        assert cache.make_room(1000, frozenset(), 1000 + cache.objects.size("")) == (0, 0)
        assert self.left(place) == [0, 1, 2, 3]

    def test_what_was_not_used_for_longest_goes(self, place: StorageSpec, shelves: list[str]) -> None:
        cache = WindowCache.open(place)
        total, gone = cache.objects.size(""), cache.objects.size(shelves[1])
        assert cache.make_room(1000, frozenset(), total + 999) == (1, gone)
        assert self.left(place) == [0, 2, 3]
        cache.make_room(1000, frozenset(), cache.objects.size("") + 999)
        assert self.left(place) == [2, 3]

    def test_what_is_wanted_stays(self, place: StorageSpec, shelves: list[str]) -> None:
        cache = WindowCache.open(place)
        total = cache.objects.size("")
        dropped, _ = cache.make_room(100, frozenset(shelves[:2]), total + 99)
        assert dropped == 1
        assert self.left(place) == [0, 1, 3]

    def test_too_much_is_refused_before_anything_is_dropped(self, place: StorageSpec, shelves: list[str]) -> None:
        cache = WindowCache.open(place)
        with pytest.raises(PreloadError, match=r"up to 528 B.*cache_size of the store of at least 528"):
            cache.make_room(200, frozenset(shelves[2:]), 250)
        assert self.left(place) == [0, 1, 2, 3]


def test_everything_travels_to_workers(place: StorageSpec) -> None:
    import pickle  # noqa: PLC0415 - for this test alone

    location: Any = pickle.loads(pickle.dumps(WindowCache.open(place).location(DATA_ID, GRANULES)))
    assert location == WindowCache.open(place).location(DATA_ID, GRANULES)
    assert "storage" not in repr(location)
