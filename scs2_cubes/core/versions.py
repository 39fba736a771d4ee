"""Fingerprints: what a cube's pixels were made from, as one short string."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["KERNEL_CODE_VERSION", "changed_components", "data_version"]

#: Raised by hand whenever a change in core/ changes pixels; the golden-pixel test fails where that was forgotten.
KERNEL_CODE_VERSION = 1

_LENGTH = 16


def data_version(components: Mapping[str, Any]) -> str:
    """Fingerprint of ``components``, which must be plain JSON values; independent of the order of their keys."""
    document = json.dumps(components, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(document.encode()).hexdigest()[:_LENGTH]


def changed_components(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the components in which two versions differ, sorted."""
    missing = object()
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name, missing) != new.get(name, missing)))
