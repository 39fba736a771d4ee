"""Concurrency pools: how many steps, of all runs together, may ask one remote service at a time.

There is a pool for each protocol that fetches through a service which is easily flooded, and it is named after the
protocol (``store_id``), so that a deployment can limit it without knowing the names in a configuration. Stores of one
protocol share a pool: as a rule they are accounts of one service.

Without any configuration a pool limits nothing. Dagster enforces one only where a limit is known: set by name
(``dagster instance concurrency set``, or in the web UI), or for all pools by ``concurrency.pools.default_limit`` in
``dagster.yaml``. So on a laptop there is nothing to set up, and nothing waits; ``docker/dagster.yaml`` sets a limit.
Steps on a Dask cluster count as well, since :mod:`scs2_cubes.orchestration.dask_steps` takes their slots.
"""

from __future__ import annotations

from scs2_cubes import preload
from scs2_cubes.core.specification import StoreSpec

__all__ = ["cube_pool_of", "pool_of"]


def pool_of(store: StoreSpec) -> str | None:
    """Name of the pool of a step that fetches from ``store``; None where sources are read in place. No I/O."""
    return store.protocol if store.protocol in {**preload.ARCHIVES, **preload.WINDOWS} else None


def cube_pool_of(store: StoreSpec) -> str | None:
    """Name of the pool of a step that makes cubes from ``store``; None where such a step asks no such service. No I/O.

    A cube fetches the windows of its tiles itself. Of what is fetched as a whole it reads the cache alone: in the pool
    it would wait for other datasets' orders, which takes hours.
    """
    return pool_of(store) if store.protocol in preload.WINDOWS else None
