"""``${NAME}`` and ``${NAME:-default}`` in the strings of a configuration.

As in a shell, a default stands in for a variable that is unset or empty. ``$${`` is a literal ``${``. What is put in
isn't looked at again, so a variable's value may hold any characters. Keys are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scs2_cubes.config.problems import KeyPath, Problems

__all__ = ["substitute", "substitute_text"]

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^{}]*)?\}|(?P<bad>\$\{)"
)


def substitute(value: Any, environ: Mapping[str, str], problems: Problems, path: KeyPath = ()) -> Any:
    """A copy of nested dicts and lists with every reference in a string replaced; reports those that can't be."""
    if isinstance(value, dict):
        return {key: substitute(item, environ, problems, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, environ, problems, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return substitute_text(value, environ)
    except KeyError as error:
        name = error.args[0]
        problems.add_unreadable(
            path, f"the environment variable {name} isn't set; set it, or write ${{{name}:-default}}"
        )
    except ValueError as error:
        problems.add_unreadable(path, str(error))
    return value


def substitute_text(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with its references replaced.

    Raises KeyError with the name of a variable that is neither set nor has a default, and ValueError for a ``${``
    that begins no reference.
    """

    def value_of(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["bad"]:
            message = "a reference to the environment is ${NAME} or ${NAME:-default} (for a literal ${ write $${)"
            raise ValueError(message)
        name, default = match["name"], match["default"]
        if default is not None:
            return environ.get(name) or default.removeprefix(":-")
        return environ[name]

    return _REFERENCE.sub(value_of, text)
