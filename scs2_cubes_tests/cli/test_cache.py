"""``scs2-cubes cache``: what was fetched, and making room."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import rasterio

from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.errors import PreloadError
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.claims import Contender
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.report.caches import CACHES, clear_entries, entries_of
from scs2_cubes.sources import PROTOCOLS
from scs2_cubes_tests.end_to_end.trial import Ended, Trial, in_process

ONE, TWO = "p|one", "p|two"


@pytest.fixture
def fetched(trial: Trial) -> Trial:
    """A trial with two data ids in the cache of the store ``clms``, of which the second isn't complete."""
    trial.data["data_stores"].append({"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "k"}})
    cache = ArchiveCache.open(StorageSpec(str(folder(trial))))
    picture = trial.folder / "one.tif"
    with rasterio.open(
        picture,
        "w",
        driver="GTiff",
        width=30,
        height=20,
        count=1,
        dtype="uint8",
        nodata=255,
        crs="EPSG:3035",
        transform=rasterio.Affine(20, 0, 3000000, 0, -20, 2000000),
    ) as target:
        target.write(np.ones((20, 30), "uint8"), 1)
    for data_id in (ONE, TWO):
        cache.write(
            data_id,
            "version-1",
            Mosaic.open([picture]),
            variable=data_id[2:],
            attrs={},
            provenance={},
            href="https://h/",
            on_progress=lambda *_: None,
        )
    # Killed before the record was written.
    (record,) = [path for path in folder(trial).rglob("record.json") if "two" in path.parent.name]
    record.unlink()
    return trial


def folder(trial: Trial) -> Path:
    return trial.root / ".cache" / "clms"


def files(trial: Trial) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder(trial).rglob("*") if path.is_file()}


def cache(trial: Trial, *arguments: str) -> Ended:
    return in_process("cache", *arguments, "--config", str(trial.write()), home=trial.home)


def rows(result: Ended) -> list[list[str]]:
    lines = [line for line in result.out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize("arguments", [("list",), ("list", "clms")])
def test_list(fetched: Trial, arguments: tuple[str, ...]) -> None:
    result = cache(fetched, *arguments)
    assert result.code == 0, result.said
    assert [row[:3] for row in rows(result) if row[0]] == [
        ["clms", ONE, "complete"],
        ["clms", TWO, "unfinished"],
    ]
    # A place is for copying: on one line, however long it is.
    below = result.out.rpartition("┘")[2].splitlines()[1:]
    assert [line.partition(": ")[0] for line in below] == [ONE, TWO]
    assert all(Path(line.partition(": ")[2]).is_dir() for line in below)
    assert all(line.partition(": ")[2].startswith(str(folder(fetched))) for line in below)
    assert "version-1" in result.out
    assert rows(result)[0][3] not in {"", "0 bytes"}


def test_nothing_is_cached(trial: Trial) -> None:
    assert cache(trial, "list") == Ended(0, "nothing is cached\n", "")
    trial.data["data_stores"].append({"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "k"}})
    assert cache(trial, "list", "clms") == Ended(0, "nothing is cached\n", "")
    assert cache(trial, "clear", "clms", "--yes") == Ended(0, "nothing is cached\n", "")
    assert not trial.root.exists()


@pytest.mark.parametrize("command", ["list", "clear"])
def test_a_store_without_cache_and_none_at_all(fetched: Trial, command: str) -> None:
    result = cache(fetched, command, "eoforest_stac")
    assert result.code == 2
    assert "data store 'eoforest_stac' has no cache to look at" in result.err
    result = cache(fetched, command, "clns")
    assert result.code == 2
    assert "no data store 'clns' to read from; did you mean 'clms'?" in result.err


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_clear_one(fetched: Trial, suffix: str) -> None:
    before = files(fetched)
    result = cache(fetched, "clear", "clms", ONE + suffix, "--yes")
    after = files(fetched)
    assert result.code == 0, result.said
    freed = sum(before.values()) - sum(after.values())
    assert freed > 0
    assert result.out == f"removed {ONE}: {freed:,} bytes are free now\n"
    assert after
    assert all("two" in Path(name).relative_to(folder(fetched)).parts[1] for name in after)


def test_clear_all(fetched: Trial) -> None:
    beside = fetched.root / "gami.zarr" / "0"
    beside.parent.mkdir()
    beside.write_bytes(b"pixels")
    result = cache(fetched, "clear", "clms", "--yes")
    assert result.code == 0
    assert result.out.startswith(f"removed {ONE}, {TWO}: ")
    assert files(fetched) == {}
    # Cubes stay.
    assert beside.read_bytes() == b"pixels"


def test_clear_waits_for_a_run_that_is_at_it(fetched: Trial) -> None:
    store = StoreSpec("clms", "clms", {}, cache=StorageSpec(str(folder(fetched))))
    place = ArchiveCache.open(StorageSpec(str(folder(fetched))))
    claim = Contender(place.objects, ONE).take()
    assert claim is not None
    with claim:
        with pytest.raises(PreloadError, match=r"has been busy with 'p\|one'"):
            clear_entries(store, entries_of(store, ONE), max_wait=0.1)
        assert place.fault(ONE) is None
        assert clear_entries(store, entries_of(store, TWO), max_wait=0.1) > 0
    assert clear_entries(store, entries_of(store, ONE), max_wait=0.1) > 0
    assert files(fetched) == {}


@pytest.mark.parametrize(
    ("data_id", "hint"), [("p|onne", "nearest: p|one"), ("quite different", "there are: p|one, p|two")]
)
def test_clear_what_isnt_there(fetched: Trial, data_id: str, hint: str) -> None:
    before = files(fetched)
    result = cache(fetched, "clear", "clms", data_id, "--yes")
    assert result.code == 1
    assert f"nothing of {data_id!r} lies in {folder(fetched)}; {hint}" in result.err
    assert files(fetched) == before


@pytest.mark.parametrize(("answer", "removes"), [(True, True), (False, False), (None, False)])
def test_clear_asks(fetched: Trial, answer: bool | None, monkeypatch: pytest.MonkeyPatch, *, removes: bool) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        if answer is None:
            # No terminal.
            raise click.Abort
        return answer

    monkeypatch.setattr(click, "confirm", confirm)
    before = files(fetched)
    result = cache(fetched, "clear", "clms")
    again = "The next run orders it anew, which may take hours"
    assert asked == [f"Remove {ONE}, {TWO} from the cache of clms? {again}."]
    assert files(fetched) == ({} if removes else before)
    # Who says no gets what they want; a script without a terminal doesn't.
    assert result.code == (1 if answer is None else 0)
    assert (result.out == "nothing was removed\n") is (answer is False)
    assert ("nothing was removed; --yes removes without asking" in result.err) is (answer is None)


def test_kinds_of_cache_are_those_of_protocols() -> None:
    assert set(CACHES) <= set(PROTOCOLS)
