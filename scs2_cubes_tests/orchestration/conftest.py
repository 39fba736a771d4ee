from __future__ import annotations

from scs2_cubes_tests.end_to_end.fixtures import catalogue, server, trial, undisturbed
from scs2_cubes_tests.orchestration.archives import archives

__all__ = ["archives", "catalogue", "server", "trial", "undisturbed"]
