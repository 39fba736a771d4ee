from __future__ import annotations

from scs2_cubes_tests.end_to_end.fixtures import catalogue, server, trial, undisturbed
from scs2_cubes_tests.end_to_end.long_trials import slow_server, undisturbed_cube

__all__ = ["catalogue", "server", "slow_server", "trial", "undisturbed", "undisturbed_cube"]
