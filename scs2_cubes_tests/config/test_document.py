"""YAML that can't be read."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

import pytest

from scs2_cubes_tests.config.conftest import World


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [1,\nc: }\n", "  YAML syntax error in line 3, column 4: "),
        ("a: 1\n\tb: 2\n", "  YAML syntax error in line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "  YAML syntax error in line 2, column 1: but found another document"),
        ("", "  should be a mapping (key: value) at the top"),
        ("- a\n", "  should be a mapping (key: value) at the top"),
        ("a: \x00\n", "  not valid YAML: it holds a character that YAML doesn't allow"),
        ("a: 2020-02-30\n", "  not valid YAML: it holds a number or a date that can't exist; put such values into quotes"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "  a.b: duplicate key, in lines 2 and 4; only one of them can count"),
        ("a:\n- x: 1\n  x: 1\n", "  a[0].x: duplicate key, in lines 2 and 3; only one of them can count"),
        ("a:\n  1: 2\n", "  a: the key in line 2 isn't a string; put it into quotes"),
        ("a:\n  on: 2\n", "  a: the key in line 2 isn't a string; put it into quotes"),
        ("a: &a\n  b: *a\n", "  a.b: an alias that contains itself (line 1)"),
    ],
)  # fmt: skip
def test_refused(world: World, text: str, expected: str) -> None:
    message = world.message(text)
    assert message.startswith(f"{world.path} can't be used (1 problem):\n{expected}")


@pytest.mark.parametrize(
    "text",
    [
        "password: *hunter2\n",
        "password: !hunter2 x\n",
        "password: 'hunter2\n",
        'password: "hunter2\\q"\n',
        "password: hunter2: x\n",
        "password: {hunter2\n",
        "password: |hunter2\n",
        "password: hunter2\npassword: hunter2\n",
        "? [hunter2]\n: 1\n",
    ],
)
def test_no_secret_in_the_message(world: World, text: str) -> None:
    assert "hunter2" not in world.message(text)


def test_not_utf8(world: World) -> None:
    world.path.write_bytes(b"a: \xff\n")
    from scs2_cubes.config import load_case  # noqa: PLC0415 - the other tests go through the fixture
    from scs2_cubes.errors import ConfigurationError  # noqa: PLC0415

    with pytest.raises(ConfigurationError, match=r"case\.yml: the configuration file isn't UTF-8 text \(byte 3\)"):
        load_case(world.path, environ={})


def test_merge_keys_are_no_duplicates(world: World) -> None:
    text = world.write().read_text(encoding="utf-8") + "general: {<<: {visualize: true}, visualize: false}\n"
    from scs2_cubes.config import load_case  # noqa: PLC0415

    world.write(text)
    assert load_case(world.path, environ={}).name == str(world.path)
