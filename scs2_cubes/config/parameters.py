"""``store_params`` of one store: single values read from it, and what is wrong with them reported at their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from scs2_cubes.config.masking import MASK, without_secrets
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.values import PositiveInteger

__all__ = ["Parameters"]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one store. What can't be used is reported, and read as None."""

    values: Mapping[str, Any]
    """As they stand in the file, after substitution."""
    path: KeyPath
    """Where they stand."""
    problems: Problems
    """Where to report."""

    def add(self, key: str, text: str) -> None:
        """Report ``text`` at ``key``."""
        self.problems.add((*self.path, key), text)

    def has(self, key: str) -> bool:
        """Whether ``key`` is there with a value."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str | None:
        """A required string that isn't empty."""
        if key not in self.values:
            self.add(key, "required key is missing")
            return None
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            self.add(key, f"should be a string that isn't empty, not {self.problems.shown((*self.path, key))}")
            return None
        return value

    def address(self, key: str) -> str | None:
        """A required path or URL; a URL that can't be taken apart is no URL."""
        text = self.text(key)
        if text and without_secrets(text) == MASK:
            self.add(key, "is no valid URL: a password in it, if any, needs percent-encoding")
            return None
        return text

    def url(self, key: str, default: str) -> str | None:
        """An http or https URL."""
        if not self.has(key):
            return default
        text = self.address(key)
        if text and not _is_web_address(text):
            self.add(key, f"should be an http or https URL, not {self.problems.shown((*self.path, key))}")
            return None
        return text

    def file(self, key: str, text: str, folder: Path) -> str | None:
        """The absolute path that ``text``, the value of ``key``, means from ``folder``; ``~`` is the user's home."""
        try:
            return str((folder / Path(text).expanduser()).resolve())
        except (RuntimeError, ValueError):
            # No such user; a NUL in it.
            self.add(key, "is no valid path")
            return None

    def count(self, key: str, default: int) -> int | None:
        """A whole number of at least 1."""
        if not self.has(key):
            return default
        adapter: TypeAdapter[int] = TypeAdapter(PositiveInteger)
        try:
            return adapter.validate_python(self.values[key])
        except ValidationError:
            shown = self.problems.shown((*self.path, key))
            self.add(key, f"should be a whole number of at least 1, not {shown}")
            return None

    def prefixes(self, key: str) -> tuple[tuple[str, str], ...]:
        """(prefix, replacement), longest prefix first, so that the most specific one wins."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, dict) or not all(
            isinstance(prefix, str) and prefix and isinstance(replacement, str) for prefix, replacement in value.items()
        ):
            self.add(key, "should be a mapping of URL prefixes to their replacements")
            return ()
        return tuple(sorted(value.items(), key=lambda pair: (-len(pair[0]), pair[0])))

    def inner(self, key: str) -> Parameters | None:
        """The parameters below ``key``; None where there are none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.add(key, f"should be a mapping, not {self.problems.shown((*self.path, key))}")
            return None
        return Parameters(value, (*self.path, key), self.problems)


def _is_web_address(text: str) -> bool:
    if "://" not in text:
        return False
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
