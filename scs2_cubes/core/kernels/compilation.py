"""How the loops are compiled: at the first call with a set of dtypes, and kept on disk for the next process."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit

from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["compiled"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``function`` as machine code: serial, without the GIL, kept on disk until any file of this package changes.

    What a function calls is compiled into it, but numba asks the function's own file alone whether what was kept is
    still of now (its manual, "Caching limitations"), and would go on with the old code of what lies in other files. So
    the whole package goes into the stamp by which numba tells.
    """
    try:
        kernel: Any = njit(cache=True, nogil=True)(function)
    except RuntimeError as error:
        # No folder to keep it in: neither beside the code nor in the user's own. Each process compiles for itself then.
        _tell_once(str(error))
        return njit(nogil=True)(function)
    # NUMBA_DISABLE_JIT, for debuggers and coverage: the function itself comes back.
    if kernel is not function:
        kept = kernel._cache._cache_file  # noqa: SLF001  # numba's only other way is a setting for the whole process
        kept._source_stamp = (kept._source_stamp, _package_stamp())  # noqa: SLF001  # as above
    return kernel  # type: ignore[no-any-return]  # numba is untyped


@lru_cache(maxsize=1)
def _tell_once(_: str) -> None:
    logging.getLogger(__name__).warning(
        "compiled loops can't be kept on this machine, so that every process compiles them anew, for about a minute: "
        "set NUMBA_CACHE_DIR to a folder that may be written"
    )


@lru_cache(maxsize=1)
def _package_stamp() -> str:
    """Fingerprint of all that is compiled: the package's files, and the one constant from elsewhere."""
    stamp = hashlib.sha256(repr(EDGE_TOLERANCE).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        stamp.update(file.read_bytes())
    return stamp.hexdigest()
