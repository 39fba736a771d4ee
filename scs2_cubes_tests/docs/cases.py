"""Configurations to try the reference's claims with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes_tests.docs.markdown import CHECKOUT

__all__ = ["BASE", "CONFIGS", "REFERENCE", "load_changed"]

CONFIGS = CHECKOUT / "configs"
REFERENCE = (CONFIGS / "README.md").read_text(encoding="utf-8")
BASE: dict[str, Any] = yaml.safe_load((CONFIGS / "scs2.yml").read_text(encoding="utf-8"))


def load_changed(folder: Path, data: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Case:
    """The sections of ``data``, and those of the case for all that it leaves out."""
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump({**BASE, **data}), encoding="utf-8")
    for name in ("sites.csv", "functions.py"):
        if not (folder / name).exists():
            (folder / name).write_bytes((CONFIGS / name).read_bytes())
    return load_case(path, environ=environ or {})
