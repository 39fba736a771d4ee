"""What the allocator keeps, as the operating system counts it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from scs2_cubes.pipeline.heap import release_free_memory

#: Below glibc's smallest limit for a mapping of its own, which would go back at once.
PIECE = 100_000
PIECES = 2000


def resident() -> int:
    """Bytes of this process in memory: proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps free memory, and gives it back")
def test_memory_below_what_lives_is_given_back() -> None:
    release_free_memory()
    before = resident()
    pieces = [bytes([number % 255 + 1]) * PIECE for number in range(PIECES)]
    last = pieces[-1]
    full = resident()
    del pieces
    kept = resident()
    release_free_memory()
    assert full - before > 0.9 * PIECE * PIECES
    assert kept - before > 0.5 * PIECE * PIECES
    assert resident() - before < 0.1 * PIECE * PIECES
    assert len(last) == PIECE
