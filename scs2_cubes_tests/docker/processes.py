"""The services of ``docker/compose.yaml`` as processes on loopback: no engine, no image, the same files.

Commands, environments and health checks are the compose file's and the Dockerfile's; only what a container makes
private is changed: names of hosts, ports, and paths. A process gets the environment of a container, not the caller's.
PostgreSQL, whose command belongs to its image, is Debian's, started with what the compose file tells that image.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest

from scs2_cubes_tests.docker.composition import CHECKOUT, DOCKER, Service, image, services

_PATH = re.compile(r"(?<![\w:/.])/(?:opt|var/lib|tmp|run|etc)/[^\s:'\"]*")
_PORT = re.compile(r"(?<![\w.])\d{4,5}(?![\w.])")
#: Ports that a service's replicas all have, each in its own container.
_OWN_PORTS = {"8788"}
_BINARIES = Path("/usr/lib/postgresql/15/bin")
_HEALTH_SECONDS = 90


class Stack:
    """The services under ``root``, an existing folder that everybody may enter. Nothing runs before :meth:`start`.

    ``variables`` are what ``.env`` would hold, ``extra`` what an override file would add to the environment of all.
    ``ports`` are those of services that run already, such as an S3 server: the container's → the one on loopback.
    """

    def __init__(
        self,
        root: Path,
        variables: Mapping[str, str],
        extra: Mapping[str, str] | None = None,
        module: str = "scs2_cubes.definitions",
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.root = root
        self.extra = dict(extra or {})
        self.services = services(variables)
        self._module = module
        self._ports = {("", port): ours for port, ours in (ports or {}).items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        """Lay out what the image would hold, and the database."""
        for target, source in image().copies.items():
            place = self.root / "image" / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (CHECKOUT / source).is_dir() else shutil.copyfile
            copy(CHECKOUT / source, place)
        (self.root / "logs").mkdir()
        for service in self.services.values():
            for source in service.mounts.values():
                if not source.startswith("."):
                    (self.root / "volumes" / source).mkdir(parents=True, exist_ok=True)
        self._make_database()

    def names(self, service: str) -> list[str]:
        """Names of a service's containers: ``worker-1``, ``worker-2``; the service's own where it has one."""
        replicas = self.services[service].replicas
        return [service] if replicas == 1 else [f"{service}-{number + 1}" for number in range(replicas)]

    def start(self, name: str) -> None:
        """Start a container's process."""
        service = self._service_of(name)
        command = self._postgres(service) if service.name == "postgres" else self._mapped_all(service.command, name)
        log = self.root / "logs" / f"{name}.log"
        with log.open("ab") as output:
            self._running[name] = subprocess.Popen(
                command,
                env=self.environment(name),
                cwd=self.root,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a container as its engine would: signal 9 for each of its processes."""
        process = self._running.pop(name)
        doomed = [process.pid, *_descendants(process.pid)]
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        _wait_for("the end of all processes", lambda: not any(_is_alive(pid) for pid in doomed), 20)

    def kill_process(self, name: str, pid: int) -> None:
        """Kill one of a container's processes."""
        assert pid in _descendants(self._running[name].pid)
        os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def up(self, *names: str) -> None:
        """Start containers and wait until their health checks pass."""
        for name in names:
            self.start(name)
        for name in names:
            self.wait_healthy(name)

    def wait_healthy(self, name: str) -> None:
        """Run a container's own health check until it passes. Fails where the process ends before, or after minutes."""
        command = self._mapped_all(self._service_of(name).health, name)
        environment = self.environment(name)

        def is_healthy() -> bool:
            if (code := self._running[name].poll()) is not None:
                pytest.fail(f"{name} has ended with {code}:\n{self.log(name)[-4000:]}")
            return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

        _wait_for(f"health of {name}", is_healthy, _HEALTH_SECONDS, interval=0.5)

    def log(self, name: str) -> str:
        return (self.root / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def port(self, container_port: str, name: str = "") -> int:
        """The port on loopback that stands for a container's."""
        key = (name if container_port in _OWN_PORTS else "", container_port)
        if key not in self._ports:
            self._ports[key] = _free_port()
        return self._ports[key]

    def path(self, inside: str, name: str) -> Path:
        """The path that stands for one in a container: in a volume, on the host, of the image, or its own."""
        mounts = self._service_of(name).mounts
        for target in sorted(mounts, key=len, reverse=True):
            if inside == target or inside.startswith(f"{target}/"):
                source, rest = mounts[target], inside.removeprefix(target).lstrip("/")
                return (DOCKER / source if source.startswith(".") else self.root / "volumes" / source) / rest
        if inside.startswith("/opt/scs2/"):
            return self.root / "image" / inside.lstrip("/")
        own = self.root / "containers" / name / inside.lstrip("/")
        own.parent.mkdir(parents=True, exist_ok=True)
        return own

    def environment(self, name: str) -> dict[str, str]:
        """A container's environment: the image's, then the service's."""
        service = self._service_of(name)
        ours = "command" in service.data and "build" in service.data
        inside = {**(image().environment if ours else {}), **service.environment}
        # A variable may be a host and nothing else; a word of a command isn't: dask has a command called scheduler.
        mapped = {
            key: "127.0.0.1" if value in self.services else self._mapped(value, name) for key, value in inside.items()
        }
        own = self.root / "containers" / name
        own.mkdir(parents=True, exist_ok=True)
        return {
            **mapped,
            **(self.extra if ours else {}),
            # The image's own environment of Python is this one.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(_BINARIES), os.defpath]),
            # The image has the package installed; here it is this checkout's.
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(own),
            "LANG": "C.UTF-8",
        }

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The instance of the containers, as the daemon sees it."""
        environment = self.environment("daemon")
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                if key.startswith(("DAGSTER_", "SCS2_")):
                    patch.setenv(key, value)
            with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
                yield instance

    def _service_of(self, name: str) -> Service:
        return self.services[name if name in self.services else name.rpartition("-")[0]]

    def _mapped_all(self, words: Sequence[str], name: str) -> list[str]:
        return [self._mapped(word, name).replace("scs2_cubes.definitions", self._module) for word in words]

    def _mapped(self, text: str, name: str) -> str:
        """``text`` with paths, ports and hosts of a container replaced."""
        text = _PATH.sub(lambda found: str(self.path(found[0], name)), text)
        if "/" in text and "://" not in text:
            return text
        text = _PORT.sub(lambda found: str(self.port(found[0], name)), text)
        hosts = "|".join(self.services)
        return re.sub(rf"^0\.0\.0\.0(?=$|:)|(?<=//)(?:{hosts})(?=:)", "127.0.0.1", text)

    def _postgres(self, service: Service) -> list[str]:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        where = [str(_BINARIES / "postgres"), "-D", str(self._data_folder(service)), "-p", str(self.port("5432"))]
        return [*_as_postgres(), *where, *words]

    def _data_folder(self, service: Service) -> Path:
        (target,) = service.mounts
        return self.path(target, service.name)

    def _make_database(self) -> None:
        """What the image's entry point does when its volume is empty: the cluster, the user with its password."""
        service = self.services["postgres"]
        folder, settings = self._data_folder(service), service.environment
        password = self.root / "password"
        password.write_text(settings["POSTGRES_PASSWORD"], encoding="utf-8")
        password.chmod(0o644)
        if _as_postgres():
            shutil.chown(folder, "postgres", "postgres")
        how = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [*_as_postgres(), str(_BINARIES / "initdb"), "-D", str(folder), "-U", settings["POSTGRES_USER"], *how]
        subprocess.run(command, check=True, capture_output=True, cwd="/")
        self.up("postgres")
        createdb = [str(_BINARIES / "createdb"), "-h", "127.0.0.1", "-p", str(self.port("5432"))]
        subprocess.run(
            [*createdb, "-U", settings["POSTGRES_USER"], settings["POSTGRES_DB"]],
            env={"PGPASSWORD": settings["POSTGRES_PASSWORD"], "PATH": os.defpath},
            check=True,
            capture_output=True,
        )


def missing_programs() -> str:
    """Why the processes can't be started here; empty where they can."""
    if not (_BINARIES / "postgres").is_file():
        return "PostgreSQL 15 isn't installed (apt-get install postgresql-15)"
    return ""


def _as_postgres() -> list[str]:
    # PostgreSQL refuses to run as root.
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _descendants(pid: int) -> list[int]:
    """Processes that ``pid`` has started, and those have started, whatever group they have put themselves into."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, ()))
    for one in found:
        found.extend(children.get(one, ()))
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(what: str, condition: Callable[[], bool], seconds: float, interval: float = 0.05) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            pytest.fail(f"waited for {what} for {seconds} s in vain")
        time.sleep(interval)
