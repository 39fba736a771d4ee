"""Caches in a bucket: one fetch for two processes, and never two holders of a claim."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from scs2_cubes.demo.server import DemoServer
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.claims import Contender
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes.preload.window_cache import WindowCache
from scs2_cubes.storage.objects import open_objects
from scs2_cubes_tests.preload.portal_worlds import DATA_ID, WINDOW, asked, store_of, wanted
from scs2_cubes_tests.s3.server import Bucket

#: Each notes in the bucket that it is inside, and looks whether it is alone there.
HOLDER = """
import json, os, sys, time
from scs2_cubes.preload.claims import Timing, held
from scs2_cubes.storage.objects import open_objects
root, options, number, mortal = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4] == "mortal"
objects = open_objects(root, options)
for round in range(4):
    with held(objects, "key", tell=lambda _: None, max_wait=100, timing=Timing(poll=0.02)):
        objects.put(f"inside/{number}", b"")
        assert list(objects.keys("inside")) == [f"inside/{number}"]
        objects.delete(f"inside/{number}")
        objects.put(f"done/{number}-{round}", b"")
        if mortal and round == 1:
            os.kill(os.getpid(), 9)
"""

FETCHER = """
import json, sys
from dataclasses import replace
from scs2_cubes.core.grid import Window
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes_tests.preload.portal_worlds import DATA_ID, WINDOW, store_of, wanted
url, root, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
windows = EsaCciWindows.open(replace(store_of(url, root), cache=StorageSpec(root, options)))
native = windows.describe(DATA_ID)
print("ready", flush=True)
sys.stdin.readline()
print(windows.fetch(native, wanted(WINDOW), lambda _: None).requests)
"""


def started(program: str, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=pipe, stdout=pipe, text=True)


def text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options))


def test_never_two_at_once_although_one_is_killed(bucket: Bucket) -> None:
    spec = bucket.spec("cache")
    kinds = ("mortal", "", "")
    processes = [started(HOLDER, spec.root, text(spec.options), str(n), kind) for n, kind in enumerate(kinds)]
    for process in processes:
        process.communicate(timeout=200)
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0]
    objects = open_objects(spec.root, spec.options)
    assert len(list(objects.keys("done"))) == 2 + 4 + 4
    # What the one left that was killed is removed by the next one.
    claim = Contender(objects, "key").take()
    assert claim is not None
    claim.release()
    assert list(objects.keys("claims")) == []


def test_two_processes_fetch_once(bucket: Bucket, demo_server: DemoServer) -> None:
    spec = bucket.spec("cache")
    processes = [started(FETCHER, demo_server.url, spec.root, text(spec.options)) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    requests = [int(process.communicate("go\n", timeout=200)[0]) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    pixels = asked(demo_server)
    assert len(pixels) == len(set(pixels)) == sum(requests) > 0
    # And the next one finds everything.
    windows = EsaCciWindows.open(replace(store_of(demo_server, spec.root), cache=spec))
    report = windows.fetch(windows.describe(DATA_ID), wanted(WINDOW), lambda _: None)
    assert report.requests == 0
    (entry,) = WindowCache.open(spec).entries()
    assert entry.bytes == sum(len(value) for key, value in bucket.objects("cache").items() if ".windows/" in key)


@pytest.mark.parametrize("kind", [ArchiveCache, WindowCache])
def test_an_empty_cache(bucket: Bucket, kind: type[ArchiveCache | WindowCache]) -> None:
    cache = kind.open(bucket.spec("cache"))
    assert cache.entries() == ()
    assert cache.clear("nothing|there") == 0
