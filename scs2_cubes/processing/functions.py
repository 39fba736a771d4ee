"""A user's function: loaded by value, called with a time limit, its failures told as what they are.

The function sees a window of the source as ``xarray.open_zarr`` would decode it, in memory: the same names, dimensions,
dtypes, coordinates and attributes.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.errors import ProcessingError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["apply_function", "load_function"]

Function = Callable[["xr.Dataset"], "xr.Dataset"]


def load_function(spec: FunctionSpec) -> Function:
    """Run the module's text, which is what importing it would do, and return the function.

    Raises ProcessingError where the text can't be run (a missing import, a mistake), takes longer than the function's
    time limit, or doesn't have the function.
    """
    digest = hashlib.sha256(f"{spec.path}\n{spec.source}".encode()).hexdigest()[:16]
    # A name of its own, so that it can't hide an installed module that happens to be called the same.
    module = types.ModuleType(f"scs2_cubes_function_{digest}_{spec.module}")
    module.__file__ = spec.path
    # Of no package, as a file that is run: an import relative to one fails with those words.
    module.__package__ = ""
    # Dataclasses and typing look a class's module up there while the text runs.
    sys.modules[module.__name__] = module

    def run() -> None:
        exec(compile(spec.source, spec.path, "exec"), module.__dict__)  # noqa: S102  (the user's own code, as asked)

    _limited(spec, run, failed="can't be loaded", slow="is loading for longer than its")
    function = getattr(module, spec.name, None)
    if not callable(function):
        raise ProcessingError(f"custom_processing: module {spec.path} has no function {spec.name!r}")
    found: Function = function
    return found


def apply_function(spec: FunctionSpec, function: Function, dataset: xr.Dataset) -> xr.Dataset:
    """Call the function on one window; what it returns is in memory.

    Raises ProcessingError where it fails, returns something other than a Dataset, or takes longer than its limit.
    """
    import xarray as xr  # noqa: PLC0415  (a second of import, for datasets with a function only)

    def call() -> Any:
        # Outside of the mask, values are NaN, and a cast of them to integers is what users' functions do; validity is
        # carried past it, so that a warning for each tile would be noise.
        with np.errstate(invalid="ignore"):
            returned = function(dataset)
            # Lazy arrays are computed here, where time is limited and failures are the function's; in this thread,
            # since a worker that waits for others of its cluster may wait for itself.
            return returned.load(scheduler="synchronous") if isinstance(returned, xr.Dataset) else returned

    sizes = dict(dataset.sizes)
    result = _limited(spec, call, failed="failed", slow=f"takes, on a window of {sizes}, longer than its")
    if not isinstance(result, xr.Dataset):
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned {type(result).__name__} instead of an "
            "xarray.Dataset; does it end with return?"
        )
    return result


def _limited(spec: FunctionSpec, action: Callable[[], Any], *, failed: str, slow: str) -> Any:
    """What ``action`` returns. Raises ProcessingError where it raises anything, or takes too long."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(action())
        except BaseException as error:  # noqa: BLE001  (told to the caller below; SystemExit, too, must not end a worker)
            failure.append(error)

    # Python can't stop a thread: one that takes for ever is left behind, and ends with its process.
    thread = threading.Thread(target=call, name=f"custom_processing {spec.name}", daemon=True)
    thread.start()
    thread.join(spec.timeout)
    if thread.is_alive():
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} {slow} timeout of {spec.timeout:g} s. Make it quicker, or "
            "raise custom_processing.timeout"
        )
    if failure:
        error = failure[0]
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path}{_line(error, spec.path)} {failed}: "
            f"{type(error).__name__}: {error}{_hint(error)}"
        ) from error
    return outcome[0]


def _line(error: BaseException, path: str) -> str:
    """``, line 12,`` of the user's module: where the traceback passes through it, or where the text can't be parsed."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f", line {line},"


def _hint(error: BaseException) -> str:
    if not isinstance(error, ImportError):
        return ""
    return ". The module travels to the workers as text: what it imports has to be installed there"
