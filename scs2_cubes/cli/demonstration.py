"""``demo``: embedded sources with synthetic data, and the cubes that are made from them.

Dagster and the array libraries are imported by the commands that need them.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from scs2_cubes.cli.making import run_case, web_ui
from scs2_cubes.cli.terminal import TERMINATED
from scs2_cubes.config import load_case
from scs2_cubes.errors import ConfigurationError

if TYPE_CHECKING:
    from scs2_cubes.demo.server import DemoServer

__all__ = ["demo"]

_DEMO_PORT = 8765


@click.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("data"), help="Where cubes go; default: data.")
@click.option("--config", "path", type=click.Path(path_type=Path), help="Default: configs/demo.yml.")
@click.option("--port", default=_DEMO_PORT, help=f"Port of the embedded sources; default {_DEMO_PORT}, 0: any.")
@click.option("--serve", is_flag=True, help="Only serve the sources.")
@click.option("--ui", is_flag=True, help="Start the Dagster web UI afterwards.")
def demo(root: Path, path: Path | None, port: int, *, serve: bool, ui: bool) -> int:
    """Make the demonstration's cubes from embedded sources with synthetic data, on this computer alone."""
    from scs2_cubes.demo.server import DemoServer  # noqa: PLC0415  (see the module's docstring)

    with DemoServer(port) as server, _service_key(server) as key:
        settings = {
            "SCS2_DEMO_URL": server.url,
            "SCS2_DEMO_CLMS_CREDENTIALS": str(key),
            # Another terminal may have another working directory.
            "SCS2_DEMO_ROOT": str(root.absolute()) if serve else str(root),
        }
        os.environ.update(settings)
        config = path or _demo_config()
        if serve:
            return _serve(server, config, settings)
        case = load_case(config)
        status = run_case(case, (), (), verbose=False)
        if ui:
            web_ui(case)
        return status


def _demo_config() -> Path:
    """``configs/demo.yml`` in the working directory, else in the checkout that this package is installed from."""
    here = Path("configs/demo.yml")
    if here.exists():
        return here
    beside = Path(__file__).resolve().parent.parent.parent / "configs" / "demo.yml"
    if beside.exists():
        return beside
    raise ConfigurationError("configs/demo.yml isn't here; run this from the project's top level, or give --config")


@contextmanager
def _service_key(server: DemoServer) -> Iterator[Path]:
    """A service key of the embedded CLMS, in a file that is removed when the block ends, by SIGTERM too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
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
    click.echo(f"ESA CCI search: {server.search_url}")
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
