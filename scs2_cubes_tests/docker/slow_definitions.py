"""Two assets in one pool, for trials of pools: one that goes on until it is told to stop, one that is done at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.orchestration.pools import pool_of

POOL = pool_of(StoreSpec("esa_cci", "cciodp"))


def _folder() -> Path:
    return Path(os.environ["SCS2_BEGUN"])


@dg.asset(pool=POOL)
def slow() -> None:
    (_folder() / "slow").touch()
    while not (_folder() / "stop").exists():
        time.sleep(0.1)


@dg.asset(pool=POOL)
def quick() -> None:
    (_folder() / "quick").touch()


defs = dg.Definitions([slow, quick], executor=dg.in_process_executor)
