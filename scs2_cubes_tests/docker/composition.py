"""What ``docker/compose.yaml`` and ``docker/Dockerfile`` say, as values; starts nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKER = CHECKOUT / "docker"

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?:(?P<how>:-|:\?)(?P<rest>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service, with its variables filled in."""

    name: str
    command: tuple[str, ...]
    """Empty where the image's own is used."""
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    """Path in the container → name of a volume, or path on the host, relative to the file's folder."""
    health: tuple[str, ...]
    """The command of the health check."""
    replicas: int
    data: Mapping[str, Any]
    """Everything, as it stands in the file."""


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` replaced, as compose does it."""

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match["name"], "")
        if value or match["how"] is None:
            return value
        if match["how"] == ":?":
            raise KeyError(match["name"])
        return str(match["rest"])

    return _VARIABLE.sub(value_of, text)


def variables_of(text: str) -> set[str]:
    """Names of the variables in ``text``."""
    return {match["name"] for match in _VARIABLE.finditer(text)}


def example_variables() -> dict[str, str]:
    """What ``.env.example`` sets, the empty ones included."""
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    """The services of the compose file by their names."""
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(_filled_in_lines(text, variables))
    return {name: _service(name, section) for name, section in data["services"].items()}


def _filled_in_lines(text: str, variables: Mapping[str, str]) -> str:
    # Comments may speak of variables, too.
    return "\n".join(line if line.lstrip().startswith("#") else filled_in(line, variables) for line in text.split("\n"))


def _service(name: str, section: Mapping[str, Any]) -> Service:
    mounts = (text.split(":") for text in section.get("volumes", ()))
    test = section["healthcheck"]["test"]
    assert test[0] == "CMD", "the harness starts programs, not shells"
    return Service(
        name=name,
        command=tuple(str(word) for word in section.get("command", ())),
        environment={key: str(value) for key, value in section.get("environment", {}).items()},
        mounts={parts[1]: parts[0] for parts in mounts},
        health=tuple(str(word) for word in test[1:]),
        replicas=int(section.get("deploy", {}).get("replicas", 1)),
        data=section,
    )


@dataclass(frozen=True)
class Image:
    """The last stage of the Dockerfile, as far as the harness needs it."""

    environment: Mapping[str, str]
    copies: Mapping[str, str]
    """Path in the image → path in the checkout."""
    instructions: tuple[tuple[str, str], ...]
    """Name and rest of each instruction."""


def image() -> Image:
    """What the Dockerfile makes."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    instructions = tuple((line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines[last:])
    environment = {
        name: value
        for instruction, rest in instructions
        if instruction == "ENV"
        for name, value in (word.split("=", 1) for word in shlex.split(rest))
    }
    copies: dict[str, str] = {}
    for instruction, rest in instructions:
        words = shlex.split(rest)
        if instruction != "COPY" or any(word.startswith("--from=") for word in words):
            continue
        *sources, target = (word for word in words if not word.startswith("--"))
        for source in sources:
            copies[f"{target}{Path(source).name}" if target.endswith("/") else target] = source
    return Image(environment, copies, instructions)
