"""``custom_processing``: users' functions, found and read without being run."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

import pickle
from typing import Any

import pytest

from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes_tests.config.conftest import World

#: Would end the test run if anybody ran it.
TEXT = '''"""Functions of a user's: Höhe, âge."""

import there_is_no_such_module

raise SystemExit("run at load time")


def modify(dataset):
    return dataset.mean("members")


async def later(dataset):
    return dataset


if True:
    def inside(dataset):
        return dataset
'''


def _use(world: World, text: str | bytes = TEXT, **params: Any) -> None:
    content = text.encode() if isinstance(text, str) else text
    (world.folder / "functions.py").write_bytes(content)
    world.data["datasets"][0]["custom_processing"] = {
        "module_path": "functions.py",
        "function_name": "modify",
        **params,
    }


def _loaded(world: World) -> FunctionSpec:
    spec = world.load().datasets[0].processing
    assert spec is not None
    return spec


def test_function(world: World) -> None:
    _use(world)
    assert _loaded(world) == FunctionSpec(
        name="modify",
        module="functions",
        path=str(world.folder / "functions.py"),
        source=TEXT,
        whole=False,
        timeout=900,
    )
    assert world.load().datasets[1].processing is None


def test_it_travels_by_value(world: World) -> None:
    _use(world)
    spec = _loaded(world)
    (world.folder / "functions.py").unlink()
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert copy.source == TEXT


def test_extensions(world: World) -> None:
    _use(world, timeout="${T:-2.5}", processing="whole")
    spec = _loaded(world)
    assert (spec.timeout, spec.whole) == (2.5, True)
    _use(world, processing="tile")
    assert not _loaded(world).whole


def test_suffix_may_be_left_out(world: World) -> None:
    _use(world, module_path="functions")
    spec = _loaded(world)
    assert (spec.module, spec.path, spec.source) == ("functions", str(world.folder / "functions.py"), TEXT)


def test_relative_to_the_configuration(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "lib").mkdir()
    (world.folder / "lib" / "more.py").write_text("def modify(dataset): ...\n", encoding="utf-8")
    _use(world, module_path="lib/more")
    monkeypatch.chdir(world.folder / "lib")
    spec = _loaded(world)
    assert (spec.module, spec.path) == ("more", str(world.folder / "lib" / "more.py"))
    _use(world, module_path=str(world.folder / "lib" / "more.py"))
    assert _loaded(world).path == str(world.folder / "lib" / "more.py")


@pytest.mark.parametrize(
    ("content", "source"),
    [
        ("# coding: latin-1\nX = 'Höhe'\ndef modify(d): ...\n".encode("latin-1"), "# coding: latin-1\nX = 'Höhe'\ndef modify(d): ...\n"),
        (b"\xef\xbb\xbfdef modify(d): ...\n", "def modify(d): ...\n"),
        (b"def modify(d):\r\n    return d\r\n", "def modify(d):\n    return d\n"),
    ],
)  # fmt: skip
def test_encodings_as_python_reads_them(world: World, content: bytes, source: str) -> None:
    _use(world, content)
    assert _loaded(world).source == source


@pytest.mark.filterwarnings("error")
def test_warnings_of_users_modules_are_left_to_those_who_run_them(world: World) -> None:
    _use(world, 'PATTERN = "\\d"\ndef modify(dataset): ...\n')
    assert "\\d" in _loaded(world).source


def test_data_may_have_any_names_after_a_function(world: World) -> None:
    _use(world)
    world.data["datasets"][0]["spatial_resample_params"] = {"agg_methods": {"made_up": "mean"}, "variables": "made_up"}
    assert world.load().datasets[0].resampling.only == ("made_up",)


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"module_path": "function.py"}, "module_path: the module function.py can't be read: No such file or directory; paths are relative to the configuration file"),
        ({"module_path": "lib/function"}, "module_path: the module lib/function.py can't be read: No such file or directory; paths are relative to the configuration file"),
        ({"module_path": ""}, "module_path: should not be empty, not ''"),
        ({"function_name": "modfy"}, "function_name: no function 'modfy' is defined at the top level of functions.py; did you mean 'modify'?"),
        ({"function_name": "later"}, "function_name: no function 'later' is defined at the top level of functions.py; known: modify"),
        ({"function_name": "inside"}, "function_name: no function 'inside' is defined at the top level of functions.py; known: modify"),
        ({"function_name": "there_is_no_such_module"}, "function_name: no function 'there_is_no_such_module' is defined at the top level of functions.py; known: modify"),
        ({"timeout": 0}, "timeout: should be greater than 0, not 0"),
        ({"timeout": "long"}, "timeout: should be a valid number, not 'long'"),
        ({"timeout": float("inf")}, "timeout: should be a finite number, not inf"),
        ({"processing": "all"}, "processing: 'all' isn't one of the values that are possible here; known: tile, whole"),
        ({"function": "modify"}, "function: unknown key; did you mean 'function_name'?"),
    ],
)  # fmt: skip
def test_refused(world: World, params: dict[str, Any], line: str) -> None:
    _use(world, **params)
    assert world.lines() == [f"datasets[0].custom_processing.{line}"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("def modify(dataset):\n    x = = 1\n", "syntax error in functions.py, line 2: invalid syntax"),
        ("\n\ndef modify(dataset)\n    return dataset\n", "syntax error in functions.py, line 3: expected ':'"),
        ("def modify(dataset):\nreturn dataset\n", "syntax error in functions.py, line 2: expected an indented block after function definition on line 1"),
        (b"def modify(d): return '\xff'\n", "the module functions.py isn't text in the encoding that it declares, or in UTF-8"),
        (b"# coding: nonsense\ndef modify(d): ...\n", "the module functions.py isn't text in the encoding that it declares, or in UTF-8"),
    ],
)  # fmt: skip
def test_module_that_cant_be_parsed(world: World, content: str | bytes, line: str) -> None:
    _use(world, content)
    assert world.lines() == [f"datasets[0].custom_processing.module_path: {line}"]


def test_null_character(world: World) -> None:
    _use(world, b"def modify(d): ...\n\x00\n")
    (line,) = world.lines()
    assert line.startswith("datasets[0].custom_processing.module_path: ")
    assert "null bytes" in line


def test_folder_instead_of_a_module(world: World) -> None:
    (world.folder / "folder.py").mkdir()
    _use(world, module_path="folder")
    assert world.lines() == [
        "datasets[0].custom_processing.module_path: the module folder.py can't be read: Is a directory; paths are relative to the configuration file"
    ]


def test_module_without_any_function(world: World) -> None:
    _use(world, "X = 1\n")
    assert world.lines() == [
        "datasets[0].custom_processing.function_name: no function 'modify' is defined at the top level of functions.py; there is none to choose from"
    ]


def test_missing_keys(world: World) -> None:
    world.data["datasets"][0]["custom_processing"] = {"module_path": "a.py"}
    assert world.lines() == ["datasets[0].custom_processing.function_name: required key is missing"]
