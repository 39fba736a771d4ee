"""Cubes in a bucket are those on disk, to the byte; every command finds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scs2_cubes.api import open_cube
from scs2_cubes.config import load_case
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, Ended, in_process
from scs2_cubes_tests.pipeline.editions import TILES, Archive, World, tree
from scs2_cubes_tests.s3.server import Bucket, Rgw
from scs2_cubes_tests.s3.worlds import FOLDER, on_s3, storage_entry

CUBES = ("forest_type_2015", "gami", "forestpaths_genus", "liu", "esa_cci_biomass", "efda")


@dataclass(frozen=True)
class Twice:
    """The demonstration's cubes on disk and in a bucket."""

    on_disk: dict[str, bytes]
    in_bucket: dict[str, bytes]
    caches: tuple[str, ...]
    """Keys of the caches in the bucket."""
    path: Path
    """The configuration of the second."""


def _demonstration(folder: Path, storage: dict[str, Any]) -> Path:
    data = yaml.safe_load((CHECKOUT / "configs/demo.yml").read_text(encoding="utf-8"))
    data["data_stores"][0] = storage
    folder.mkdir()
    path = folder / "demo.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def twice(rgw: Rgw, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    folder = tmp_path_factory.mktemp("twice")
    bucket = rgw.bucket()
    storages: dict[str, dict[str, Any]] = {
        "disk": {"identifier": "storage", "store_id": "file", "store_params": {"root": str(folder / "cubes")}},
        "s3": storage_entry(bucket),
    }
    paths = {}
    with DemoServer() as server, pytest.MonkeyPatch.context() as patch:
        server.clms.write_credentials(folder / "key.json")
        patch.setenv("SCS2_DEMO_URL", server.url)
        patch.setenv("SCS2_DEMO_CLMS_CREDENTIALS", str(folder / "key.json"))
        for name, storage in storages.items():
            paths[name] = _demonstration(folder / name, storage)
            ended = in_process("run", "--config", str(paths[name]), home=folder / name / "history")
            assert ended.code == 0, ended.out + ended.err
        stored = bucket.objects(FOLDER)
        yield Twice(
            tree(folder / "cubes"),
            {key: value for key, value in stored.items() if not key.startswith(".") and ".quicklooks/" not in key},
            tuple(key for key in stored if key.startswith(".")),
            paths["s3"],
        )


class TestSixCubes:
    @pytest.mark.timeout(900)
    def test_every_chunk_record_and_document_is_the_same(self, twice: Twice) -> None:
        on_disk = {key: value for key, value in twice.on_disk.items() if not key.startswith(".")}
        assert sorted(twice.in_bucket) == sorted(on_disk)
        assert [key for key, value in on_disk.items() if twice.in_bucket[key] != value] == []
        for cube in CUBES:
            assert f"demo/{cube}.records/cube.json" in on_disk
            assert any(key.startswith(f"demo/{cube}.records/tiles/") for key in on_disk)

    def test_caches_lie_below_the_storage(self, twice: Twice) -> None:
        assert {key.split("/")[1] for key in twice.caches} == {"clms", "esa_cci"}
        assert {key.split("/")[0] for key in twice.caches} == {".cache"}
        assert any(key.endswith("/record.json") for key in twice.caches)
        assert not [key for key in twice.caches if "/claims/" in key]


@dataclass(frozen=True)
class Pair:
    """The same small case with both storages."""

    disk: World
    s3: World
    bucket: Bucket
    home: Path

    def command(self, *arguments: str) -> Ended:
        return in_process(*arguments, "--config", str(self.s3.write()), home=self.home)

    def stored(self) -> dict[str, bytes]:
        return self.bucket.objects(FOLDER)


@pytest.fixture
def pair(tmp_path: Path, bucket: Bucket) -> Pair:
    s3 = on_s3(tmp_path, bucket)
    return Pair(World(tmp_path / "disk", Archive(tmp_path / "archive")), s3, bucket, tmp_path / "home")


def test_made_in_memory_of_this_process(pair: Pair) -> None:
    assert pair.disk.make().made == pair.s3.make().made == TILES
    assert pair.stored() == pair.disk.tree()
    assert pair.s3.make().made == 0


def without_pictures(stored: Mapping[str, bytes]) -> dict[str, bytes]:
    """Without what the command draws, and what it notes for that: series by region."""
    drawn = (".quicklooks/", ".records/series/")
    return {key: value for key, value in stored.items() if not any(part in key for part in drawn)}


def test_commands(pair: Pair) -> None:
    assert pair.command("run").code == 0
    pair.disk.make()
    made = without_pictures(pair.stored())
    assert made == pair.disk.tree()
    status = pair.command("status")
    assert status.code == 0
    assert f"|here|current|{TILES}|0|0|" in status.said.replace("│", "|")
    with open_cube(pair.s3.path, "forest") as cube:
        for layer in ("kind", "height"):
            np.testing.assert_array_equal(cube[layer].to_numpy(), pair.disk.values(layer))
    shown = in_process("config", "show", str(pair.s3.path), home=pair.home)
    assert shown.code == 0
    assert f"s3://{pair.bucket.name}/{FOLDER}" in shown.said
    assert "demosecret" not in shown.said
    retired = pair.command("retire", "forest")
    assert (retired.code, retired.out) == (
        0,
        f"moved to s3://{pair.bucket.name}/{FOLDER}/forest.retired-1.zarr\n",
    )
    assert {key.split(".")[1] for key in pair.stored()} == {"retired-1"}
    moved = {key.replace("forest.retired-1.", "forest.", 1): value for key, value in pair.stored().items()}
    assert without_pictures(moved) == made
    assert pair.command("retire", "forest").code == 1
    # Nothing is done any more.
    assert pair.s3.make().made == TILES


def test_history_lies_in_the_working_directory(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scs2_cubes.config.load import dagster_home  # noqa: PLC0415 - the one test that asks for it

    monkeypatch.chdir(tmp_path)
    assert dagster_home(pair.s3.case(), {}) == tmp_path / ".dagster"
    assert dagster_home(pair.s3.case(), {"DAGSTER_HOME": "/there"}) == Path("/there")


def test_keys_may_come_from_the_usual_environment(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.s3.data["data_stores"][0] = storage_entry(pair.bucket, login={})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "demoaccess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "demosecret")
    assert pair.s3.make().made == TILES
    # Or by reference.
    pair.s3.data["data_stores"][0] = storage_entry(pair.bucket, login={"key": "${K}", "secret": "${S}"})
    case = load_case(pair.s3.write(), environ={"K": "demoaccess", "S": "demosecret"})
    assert case.storage.options["secret"] == "demosecret"
    assert "demosecret" not in repr(case) + str(case.warnings)
    assert isinstance(case.storage, StorageSpec)
