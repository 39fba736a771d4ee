"""The Dagster instance of a case: one for shell, demonstration and UI, or they show different worlds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

__all__ = ["open_instance", "prepare_home"]

_SETTINGS = """\
# Written once by scs2_cubes; change it as you like.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def prepare_home(home: Path) -> Path:
    """Create the folder ``home`` with a ``dagster.yaml`` where they aren't yet: Dagster refuses a missing one."""
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    return home


@contextmanager
def open_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance whose history lies in ``home``, for the length of the block."""
    with dg.DagsterInstance.from_config(str(prepare_home(home))) as instance:
        yield instance
