from __future__ import annotations

from scs2_cubes_tests.end_to_end.fixtures import catalogue, server, trial, undisturbed

__all__ = ["catalogue", "server", "trial", "undisturbed"]
