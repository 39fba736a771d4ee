"""``run`` and ``ui``: what is due is made, and the web UI.

Dagster and the array libraries are imported by the commands that need them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scs2_cubes.cli.terminal import FAILED, config_option, console, selection_options
from scs2_cubes.config import dagster_home, load_case
from scs2_cubes.core.wording import counted

if TYPE_CHECKING:
    from scs2_cubes.core.specification import Case
    from scs2_cubes.report.tables import StatusRow

__all__ = ["run", "run_case", "ui", "web_ui"]


@click.command()
@config_option
@selection_options
@click.option("--verbose", is_flag=True, help="Dagster's own log lines, too.")
def run(path: Path | None, regions: tuple[str, ...], datasets: tuple[str, ...], *, verbose: bool) -> int:
    """Make everything that is due, and tell what became of it. Exit code 1 if anything failed."""
    case = load_case(path)
    return run_case(case, datasets, regions, verbose=verbose)


@click.command()
@config_option
@click.option("--port", default=3000, help="Port of the web UI; default 3000.")
def ui(path: Path | None, port: int) -> int:
    """Start the Dagster web UI and daemon with this case's history."""
    return web_ui(load_case(path), port)


def run_case(case: Case, datasets: Sequence[str], regions: Sequence[str], *, verbose: bool) -> int:
    from scs2_cubes.orchestration.instance import open_instance  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.orchestration.preloads import unread_preloads  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.orchestration.runs import PreloadOutcome, run_due  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.pipeline.due import select_datasets  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.outcomes import preload_row, status_rows  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.progress import TerminalProgress  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.tables import status_table  # noqa: PLC0415  (see the module's docstring)

    terminal = console()
    for warning in case.warnings:
        terminal.print(f"warning: {warning}", highlight=False, markup=False)
    selection = select_datasets(case, datasets, regions)
    # Said at once: until the first tile is made it may take a while, with a slow source or a cluster that starts.
    asked = f"{counted(len(selection), 'cube')}, {counted(sum(len(keys) for _, keys in selection), 'partition')}"
    terminal.print(f"Looking for what is due: {asked}.", highlight=False)
    # Whoever names datasets or regions means them alone.
    preloads = () if datasets or regions else unread_preloads(case)
    level = "INFO" if verbose else "CRITICAL"
    rows: list[StatusRow] = []
    failed = False
    with open_instance(dagster_home(case)) as instance, TerminalProgress(terminal) as progress:
        for outcome in run_due(case, instance, selection, preloads, progress=progress, log_level=level):
            if isinstance(outcome, PreloadOutcome):
                failed = failed or bool(outcome.message)
                rows.append(preload_row(outcome))
            else:
                failed = failed or bool(outcome.failed)
                rows += status_rows(case, outcome)
    terminal.print(status_table(rows))
    if not failed and not any(row.status in {"made", "preloaded"} for row in rows):
        terminal.print("All current: nothing to do.")
    return FAILED if failed else 0


def web_ui(case: Case, port: int = 3000) -> int:
    """Run ``dagster dev`` on this case until it is interrupted."""
    from scs2_cubes.orchestration.instance import prepare_home  # noqa: PLC0415  (see the module's docstring)

    home = prepare_home(dagster_home(case).absolute())
    environment = {**os.environ, "SCS2_CONFIG": case.name, "DAGSTER_HOME": str(home)}
    command = ["-m", "dagster", "dev", "-m", "scs2_cubes.definitions", "--host", "127.0.0.1", "--port", str(port)]
    click.echo(f"Dagster web UI: http://127.0.0.1:{port} (Ctrl-C ends it)")
    # A shell starts a script's background jobs with interruptions ignored. The child would inherit that, and with it
    # nothing that could end it together with its own children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen([sys.executable, *command], env=environment)  # noqa: S603  (this very Python)
    # Whoever ends this command means the servers, which end their own children on an interruption.
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The terminal has sent the signal to the child as well; it needs a moment to stop its own children.
        child.wait()
        return 0
