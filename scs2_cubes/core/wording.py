"""Numbers of things, in words for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """``1 region``, ``2 regions``: for nouns with a regular plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
