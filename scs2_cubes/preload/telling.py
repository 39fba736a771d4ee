"""What people are told while something goes on: numbers that they can read, at a rhythm that they can follow."""

from __future__ import annotations

import time
from collections.abc import Callable

from scs2_cubes.preload.base import Tell
from scs2_cubes.preload.download import Progress

__all__ = ["decimal", "progress_lines", "span"]

_STEP = 1000


def decimal(size: float) -> str:
    """A number of bytes in units of 1000, as disks and networks count."""
    for unit in ("B", "kB", "MB"):
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" or size >= _STEP / 10 else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} GB"


def span(seconds: float) -> str:
    """A number of seconds."""
    if seconds < 120:  # noqa: PLR2004 - where people begin to count in minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def progress_lines(tell: Tell, what: str, shown: Callable[[int], str], every: float = 15.0) -> Progress:
    """A listener for progress that tells a line ``every`` so many seconds; nothing of what is over before."""
    last = time.monotonic()

    def on_progress(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            tell(f"{what} {shown(done)}" + (f" of {shown(total)}, {done / total:.0%}" if total else ""))

    return on_progress
