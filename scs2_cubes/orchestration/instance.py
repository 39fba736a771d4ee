"""The Dagster instance of a case: one for shell, demonstration and UI, or they show different worlds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from scs2_cubes.errors import StorageError

__all__ = ["open_instance", "prepare_home"]

_SETTINGS = """\
# Written once by scs2_cubes; change it as you like.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def prepare_home(home: Path) -> Path:
    """Create the folder ``home`` with a ``dagster.yaml`` where they aren't yet: Dagster refuses a missing one.

    Raises StorageError where that fails.
    """
    settings = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not settings.exists():
            settings.write_text(_SETTINGS, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"can't keep Dagster's history in {home}: {error}. Make it writable, or set DAGSTER_HOME to another folder"
        ) from error
    return home


@contextmanager
def open_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance whose history lies in ``home``, for the length of the block."""
    with dg.DagsterInstance.from_config(str(prepare_home(home))) as instance:
        yield instance
