"""What the commands share: exit codes, options, and where their words go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "MISUSED",
    "TERMINATED",
    "config_option",
    "console",
    "say_error",
    "selection_options",
]

FAILED, MISUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
_FILE_WIDTH = 200

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """``--config``."""
    words = "Configuration file; default: $SCS2_CONFIG, else configs/scs2.yml."
    return click.option("--config", "path", type=click.Path(path_type=Path), help=words)(command)


def selection_options(command: Command) -> Command:
    """``--region`` and ``--dataset``."""
    region = click.option("--region", "regions", multiple=True, help="Only this region; may be given several times.")
    dataset = click.option(
        "--dataset", "datasets", multiple=True, help="Only this dataset; may be given several times."
    )
    return region(dataset(command))


def console() -> Console:
    """The terminal; a file or pipe, which has no width of its own, gets lines that hold the table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_FILE_WIDTH)


def say_error(message: str) -> None:
    click.echo(f"error: {message}", err=True)
