"""Everything that is wrong with one file, collected, and told without giving a secret away."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Never

from scs2_cubes.config.masking import MASK, is_secret_path, without_secrets
from scs2_cubes.errors import ConfigurationError

__all__ = ["KeyPath", "Problems", "nearest", "rendered"]

#: Keys and list indices from the top of a file.
KeyPath = tuple[str | int, ...]

_LONGEST_VALUE = 80
_MOST_NAMES = 12
_PLAIN_KEY = re.compile(r"[\w-]+")
#: Sections whose keys nobody knows: a scalar in their place may be anything, so it's not quoted.
_OPAQUE = frozenset({"store_params", "preload_params", "storage_options"})


def rendered(path: KeyPath) -> str:
    """The key path as people write it: ``datasets[1].grid_mapping``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{without_secrets(part)!r}]"
    return text


def nearest(value: object, candidates: Iterable[str]) -> str:
    """What to do about a name that isn't among ``candidates``: the most similar one, or all of them."""
    known = sorted(set(candidates))
    if not known:
        return "there is none to choose from"
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(value).lower(), list(by_lower_case), n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_lower_case[close[0]]!r}?"
    more = ", …" if len(known) > _MOST_NAMES else ""
    return f"known: {', '.join(known[:_MOST_NAMES])}{more}"


@dataclass(slots=True)
class Problems:
    """Collects what is wrong with ``file``; raises it as one error, one line for each problem."""

    file: str
    """Path as given, for the message."""
    raw: Any = None
    """The parsed file before ``${}`` substitution: the only text that messages quote."""
    found: list[tuple[KeyPath, str]] = field(default_factory=list)
    """(key path, what is wrong), in the order of discovery."""
    blocked: set[KeyPath] = field(default_factory=set)
    """Paths whose value couldn't be read at all: what follows from that isn't reported again."""

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, path: KeyPath, text: str) -> None:
        """Report ``text`` at ``path``, unless its value couldn't be read in the first place."""
        problem = (path, text)
        if problem not in self.found and not any(path[:end] in self.blocked for end in range(1, len(path) + 1)):
            self.found.append(problem)

    def add_unreadable(self, path: KeyPath, text: str) -> None:
        """Report ``text`` at ``path``, and nothing more at that path."""
        self.add(path, text)
        self.blocked.add(path)

    def shown(self, path: KeyPath) -> str:
        """The value at ``path`` as it stands in the file, fit for a message; secrets are masked."""
        if is_secret_path(path):
            return MASK
        value = self.raw
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return "nothing"
        return _quoted(value, opaque=bool(path) and path[-1] in _OPAQUE)

    def raise_any(self) -> None:
        """Raise ConfigurationError if there are problems."""
        if self.found:
            self.raise_all()

    def raise_all(self) -> Never:
        """Raise ConfigurationError with all problems."""
        lines = [f"{rendered(path)}: {text}" if path else text for path, text in self.found]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigurationError("\n".join([f"{self.file} can't be used ({count}):", *(f"  {line}" for line in lines)]))


def _quoted(value: object, *, opaque: bool) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "a list"
    if opaque:
        return f"a value of type {type(value).__name__}"
    text = "null" if value is None else repr(_plain(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (
        without_secrets(value) if isinstance(value, str) else value.isoformat() if isinstance(value, dt.date) else value
    )
