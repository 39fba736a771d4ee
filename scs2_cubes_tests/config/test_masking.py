"""Secrets: warned about where they stand in the file, shown nowhere."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from scs2_cubes.config.masking import MASK, is_secret_key, literal_secrets, masked, without_secrets
from scs2_cubes.config.overview import describe
from scs2_cubes.config.problems import Problems
from scs2_cubes_tests.config.conftest import World

SECRET = "hunter2"


@pytest.mark.parametrize(
    "key",
    ["password", "PASSWD", "client_secret", "token", "access_token", "key", "api_key", "apiKey", "aws_access_key_id",
     "secretAccessKey", "credentials", "Authorization", "x-api-key", "keys"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["url", "root", "monkey", "keyword", "author", "store", "anon", "https://h/token/"])
def test_other_keys(key: str) -> None:
    assert not is_secret_key(key)


def test_masked_copies_and_goes_deep() -> None:
    data = {"a": [{"token": {"x": SECRET}}, 1], "key": SECRET, "b": "c"}
    assert masked(data) == {"a": [{"token": MASK}, 1], "key": MASK, "b": "c"}
    assert data["key"] == SECRET


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: text", "plain: text"),
        ("https://u:p@h:80/a?sig=1#f", "https://h:80/a?%E2%80%A6"),
        ("https://u:p/w@h/a", MASK),
        ("https://[broken", MASK),
    ],
)
def test_urls_without_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) in {shown, shown.replace("%E2%80%A6", "…")}


@pytest.mark.parametrize(
    ("value", "is_literal"),
    [
        ({"token": SECRET}, True),
        ({"a": [{"password": 5}]}, True),
        ({"token": "${TOKEN}"}, False),
        ({"token": "Bearer ${TOKEN}"}, False),
        ({"token": "${TOKEN:-hunter2}"}, True),
        ({"token": "${TOKEN:-}"}, False),
        ({"token": ""}, False),
        ({"token": None}, False),
        ({"credentials": "clms.json"}, False),
        ({"credentials": "${FILE}"}, False),
        ({"credentials": '{"client_id": "hunter2"}'}, True),
        ({"credentials": {"client_id": SECRET}}, True),
        ({"url": "https://user:hunter2@host/"}, True),
        ({"url": "https://user:${PASSWORD}@host/"}, False),
        ({"url": "https://user@host/a:b"}, False),
        ({"url": "https://host/"}, False),
    ],
)
def test_literal_secrets(value: dict[str, Any], is_literal: bool) -> None:
    assert bool(list(literal_secrets(value))) is is_literal


def test_warning_names_the_key_not_the_value(world: World) -> None:
    world.stac_params["url"] = "https://user:hunter2@host/catalog.json?token=hunter2"
    case = world.load()
    assert case.warnings == (
        (
            "data_stores[1].store_params.url: a secret stands in the file; "
            "move it to the environment and write ${NAME} instead"
        ),
    )
    assert SECRET not in json.dumps(describe(case))
    assert SECRET not in repr(case)


def test_parameters_that_look_secret_are_masked_wherever_they_are_shown(world: World) -> None:
    case = world.load()
    store = dataclasses.replace(case.stores[0], params={"url": "https://h/", "token": SECRET, "o": {"key": SECRET}})
    shown = describe(dataclasses.replace(case, stores=(store,)))["data_stores"][1]["store_params"]
    assert shown == {"url": "https://h/", "token": MASK, "o": {"key": MASK}, "href_rewrite": {}}
    problems = Problems("file", {"a": [{"token": SECRET, "b": "c"}], "store_params": SECRET})
    assert problems.shown(("a", 0, "token")) == MASK
    assert problems.shown(("a", 0, "b")) == "'c'"
    assert problems.shown(("store_params",)) == "a value of type str"


BROKEN: list[dict[str, Any]] = [
    {"token": SECRET, "password": [SECRET], "storage_options": {"key": SECRET}},
    {"url": {"password": SECRET}},
    {"url": [SECRET, {"a": SECRET}]},
    {"url": "https://u:hunter2@[broken"},
    {"url": "https://u:hunter2/x@host/"},
    {"href_rewrite": SECRET},
    {"href_rewrite": {"https://u:hunter2@h/": 3}},
    {"url": "${S}", "href_rewrite": ["${S}"]},
    {"url": "https://[${S}"},
    {"root": "${S}", "credentials": "${S}"},
]


@pytest.mark.parametrize("params", BROKEN, ids=range(len(BROKEN)))
def test_no_secret_in_any_refusal(world: World, params: dict[str, Any]) -> None:
    world.environ = {"S": SECRET}
    world.data["data_stores"][1]["store_params"] = params
    world.data["data_stores"][0]["store_params"] = {"root": "s3://u:hunter2@bucket/${S}"}
    world.data["data_stores"].append({"identifier": "x", "store_id": "clms", "store_params": {"credentials": SECRET}})
    world.data["data_stores"].append({"identifier": "y", "store_id": "stac", "store_params": SECRET})
    world.data["preload_datasets"] = [
        {"store": "x", "data_ids": ["a"], "preload_params": {"token": SECRET}, "key": SECRET}
    ]
    world.data["general"] = {"pasword": SECRET, "retry": {"token": SECRET}}
    assert SECRET not in world.message()


def test_value_from_the_environment_is_quoted_as_it_stands_in_the_file(world: World) -> None:
    world.environ = {"S": SECRET}
    world.data["grid_mappings"][0]["tile_size"] = "${S}"
    assert "grid_mappings[0].tile_size: should be a valid integer, not '${S}'" in world.lines()
