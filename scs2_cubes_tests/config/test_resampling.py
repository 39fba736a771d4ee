"""``spatial_resample_params``: what each variable gets, and what is refused."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

import math
from typing import Any

import pytest

from scs2_cubes.config.models import SingleSource
from scs2_cubes.config.problems import Problems
from scs2_cubes.config.products import parse_product
from scs2_cubes.config.resampling import resample_spec
from scs2_cubes.config.variables import known_variables
from scs2_cubes.core.specification import ResampleSpec, VariableOptions
from scs2_cubes_tests.config.conftest import World

#: Variables of every kind; one had another name once.
MIXED = """
title: All kinds
code_version: 1
data_ids: ["mixed"]
licence: see references
variables:
  - name: agent
    kind: categorical
    dtype: uint8
    fill: 255
    long_name: Agent
    aliases: [old_agent]
    legend:
      - {code: 0, name: none, label: None, colour: "#000000"}
      - {code: 3, name: harvest, label: Harvest, colour: "#ffffff"}
  - {name: height, kind: continuous, dtype: float32, fill: .nan, long_name: Height}
  - {name: cover, kind: continuous, dtype: uint8, fill: 255, long_name: Cover}
  - {name: error, kind: standard_deviation, dtype: float32, fill: .nan, long_name: Error}
  - {name: age, kind: ensemble, ensemble_dim: members, dtype: float32, fill: .nan, long_name: Age}
"""
AGGREGATIONS = {
    "center", "count", "first", "last", "max", "mean", "median", "mode", "min", "prod", "std", "sum", "var"
}  # fmt: skip


def _resolved(params: dict[str, Any], **dataset: Any) -> tuple[ResampleSpec, list[str]]:
    """What the section becomes for the product MIXED, and the problems, without their common path."""
    values = {"identifier": "a", "store": "s", "data_id": "mixed", "spatial_resample_params": params, **dataset}
    cube = SingleSource.model_validate(values)
    problems = Problems("file", raw=values)
    known = known_variables(cube, parse_product("mixed", MIXED))
    spec = resample_spec(cube, known, ("p",), problems)
    return spec, [".".join(str(part) for part in path[1:]) + f": {text}" for path, text in problems.found]


def test_one_for_all(world: World) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = {
        "interp_methods": "bilinear",
        "agg_methods": "median",
        "fill_values": -1,
        "recover_nans": False,
        "prevent_nan_propagations": True,
        "error_model": "independent",
    }
    assert world.load().datasets[0].resampling == ResampleSpec(
        default=VariableOptions("bilinear", "median", -1.0), variables={}, only=None, error_model="independent"
    )


def test_by_variable() -> None:
    spec, problems = _resolved(
        {
            "interp_methods": {"agent": "nearest", "height": 1, "age": 0},
            "agg_methods": {"agent": "mode", "error": "max"},
            "fill_values": {"height": -5},
            "recover_nans": {"cover": True},
            "prevent_nan_propagations": {"cover": False},
            "variables": ["agent", "height", "error", "age", "agent"],
        }
    )
    assert problems == []
    assert spec.default == VariableOptions()
    assert spec.variables == {
        "agent": VariableOptions("nearest", "mode", None),
        "height": VariableOptions("bilinear", None, -5.0),
        "age": VariableOptions("nearest", None, None),
        "error": VariableOptions(None, "max", None),
    }
    assert spec.only == ("agent", "height", "error", "age")
    assert spec.error_model == "correlated"


def test_what_is_said_for_all_holds_for_a_variable_with_a_say_of_its_own() -> None:
    spec, problems = _resolved({"agg_methods": "mode", "fill_values": {"height": -5}})
    assert problems == []
    assert spec.default == VariableOptions(coarsen="mode")
    assert spec.variables == {"height": VariableOptions(coarsen="mode", fill=-5.0)}


@pytest.mark.parametrize(("given", "method"), [("0", "nearest"), (0, "nearest"), (1, "bilinear"), ("nearest", "nearest")])  # fmt: skip
def test_names_and_numbers(world: World, given: object, method: str) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = {"interp_methods": given}
    assert world.load().datasets[0].resampling.default.refine == method
    world.data["datasets"][0]["spatial_resample_params"] = {"interp_methods": {"forest_age": given}}
    assert world.load().datasets[0].resampling.variables == {"forest_age": VariableOptions(refine=method)}


def test_nan_as_fill(world: World) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = {"fill_values": float("nan")}
    fill = world.load().datasets[0].resampling.default.fill
    assert fill is not None
    assert math.isnan(fill)


def test_older_names_of_variables() -> None:
    spec, problems = _resolved({"agg_methods": {"old_agent": "mode"}, "variables": "old_agent"})
    assert problems == []
    assert spec.variables == {"agent": VariableOptions(coarsen="mode")}
    assert spec.only == ("agent",)
    assert _resolved({"agg_methods": {"old_agent": "mean"}})[1]


@pytest.mark.parametrize("scalar", [True, False])
@pytest.mark.parametrize("method", sorted(AGGREGATIONS))
def test_class_codes_are_only_ever_picked(method: str, scalar: bool) -> None:
    _, problems = _resolved({"agg_methods": method if scalar else {"agent": method}})
    if method in {"center", "first", "last", "mode"}:
        assert problems == []
    else:
        place = "agg_methods" if scalar else "agg_methods.agent"
        assert problems == [
            f"{place}: {method!r} computes with the values, but those of 'agent' are class codes, which must not be blended; allowed: center, first, last, mode"
        ]


@pytest.mark.parametrize("name", ["height", "cover", "error", "age"])
@pytest.mark.parametrize("method", sorted(AGGREGATIONS))
def test_quantities_may_be_computed_with(method: str, name: str) -> None:
    spec, problems = _resolved({"agg_methods": {name: method}, "interp_methods": {name: "bilinear"}})
    assert problems == []
    assert spec.variables == {name: VariableOptions("bilinear", method)}


@pytest.mark.parametrize("given", ["bilinear", 1, "1"])
def test_class_codes_arent_interpolated(given: object) -> None:
    line = "'bilinear' computes with the values, but those of 'agent' are class codes, which must not be blended; allowed: nearest"
    assert _resolved({"interp_methods": given})[1] == [f"interp_methods: {line}"]
    assert _resolved({"interp_methods": {"agent": given}})[1] == [f"interp_methods.agent: {line}"]
    assert _resolved({"interp_methods": "nearest"})[1] == []


@pytest.mark.parametrize(
    "selection",
    [
        {"params": {"variables": ["height", "cover"]}},
        {"params": {"variables": "height"}},
        {"params": {}, "open_params": {"variable_names": "height"}},
        {"params": {}, "open_params": {"variable_names": ["height", "age"]}},
    ],
)
def test_what_isnt_in_the_cube_isnt_in_the_way(selection: dict[str, Any]) -> None:
    params = {**selection.pop("params"), "agg_methods": "mean", "interp_methods": "bilinear"}
    assert _resolved(params, **selection)[1] == []


def test_a_function_may_add_and_drop_variables() -> None:
    function = {"module_path": "a.py", "function_name": "b"}
    spec, problems = _resolved({"agg_methods": "mean", "fill_values": 3}, custom_processing=function)
    assert problems == []
    assert spec.default == VariableOptions(coarsen="mean", fill=3.0)
    assert _resolved({"agg_methods": {"made_up": "mean"}}, custom_processing=function)[1] == []
    # It may return another dtype and other codes.
    assert _resolved({"fill_values": {"agent": 3, "cover": -1}}, custom_processing=function)[1] == []
    # One with a class map's own name is taken for the class map.
    assert len(_resolved({"agg_methods": {"agent": "mean"}}, custom_processing=function)[1]) == 1


def test_unknown_products_are_judged_when_their_source_is_known(world: World) -> None:
    world.data["datasets"][0]["data_id"] = "other"
    world.data["datasets"][0]["spatial_resample_params"] = {
        "interp_methods": {"a": "bilinear"},
        "agg_methods": {"b": "mean"},
        "fill_values": {"a": 1000},
        "variables": ["a", "b"],
    }
    gami = world.load().datasets[0]
    assert gami.product is None
    assert gami.resampling.only == ("a", "b")
    assert gami.resampling.variables["b"] == VariableOptions(coarsen="mean")


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"interp_methods": "triangular"}, "interp_methods: the method 'triangular' isn't supported; supported: nearest (0), bilinear (1)"),
        ({"interp_methods": {"forest_age": "triangular"}}, "interp_methods.forest_age: the method 'triangular' isn't supported; supported: nearest (0), bilinear (1)"),
        ({"interp_methods": 2}, "interp_methods: 2 isn't one of the values that are possible here; known: 0, 1, bilinear, nearest, triangular"),
        ({"interp_methods": "bilinaer"}, "interp_methods: 'bilinaer' isn't one of the values that are possible here; did you mean 'bilinear'? Known: 0, 1, bilinear, nearest, triangular"),
        ({"agg_methods": {"forest_age": "modus"}}, "agg_methods.forest_age: 'modus' isn't one of the values that are possible here; did you mean 'mode'?"),
        ({"fill_values": "none"}, "fill_values: should be a valid number, not 'none'"),
        ({"error_model": "correlate"}, "error_model: 'correlate' isn't one of the values that are possible here; did you mean 'correlated'? Known: correlated, independent"),
        ({"recover_nans": "perhaps"}, "recover_nans: should be a valid boolean, not 'perhaps'"),
        ({"variables": []}, "variables: should not be empty, not []"),
        ({"interp_method": 0}, "interp_method: unknown key; did you mean 'interp_methods'?"),
        *(
            ({key: {"forest_aeg": value}}, f"{key}.forest_aeg: the product gami has no variable 'forest_aeg'; did you mean 'forest_age'?")
            for key, value in (("interp_methods", 0), ("agg_methods", "mean"), ("fill_values", 0), ("recover_nans", True), ("prevent_nan_propagations", True))
        ),
        ({"variables": "x"}, "variables: the product gami has no variable 'x'; known: forest_age"),
        ({"variables": ["forest_age", "x"]}, "variables[1]: the product gami has no variable 'x'; known: forest_age"),
    ],
)  # fmt: skip
def test_refused(world: World, params: dict[str, Any], line: str) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = params
    assert world.lines() == [f"datasets[0].spatial_resample_params.{line}"]


def test_blended_genus(world: World) -> None:
    world.data["datasets"][1]["spatial_resample_params"] = {"interp_methods": 1, "agg_methods": {"genus": "mean"}}
    assert world.lines() == [
        "datasets[1].spatial_resample_params.interp_methods: 'bilinear' computes with the values, but those of 'genus' are class codes, which must not be blended; allowed: nearest",
        "datasets[1].spatial_resample_params.agg_methods.genus: 'mean' computes with the values, but those of 'genus' are class codes, which must not be blended; allowed: center, first, last, mode",
    ]


@pytest.mark.parametrize(
    ("fill", "line"),
    [
        ({"agent": 256}, "fill_values.agent: 256 can't be stored in 'agent', which is uint8"),
        ({"agent": -1}, "fill_values.agent: -1 can't be stored in 'agent', which is uint8"),
        ({"cover": 0.5}, "fill_values.cover: 0.5 can't be stored in 'cover', which is uint8"),
        ({"cover": math.nan}, "fill_values.cover: nan can't be stored in 'cover', which is uint8"),
        ({"cover": math.inf}, "fill_values.cover: inf can't be stored in 'cover', which is uint8"),
        ({"agent": 3}, "fill_values.agent: 3 is a class of 'agent' (harvest), so it can't mean that there is none"),
        ({"agent": 0}, "fill_values.agent: 0 is a class of 'agent' (none), so it can't mean that there is none"),
        (3, "fill_values: 3 is a class of 'agent' (harvest), so it can't mean that there is none"),
    ],
)
def test_refused_fill(fill: Any, line: str) -> None:
    assert _resolved({"fill_values": fill})[1] == [line]


def test_fills_that_fit() -> None:
    spec, problems = _resolved({"fill_values": {"agent": 254, "cover": 0, "height": -9999.5, "age": math.inf}})
    assert problems == []
    assert {name: options.fill for name, options in spec.variables.items()} == {
        "agent": 254,
        "cover": 0,
        "height": -9999.5,
        "age": math.inf,
    }
