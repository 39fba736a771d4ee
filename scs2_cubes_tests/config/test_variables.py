"""The extensions ``statistics`` and ``zero``."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes.config.models import SingleSource
from scs2_cubes.config.problems import Problems
from scs2_cubes.config.products import parse_product
from scs2_cubes.config.variables import known_variables, zero_values
from scs2_cubes.core.variables import Statistic
from scs2_cubes_tests.config.conftest import World

COVER = """
title: Cover
code_version: 1
data_ids: ["cover"]
licence: see references
variables:
  - {name: cover, kind: continuous, dtype: float32, fill: .nan, long_name: Cover, zero: value, aliases: [tcc]}
  - {name: height, kind: continuous, dtype: float32, fill: .nan, long_name: Height}
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["mean", "std", "q25"], (Statistic.MEAN, Statistic.STD, Statistic.Q25)),
        ("median", (Statistic.MEDIAN,)),
        ([statistic.value for statistic in Statistic], tuple(Statistic)),
    ],
)
def test_statistics(world: World, given: object, expected: tuple[Statistic, ...]) -> None:
    world.data["datasets"][0]["statistics"] = {"forest_age": given}
    statistics = world.load().datasets[0].statistics
    assert statistics == {"forest_age": expected}
    assert all(isinstance(statistic, Statistic) for statistic in statistics["forest_age"])


def test_statistics_of_an_unknown_product(world: World) -> None:
    world.data["datasets"][0] |= {"data_id": "other", "statistics": {"anything": ["q95"]}}
    assert world.load().datasets[0].statistics == {"anything": (Statistic.Q95,)}


@pytest.mark.parametrize(
    ("index", "statistics", "line"),
    [
        (0, {"forest_age": ["means"]}, "statistics.forest_age[0]: 'means' isn't one of the values that are possible here; did you mean 'mean'?"),
        (0, {"forest_age": ["mean", "Q25"]}, "statistics.forest_age[1]: 'Q25' isn't one of the values that are possible here; did you mean 'q25'?"),
        (0, {"forest_age": "x"}, "statistics.forest_age: 'x' isn't one of the values that are possible here; known: mean, median, q05, q10, q25, q75, q90, q95, std"),
        (0, {"forest_age": []}, "statistics.forest_age: should not be empty, not []"),
        (0, {"forest_age": ["mean", "std", "mean"]}, "statistics.forest_age[2]: 'mean' stands in the list twice"),
        (0, {"forestage": ["mean"]}, "statistics.forestage: the product gami has no variable 'forestage'; did you mean 'forest_age'?"),
        (0, ["mean"], "statistics: should be a mapping, not ['mean']"),
        (1, {"genus": ["mean"]}, "statistics.genus: 'genus' is of kind categorical; only an ensemble has members to take statistics of"),
        (0, {"forest_age_std": ["mean"], "forest_age": ["std"]}, "statistics.forest_age_std: the product gami has no variable 'forest_age_std'; did you mean 'forest_age'?"),
    ],
)  # fmt: skip
def test_refused_statistics(world: World, index: int, statistics: Any, line: str) -> None:
    world.data["datasets"][index]["statistics"] = statistics
    (found,) = world.lines()
    assert found == f"datasets[{index}].{line}"


def test_statistics_and_a_function(world: World) -> None:
    (world.folder / "a.py").write_text("def f(dataset): ...\n", encoding="utf-8")
    world.data["datasets"][0] |= {
        "statistics": {"forest_age": "std"},
        "custom_processing": {"module_path": "a", "function_name": "f"},
    }
    assert world.lines() == [
        "datasets[0].statistics: can't stand together with 'custom_processing', whose function gets the members themselves"
    ]


def test_zero(world: World) -> None:
    world.data["datasets"][0]["zero"] = {"forest_age": "value"}
    world.data["datasets"][1]["zero"] = {"genus": "nodata"}
    gami, genus = world.load().datasets
    assert gami.zero_is_value == {"forest_age"}
    assert genus.zero_is_value == frozenset()


def test_zero_of_an_unknown_product(world: World) -> None:
    world.data["datasets"][0] |= {"data_id": "other", "zero": {"a": "value", "b": "nodata", "c": "value"}}
    assert world.load().datasets[0].zero_is_value == {"a", "c"}


@pytest.mark.parametrize(
    ("zero", "values", "described"),
    [
        (None, set(), {"cover"}),
        ({"cover": "nodata"}, set(), set()),
        ({"tcc": "nodata"}, set(), set()),
        ({"height": "value"}, {"height"}, {"cover"}),
        ({"tcc": "value", "height": "nodata"}, {"cover"}, {"cover"}),
    ],
)
def test_the_dataset_goes_before_the_product(
    zero: dict[str, str] | None, values: set[str], described: set[str]
) -> None:
    cube = SingleSource.model_validate({"identifier": "a", "store": "s", "data_id": "cover", "zero": zero})
    known = known_variables(cube, parse_product("cover", COVER))
    problems = Problems("file")
    product, names = zero_values(cube, known, ("zero",), problems)
    assert not problems
    assert product is not None
    assert names == values
    assert {variable.name for variable in product.variables if variable.zero_is_value} == described
    assert {variable.nodata for variable in product.variables} == {None}


@pytest.mark.parametrize(
    ("zero", "line"),
    [
        ({"forest_age": "valu"}, "zero.forest_age: 'valu' isn't one of the values that are possible here; did you mean 'value'? Known: nodata, value"),
        ({"forest_age": 0}, "zero.forest_age: 0 isn't one of the values that are possible here; known: nodata, value"),
        ({"forestage": "value"}, "zero.forestage: the product gami has no variable 'forestage'; did you mean 'forest_age'?"),
        ("value", "zero: should be a mapping, not 'value'"),
    ],
)  # fmt: skip
def test_refused_zero(world: World, zero: Any, line: str) -> None:
    world.data["datasets"][0]["zero"] = zero
    assert world.lines() == [f"datasets[0].{line}"]
