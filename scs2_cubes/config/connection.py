"""How patiently and how often sources are asked, and what computes: ``general``, ``automation`` and ``dask``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scs2_cubes.config.models import Automation, Dask, General
from scs2_cubes.config.problems import Problems
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import AutomationSpec, DaskSpec, DatasetSpec

__all__ = ["automation_spec", "dask_spec", "retry_policy", "steps_warnings"]

_OLDER_SCHEDULERS = {
    "threads": DaskSpec(),
    "threading": DaskSpec(),
    "processes": DaskSpec(mode="local"),
    "multiprocessing": DaskSpec(mode="local"),
    "single-threaded": DaskSpec(n_workers=1),
    "sync": DaskSpec(n_workers=1),
    "synchronous": DaskSpec(n_workers=1),
}
#: Keys of ``dask`` that mean something in each mode.
_MEANT_IN_MODE = {
    "threads": {"mode", "n_workers"},
    "local": {"mode", "n_workers", "threads_per_worker", "memory_limit"},
    "address": {"mode", "address", "steps"},
}


def retry_policy(general: General, problems: Problems) -> RetryPolicy:
    """The policy for every request: GDAL's parameters where they are given, then ``retry``, then the defaults."""
    policy = RetryPolicy()
    gdal = general.gdal_http_params
    if gdal:
        delay = gdal.gdal_http_retry_delay
        policy = replace(
            policy,
            max_attempts=gdal.gdal_http_max_retry + 1,
            initial_wait=delay,
            max_wait=max(policy.max_wait, delay),
        )
    if general.retry:
        policy = replace(policy, **general.retry.model_dump(exclude_none=True))
    if policy.max_wait < policy.initial_wait:
        text = f"max_wait ({policy.max_wait:g} s) is shorter than initial_wait ({policy.initial_wait:g} s)"
        problems.add(("general", "retry"), text)
    return policy


def automation_spec(automation: Automation) -> AutomationSpec:
    """How the sources are watched."""
    return AutomationSpec(automation.interval, running=automation.sensors == "running")


def dask_spec(general: General, dask: Dask, problems: Problems) -> DaskSpec:
    """What computes: the section ``dask``, or the older ``general.dask_scheduler``."""
    if general.dask_scheduler and dask.model_fields_set:
        problems.add(("general", "dask_scheduler"), "can't stand together with the section 'dask'; remove it")
    if general.dask_scheduler:
        return _OLDER_SCHEDULERS[general.dask_scheduler]
    for key in sorted(dask.model_fields_set - _MEANT_IN_MODE[dask.mode]):
        modes = " or ".join(mode for mode, keys in _MEANT_IN_MODE.items() if key in keys)
        problems.add(("dask", key), f"has no effect in mode {dask.mode!r}, only in {modes}")
    if dask.mode == "address" and (not dask.address or "://" not in dask.address):
        text = "mode 'address' needs the scheduler's address, for example tcp://127.0.0.1:8786"
        problems.add(("dask", "address"), text)
    return DaskSpec(dask.mode, dask.address, dask.n_workers, dask.threads_per_worker, dask.memory_limit, dask.steps)


def steps_warnings(dask: DaskSpec, datasets: Sequence[DatasetSpec]) -> tuple[str, ...]:
    """Of a job that was asked for and can't be there."""
    if not dask.steps or len({dataset.partition_keys for dataset in datasets}) == 1:
        return ()
    return ("dask.steps: has no effect, because a job's datasets must all have the same partitions",)
