"""``scs2-cubes``: thin. Dagster and the array libraries are imported by the commands that need them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import yaml
from rich.console import Console

from scs2_cubes.config import dagster_home, effective, json_schema, load_case
from scs2_cubes.errors import ConfigurationError, Scs2CubesError

if TYPE_CHECKING:
    from scs2_cubes.core.specification import Case
    from scs2_cubes.demo.server import DemoServer
    from scs2_cubes.report.tables import StatusRow

__all__ = ["main"]

_FAILED, _MISUSED, _INTERRUPTED, _TERMINATED = 1, 2, 130, 143
_DEMO_PORT = 8765
_FILE_WIDTH = 200
_CONFIG_HELP = "Configuration file; default: $SCS2_CONFIG, else configs/scs2.yml."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected error is one clear message and an exit code other than 0."""
    try:
        status = commands.main(args=arguments, prog_name="scs2-cubes", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say_error("interrupted; finished tiles are kept, the same command goes on from there")
        sys.exit(_INTERRUPTED)
    except ConfigurationError as error:
        _say_error(str(error))
        sys.exit(_MISUSED)
    except Scs2CubesError as error:
        _say_error(f"{type(error).__name__}: {error}")
        sys.exit(_FAILED)
    sys.exit(status if isinstance(status, int) else 0)


@click.group()
@click.version_option(package_name="scs2-cubes")
def commands() -> None:
    """Forest cubes on one grid, from three archives."""


@commands.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option("--region", "regions", multiple=True, help="Only this region; may be given several times.")
@click.option("--dataset", "datasets", multiple=True, help="Only this dataset; may be given several times.")
@click.option("--verbose", is_flag=True, help="Dagster's own log lines, too.")
def run(path: Path | None, regions: tuple[str, ...], datasets: tuple[str, ...], *, verbose: bool) -> int:
    """Make everything that is due, and tell what became of it. Exit code 1 if anything failed."""
    case = load_case(path)
    return _run_case(case, datasets, regions, verbose=verbose)


@commands.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("data"), help="Where cubes go; default: data.")
@click.option("--config", "path", type=click.Path(path_type=Path), help="Default: configs/demo.yml.")
@click.option("--port", default=_DEMO_PORT, help=f"Port of the embedded sources; default {_DEMO_PORT}, 0: any.")
@click.option("--serve", is_flag=True, help="Only serve the sources.")
@click.option("--ui", is_flag=True, help="Start the Dagster web UI afterwards.")
def demo(root: Path, path: Path | None, port: int, *, serve: bool, ui: bool) -> int:
    """Make the demonstration's cubes from embedded sources with synthetic data, on this computer alone."""
    from scs2_cubes.demo.server import DemoServer  # noqa: PLC0415  (see the module's docstring)

    with DemoServer(port) as server, _service_key(server) as key:
        settings = {"SCS2_DEMO_URL": server.url, "SCS2_DEMO_CLMS_CREDENTIALS": str(key)}
        os.environ.update(settings, SCS2_DEMO_ROOT=str(root))
        config = path or _demo_config()
        if serve:
            return _serve(server, config, settings)
        case = load_case(config)
        status = _run_case(case, (), (), verbose=False)
        if ui:
            _web_ui(case)
        return status


@commands.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option("--port", default=3000, help="Port of the web UI; default 3000.")
def ui(path: Path | None, port: int) -> int:
    """Start the Dagster web UI and daemon with this case's history."""
    return _web_ui(load_case(path), port)


@commands.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option("--region", "regions", multiple=True, help="Only this region; may be given several times.")
@click.option("--dataset", "datasets", multiple=True, help="Only this dataset; may be given several times.")
def status(path: Path | None, regions: tuple[str, ...], datasets: tuple[str, ...]) -> int:
    """Tell which tiles are current, stale and why, or missing; makes nothing. Exit code 1 if not all are current."""
    from scs2_cubes.pipeline.due import select_datasets  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.status import partition_statuses, state_table  # noqa: PLC0415  (see the module's docstring)

    case = load_case(path)
    statuses = [
        one
        for dataset, keys in select_datasets(case, datasets, regions)
        for one in partition_statuses(case, dataset, keys)
    ]
    _console().print(state_table(statuses))
    return 0 if all(one.summary == "current" for one in statuses) else _FAILED


@commands.command()
@click.argument("cube")
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option("--region", help="Which region's cube, where the dataset has several.")
def retire(cube: str, path: Path | None, region: str | None) -> None:
    """Move a cube aside with its records, so that another one can be made in its place. Deletes nothing."""
    from scs2_cubes.api import cube_store  # noqa: PLC0415  (see the module's docstring)

    click.echo(f"moved to {cube_store(load_case(path), cube, region).retire()}")


@commands.group()
def config() -> None:
    """Look at a configuration."""


@config.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--online", is_flag=True, help="Also ask the sources for the data ids.")
def check(path: Path | None, *, online: bool) -> int:
    """Read a configuration and tell everything that is wrong with it."""
    case = load_case(path)
    console = _console()
    for warning in case.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    problems = _online_problems(case) if online else []
    for problem in problems:
        _say_error(problem)
    if not problems:
        partitions = sum(len(dataset.partition_keys) for dataset in case.datasets)
        console.print(
            f"{case.name}: {len(case.datasets)} datasets, {len(case.regions)} regions, {partitions} partitions, "
            f"{len(case.preloads)} preloads: no problem found",
            highlight=False,
            markup=False,
        )
    return _FAILED if problems else 0


@config.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
def show(path: Path | None) -> None:
    """Print the effective configuration, with every default, without secrets."""
    click.echo(yaml.safe_dump(effective(path), sort_keys=False, allow_unicode=True))


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    click.echo(json.dumps(json_schema(), indent=1))


@commands.group()
def sources() -> None:
    """Look at what the sources have on offer."""


@sources.command("list")
@click.argument("store")
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
def list_ids(store: str, path: Path | None) -> int:
    """Print the data ids of STORE, one of the configuration's data_stores. Asks the network."""
    return _print_ids(store, (), path)


@sources.command()
@click.argument("store")
@click.argument("words", nargs=-1, required=True)
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
def search(store: str, words: tuple[str, ...], path: Path | None) -> int:
    """Print the data ids of STORE that hold all WORDS, whatever their case. Exit code 1 if there is none."""
    return _print_ids(store, words, path)


@commands.group()
def cache() -> None:
    """Look at what was fetched before it could be read, and make room."""


@cache.command("list")
@click.argument("store", required=False)
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
def list_entries(store: str | None, path: Path | None) -> None:
    """Tell what lies in the caches, or in that of STORE: complete or not, how large, and where."""
    from scs2_cubes.api import source_store  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.caches import cache_table, entries_of, has_cache  # noqa: PLC0415  (see the docstring)

    case = load_case(path)
    stores = [source_store(case, store)] if store else [one for one in case.stores if has_cache(one)]
    entries = [(one.identifier, entry) for one in stores for entry in entries_of(one)]
    if entries:
        _console().print(cache_table(entries))
    else:
        click.echo("nothing is cached")


@cache.command()
@click.argument("store")
@click.argument("data_id", required=False)
@click.option("--config", "path", type=click.Path(path_type=Path), help=_CONFIG_HELP)
@click.option("--yes", is_flag=True, help="Don't ask.")
def clear(store: str, data_id: str | None, path: Path | None, *, yes: bool) -> int:
    """Remove what was fetched from STORE, all of it or that of DATA_ID. Cubes stay; fetching again may take hours."""
    from scs2_cubes.api import source_store  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.caches import clear_entries, entries_of  # noqa: PLC0415  (see the module's docstring)

    spec = source_store(load_case(path), store)
    entries = entries_of(spec, data_id)
    names = ", ".join(dict.fromkeys(entry.data_id for entry in entries))
    if not entries:
        click.echo("nothing is cached")
        return 0
    if not yes and not _agreed(f"Remove {names} from the cache of {store}?"):
        _say_error("nothing was removed; --yes removes without asking")
        return _FAILED
    click.echo(f"removed {names}: {clear_entries(spec, entries):,} bytes are free now")
    return 0


def _run_case(case: Case, datasets: Sequence[str], regions: Sequence[str], *, verbose: bool) -> int:
    from scs2_cubes.orchestration.instance import open_instance  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.orchestration.preloads import unread_preloads  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.orchestration.runs import PreloadOutcome, run_due  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.pipeline.due import select_datasets  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.outcomes import preload_row, status_rows  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.progress import TerminalProgress  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.tables import status_table  # noqa: PLC0415  (see the module's docstring)

    console = _console()
    for warning in case.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    selection = select_datasets(case, datasets, regions)
    # Whoever names datasets or regions means them alone.
    preloads = () if datasets or regions else unread_preloads(case)
    level = "INFO" if verbose else "CRITICAL"
    rows: list[StatusRow] = []
    failed = False
    with open_instance(dagster_home(case)) as instance, TerminalProgress(console) as progress:
        for outcome in run_due(case, instance, selection, preloads, progress=progress, log_level=level):
            if isinstance(outcome, PreloadOutcome):
                failed = failed or bool(outcome.message)
                rows.append(preload_row(outcome))
            else:
                failed = failed or bool(outcome.failed)
                rows += status_rows(case, outcome)
    console.print(status_table(rows))
    if not failed and not any(row.status in {"made", "preloaded"} for row in rows):
        console.print("All current: nothing to do.")
    return _FAILED if failed else 0


def _online_problems(case: Case) -> list[str]:
    from scs2_cubes.report.sources import online_problems  # noqa: PLC0415  (see the module's docstring)

    return list(online_problems(case))


def _print_ids(store: str, words: Sequence[str], path: Path | None) -> int:
    """Print data ids as they are found; exit code 1 where none is."""
    from scs2_cubes.api import source_store  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.sources import matching_data_ids  # noqa: PLC0415  (see the module's docstring)

    nothing = True
    for data_id in matching_data_ids(source_store(load_case(path), store), words):
        click.echo(data_id)
        nothing = False
    if nothing:
        having = f" that has {' and '.join(words)} in it" if words else ""
        _say_error(f"data store {store!r} offers no data id{having}")
    return _FAILED if nothing else 0


def _agreed(question: str) -> bool:
    """Ask; no answer, from a script for example, is no."""
    try:
        return click.confirm(question)
    except click.Abort:
        return False


def _demo_config() -> Path:
    """``configs/demo.yml`` in the working directory, else in the checkout that this package is installed from."""
    here = Path("configs/demo.yml")
    if here.exists():
        return here
    beside = Path(__file__).resolve().parent.parent / "configs" / "demo.yml"
    if beside.exists():
        return beside
    raise ConfigurationError("configs/demo.yml isn't here; run this from the project's top level, or give --config")


@contextmanager
def _service_key(server: DemoServer) -> Iterator[Path]:
    """A service key of the embedded CLMS, in a file that is removed when the block ends, by SIGTERM too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        with TemporaryDirectory(prefix="scs2-cubes-demo-") as folder:
            key = Path(folder) / "clms-credentials.json"
            server.clms.write_credentials(key)
            yield key
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(server: DemoServer, config: Path, settings: Mapping[str, str]) -> int:
    click.echo(f"EO Forest catalogue: {server.catalogue_url}")
    click.echo(f"CLMS: {server.clms.api_url}")
    click.echo("In another terminal:")
    exported = {**settings, "SCS2_CONFIG": str(config)}
    click.echo(f"  export {' '.join(f'{name}={shlex.quote(value)}' for name, value in exported.items())}")
    click.echo("Ctrl-C ends it, and takes the key for CLMS away.")
    _wait_for_interrupt()
    return 0


def _wait_for_interrupt() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopped")


def _web_ui(case: Case, port: int = 3000) -> int:
    """Run ``dagster dev`` on this case until it is interrupted."""
    from scs2_cubes.orchestration.instance import prepare_home  # noqa: PLC0415  (see the module's docstring)

    home = prepare_home(dagster_home(case).absolute())
    environment = {**os.environ, "SCS2_CONFIG": case.name, "DAGSTER_HOME": str(home)}
    command = ["-m", "dagster", "dev", "-m", "scs2_cubes.definitions", "--host", "127.0.0.1", "--port", str(port)]
    click.echo(f"Dagster web UI: http://127.0.0.1:{port} (Ctrl-C ends it)")
    child = subprocess.Popen([sys.executable, *command], env=environment)  # noqa: S603  (this very Python)
    # Whoever ends this command means the servers, which end their own children on an interruption.
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The terminal has sent the signal to the child as well; it needs a moment to stop its own children.
        child.wait()
        return 0


def _console() -> Console:
    """The terminal; a file or pipe, which has no width of its own, gets lines that hold the table."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_WIDTH)


def _say_error(message: str) -> None:
    click.echo(f"error: {message}", err=True)
