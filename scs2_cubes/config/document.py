"""YAML text to plain data: syntax errors say where, duplicate keys are refused. Reads no file by itself."""

from __future__ import annotations

import re
from typing import Any

import yaml

from scs2_cubes.config.problems import KeyPath, Problems

__all__ = ["parse_yaml"]

#: PyYAML quotes what it stumbled over, which may be (part of) a secret: ``password: *hunter2`` is an unknown alias.
#: Single characters and token kinds (``'<scalar>'``) are kept.
_QUOTED = re.compile(r"(['\"])(?!<|\\.\1)(?:(?!\1).){2,}\1")


def parse_yaml(text: str, problems: Problems) -> dict[str, Any]:
    """The mapping that ``text`` holds. ``problems.raw`` is set to it.

    Raises ConfigurationError for broken syntax (with line and column), duplicate keys, keys that aren't strings,
    aliases that contain themselves, and for anything but a mapping at the top.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError:
        problems.add((), "not valid YAML: it holds a character that YAML doesn't allow")
        problems.raise_all()
    try:
        node = loader.get_single_node()
        if node is not None:
            _check(node, (), (), problems)
            problems.raise_any()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        problems.add((), _syntax_problem(error))
        problems.raise_all()
    except (yaml.YAMLError, ValueError):
        # A date that doesn't exist, for example 2020-02-30: PyYAML doesn't say where it is.
        problems.add((), "not valid YAML: it holds a number or a date that can't exist; put such values into quotes")
        problems.raise_all()
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        problems.add((), "should be a mapping (key: value) at the top")
        problems.raise_all()
    problems.raw = data
    return data


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    what = _QUOTED.sub("'…'", error.problem or error.context or "can't be parsed")
    return f"YAML syntax error{where}: {what}"


def _check(node: yaml.Node, path: KeyPath, ancestors: tuple[int, ...], problems: Problems) -> None:
    if id(node) in ancestors:
        problems.add(path, f"an alias that contains itself (line {node.start_mark.line + 1})")
        return
    inside = (*ancestors, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check(item, (*path, index), inside, problems)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node, path, problems)
        for key, value in node.value:
            _check(value, (*path, str(key.value) if isinstance(key, yaml.ScalarNode) else "?"), inside, problems)


def _check_keys(node: yaml.MappingNode, path: KeyPath, problems: Problems) -> None:
    first_lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            problems.add(path, f"the key in line {line} isn't a string; put it into quotes")
        elif key.value in first_lines:
            where = f"in lines {first_lines[key.value]} and {line}"
            problems.add((*path, key.value), f"duplicate key, {where}; only one of them can count")
        else:
            first_lines[key.value] = line
