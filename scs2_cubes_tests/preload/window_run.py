"""A fetch in a process of its own: ``python -m scs2_cubes_tests.preload.window_run URL CACHE ROW ROW COL COL``."""

from __future__ import annotations

import sys

from scs2_cubes.core.grid import Window
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes_tests.preload.portal_worlds import DATA_ID, store_of, wanted


def main(url: str, cache: str, *window: str) -> None:
    windows = EsaCciWindows.open(store_of(url, cache))
    native = windows.describe(DATA_ID)
    # One word, so that several can be started and then let go together.
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    report = windows.fetch(native, wanted(Window(*(int(number) for number in window))), lambda _: None)
    sys.stdout.write(f"{report.requests} {report.held}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
