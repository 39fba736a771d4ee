"""Configurations to try the reference's claims with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes_tests.docs.markdown import CHECKOUT

__all__ = ["BASE", "CASE", "CONFIGS", "REFERENCE", "load_changed"]

CONFIGS = CHECKOUT / "configs"
REFERENCE = (CONFIGS / "README.md").read_text(encoding="utf-8")
CASE: dict[str, Any] = yaml.safe_load((CONFIGS / "scs2.yml").read_text(encoding="utf-8"))


def _of_catalogue(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with what it has of the catalogue alone."""
    stores = [store for store in data["data_stores"] if store["identifier"] in {"storage", "eoforest_stac"}]
    datasets = [dataset for dataset in data["datasets"] if dataset["store"] == "eoforest_stac"]
    rest = {key: value for key, value in data.items() if key != "preload_datasets"}
    return {**rest, "data_stores": stores, "datasets": datasets}


#: The case as far as it's made from the catalogue.
BASE = _of_catalogue(CASE)


def load_changed(folder: Path, data: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Case:
    """The sections of ``data``, and those of ``BASE`` for all that it leaves out."""
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump({**BASE, **data}), encoding="utf-8")
    for name in ("sites.csv", "functions.py"):
        if not (folder / name).exists():
            (folder / name).write_bytes((CONFIGS / name).read_bytes())
    return load_case(path, environ=environ or {})
