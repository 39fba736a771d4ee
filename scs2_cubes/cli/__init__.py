"""``scs2-cubes``: thin. Commands that belong together have a module."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from scs2_cubes.cli.configuration import config
from scs2_cubes.cli.demonstration import demo
from scs2_cubes.cli.looking import check_cubes, draw_map, retire, status
from scs2_cubes.cli.making import run, ui
from scs2_cubes.cli.stores import cache, sources
from scs2_cubes.cli.terminal import FAILED, INTERRUPTED, MISUSED, say_error
from scs2_cubes.errors import ConfigurationError, Scs2CubesError
from scs2_cubes.report.retries import retries_told_once

__all__ = ["commands", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected error is one clear message and an exit code other than 0."""
    try:
        with retries_told_once():
            status = commands.main(args=arguments, prog_name="scs2-cubes", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say_error(
            "interrupted; finished tiles are kept, and so is what was fetched: the same command goes on from there"
        )
        sys.exit(INTERRUPTED)
    except ConfigurationError as error:
        say_error(str(error))
        sys.exit(MISUSED)
    except Scs2CubesError as error:
        say_error(f"{type(error).__name__}: {error}")
        sys.exit(FAILED)
    sys.exit(status if isinstance(status, int) else 0)


@click.group()
@click.version_option(package_name="scs2-cubes")
def commands() -> None:
    """Forest cubes on one grid, from three archives."""


for command in (run, demo, ui, status, check_cubes, draw_map, retire, config, sources, cache):
    commands.add_command(command)
