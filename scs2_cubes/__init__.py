"""Analysis-ready forest cubes on one grid, pixel on pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scs2_cubes.api import open_cube

__all__ = ["open_cube"]


def __getattr__(name: str) -> object:
    # Loaded when it is asked for: every command and every worker imports this package, few open a cube.
    if name == "open_cube":
        from scs2_cubes.api import open_cube  # noqa: PLC0415  (see above)

        return open_cube
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
