"""What the tests of pictures share: plans of small cubes, and the words that are drawn."""

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.report.sheet import Sheet
from scs2_cubes_tests.report import pictures


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> CubePlan:
    return pictures.classes_plan(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def quantity(tmp_path_factory: pytest.TempPathFactory) -> CubePlan:
    return pictures.quantity_plan(tmp_path_factory.mktemp("quantity"))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text of what is drawn."""
    written: list[str] = []
    write = Sheet.text

    def text(sheet: Sheet, left: float, top: float, text: str, **how: Any) -> None:
        written.append(text)
        write(sheet, left, top, text, **how)

    monkeypatch.setattr(Sheet, "text", text)
    return written
