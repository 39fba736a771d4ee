from __future__ import annotations

from pathlib import Path

import pytest

from scs2_cubes.errors import StorageError
from scs2_cubes.orchestration.instance import prepare_home


def test_a_home_that_cant_be_written_is_told(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder", encoding="utf-8")
    with pytest.raises(StorageError, match=r"can't keep Dagster's history in .*file/home: .* set DAGSTER_HOME"):
        prepare_home(in_the_way / "home")
