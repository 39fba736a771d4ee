"""``scs2-cubes check``: finished cubes read back, and what is wrong with them made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import Ended, Trial, in_process, squeezed


def check(trial: Trial, *arguments: str) -> Ended:
    return in_process("check", "--config", str(trial.write()), *arguments, home=trial.home)


def chunk(trial: Trial, cube: str) -> Path:
    """The largest chunk of ``cube``."""
    files = [path for path in (trial.root / f"{cube}.zarr").glob("*/*.*") if path.name[0].isdigit()]
    return max(files, key=lambda path: path.stat().st_size)


def test_nothing_is_made_yet(trial: Trial) -> None:
    ended = check(trial)
    assert ended.code == 0, ended.said
    assert "nothing is made yet" in ended.out
    # Nobody needs to be asked for that.
    assert not trial.server.requests.entries()


def test_cubes_that_are_right(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    ended = check(trial, "--forget")
    assert ended.code == 0, ended.said
    assert ended.out.count("9 checks") == 2
    assert "no tile is wrong" in ended.out
    assert trial.tree() == undisturbed.tree
    ended = check(trial, "--verbose", "--dataset", "gami")
    assert "9 checks" not in ended.out
    assert squeezed("9 tiles at version") in ended.said
    assert "forestpaths_genus" not in ended.out
    assert trial.chunk_requests() == []


def test_a_deleted_chunk_is_found_and_made_again(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    path = chunk(trial, "forestpaths_genus")
    row, col = path.name.split(".")
    tile = f"y{int(row):02d}x{int(col):02d}"
    path.unlink()
    # What a second run sees is the records alone.
    assert trial.run().code == 0
    assert trial.tree() != undisturbed.tree

    ended = check(trial)
    assert ended.code == 1
    assert squeezed(f"1 tiles aren't as recorded: {tile}") in ended.said
    assert "forget" in ended.out
    assert len(trial.records("forestpaths_genus")) == 9

    ended = check(trial, "--forget")
    assert ended.code == 1
    assert "1 tile forgotten; " in ended.out
    assert tile not in trial.records("forestpaths_genus")
    assert len(trial.records("gami")) == 9

    trial.server.requests.clear()
    assert trial.run().code == 0
    assert trial.tree() == undisturbed.tree
    assert all("GENUS" in request for request in trial.chunk_requests())
    assert check(trial).code == 0


def test_a_warning_blocks_nothing(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    array = zarr.open_array(trial.root / "gami.zarr", path="forest_age", mode="r+")
    values = np.asarray(array[:256, :256])
    array[:256, :256] = np.where(values > np.nanmean(values), np.float32(5000), values)
    ended = check(trial, "--forget")
    assert ended.code == 0, ended.said
    assert "warning" in ended.out
    assert "5000" in ended.out
    assert len(trial.records("gami")) == 9


def test_a_source_that_does_not_answer(trial: Trial, undisturbed: Undisturbed) -> None:
    undisturbed.copy_to(trial)
    trial.server.stop()
    ended = check(trial)
    assert ended.code == 1
    assert "SourceUnavailableError" in ended.err
