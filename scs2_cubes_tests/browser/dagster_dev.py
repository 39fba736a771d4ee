"""``dagster dev`` in processes of its own: web server, daemon and code server, as people start it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from scs2_cubes.orchestration.instance import prepare_home
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, environment

__all__ = ["DagsterDev", "free_port", "left_over"]

#: Seconds. The web server answers after 10 to 25; ending takes 2 to 5.
_START, _END = 120.0, 10.0
_LINES = 60
_LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class DagsterDev:
    """The servers of one configuration and one history, as a context manager. Listens on a free port of 127.0.0.1."""

    def __init__(self, config: Path, home: Path, extra: Mapping[str, str] | None = None) -> None:
        """``config`` is the configuration's path, ``home`` the DAGSTER_HOME, ``extra`` goes into the environment."""
        self._config = config.absolute()
        self._home = home.absolute()
        self._extra = dict(extra or {})
        self._log = self._home.with_name(f"{home.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, once it is started."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def said(self) -> str:
        """The last lines of what web server, daemon, code server and runs have logged."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:])

    def __enter__(self) -> Self:
        prepare_home(self._home)
        self._port = free_port()
        command = ["-m", "dagster", "dev", "-m", "scs2_cubes.definitions", "--host", "127.0.0.1"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command, "--port", str(self._port)],
                env=environment(self._home, {"SCS2_CONFIG": str(self._config), **self._extra}),
                cwd=CHECKOUT,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A process group of their own: it holds every process that they start, the runs, too.
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        limit = time.monotonic() + _START
        while time.monotonic() < limit:
            if process.poll() is not None:
                raise AssertionError(f"dagster dev ended with {process.returncode}:\n{self.said}")
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/server_info", timeout=5) as answer:
                answer.read()
                break
            time.sleep(0.2)
        else:
            raise AssertionError(f"no answer from dagster dev after {_START:.0f} s:\n{self.said}")
        if "PythonError" in (loaded := self.ask(_LOADED)):
            raise AssertionError(f"Dagster can't load the definitions: {loaded}")

    def ask(self, query: str) -> str:
        """What the web server answers to a GraphQL query, as JSON."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            # In vain where interruptions are ignored, as in a shell's background jobs, whose children inherit that.
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            # Whatever of its group is left: the code server notices only after a while that nobody asks any more.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def left_over(home: Path) -> list[str]:
    """The processes that serve ``home`` although its servers were ended; a killed one may need a moment to go."""
    limit = time.monotonic() + _END
    while (left := _processes_of(home)) and time.monotonic() < limit:
        time.sleep(0.1)
    return left


def _processes_of(home: Path) -> list[str]:
    """The running processes whose DAGSTER_HOME is ``home``, by their command lines. Knows them on Linux alone."""
    wanted = f"DAGSTER_HOME={home.absolute()}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end while one looks at it, and others' aren't ours to look at.
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
