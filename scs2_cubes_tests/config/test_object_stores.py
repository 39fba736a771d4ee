"""Buckets, folders and web servers in a configuration: what is taken, what is refused, and what nobody gets to see."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession  # type: ignore[import-untyped]  # ships no type information

from scs2_cubes.config.load import dagster_home
from scs2_cubes.config.overview import describe
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes_tests.config.conftest import World

OPTIONS = {"key": "${KEY}", "secret": "${SECRET}", "endpoint_url": "https://s3.example"}
ENVIRON = {"KEY": "PLANTEDKEY", "SECRET": "PLANTEDSECRET"}


def storage(world: World, root: object = "bucket/cubes", options: object = None) -> None:
    params = {"root": root} | ({} if options is None else {"storage_options": options})
    world.data["data_stores"][0] = {"identifier": "storage", "store_id": "s3", "store_params": params}


def source(world: World, store_id: str, **params: Any) -> None:
    """A second source, which a dataset reads."""
    world.data["data_stores"].append({"identifier": "files", "store_id": store_id, "store_params": params})
    world.data["datasets"][1] |= {"store": "files", "data_id": "a/b.tif"}


def read_from(world: World) -> StoreSpec:
    return world.load().dataset("genus").store


class TestStorage:
    @pytest.mark.parametrize("root", ["bucket/cubes", "s3://bucket/cubes", "bucket/cubes/", "s3://bucket/cubes//"])
    def test_one_spelling(self, world: World, root: str) -> None:
        storage(world, root)
        assert world.load().storage.root == "s3://bucket/cubes"

    def test_a_bucket_alone(self, world: World) -> None:
        storage(world, "my.bucket-1")
        assert world.load().storage.root == "s3://my.bucket-1"

    @pytest.mark.parametrize(
        "root", ["/bucket", "b", "bucket//a", "bucket/../a", "https://h/bucket", "s3://", "key:secret@bucket", "a b/c"]
    )
    def test_no_bucket(self, world: World, root: str) -> None:
        storage(world, root)
        (line,) = world.lines()
        assert line == (
            "data_stores[0].store_params.root: should be a bucket, with folders after it or without: bucket/folder"
        )

    def test_root_is_required(self, world: World) -> None:
        world.data["data_stores"][0] = {"identifier": "storage", "store_id": "s3"}
        assert world.lines() == ["data_stores[0].store_params.root: required key is missing"]

    def test_options(self, world: World) -> None:
        storage(world, options={**OPTIONS, "client_kwargs": {"region_name": "x"}, "anon": "false", "token": None})
        world.environ = ENVIRON
        options = dict(world.load().storage.options)
        assert options.pop("config_kwargs")["retries"] == {"mode": "standard", "total_max_attempts": 10}
        assert options == {
            "key": "PLANTEDKEY",
            "secret": "PLANTEDSECRET",
            "endpoint_url": "https://s3.example",
            "client_kwargs": {"region_name": "x"},
            "anon": False,
            "use_listings_cache": False,
            "max_concurrency": 1,
        }

    def test_patience(self, world: World) -> None:
        """One policy for all that goes over the network; what is said in botocore's terms goes before."""
        world.data["general"] = {"retry": {"max_attempts": 3, "timeout": 7}}
        storage(world, options={"config_kwargs": {"read_timeout": 1}})
        config = world.load().storage.options["config_kwargs"]
        assert (config["connect_timeout"], config["read_timeout"]) == (7, 1)
        assert config["retries"]["total_max_attempts"] == 3

    def test_every_attempt_has_its_share_of_the_deadline(self, world: World) -> None:
        """botocore knows attempts, and no deadline."""
        world.data["general"] = {"retry": {"max_attempts": 4, "timeout": 60, "deadline": 20}}
        storage(world)
        source(world, "s3", root="bucket/maps")
        config = world.load().storage.options["config_kwargs"]
        assert (config["connect_timeout"], config["read_timeout"]) == (5, 5)
        # There whoever asks again looks at the clock, and botocore makes one attempt.
        assert read_from(world).params["storage_options"]["config_kwargs"]["read_timeout"] == 20

    def test_flags_come_from_the_environment_at_any_depth(self, world: World) -> None:
        """As text ``verify: "false"`` would be the path of a file with certificates."""
        storage(
            world,
            options={
                "client_kwargs": {"verify": "${VERIFY}", "region_name": "true north", "use_ssl": True},
                "config_kwargs": {"s3": {"use_accelerate_endpoint": "${FAST}", "addressing_style": "path"}},
                "s3_additional_kwargs": {"Metadata": {"is_forest": "true"}},
            },
        )
        world.environ = {"VERIFY": "False", "FAST": "true"}
        options = world.load().storage.options
        assert options["client_kwargs"] == {"verify": False, "region_name": "true north", "use_ssl": True}
        assert options["config_kwargs"]["s3"] == {"use_accelerate_endpoint": True, "addressing_style": "path"}
        assert options["s3_additional_kwargs"] == {"Metadata": {"is_forest": "true"}}

    @pytest.mark.parametrize(
        ("options", "key", "problem"),
        [
            ({"kye": "PLANTED"}, "kye", "isn't supported for s3; did you mean 'key'?"),
            ({"key": ["PLANTED"]}, "key", "should be a string that isn't empty"),
            ({"secret": ""}, "secret", "should be a string that isn't empty"),
            ({"anon": "perhaps"}, "anon", "should be true or false"),
            ({"client_kwargs": "PLANTED"}, "client_kwargs", "should be a mapping"),
            (
                {"endpoint_url": "https://user:PLANTED@h"},
                "endpoint_url",
                "should be an http or https URL without user and password",
            ),
            (
                {"client_kwargs": {"endpoint_url": "https://user:PLANTED@h"}},
                "client_kwargs",
                "can't have endpoint_url, which stands beside client_kwargs",
            ),
            (
                {"client_kwargs": {"regio_name": "PLANTED"}},
                "client_kwargs",
                "'regio_name' isn't supported; did you mean 'region_name'?",
            ),
            (
                {"config_kwargs": {"conect_timeout": "PLANTED"}},
                "config_kwargs",
                "'conect_timeout' isn't supported; did you mean 'connect_timeout'?",
            ),
            ({"endpoint_url": "h:9000"}, "endpoint_url", "should be an http or https URL without user and password"),
        ],
    )
    def test_options_that_are_wrong(self, world: World, options: dict[str, Any], key: str, problem: str) -> None:
        storage(world, options=options)
        assert world.lines() == [f"data_stores[0].store_params.storage_options.{key}: {problem}"]
        assert "PLANTED" not in world.message()

    @pytest.mark.parametrize("name", sorted(set(signature(AioSession._create_client).parameters)))
    def test_settings_of_the_client(self, world: World, name: str) -> None:
        """Its own signature, which may change with its version."""
        storage(world, options={"client_kwargs": {name: "x"}})
        if name in {"self", "service_name", "config", "endpoint_url"}:
            assert "client_kwargs" in world.message()
        else:
            assert world.load().storage.options["client_kwargs"] == {name: "x"}

    def test_secrets_are_shown_nowhere(self, world: World) -> None:
        storage(world, options=OPTIONS)
        source(world, "s3", root="bucket/maps", storage_options=OPTIONS)
        world.environ = ENVIRON
        case = world.load()
        assert "PLANTED" not in f"{describe(case)}{case}{case.warnings}"
        assert describe(case)["data_stores"][0]["store_id"] == "s3"
        assert case.warnings == ()

    def test_secrets_in_the_file_are_warned_about(self, world: World) -> None:
        storage(world, options={"key": "literal", "secret": "literal"})
        warnings = "\n".join(world.load().warnings)
        assert "storage_options.key: a secret stands in the file" in warnings
        assert "storage_options.secret: a secret stands in the file" in warnings

    def test_history_needs_a_disk(self, world: World) -> None:
        storage(world)
        assert dagster_home(world.load(), {}) == Path.cwd() / ".dagster"
        assert dagster_home(world.load(), {"DAGSTER_HOME": "/elsewhere"}) == Path("/elsewhere")


class TestCaches:
    def _cache(self, world: World, **params: Any) -> Any:
        store = {"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "a.json", **params}}
        world.data["data_stores"].append(store)
        return next(one.cache for one in world.load().stores if one.identifier == "clms")

    def test_below_the_storage(self, world: World) -> None:
        storage(world, options=OPTIONS)
        world.environ = ENVIRON
        cache = self._cache(world)
        assert cache.root == "s3://bucket/cubes/.cache/clms"
        assert cache.options == world.load().storage.options

    def test_elsewhere_on_s3(self, world: World) -> None:
        storage(world, options=OPTIONS)
        world.environ = ENVIRON
        assert self._cache(world, cache="s3://other/cache").options == world.load().storage.options

    def test_on_s3_beside_a_storage_on_disk(self, world: World) -> None:
        options = self._cache(world, cache="s3://other/cache").options
        assert options["use_listings_cache"] is False
        assert "key" not in options

    def test_on_disk(self, world: World) -> None:
        storage(world, options=OPTIONS)
        world.environ = ENVIRON
        assert self._cache(world, cache="there").options == {}

    def test_not_among_the_cubes(self, world: World) -> None:
        storage(world)
        params = {"credentials": "a.json", "cache": "s3://bucket/cubes/there"}
        world.data["data_stores"].append({"identifier": "clms", "store_id": "clms", "store_params": params})
        (line,) = world.lines()
        assert "should be a folder of its own: cubes are written there" in line


class TestSources:
    def test_folder(self, world: World) -> None:
        source(world, "file", root="maps")
        assert read_from(world).params == {"root": str(world.folder / "maps")}

    def test_bucket(self, world: World) -> None:
        source(world, "s3", root="bucket/maps", storage_options={"anon": True})
        params = read_from(world).params
        assert params["root"] == "s3://bucket/maps"
        assert params["storage_options"]["anon"] is True
        # Whoever reads asks again, so botocore mustn't.
        assert params["storage_options"]["config_kwargs"]["retries"]["total_max_attempts"] == 1

    @pytest.mark.parametrize("root", ["https://h/maps", "https://h/maps/", "http://127.0.0.1:8/a", "http://localhost/"])
    def test_web(self, world: World, root: str) -> None:
        source(world, "https", root=root)
        assert read_from(world).params == {"root": root.rstrip("/")}

    @pytest.mark.parametrize(
        "root", ["http://h/maps", "https://u:PLANTED@h/maps", "https://h/maps?sig=PLANTED", "maps", "ftp://h/maps"]
    )
    def test_no_web(self, world: World, root: str) -> None:
        source(world, "https", root=root)
        (line,) = world.lines()
        assert line.startswith("data_stores[2].store_params.root: should be an https URL without user, query")

    @pytest.mark.parametrize("store_id", ["file", "s3", "https"])
    def test_root_is_required(self, world: World, store_id: str) -> None:
        source(world, store_id)
        assert "data_stores[2].store_params.root: required key is missing" in world.lines()

    def test_a_folder_is_no_url(self, world: World) -> None:
        source(world, "file", root="s3://bucket")
        (line,) = world.lines()
        assert "store_id: s3 is for buckets" in line
