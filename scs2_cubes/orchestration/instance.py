"""The Dagster instance of a case: one for shell, demonstration and UI, or they show different worlds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager  # no public name
from dagster._serdes import ConfigurableClassData

from scs2_cubes.errors import StorageError
from scs2_cubes.orchestration.compute_logs import ShieldedComputeLogManager

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
    """The instance whose history lies in ``home``, for the length of the block.

    Where it keeps what steps print in files of this machine, as it does by default, an interruption of this process
    doesn't reach the helpers that it starts for that.
    """
    with dg.DagsterInstance.from_config(str(prepare_home(home))) as instance:
        if type(instance.compute_log_manager) is not LocalComputeLogManager:
            yield instance
            return
        reference = instance.get_ref()
    data = reference.compute_logs_data
    kind = ShieldedComputeLogManager
    shielded = ConfigurableClassData(kind.__module__, kind.__name__, data.config_yaml if data else "{}")
    with dg.DagsterInstance.from_ref(reference._replace(compute_logs_data=shielded)) as instance:
        yield instance
