"""How sources are watched, what follows, and which times are drawn: keys that no pixel depends on."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from scs2_cubes.config import effective
from scs2_cubes.core.specification import AutomationSpec
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes_tests.config.conftest import World


def test_defaults(world: World) -> None:
    case = world.load()
    assert case.automation == AutomationSpec(interval=3600, running=True)
    assert case.sites == ()
    assert case.visualize
    assert not any(dataset.remade_on_new_version for dataset in case.datasets)
    assert {dataset.quicklook_times for dataset in case.datasets} == {()}


@pytest.mark.parametrize(
    ("section", "spec"),
    [
        (None, AutomationSpec(3600, running=True)),
        ({}, AutomationSpec(3600, running=True)),
        ({"interval": 30}, AutomationSpec(30, running=True)),
        ({"sensors": "stopped"}, AutomationSpec(3600, running=False)),
        ({"interval": "${PATIENCE}", "sensors": "running"}, AutomationSpec(86400, running=True)),
    ],
)
def test_what_is_said_is_what_holds(world: World, section: dict[str, Any] | None, spec: AutomationSpec) -> None:
    world.environ = {"PATIENCE": "86400"}
    world.data["automation"] = section
    assert world.load().automation == spec


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"interval": 29}, "automation.interval: should be greater than or equal to 30, not 29"),
        ({"interval": 0}, "automation.interval: should be greater than or equal to 30, not 0"),
        ({"interval": 45.5}, "automation.interval: should be a valid integer, got a number with a fractional part"),
        ({"interval": True}, "automation.interval: should be a number, not True"),
        (
            {"sensors": "runing"},
            "automation.sensors: 'runing' isn't one of the values that are possible here; did you mean 'running'?",
        ),
        ({"intervall": 60}, "automation.intervall: unknown key; did you mean 'interval'?"),
        (60, "automation: should be a mapping, not 60"),
    ],
)
def test_automation_is_refused(world: World, section: object, problem: str) -> None:
    world.data["automation"] = section
    (line,) = world.lines()
    assert line.startswith(problem)


def test_datasets_are_remade_where_they_say_so(world: World) -> None:
    world.data["datasets"][0]["automation"] = "on_new_version"
    world.data["datasets"][1]["automation"] = "manual"
    assert [dataset.remade_on_new_version for dataset in world.load().datasets] == [True, False]


def test_other_automation_of_a_dataset_is_refused(world: World) -> None:
    world.data["datasets"][1]["automation"] = "on_new_versions"
    (line,) = world.lines()
    assert line.startswith("datasets[1].automation: 'on_new_versions' isn't one of the values that are possible here")
    assert line.endswith("did you mean 'on_new_version'? Known: manual, on_new_version")


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("2010-01-01", ("2010-01-01",)),
        ("'2010-01-01'", ("2010-01-01",)),
        ("[2010-01-01, '2020-07-01T12:00']", ("2010-01-01", "2020-07-01T12:00")),
        ("[2020-01-01, 2010-01-01]", ("2020-01-01", "2010-01-01")),
        ("null", ()),
    ],
)
def test_times_that_are_drawn(world: World, text: str, times: tuple[str, ...]) -> None:
    world.data["datasets"][0]["quicklook_times"] = yaml.safe_load(text)
    assert world.load().datasets[0].quicklook_times == times


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("last", "datasets[0].quicklook_times: should be a date such as 2020-01-01, not 'last'"),
        (2020, "datasets[0].quicklook_times: should be a date such as 2020-01-01, not 2020"),
        ("2020-02-30", "datasets[0].quicklook_times: should be a date such as 2020-01-01, not '2020-02-30'"),
        (["2020-01-01", None], "datasets[0].quicklook_times[1]: should be a date such as 2020-01-01, not null"),
        ([], "datasets[0].quicklook_times: should not be empty, not []"),
        (["2020-01-01", "2020-01-01"], "datasets[0].quicklook_times[1]: '2020-01-01' stands in the list twice"),
    ],
)
def test_times_that_are_no_dates_are_refused(world: World, value: object, problem: str) -> None:
    world.data["datasets"][0]["quicklook_times"] = value
    assert world.lines() == [problem]


def test_pictures_can_be_left_out(world: World) -> None:
    world.data["general"] = {"visualize": False}
    assert not world.load().visualize
    assert effective(world.path, environ={})["general"]["visualize"] is False


def test_all_of_it_is_shown_and_can_be_read_again(world: World) -> None:
    world.data |= {
        "automation": {"interval": 60, "sensors": "stopped"},
        "sites": [{"identifier": "bilos", "point": [3456124.0, 2439077.0], "crs": "EPSG:3035"}],
    }
    before = world.load()
    plain = effective(world.path, environ={})
    assert {key: plain[key] for key in ("automation", "sites")} == {
        key: world.data[key] for key in ("automation", "sites")
    }
    world.data |= {key: plain[key] for key in ("automation", "sites")}
    assert world.load() == before


def test_none_of_it_makes_a_cube_stale(world: World) -> None:
    before = [specification_version(dataset) for dataset in world.load().datasets]
    world.data |= {
        "automation": {"interval": 60, "sensors": "stopped"},
        "sites": [{"identifier": "bilos", "point": [-0.9, 44.5]}],
        "general": {"visualize": False},
    }
    for dataset in world.data["datasets"]:
        dataset |= {"automation": "on_new_version", "quicklook_times": "2020-01-01"}
    changed = world.load()
    assert all(dataset.remade_on_new_version and dataset.quicklook_times for dataset in changed.datasets)
    assert [specification_version(dataset) for dataset in changed.datasets] == before
