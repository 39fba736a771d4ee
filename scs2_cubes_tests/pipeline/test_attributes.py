"""What a cube takes over of its source's global attributes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scs2_cubes.pipeline.attributes import static_attributes
from scs2_cubes.pipeline.cubes import describe_source
from scs2_cubes_tests.pipeline.editions import Archive, World


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("institution", True),
        ("geospatial", True),
        ("geospatial_lat_max", False),
        ("geospatial_bounds_crs", False),
        ("time_coverage", True),
        ("time_coverage_start", False),
        ("time_coverage_resolution", False),
        ("spatial_resolution", False),
    ],
)
def test_where_the_source_lies_isnt_where_the_cube_lies(tmp_path: Path, name: str, *, is_kept: bool) -> None:
    archive = Archive(tmp_path / "archive")
    archive.publish()
    spec = World(tmp_path / "world", archive).spec()
    native = describe_source(spec)
    described = replace(native, attrs={**native.attrs, name: "of the source"})
    found = static_attributes(spec, described)
    assert found.get(name) == ("of the source" if is_kept else None)
    assert {key: value for key, value in found.items() if key != name} == static_attributes(spec, native)
