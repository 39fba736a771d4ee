"""Who may not, and what isn't there: one clear error, which shows no secret."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.errors import StorageError
from scs2_cubes.storage.objects import ObjectTree, open_objects
from scs2_cubes_tests.end_to_end.trial import in_process
from scs2_cubes_tests.s3.server import GUEST, OWNER, Bucket
from scs2_cubes_tests.s3.worlds import on_s3, storage_entry

WRITING: dict[str, Callable[[ObjectTree], object]] = {
    "put": lambda objects: objects.put("there/new", b"1"),
    "delete": lambda objects: objects.delete("there/old"),
    "move": lambda objects: objects.move("there", "elsewhere"),
    "remove": lambda objects: objects.remove("there"),
}
READING: dict[str, Callable[[ObjectTree], object]] = {
    "get": lambda objects: objects.get("there/old"),
    "get what isn't there": lambda objects: objects.get("there/nothing"),
    "keys": lambda objects: list(objects.keys("there")),
    "size": lambda objects: objects.size("there"),
    "exists": lambda objects: objects.exists("there"),
    "walk": lambda objects: list(objects.walk("")),
}
EVERYTHING = WRITING | READING
#: What is wrong → s3fs's options, and what the message says.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"login": {"key": "PLANTEDKEY", "secret": "PLANTEDSECRET"}}, "InvalidAccessKeyId.*storage_options.key"),
    "secret": (
        {"login": {"key": OWNER["key"], "secret": "PLANTEDSECRET"}},
        "SignatureDoesNotMatch.*storage_options.secret",
    ),
    "anonymous": ({"login": {}, "anon": True}, "AccessDenied.*Without a key this isn't allowed: give key and secret"),
    "no key at all": ({"login": {}}, "No access key was found: give key and secret.*AWS_ACCESS_KEY_ID"),
    "nobody's right": ({"login": GUEST}, "AccessDenied.*ask the bucket's owner"),
}


def fails(what: Callable[[ObjectTree], object], objects: ObjectTree, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        what(objects)
    shown = "".join(traceback.TracebackException.from_exception(caught.value).format())
    assert "PLANTED" not in shown
    assert "guestsecret" not in shown


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    bucket.client.put_object(Bucket=bucket.name, Key="cubes/there/old", Body=b"old")
    return bucket


@pytest.mark.parametrize("wrong", WRONG)
def test_everything_fails_clearly(filled: Bucket, wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    given, message = WRONG[wrong]
    spec = filled.spec(**given)
    with caplog.at_level(logging.INFO):
        for what in EVERYTHING.values():
            objects = open_objects(spec.root, spec.options)
            fails(what, objects, rf"s3://{filled.name}/cubes.*{message}")
            fails(what, objects, rf"server {filled.server.url}")
    assert "PLANTED" not in caplog.text + repr(spec)
    assert filled.objects() == {"cubes/there/old": b"old"}


@pytest.mark.parametrize("what", EVERYTHING)
def test_a_missing_bucket_is_not_an_empty_one(bucket: Bucket, what: str) -> None:
    objects = open_objects("s3://scs2-nothing/cubes", bucket.options())
    fails(EVERYTHING[what], objects, "s3://scs2-nothing/cubes.*NoSuchBucket.*create it, or correct root")


def test_a_bucket_that_may_only_be_read(filled: Bucket) -> None:
    filled.allow_guest("GetObject", "ListBucket")
    objects = open_objects(filled.spec().root, filled.options(login=GUEST))
    assert objects.get("there/old") == b"old"
    assert objects.get("there/nothing") is None
    assert list(objects.walk("")) == ["there/old"]
    for what in WRITING.values():
        fails(what, objects, "AccessDenied.*ask the bucket's owner for the rights")
    assert filled.objects() == {"cubes/there/old": b"old"}


def test_what_may_be_written_but_not_removed(filled: Bucket) -> None:
    """A list of objects to be removed is answered with "yes"; what became of each stands in the answer."""
    filled.allow_guest("GetObject", "ListBucket", "PutObject")
    objects = open_objects(filled.spec().root, filled.options(login=GUEST))
    for what in ("move", "remove"):
        fails(WRITING[what], objects, "can't (move|remove) .*there.* (AccessDenied|still there).*owner")
    assert "cubes/there/old" in filled.keys()  # noqa: SIM118 - not a mapping's


def test_everybody_may_read_what_is_public(filled: Bucket) -> None:
    filled.allow_everybody("GetObject", "ListBucket")
    objects = open_objects(filled.spec().root, filled.options(login={}, anon=True))
    assert objects.get("there/old") == b"old"
    fails(WRITING["put"], objects, "AccessDenied.*Without a key")


@pytest.mark.parametrize("wrong", ["key", "secret", "anonymous", "no key at all"])
def test_a_run_says_so_and_makes_nothing(tmp_path: Path, bucket: Bucket, wrong: str) -> None:
    given, message = WRONG[wrong]
    world = on_s3(tmp_path, bucket, **given)
    for command in ("run", "status"):
        ended = in_process(command, "--config", str(world.write()), home=tmp_path / "home")
        assert ended.code == 1
        assert message.partition(".*")[0].replace(" ", "") in ended.said
        assert "PLANTED" not in ended.out + ended.err
        assert "Traceback" not in ended.err
    assert bucket.objects() == {}
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()]


def test_a_run_into_a_missing_bucket(tmp_path: Path, bucket: Bucket) -> None:
    world = on_s3(tmp_path, bucket)
    world.data["data_stores"][0] = storage_entry(bucket, name="scs2-nothing")
    ended = in_process("run", "--config", str(world.write()), home=tmp_path / "home")
    assert ended.code == 1
    assert "NoSuchBucket" in ended.said
