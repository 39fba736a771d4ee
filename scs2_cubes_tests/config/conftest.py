"""Configurations to change: one that holds together, as plain data, and what becomes of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import Case
from scs2_cubes.errors import ConfigurationError

GOOD: dict[str, Any] = {
    "data_stores": [
        {"identifier": "storage", "store_id": "file", "store_params": {"root": "data"}},
        {
            "identifier": "eoforest_stac",
            "store_id": "stac",
            "store_params": {"url": "https://catalogue.example/catalog.json"},
        },
    ],
    "grid_mappings": [
        {
            "identifier": "landes",
            "bbox": [3401404, 2346797, 3556068, 2539337],
            "crs": "EPSG:3035",
            "spatial_res": 30,
            "tile_size": 2048,
        },
        {
            "identifier": "corner",
            "bbox": [3401404, 2346797, 3401704, 2347097],
            "crs": "EPSG:3035",
            "spatial_res": 30,
            "tile_size": 5,
        },
    ],
    "datasets": [
        {
            "identifier": "gami",
            "store": "eoforest_stac",
            "data_id": "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json",
            "grid_mapping": "landes",
        },
        {
            "identifier": "genus",
            "store": "eoforest_stac",
            "data_id": "x/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json",
            "grid_mapping": "landes",
        },
    ],
}


class World:
    """A folder with a configuration in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "case.yml"
        self.data = copy.deepcopy(GOOD)
        self.environ: dict[str, str] = {}

    @property
    def stac_params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.data["data_stores"][1]["store_params"]
        return params

    def write(self, text: str | None = None) -> Path:
        self.path.write_text(yaml.safe_dump(self.data) if text is None else text, encoding="utf-8")
        return self.path

    def load(self) -> Case:
        return load_case(self.write(), environ=self.environ)

    def message(self, text: str | None = None) -> str:
        """What the refusal says."""
        with pytest.raises(ConfigurationError) as refused:
            load_case(self.write(text), environ=self.environ)
        return str(refused.value)

    def lines(self) -> list[str]:
        """The problems that a refusal lists; checks that it begins with the file and their number."""
        first, *problems = self.message().split("\n")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        assert first == f"{self.path} can't be used ({count}):"
        assert all(problem.startswith("  ") for problem in problems)
        return [problem.removeprefix("  ") for problem in problems]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path)
