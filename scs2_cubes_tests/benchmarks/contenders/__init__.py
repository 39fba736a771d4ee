"""The contenders, one a file. Those whose packages aren't asked for aren't imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from scs2_cubes_tests.benchmarks.contenders.base import Contender

__all__ = ["NAMES", "find"]

#: Name → its module and the name of the contender there, in the order of the table.
_MODULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ours": ("ours", "OURS"),
        "limit": ("limit", "LIMIT"),
        "rasterio": ("rasterio_chunks", "RASTERIO"),
        "odc-geo": ("odc", "ODC"),
        "xcube": ("xcube", "XCUBE"),
        "xcube-nearest": ("xcube", "XCUBE_NEAREST"),
    }
)

NAMES = tuple(_MODULES)


def find(name: str) -> Contender:
    """The contender of that name. Imports what it needs, and nothing that only others need, which would cost memory.

    Raises KeyError for another name.
    """
    module, attribute = _MODULES[name]
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    if not isinstance(found, Contender):
        raise TypeError(f"{module}.{attribute} isn't a contender")
    return found
