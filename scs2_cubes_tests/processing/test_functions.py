"""Users' functions by themselves: what goes wrong is told with function, file, line and cause."""

from __future__ import annotations

import pickle
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr

from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.errors import ProcessingError
from scs2_cubes.processing import apply_function, load_function

WINDOW = xr.Dataset({"a": (("y", "x"), np.arange(6.0).reshape(2, 3))}, coords={"y": [1.0, 0.0], "x": [0.0, 1.0, 2.0]})


def spec(text: str, name: str = "modify", timeout: float = 20.0) -> FunctionSpec:
    return FunctionSpec(name, "functions", "/somewhere/functions.py", text, timeout=timeout)


def applied(text: str, timeout: float = 20.0) -> xr.Dataset:
    described = spec(text, timeout=timeout)
    return apply_function(described, load_function(described), WINDOW.copy(deep=True))


def refusal(text: str, timeout: float = 20.0) -> str:
    with pytest.raises(ProcessingError) as refused:
        applied(text, timeout)
    message = str(refused.value)
    assert message.startswith("custom_processing: ")
    assert "modify" in message
    assert "/somewhere/functions.py" in message
    # It comes back from workers.
    assert str(pickle.loads(pickle.dumps(refused.value))) == message
    return message


def test_what_it_returns_comes_back() -> None:
    result = applied("def modify(ds):\n    return ds * 2\n")
    np.testing.assert_array_equal(result["a"], WINDOW["a"] * 2)


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("def modify(ds):\n    return 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def modify(ds):\n    return ds.isel(nowhere=0)\n", 2, "ValueError: Dimensions {'nowhere'} do not exist"),
        (
            "def modify(ds):\n    return deeper(ds)\n\ndef deeper(ds):\n    raise RuntimeError('no')\n",
            5,
            "RuntimeError: no",
        ),
        ("import sys\n\ndef modify(ds):\n    sys.exit(3)\n", 4, "SystemExit: 3"),
        ("def modify(ds):\n    raise KeyboardInterrupt\n", 2, "KeyboardInterrupt"),
        ("def modify(ds):\n    import missing_package\n", 2, "No module named 'missing_package'"),
        ("def modify():\n    pass\n", None, "TypeError: modify() takes 0 positional arguments"),
    ],
)
def test_functions_that_raise(text: str, line: int | None, cause: str) -> None:
    message = refusal(text)
    assert cause in message
    assert ("functions.py, line" in message) == (line is not None)
    assert line is None or f"functions.py, line {line}, failed: " in message


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("import missing_package\n\ndef modify(ds):\n    return ds\n", 1, "No module named 'missing_package'"),
        ("def modify(ds):\n    return ds\n\nlimit = 1 / 0\n", 4, "ZeroDivisionError"),
        ("def modify(ds):\n    return (ds\n", 2, "SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit('at load')\n", 2, "SystemExit: at load"),
        ("from . import beside\n\ndef modify(ds):\n    return ds\n", 1, "ImportError"),
    ],
)
def test_modules_that_cant_be_loaded(text: str, line: int, cause: str) -> None:
    message = refusal(text)
    assert f"functions.py, line {line}, can't be loaded: " in message
    assert cause in message
    assert ("has to be installed" in message) == ("import" in text.splitlines()[line - 1])


def test_syntax_mistakes_at_run_time() -> None:
    message = refusal("def modify(ds):\n    return eval('ds +')\n")
    assert "functions.py, line 2, failed: SyntaxError" in message


@pytest.mark.parametrize("text", ["other = 1\n", "modify = 1\n", "def other(ds):\n    return ds\n"])
def test_modules_without_the_function(text: str) -> None:
    assert refusal(text).endswith("has no function 'modify'")


@pytest.mark.parametrize(
    ("returned", "kind"),
    [("None", "NoneType"), ("ds.a.values", "ndarray"), ("ds.a", "DataArray"), ("[ds]", "list"), ("modify", "function")],
)
def test_other_things_than_datasets(returned: str, kind: str) -> None:
    assert f"returned {kind} instead of an xarray.Dataset" in refusal(f"def modify(ds):\n    return {returned}\n")


def test_no_return() -> None:
    assert "does it end with return?" in refusal("def modify(ds):\n    ds * 2\n")


#: It takes for ever only when it's computed.
LAZY = """
import time
import xarray as xr

def slow(block):
    time.sleep(30)
    return block

def modify(ds):
    return ds.chunk().map(lambda v: xr.apply_ufunc(slow, v, dask="parallelized", output_dtypes=[float]))
"""


@pytest.mark.parametrize(
    "text",
    [
        "import time\n\ndef modify(ds):\n    time.sleep(30)\n",
        "import time\n\ntime.sleep(30)\n\ndef modify(ds):\n    return ds\n",
        LAZY,
    ],
    ids=["call", "load", "lazy"],
)
def test_takes_for_ever(text: str) -> None:
    started = time.monotonic()
    message = refusal(text, timeout=0.5)
    assert time.monotonic() - started < 10
    assert "timeout of 0.5 s" in message


def test_a_call_that_says_how_large_its_window_was() -> None:
    message = refusal("import time\n\ndef modify(ds):\n    time.sleep(30)\n", timeout=0.1)
    assert "{'y': 2, 'x': 3}" in message


def test_lazy_arrays_are_computed_and_their_failures_are_the_functions() -> None:
    result = applied("def modify(ds):\n    return ds.chunk({'x': 1}) * 3\n")
    assert isinstance(result["a"].variable._data, np.ndarray)
    np.testing.assert_array_equal(result["a"], WINDOW["a"] * 3)
    text = (
        "import xarray as xr\n\ndef block(values):\n    if values.size:\n        raise RuntimeError('in a block')\n"
        "    return values\n\n"
        "def modify(ds):\n"
        "    return ds.chunk().map(lambda v: xr.apply_ufunc(block, v, dask='parallelized', output_dtypes=[float]))\n"
    )
    assert "functions.py, line 5, failed: RuntimeError: in a block" in refusal(text)


def test_a_cast_of_nan_makes_no_noise() -> None:
    """Users' own functions do it; warnings are errors in these tests."""
    text = "def modify(ds):\n    return ds.where(ds.a > 2).astype('uint8')\n"
    assert applied(text)["a"].dtype == "uint8"


def test_it_may_print(capsys: pytest.CaptureFixture[str]) -> None:
    applied("def modify(ds):\n    print('hello')\n    return ds\n")
    assert capsys.readouterr().out == "hello\n"


def test_modules_are_apart() -> None:
    """Two of the same name, whose functions find their own module's names, and nobody else finds them."""
    first = spec("FACTOR = 2\n\ndef modify(ds):\n    return ds * FACTOR\n")
    second = spec("FACTOR = 5\n\ndef modify(ds):\n    return ds * FACTOR\n")
    one, other = load_function(first), load_function(second)
    for described, function, factor in ((first, one, 2), (second, other, 5)):
        np.testing.assert_array_equal(apply_function(described, function, WINDOW)["a"], WINDOW["a"] * factor)
    assert "functions" not in sys.modules


def test_dataclasses_in_the_module() -> None:
    text = (
        "from __future__ import annotations\n\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n\n"
        "@dataclass\nclass Rule:\n    top: ClassVar[float] = 4.0\n    factor: float = 2.0\n\n"
        "def modify(ds):\n    return ds * Rule().factor\n"
    )
    np.testing.assert_array_equal(applied(text)["a"], WINDOW["a"] * 2)


def test_what_is_left_behind_cant_hold_up_the_process() -> None:
    refusal("import time\n\ndef modify(ds):\n    time.sleep(5)\n", timeout=0.1)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("custom_processing")]
    assert left
    assert all(thread.daemon for thread in left)
