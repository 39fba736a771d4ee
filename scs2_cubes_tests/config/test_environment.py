"""``${NAME}`` and ``${NAME:-default}``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scs2_cubes.config.environment import substitute, substitute_text
from scs2_cubes.config.problems import Problems

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
#: Text without a reference: a dollar sign alone, or braces alone, mean nothing.
LITERALS = st.text(st.characters(exclude_characters="$", codec="utf-8"), max_size=8) | st.sampled_from(
    ["$", "$5 ", "{}", "}", "$a ", "$ {a}"]
)
DEFAULTS = st.text(st.characters(exclude_characters="{}", codec="utf-8"), max_size=6)


@given(
    st.dictionaries(NAMES, st.text(max_size=8)),
    st.lists(st.tuples(LITERALS, NAMES, st.booleans(), st.none() | DEFAULTS)),
)
def test_every_reference_and_nothing_else_is_replaced(
    environ: dict[str, str], parts: list[tuple[str, str, bool, str | None]]
) -> None:
    text, expected, unset = "", "", []
    names = sorted(environ)
    for literal, fresh, known, default in parts:
        name = names[len(literal) % len(names)] if names and known else fresh
        # A dollar sign at the end of a literal would make an escape of the reference after it.
        text += literal + " "
        expected += literal + " "
        if default is None:
            text += "${" + name + "}"
            if name not in environ:
                unset.append(name)
            else:
                expected += environ[name]
        else:
            text += "${" + name + ":-" + default + "}"
            expected += environ[name] if environ.get(name, "") else default
    if unset:
        with pytest.raises(KeyError) as refused:
            substitute_text(text, environ)
        assert refused.value.args == (unset[0],)
    else:
        assert substitute_text(text, environ) == expected


@given(st.text(st.characters(exclude_characters="$")), st.text(), NAMES)
def test_values_arent_looked_at_again(literal: str, value: str, name: str) -> None:
    assert substitute_text(literal + "${" + name + "}", {name: value}) == literal + value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$${A}", "${A}"),
        ("$${A} ${A}", "${A} 1"),
        ("${B:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${B:-http://h:1/$x}", "http://h:1/$x"),
        ("$A", "$A"),
    ],
)
def test_substitution(text: str, expected: str) -> None:
    assert substitute_text(text, {"A": "1", "EMPTY": ""}) == expected


@pytest.mark.parametrize("text", ["${", "${A", "${1A}", "${A-x}", "${}", "${A:-${B}}", "${ A }"])
def test_malformed(text: str) -> None:
    with pytest.raises(ValueError, match=r"a reference to the environment is \$\{NAME\} or \$\{NAME:-default\}"):
        substitute_text(text, {"A": "1", "B": "2"})


def test_nested_values_keep_their_types_and_keys() -> None:
    problems = Problems("file")
    data = {"a": ["${X}", 1, None, True], "${X}": {"b": 2.5}}
    assert substitute(data, {"X": "x"}, problems) == {"a": ["x", 1, None, True], "${X}": {"b": 2.5}}
    assert not problems
    assert data["a"] == ["${X}", 1, None, True]


def test_problem_is_told_once() -> None:
    problems = Problems("file")
    substitute({"a": [{"b": "${X}"}]}, {}, problems)
    problems.add(("a", 0, "b"), "what follows")
    problems.add(("a", 0), "something else")
    assert problems.found == [
        (("a", 0, "b"), "the environment variable X isn't set; set it, or write ${X:-default}"),
        (("a", 0), "something else"),
    ]
