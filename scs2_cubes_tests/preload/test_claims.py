from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError  # type: ignore[import-untyped]  # ships no type information

from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import PreloadError, StorageError
from scs2_cubes.preload.claims import Claim, Contender, Timing, held
from scs2_cubes.storage.objects import LocalObjects, ObjectTree, open_objects
from scs2_cubes.storage.processes import Process

KEY = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"
#: Signs of life often enough for tests that last a moment.
QUICK = Timing(beat=0.02, lease=0.4, poll=0.02)
#: A holder that gives none, as one that is suspended.
SILENT = replace(QUICK, beat=1000.0)


@pytest.fixture
def objects(place: StorageSpec) -> ObjectTree:
    return open_objects(place.root, {})


def take(objects: ObjectTree, timing: Timing | None = None, key: str = KEY) -> Claim:
    claim = Contender(objects, key, timing).take()
    assert claim is not None
    return claim


def documents(objects: ObjectTree) -> list[str]:
    return list(objects.keys("claims"))


def of_another_host(objects: ObjectTree) -> str:
    """Make the only document one of another host; its key."""
    (document,) = documents(objects)
    content = json.loads(objects.get(document) or b"")
    content["process"]["host"] = "elsewhere.example"
    objects.put(document, json.dumps(content).encode())
    return document


class TestOneAtATime:
    def test_take_and_release(self, objects: ObjectTree) -> None:
        claim = take(objects)
        contender = Contender(objects, KEY)
        assert contender.take() is None
        assert contender.rival == f"process {os.getpid()} on {Process.this().host}"
        claim.check()
        claim.release()
        claim.release()
        with pytest.raises(PreloadError, match="is lost"):
            claim.check()
        with take(objects):
            assert contender.take() is None
        assert documents(objects) == []

    def test_keys_do_not_meet(self, objects: ObjectTree) -> None:
        with take(objects, key="a"), take(objects, key="a/b"), take(objects, key="a|b" * 200):
            assert len(documents(objects)) == 3

    def test_who_does_not_get_it_leaves_nothing(self, objects: ObjectTree) -> None:
        with take(objects):
            before = documents(objects)
            assert Contender(objects, KEY).take() is None
            assert documents(objects) == before

    def test_threads(self, objects: ObjectTree) -> None:
        inside: list[int] = []
        most: list[int] = []
        rounds = threading.Semaphore(60)
        gate = threading.Barrier(6)

        def work(number: int) -> None:
            gate.wait()
            while rounds.acquire(blocking=False):
                with held(objects, KEY, tell=lambda _: None, max_wait=30, timing=QUICK):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 60
        assert documents(objects) == []

    def test_waiting_is_told_and_bounded(self, objects: ObjectTree) -> None:
        told: list[str] = []
        with (
            take(objects, QUICK),
            pytest.raises(PreloadError, match=rf"process {os.getpid()} on .* busy with .*run again"),
            held(objects, KEY, tell=told.append, max_wait=0.2, timing=QUICK),
        ):
            pass
        (line,) = told
        assert f"{KEY}: process {os.getpid()} on " in line

    def test_an_error_inside_releases(self, objects: ObjectTree) -> None:
        with pytest.raises(ZeroDivisionError), held(objects, KEY, tell=print, max_wait=0):
            raise ZeroDivisionError
        assert documents(objects) == []


PROGRAM = """
import os, random, sys, time
from pathlib import Path
from scs2_cubes.preload.claims import Timing, held
from scs2_cubes.storage.objects import LocalObjects
root, number, mortal = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mortal"
dice = random.Random(number)
objects = LocalObjects(root / "cache")
for round in range(12):
    with held(objects, "key", tell=lambda _: None, max_wait=100, timing=Timing(poll=0.02)):
        # Fails where somebody else is inside.
        os.close(os.open(root / "inside", os.O_CREAT | os.O_EXCL))
        time.sleep(dice.random() * 0.005)
        os.unlink(root / "inside")
        (root / "done" / f"{number}-{round}").touch()
        if mortal and round == 5:
            os.kill(os.getpid(), 9)
"""


class TestProcesses:
    def test_never_two_at_once_although_some_are_killed(self, tmp_path: Path) -> None:
        (tmp_path / "done").mkdir()
        kinds = ["mortal", "", "mortal", ""]
        started = [
            subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(number), kind])
            for number, kind in enumerate(kinds)
        ]
        codes = [process.wait(120) for process in started]
        assert codes == [-signal.SIGKILL if kind else 0 for kind in kinds]
        assert len(list((tmp_path / "done").iterdir())) == 2 * 12 + 2 * 6
        # What the last one left, if it was killed, is removed by the next one.
        objects = open_objects(str(tmp_path / "cache"), {})
        take(objects, key="key").release()
        assert documents(objects) == []

    def test_after_a_kill_the_next_one_goes_on_at_once(self, tmp_path: Path) -> None:
        program = (
            "import sys, time; from pathlib import Path; from scs2_cubes.preload.claims import Contender\n"
            "from scs2_cubes.storage.objects import LocalObjects\n"
            "claim = Contender(LocalObjects(Path(sys.argv[1])), 'key').take()\n"
            "print(claim is not None, flush=True); time.sleep(100)"
        )
        objects = LocalObjects(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "True\n"
            assert Contender(objects, "key").take() is None
            holder.kill()
            # Nobody has asked for its exit status yet: a zombie is no holder either.
            while (state := Path(f"/proc/{holder.pid}/stat").read_text().split()[2]) != "Z":
                assert state
            started = time.monotonic()
            with held(objects, "key", tell=print, max_wait=10):
                assert time.monotonic() - started < 1

    def test_numbers_are_used_again(self) -> None:
        this = Process.this()
        assert not this.has_ended()
        assert replace(this, birth="1").has_ended()
        # What can't be known: another host, or a container whose host has the same name.
        assert not replace(this, birth="1", host="elsewhere.example").has_ended()
        assert not replace(this, birth="1", system="another boot").has_ended()

    def test_an_ended_process(self) -> None:
        program = "from scs2_cubes.storage.processes import Process; p = Process.this(); print(p.number, p.birth)"
        ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
        number, birth = ended.stdout.split()
        assert replace(Process.this(), number=int(number), birth=birth).has_ended()


class TestOtherHosts:
    """Nobody can see whether their processes run: signs of life decide."""

    def test_silence_for_a_lease(self, objects: ObjectTree) -> None:
        with take(objects, SILENT):
            of_another_host(objects)
            contender = Contender(objects, KEY, QUICK)
            started = time.monotonic()
            while (claim := contender.take()) is None:
                time.sleep(0.01)
            assert time.monotonic() - started >= QUICK.lease
            with claim:
                assert len(documents(objects)) == 1

    def test_signs_of_life(self, objects: ObjectTree) -> None:
        with take(objects, QUICK) as claim:
            contender = Contender(objects, KEY, replace(QUICK, lease=0.2))
            deadline = time.monotonic() + 0.8
            while time.monotonic() < deadline:
                assert contender.take() is None
                claim.check()
                time.sleep(0.01)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"process": {}}', b"[1]"])
    def test_a_document_that_cannot_be_read(self, objects: ObjectTree, content: bytes) -> None:
        with take(objects, SILENT):
            (document,) = documents(objects)
            objects.put(document, content)
            contender = Contender(objects, KEY, QUICK)
            assert contender.take() is None
            time.sleep(QUICK.lease)
            assert contender.take() is not None


class TestLost:
    def test_who_was_silent_notices(self, objects: ObjectTree) -> None:
        first = take(objects, SILENT)
        contender = Contender(objects, KEY, QUICK)
        assert contender.take() is None
        time.sleep(QUICK.lease)
        with pytest.raises(PreloadError, match="no sign of life"):
            first.check()
        second = contender.take()
        assert second is not None
        first.renew()
        with pytest.raises(PreloadError, match=r"is lost.*run again"):
            first.check()
        # It hasn't put its document back, and releasing takes nothing from the other one.
        assert documents(objects) == [second.document]
        first.release()
        second.renew()
        second.check()
        second.release()

    def test_who_wakes_up_in_the_middle_of_renewing(self, objects: ObjectTree) -> None:
        """Looked, was suspended, lost it, and puts its document back."""
        winners: list[Claim] = []
        contender = Contender(objects, KEY, QUICK)

        class Suspended:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def put(self, key: str, value: bytes) -> None:
                if not winners:
                    contender.take()
                    time.sleep(QUICK.lease)
                    winner = contender.take()
                    assert winner is not None
                    winners.append(winner)
                objects.put(key, value)

        first = take(objects, replace(SILENT, lease=1000.0))
        first.objects = Suspended()
        first.renew()
        (second,) = winners
        with pytest.raises(PreloadError):
            first.check()
        second.renew()
        second.check()
        assert documents(objects) == [second.document]
        second.release()

    def test_a_sleeper_put_it_back_and_was_killed(self, objects: ObjectTree) -> None:
        first = take(objects, SILENT)
        content = objects.get(first.document)
        assert content is not None
        contender = Contender(objects, KEY, QUICK)
        contender.take()
        time.sleep(QUICK.lease)
        second = contender.take()
        assert second is not None
        objects.put(first.document, content)
        second.renew()
        second.check()
        second.release()

    def test_who_was_taken_for_dead_before_it_had_it(self, objects: ObjectTree) -> None:
        """Announced itself, was suspended, and another one came and went."""

        class Suspended:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def put(self, key: str, value: bytes) -> None:
                objects.put(key, value)
                objects.delete(key)

        assert Contender(Suspended(), KEY).take() is None
        assert documents(objects) == []

    def test_a_cache_that_is_away_for_a_while(self, objects: ObjectTree) -> None:
        away = threading.Event()

        class Flaky:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def get(self, key: str) -> bytes | None:
                if away.is_set():
                    raise StorageError("away")
                return objects.get(key)

        with take(objects, QUICK) as claim:
            claim.objects = Flaky()
            away.set()
            time.sleep(0.1)
            claim.check()
            away.clear()
            time.sleep(QUICK.lease)
            claim.check()
            away.set()
            time.sleep(QUICK.lease + 0.1)
            with pytest.raises(PreloadError, match="cut off from the folder"):
                claim.check()

    def test_a_sign_of_life_that_is_stuck_does_not_hold_up_the_release(self, objects: ObjectTree) -> None:
        """As on a server that is silent: told after a lease; and what was stuck brings nothing back for good."""
        stuck, goes_on = threading.Event(), threading.Event()

        class Silent:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def put(self, key: str, value: bytes) -> None:
                stuck.set()
                goes_on.wait(60)
                objects.put(key, value)

        claim = take(objects, QUICK)
        claim.objects = Silent()
        assert stuck.wait(60)
        try:
            with pytest.raises(StorageError, match=rf"the claim on '{re.escape(KEY)}'.* can't be removed.*for a lease"):
                claim.release()
            claim.release()
        finally:
            goes_on.set()
        started = time.monotonic()
        while documents(objects) and time.monotonic() - started < 60:
            time.sleep(0.01)
        assert documents(objects) == []

    @pytest.mark.parametrize("problem", [None, ValueError("of the block")])
    def test_what_was_done_under_it_is_done_although_it_cannot_be_released(
        self, objects: ObjectTree, caplog: pytest.LogCaptureFixture, problem: ValueError | None
    ) -> None:
        """A failure to release neither fails what has succeeded nor hides why something failed."""

        class Undeletable:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def delete(self, key: str) -> None:
                raise StorageError(f"can't remove {key}: the server is away")

        done: list[str] = []
        expected = contextlib.nullcontext() if problem is None else pytest.raises(ValueError, match="of the block")
        with expected, held(objects, KEY, tell=done.append, max_wait=0, timing=QUICK) as claim:
            claim.objects = Undeletable()
            if problem is not None:
                raise problem
            done.append("all")
        assert done == ([] if problem else ["all"])
        assert f"can't remove {claim.document}: the server is away" in caplog.text
        # Whoever comes next waits for a lease at most.
        with held(objects, KEY, tell=done.append, max_wait=60, timing=QUICK) as another:
            another.check()

    def test_errors_of_other_libraries_do_not_end_the_beat(
        self, objects: ObjectTree, caplog: pytest.LogCaptureFixture
    ) -> None:
        away = threading.Event()
        away.set()

        class Foreign:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def get(self, key: str) -> bytes | None:
                if away.is_set():
                    raise EndpointConnectionError(endpoint_url="https://user:PLANTED@s3.example/")
                return objects.get(key)

        with take(objects, QUICK) as claim:
            claim.objects = Foreign()
            time.sleep(0.1)
            away.clear()
            time.sleep(QUICK.lease + 0.1)
            claim.check()
        assert "can't be renewed: EndpointConnectionError" in caplog.text
        assert "PLANTED" not in caplog.text

    def test_nobody_is_left_behind_where_taking_fails(self, objects: ObjectTree) -> None:
        class Blind:
            """Lists once, and then no more."""

            lists = 0

            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def keys(self, prefix: str) -> Iterator[str]:
                self.lists += 1
                if self.lists > 1:
                    raise StorageError("can't list")
                return objects.keys(prefix)

        with pytest.raises(StorageError, match="can't list"):
            Contender(Blind(), KEY).take()
        assert documents(objects) == []


class TestSuspendedBetweenWinningAndAnnouncing:
    """Nobody else was there; then this one slept, and another one took over."""

    @staticmethod
    def take_over(objects: ObjectTree) -> Claim:
        contender = Contender(objects, KEY, QUICK)
        assert contender.take() is None
        time.sleep(QUICK.lease)
        winner = contender.take()
        assert winner is not None
        return winner

    def test_before_it_looks(self, objects: ObjectTree, monkeypatch: pytest.MonkeyPatch) -> None:
        winners: list[Claim] = []
        hold = Claim.hold

        def late(claim: Claim, *args: Any) -> Any:
            monkeypatch.setattr(Claim, "hold", hold)
            winners.append(self.take_over(objects))
            return hold(claim, *args)

        monkeypatch.setattr(Claim, "hold", late)
        # A lease of its own so long that it can't know by the time that has passed.
        assert Contender(objects, KEY, replace(SILENT, lease=1000.0)).take() is None
        (winner,) = winners
        winner.renew()
        winner.check()
        assert documents(objects) == [winner.document]
        winner.release()

    def test_after_it_looked(self, objects: ObjectTree) -> None:
        winners: list[Claim] = []
        take_over = self.take_over

        class Suspended:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def put(self, key: str, value: bytes) -> None:
                if json.loads(value)["is_holder"] and not winners:
                    winners.append(take_over(objects))
                objects.put(key, value)

        assert Contender(Suspended(), KEY, replace(SILENT, lease=1000.0)).take() is None
        (winner,) = winners
        winner.renew()
        winner.check()
        assert documents(objects) == [winner.document]
        winner.release()

    def test_for_a_lease_although_nobody_has_announced_anything(self, objects: ObjectTree) -> None:
        """Who has buried it may have won, and be about to announce that."""

        class Suspended:
            def __getattr__(self, name: str) -> Any:
                return getattr(objects, name)

            def put(self, key: str, value: bytes) -> None:
                if json.loads(value)["is_holder"]:
                    time.sleep(QUICK.lease)
                objects.put(key, value)

        assert Contender(Suspended(), KEY, QUICK).take() is None
        assert documents(objects) == []
