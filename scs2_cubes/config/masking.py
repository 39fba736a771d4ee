"""Which keys look as if they held a secret, and which secrets stand in a file in plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from scs2_cubes.errors import redact

__all__ = ["MASK", "is_secret_key", "is_secret_path", "literal_secrets", "masked", "without_secrets"]

#: What is shown instead of a secret.
MASK = "***"

_SECRET_KEY = re.compile(
    r"passw|passphrase|(^|[^a-z])pwd|secret|token|credential|signature|apikey|accesskey|(^|[^a-z])keys?([^a-z]|$)|"
    r"(^|[^a-z])auth(orization|entication)?([^a-z]|$)"
)
#: ``aB`` → ``a_b``, so that ``accessKey`` is seen as the two words it is.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: A reference to the environment; a default in it stands in the file and counts as literal.
_FROM_ENVIRONMENT = re.compile(r"\$\{\w+(:-)?\}")


def is_secret_key(key: str) -> bool:
    """Whether the value of a key of that name is likely to be a secret. URLs as keys are no names."""
    return "://" not in key and bool(_SECRET_KEY.search(_HUMP.sub("_", key).lower()))


def is_secret_path(path: tuple[str | int, ...]) -> bool:
    """Whether any key on the way looks secret."""
    return any(isinstance(part, str) and is_secret_key(part) for part in path)


def without_secrets(text: str) -> str:
    """``text`` fit for a message, should it be a URL: without user, password and query; masked if it's a broken one."""
    if "://" not in text:
        return text
    try:
        # A password with an unescaped / or # in it ends up in the place of the port.
        urlsplit(text).port  # noqa: B018 - raises ValueError
        return redact(text)
    except ValueError:
        return MASK


def masked(value: Any) -> Any:
    """A copy of nested dicts and lists in which every value under a secret-looking key is ``***``."""
    if isinstance(value, dict):
        return {key: MASK if is_secret_key(str(key)) else masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def literal_secrets(raw: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Key paths of the secrets that stand in the file itself (``raw``: before substitution)."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            yield from literal_secrets(value, (*path, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from literal_secrets(value, (*path, index))
    elif raw not in (None, "", True, False) and _is_literal_secret(raw, path):
        yield path


def _is_literal_secret(value: object, path: tuple[str | int, ...]) -> bool:
    text = str(value)
    if _has_password(text):
        return True
    if not is_secret_path(path) or _FROM_ENVIRONMENT.search(text):
        return False
    # ``credentials`` is the path of a file, as a rule; such a path is no secret, its content is.
    return path[-1] != "credentials" or "{" in text.replace("${", "") or "\n" in text


def _has_password(text: str) -> bool:
    if "://" not in text or "@" not in text:
        return False
    # Not urlsplit: what stands here may be a broken URL.
    user, _, password = text.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")
    return bool(user and password) and not _FROM_ENVIRONMENT.search(password)
