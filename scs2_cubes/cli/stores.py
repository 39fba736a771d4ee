"""``sources`` and ``cache``: what stores have on offer, and what was fetched from them.

Dagster and the array libraries are imported by the commands that need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from scs2_cubes.cli.terminal import FAILED, config_option, console, say_error
from scs2_cubes.config import load_case

__all__ = ["cache", "sources"]


@click.group()
def sources() -> None:
    """Look at what the sources have on offer."""


@sources.command("list")
@click.argument("store")
@config_option
def list_ids(store: str, path: Path | None) -> int:
    """Print the data ids of STORE, one of the configuration's data_stores. Asks the network."""
    return _print_ids(store, (), path)


@sources.command()
@click.argument("store")
@click.argument("words", nargs=-1, required=True)
@config_option
def search(store: str, words: tuple[str, ...], path: Path | None) -> int:
    """Print the data ids of STORE that hold all WORDS, whatever their case. Exit code 1 if there is none."""
    return _print_ids(store, words, path)


@click.group()
def cache() -> None:
    """Look at what was fetched before it could be read, and make room."""


@cache.command("list")
@click.argument("store", required=False)
@config_option
def list_entries(store: str | None, path: Path | None) -> None:
    """Tell what lies in the caches, or in that of STORE: complete or not, how large, and where."""
    from scs2_cubes.api import source_store  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.caches import (  # noqa: PLC0415  (see the module's docstring)
        cache_places,
        cache_table,
        entries_of,
        has_cache,
    )

    case = load_case(path)
    stores = [source_store(case, store)] if store else [one for one in case.stores if has_cache(one)]
    entries = [(one.identifier, entry) for one in stores for entry in entries_of(one)]
    if entries:
        console().print(cache_table(entries))
        for place in cache_places(entries):
            click.echo(place)
    else:
        click.echo("nothing is cached")


@cache.command()
@click.argument("store")
@click.argument("data_id", required=False)
@config_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def clear(store: str, data_id: str | None, path: Path | None, *, yes: bool) -> int:
    """Remove what was fetched from STORE, all of it or that of DATA_ID. Cubes stay; fetching again may take hours."""
    from scs2_cubes.api import source_store  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.caches import (  # noqa: PLC0415  (see the module's docstring)
        clear_entries,
        entries_of,
        what_follows,
    )

    spec = source_store(load_case(path), store)
    entries = entries_of(spec, data_id)
    names = ", ".join(dict.fromkeys(entry.data_id for entry in entries))
    if not entries:
        click.echo("nothing is cached")
        return 0
    agreed = yes or _answer(f"Remove {names} from the cache of {store}? {what_follows(spec)}.")
    if agreed is None:
        say_error("nothing was removed; --yes removes without asking")
        return FAILED
    if not agreed:
        click.echo("nothing was removed")
        return 0
    click.echo(f"removed {names}: {clear_entries(spec, entries):,} bytes are free now")
    return 0


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
        say_error(f"data store {store!r} offers no data id{having}")
    return FAILED if nothing else 0


def _answer(question: str) -> bool | None:
    """Ask; None where nobody answers: in a script, for example."""
    try:
        return click.confirm(question)
    except click.Abort:
        return None
