"""``config``: a look at a configuration.

Dagster and the array libraries are imported by the commands that need them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from scs2_cubes.cli.terminal import FAILED, console, say_error
from scs2_cubes.config import effective, json_schema, load_case
from scs2_cubes.core.wording import counted

if TYPE_CHECKING:
    from scs2_cubes.core.specification import Case

__all__ = ["config"]


@click.group()
def config() -> None:
    """Look at a configuration."""


@config.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--online", is_flag=True, help="Also ask the sources for the data ids.")
def check(path: Path | None, *, online: bool) -> int:
    """Read a configuration and tell everything that is wrong with it."""
    case = load_case(path)
    terminal = console()
    for warning in case.warnings:
        terminal.print(f"warning: {warning}", highlight=False, markup=False)
    problems = _online_problems(case) if online else []
    for problem in problems:
        say_error(problem)
    if not problems:
        counts = {
            "dataset": len(case.datasets),
            "region": len(case.regions),
            "partition": sum(len(dataset.partition_keys) for dataset in case.datasets),
            "preload": len(case.preloads),
        }
        terminal.print(
            f"{case.name}: {', '.join(counted(number, noun) for noun, number in counts.items())}: no problem found",
            highlight=False,
            markup=False,
        )
    return FAILED if problems else 0


@config.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
def show(path: Path | None) -> None:
    """Print the effective configuration, with every default, without secrets."""
    click.echo(yaml.safe_dump(effective(path), sort_keys=False, allow_unicode=True))


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    click.echo(json.dumps(json_schema(), indent=1))


def _online_problems(case: Case) -> list[str]:
    from scs2_cubes.report.sources import online_problems  # noqa: PLC0415  (see the module's docstring)

    return list(online_problems(case))
