"""The files of ``docker/``, each by the tool that knows it, and against each other. Starts no service."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.storage.config import pg_config
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dask.config import collect_env
from dask.utils import parse_bytes
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scs2_cubes.config import load_case
from scs2_cubes_tests.docker.composition import (
    CHECKOUT,
    DOCKER,
    Service,
    example_variables,
    filled_in,
    image,
    services,
    variables_of,
)

COMPOSE = DOCKER / "compose.yaml"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|(ACCESS|API)_KEY")
#: Names that have such a word in them, and say where secrets lie.
PLACES = {"SCS2_SECRETS_DIR"}
OURS = ("code", "webserver", "daemon", "scheduler", "worker")


def filled() -> dict[str, str]:
    """``.env.example`` as somebody has filled it in."""
    return {name: value or "abc123" for name, value in example_variables().items()}


@pytest.fixture(scope="module")
def composed() -> dict[str, Service]:
    return services(filled())


def tool(name: str) -> str:
    """A program of this Python's environment, or of the system."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} isn't installed")
    return found


def said_by(*command: str | Path) -> tuple[int, str]:
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=DOCKER)
    return ended.returncode, ended.stdout + ended.stderr


# By their tools.


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    assert said_by(tool("hadolint"), DOCKER / "Dockerfile") == (0, "")
    broken = tmp_path / "Dockerfile"
    broken.write_text((DOCKER / "Dockerfile").read_text().replace("# hadolint ignore=DL3008\n", ""), encoding="utf-8")
    code, said = said_by(tool("hadolint"), broken)
    assert code == 1
    assert "DL3008" in said


def test_compose_file_follows_the_specification(tmp_path: Path) -> None:
    check = (tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec")
    code, said = said_by(*check, COMPOSE)
    assert code == 0, said
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("healthcheck:", "heathcheck:"), encoding="utf-8")
    assert said_by(*check, broken)[0] != 0


def test_compose_reads_its_file(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    environment.write_text("".join(f"{name}={value}\n" for name, value in filled().items()), encoding="utf-8")
    command = (tool("docker-compose"), "--file", COMPOSE, "--env-file")
    code, said = said_by(*command, environment, "config", "-q")
    assert (code, said) == (0, "")
    # Without the password it doesn't start, and says which variable it wants.
    code, said = said_by(*command, DOCKER / ".env.example", "config", "-q")
    assert code != 0
    assert "POSTGRES_PASSWORD" in said


# The compose file.


def test_every_variable_is_in_the_example_and_every_example_is_used() -> None:
    lines = [line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#")]
    # The project's name is read by compose itself.
    assert variables_of("\n".join(lines)) == set(example_variables()) - {"COMPOSE_PROJECT_NAME"}


def test_defaults_in_the_file_are_those_of_the_example() -> None:
    example = example_variables()
    found = re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", COMPOSE.read_text())
    assert found
    assert {name: value for name, value in found if example[name] != value} == {}


def test_no_secret_has_a_default() -> None:
    secrets = {name for name in example_variables() if SECRET.search(name)} - PLACES
    assert {"POSTGRES_PASSWORD", "S3_SECRET_ACCESS_KEY", "S3_RPC_SECRET"} <= secrets
    assert {name: example_variables()[name] for name in secrets if example_variables()[name]} == {}
    data = yaml.safe_load(COMPOSE.read_text())
    for section in data["services"].values():
        for name, value in section.get("environment", {}).items():
            if SECRET.search(name) and name not in PLACES:
                assert re.fullmatch(r"\$\{[A-Z0-9_]+(:-|:\?[^}]*)?\}", value), name
    for instruction, rest in image().instructions:
        if instruction in {"ENV", "ARG"}:
            assert not SECRET.search(rest)


def test_what_is_filled_in_is_never_committed() -> None:
    assert {".env", "secrets/"} <= set((DOCKER / ".gitignore").read_text().splitlines())


def test_ports_are_this_computers_alone(composed: dict[str, Service]) -> None:
    published = [port for service in composed.values() for port in service.data.get("ports", ())]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    # The database and the code server answer whoever reaches them.
    assert not {"ports", "network_mode"} & (composed["postgres"].data.keys() | composed["code"].data.keys())


@pytest.mark.parametrize("name", [*OURS, "postgres", "s3"])
def test_services_are_watched_and_started_again(composed: dict[str, Service], name: str) -> None:
    section = composed[name].data
    assert section["restart"] == "unless-stopped"
    assert section["healthcheck"]["interval"]
    repository, _, tag = section["image"].rpartition(":")
    assert repository
    assert tag not in {"", "latest"}
    for other, how in section.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}, other
    assert "privileged" not in section
    assert not any("docker.sock" in source for source in composed[name].mounts.values())


def test_one_image_for_all_and_one_daemon(composed: dict[str, Service]) -> None:
    assert {composed[name].data["image"] for name in OURS} == {filled()["SCS2_IMAGE"]}
    daemons = [name for name, service in composed.items() if service.command[:1] == ("dagster-daemon",)]
    assert daemons == ["daemon"]
    assert composed["daemon"].replicas == 1
    assert composed["daemon"].data["container_name"]


def test_daemon_and_web_server_see_what_the_code_server_sees(composed: dict[str, Service]) -> None:
    code = composed["code"]
    for name in ("webserver", "daemon"):
        other = composed[name]
        assert {key: code.environment.get(key) for key in other.environment} == other.environment
        assert other.mounts.items() <= code.mounts.items()
        # Nothing of the project, so nothing of its configuration or its secrets.
        assert "SCS2_CONFIG" not in other.environment
    # A plan names paths: they have to be the same on the workers.
    worker = composed["worker"]
    assert worker.mounts["/var/lib/scs2/data"] == code.mounts["/var/lib/scs2/data"]
    assert {key: code.environment[key] for key in worker.environment} == worker.environment


def test_dask_holds_back_before_the_container_is_killed(composed: dict[str, Service]) -> None:
    worker = composed["worker"]
    limit = worker.command[worker.command.index("--memory-limit") + 1]
    container = worker.data["deploy"]["resources"]["limits"]["memory"]
    # A container's units are powers of two: https://docs.docker.com/reference/compose-file/extension/#specifying-byte-values
    assert parse_bytes(limit) < parse_bytes(container.replace("gb", "GiB"))
    assert worker.replicas == 2


# The image.


def test_image_runs_without_privileges_and_is_watched() -> None:
    names = [name for name, _ in image().instructions]
    users = [rest for name, rest in image().instructions if name == "USER"]
    assert users == ["10001:10001"]
    # Nothing that changes the image comes after it.
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    assert "HEALTHCHECK" in names
    assert "ADD" not in names


def test_workers_are_not_profiled() -> None:
    """As in the clusters that the package starts: see ``scs2_cubes.pipeline.cluster``."""
    settings = collect_env(image().environment)
    # As text it would be true.
    assert settings["distributed"]["worker"]["profile"]["enabled"] is False


def needed_by(requirements: Iterable[Requirement], pinned: Mapping[str, str]) -> set[str]:
    """Names of the packages that those bring along here, as far as the installed ones are those ``pinned``."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(one.name), extra) for one in requirements for extra in ("", *one.extras)]
    while waiting:
        if (item := waiting.pop()) in seen:
            continue
        seen.add(item)
        name, extra = item
        found.add(name)
        if importlib.metadata.version(name) != pinned.get(name):
            # A newer one may need something else.
            continue
        for one in map(Requirement, importlib.metadata.requires(name) or ()):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(one.name), wanted) for wanted in ("", *one.extras)]
    return found


def test_packages_in_the_image_are_pinned_to_what_the_project_allows() -> None:
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)
    pinned: dict[str, str] = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(one) for one in project["dependencies"] + project["optional-dependencies"]["postgres"]]
    assert [str(one) for one in wanted if pinned.get(canonicalize_name(one.name), "") not in one.specifier] == []
    assert sorted(needed_by(wanted, pinned) - pinned.keys()) == []
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^COPY pyproject.toml .*docker/constraints.txt \./$", text, flags=re.MULTILINE)
    assert re.findall(r"pip install.*\[postgres\]", text) == ['pip install -c constraints.txt "${wheel}[postgres]']


def test_image_is_pinned_by_tag() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", text, flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)
    assert re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2


def test_what_the_image_copies_is_there_and_is_let_through() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    sources = {
        word
        for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE)
        if "--from" not in line
        for word in [word for word in line.split() if not word.startswith("--")][:-1]
    }
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert sources == {line[1:] for line in ignored if line.startswith("!")}
    for source in sources:
        assert (CHECKOUT / source).exists(), source
    assert ignored[-1] == "**/*credentials*.json"


def test_places_in_the_image_exist(composed: dict[str, Service]) -> None:
    """What is a path in the image is copied there, made there, or mounted there."""
    made = folders_made()
    for name in OURS:
        service = composed[name]
        for value in [*service.environment.values(), *image().environment.values(), *service.command]:
            for path in re.findall(r"(?<![\w:$])/(?:opt|var/lib)/[\w./-]+", value):
                copied = any(path == target or target.startswith(f"{path}/") for target in image().copies)
                assert copied or path in made or path in service.mounts or path.startswith("/opt/scs2/venv"), path


def test_image_starts_the_code_server_as_compose_does(composed: dict[str, Service]) -> None:
    (command,) = (json.loads(rest) for name, rest in image().instructions if name == "CMD")
    assert tuple(command) == composed["code"].command
    modules = [word for option, word in pairwise(command) if option == "-m"]
    assert len(modules) == 2
    # Looked for, not imported: the server needs the extra.
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


def folders_made() -> set[str]:
    """Folders that the image makes, which belong to its user and not to root."""
    commands = [part.split() for name, rest in image().instructions if name == "RUN" for part in rest.split("&&")]
    owned = ["install", "-d", "-o", "scs2", "-g", "scs2"]
    return {word for words in commands if words[: len(owned)] == owned for word in words[len(owned) :]}


def test_workers_put_aside_what_doesnt_fit_in_a_place_of_their_own(composed: dict[str, Service]) -> None:
    worker = composed["worker"]
    place = worker.command[worker.command.index("--local-directory") + 1]
    # Made in the image, with its user as the owner: what everybody may write to, such as /tmp, isn't.
    assert place in folders_made()
    # On a volume all workers would find it, and what a killed one has left there.
    assert not [target for target in worker.mounts if f"{place}/".startswith(f"{target}/")]


# Dagster's files.


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch, composed: dict[str, Service]) -> None:
    """The environment of the code server."""
    for name, value in composed["code"].environment.items():
        monkeypatch.setenv(name, value)


def test_instance_follows_dagsters_schema() -> None:
    settings, custom = dagster_instance_config(str(DOCKER))
    assert custom is None
    assert {"storage", "run_coordinator", "run_launcher", "concurrency", "run_monitoring"} <= settings.keys()


def test_instance_uses_the_driver_that_is_installed(containers: None) -> None:
    pytest.importorskip("dagster_postgres", reason="the extra 'postgres' isn't installed")
    from dagster_postgres.utils import pg_url_from_config  # noqa: PLC0415  (only with the extra)

    data = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    settings = process_config({"postgres": pg_config()}, data["storage"])
    assert settings.success, settings.errors
    assert settings.value is not None
    url = pg_url_from_config(settings.value["postgres"])
    assert url == "postgresql+psycopg2://dagster:abc123@postgres:5432/dagster"
    # Making an engine imports its driver, and connects to nothing.
    assert sqlalchemy.create_engine(url).driver == "psycopg2"


@pytest.fixture
def instance(tmp_path: Path, containers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The containers' instance with SQLite instead of PostgreSQL."""
    data: dict[str, Any] = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    data["storage"] = {"sqlite": {"base_dir": str(tmp_path / "history")}}
    monkeypatch.setenv("SCS2_RUN_LOGS", str(tmp_path / "runs"))
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


def test_instance_queues_limits_and_watches(instance: dg.DagsterInstance) -> None:
    concurrency = instance.get_concurrency_config()
    assert concurrency.pool_config.default_pool_limit == 1
    assert concurrency.run_queue_config is not None
    assert 0 < concurrency.run_queue_config.max_concurrent_runs < 10
    # A code server may be away for minutes without costing a run that waits.
    queue = concurrency.run_queue_config
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay >= 600
    assert instance.run_monitoring_enabled
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0
    assert instance.run_monitoring_max_runtime_seconds > 0
    assert instance.run_retries_max_retries > 0
    assert not instance.run_retries_retry_on_asset_or_op_failure
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


def test_workspace_is_the_code_server(containers: None) -> None:
    (origin,) = location_origins_from_yaml_paths([str(DOCKER / "workspace.yaml")])
    told = origin.get_display_metadata()
    assert (told["host"], told["port"]) == ("code", "4000")
    assert origin.location_name == "scs2_cubes"


# The configuration.


def test_case_is_the_case() -> None:
    ours = yaml.safe_load((DOCKER / "case.yml").read_text())
    theirs = yaml.safe_load((CHECKOUT / "configs/scs2.yml").read_text())
    assert ours.pop("dask") == {"mode": "address", "address": "${DASK_SCHEDULER_ADDRESS}"}
    for data in (ours, theirs):
        for store in data["data_stores"]:
            # Where cubes and the service key lie is a container's matter.
            if store["identifier"] in {"storage", "clms"}:
                del store["store_params"]
    assert ours == theirs


def test_case_loads_in_a_container(composed: dict[str, Service]) -> None:
    case = load_case(DOCKER / "case.yml", environ=composed["code"].environment)
    assert case.dask.address == "tcp://scheduler:8786"
    assert any(case.storage.root.startswith(target) for target in composed["worker"].mounts)
    for store in case.stores:
        # Workers read caches, too.
        assert store.cache is None or store.cache.root.startswith("/var/lib/scs2/data/")


# The reader of the compose file itself.


def test_variables_are_filled_in_as_compose_does() -> None:
    assert filled_in("${A}-${B:-b}-${C:-c}", {"A": "1", "B": "", "C": "3"}) == "1-b-3"
    with pytest.raises(KeyError, match="A"):
        filled_in("${A:?say it}", {"A": ""})
