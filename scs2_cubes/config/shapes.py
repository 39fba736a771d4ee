"""Shapes of values that recur in the schema: one or several, one or a pair, one or one for each variable.

Each is a tagged union, so that an error names the one key that is wrong rather than every form that didn't fit. Tags
stand in parentheses and are left out of key paths.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag

__all__ = ["EACH", "ONE", "SEVERAL", "Integer", "Number", "OneOrEach", "OneOrPair", "OneOrSeveral", "absent_as_empty"]

T = TypeVar("T")

ONE = "(one)"
SEVERAL = "(several)"
EACH = "(each)"


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        message = "should be a number"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a validation error
    return value


def _one_or_several(value: object) -> str:
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _one_or_each(value: object) -> str:
    return EACH if isinstance(value, dict) else ONE


def absent_as_empty(value: object) -> object:
    """A section that is there but empty is null in YAML; it means the same as no section."""
    return () if value is None else value


#: YAML's true and false aren't numbers; numbers in quotes are, because ``${}`` gives strings.
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]

OneOrSeveral = Annotated[
    Annotated[T, Tag(ONE)] | Annotated[tuple[T, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_one_or_several),
]
OneOrPair = Annotated[
    Annotated[T, Tag(ONE)] | Annotated[tuple[T, ...], Field(min_length=2, max_length=2), Tag(SEVERAL)],
    Discriminator(_one_or_several),
]
OneOrEach = Annotated[Annotated[T, Tag(ONE)] | Annotated[dict[str, T], Tag(EACH)], Discriminator(_one_or_each)]
