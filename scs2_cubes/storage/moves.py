"""What is written beside a folder while its objects are on their way to it, so that a move can be gone on with.

Between the interruption of a move and the next try, other objects may have come to lie where the first ones were, by
the same names: what is moved is known by its listing, in which an object that was written again differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Manifest"]

#: What listings say of an object that changes where it is written again: s3fs's terms, and those of other filesystems.
_EDITION = ("size", "ETag", "etag", "LastModified", "last_modified", "created", "updated", "mtime")
#: Characters of a digest: a listing may have millions of objects.
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which objects a move is about, as they were when it began."""

    digests: frozenset[str]
    """One for each object: of its name and its edition."""

    @classmethod
    def of(cls, listing: Mapping[str, Mapping[str, Any]]) -> Self:
        """That of ``listing``: name below the folder → entry, as fsspec has it."""
        return cls(frozenset(_digest(name, entry) for name, entry in listing.items()))

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """That of which ``content`` is; of no object where that is empty, as earlier releases wrote it."""
        return cls(frozenset(content.decode(errors="replace").split()))

    def encode(self) -> bytes:
        """Its bytes: a digest on each line."""
        return "\n".join(sorted(self.digests)).encode()

    def covers(self, other: Manifest) -> bool:
        """Whether ``other`` has nothing but what is left of this."""
        return other.digests <= self.digests


def _digest(name: str, entry: Mapping[str, Any]) -> str:
    edition = [(key, str(entry[key])) for key in _EDITION if key in entry]
    return hashlib.sha256(repr((name, edition)).encode()).hexdigest()[:_DIGITS]
