"""``status``, ``check``, ``map`` and ``retire``: what there is, and whether it is right.

Dagster and the array libraries are imported by the commands that need them.
"""

from __future__ import annotations

from pathlib import Path

import click

from scs2_cubes.cli.terminal import FAILED, config_option, console, selection_options
from scs2_cubes.config import load_case
from scs2_cubes.core.wording import counted
from scs2_cubes.errors import ConfigurationError

__all__ = ["check_cubes", "draw_map", "retire", "status"]


@click.command()
@config_option
@selection_options
def status(path: Path | None, regions: tuple[str, ...], datasets: tuple[str, ...]) -> int:
    """Tell which tiles are current, stale and why, or missing; makes nothing. Exit code 1 if not all are current."""
    from scs2_cubes.pipeline.due import select_datasets  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.status import probed_statuses, state_table  # noqa: PLC0415  (see the module's docstring)

    case = load_case(path)
    statuses = [
        one
        for dataset, keys in select_datasets(case, datasets, regions)
        for one in probed_statuses(case, dataset, keys)
    ]
    console().print(state_table(statuses))
    return 0 if all(one.summary == "current" for one in statuses) else FAILED


@click.command("check")
@config_option
@selection_options
@click.option("--forget", is_flag=True, help="Remove the records of wrong tiles: the next run makes them again.")
@click.option("--verbose", is_flag=True, help="Also what the checks found that passed.")
def check_cubes(
    path: Path | None, regions: tuple[str, ...], datasets: tuple[str, ...], *, forget: bool, verbose: bool
) -> int:
    """Read finished cubes back, all of their pixels, and tell what is wrong. Exit code 1 if a blocking check fails."""
    from scs2_cubes.pipeline.compute import open_compute  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.pipeline.due import select_datasets  # noqa: PLC0415  (see the module's docstring)
    from scs2_cubes.report.checks import (  # noqa: PLC0415  (see the module's docstring)
        check_table,
        checked_partitions,
        forget_wrong_tiles,
    )

    case = load_case(path)
    selection = select_datasets(case, datasets, regions)
    with open_compute(case.dask) as compute:
        checked = [one for dataset, keys in selection for one in checked_partitions(case, dataset, keys, compute)]
    if not checked:
        click.echo("nothing is made yet, so there is nothing to check")
        return 0
    console().print(check_table(checked, verbose=verbose))
    if forget:
        count = sum(forget_wrong_tiles(one) for one in checked)
        told = f"{counted(count, 'tile')} forgotten; the next `scs2-cubes run` makes up for it"
        click.echo(told if count else "no tile is wrong")
    return FAILED if any(one.blocks for one in checked) else 0


@click.command("map")
@config_option
@click.option("--output", type=click.Path(path_type=Path), default=Path("map.html"), help="Default: map.html.")
def draw_map(path: Path | None, output: Path) -> None:
    """Write a map of the regions as a page that needs no network."""
    from scs2_cubes.report.region_map import region_map  # noqa: PLC0415  (see the module's docstring)

    page = region_map(load_case(path))
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"can't write {output}: {error.strerror}; give another path with --output") from error
    click.echo(f"written: {output}")


@click.command()
@click.argument("cube")
@config_option
@click.option("--region", help="Which region's cube, where the dataset has several.")
def retire(cube: str, path: Path | None, region: str | None) -> None:
    """Move a cube aside with its records, so that another one can be made in its place. Deletes nothing."""
    from scs2_cubes.api import cube_store  # noqa: PLC0415  (see the module's docstring)

    click.echo(f"moved to {cube_store(load_case(path), cube, region).retire()}")
