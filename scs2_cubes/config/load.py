"""From a configuration file to a :class:`~scs2_cubes.core.specification.Case`: the steps, in order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scs2_cubes.config.connection import automation_spec, dask_spec, retry_policy, steps_warnings
from scs2_cubes.config.datasets import dataset_specs
from scs2_cubes.config.document import parse_yaml
from scs2_cubes.config.environment import substitute
from scs2_cubes.config.grids import grid_choices
from scs2_cubes.config.layout import report_layout
from scs2_cubes.config.masking import literal_secrets
from scs2_cubes.config.models import Document
from scs2_cubes.config.preloads import preload_specs
from scs2_cubes.config.problems import Problems, rendered
from scs2_cubes.config.references import report_duplicates, report_store_references
from scs2_cubes.config.regions import RegionGroup, region_groups
from scs2_cubes.config.sites import outside_warnings, site_specs
from scs2_cubes.config.stores import small_cache_warnings, storage_spec, store_specs
from scs2_cubes.config.support import report_unsupported
from scs2_cubes.config.validation import sections_of
from scs2_cubes.core.grid import Region
from scs2_cubes.core.specification import Case
from scs2_cubes.errors import ConfigurationError

__all__ = ["dagster_home", "json_schema", "load_case"]

_DEFAULT_PATH = "configs/scs2.yml"
_PATH_VARIABLE = "SCS2_CONFIG"
_DAGSTER_HOME = "DAGSTER_HOME"


def load_case(path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None) -> Case:
    """Read and check a whole configuration. Reads the file, and the tables and functions that it names; no network.

    ``path`` defaults to ``${SCS2_CONFIG}``, then to ``configs/scs2.yml`` in the working directory; ``environ`` to the
    process's environment. ``storage.root`` and caches are relative to the working directory, all other paths to the
    file. Raises ConfigurationError with one line for each problem of the file.
    """
    variables = os.environ if environ is None else environ
    name = os.fspath(path or variables.get(_PATH_VARIABLE) or _DEFAULT_PATH)
    problems = Problems(name)
    raw = parse_yaml(_read(name), problems)
    values = substitute(raw, variables, problems)
    sections = sections_of(values, problems)
    report_duplicates(sections, problems)
    report_store_references(sections, problems)
    report_unsupported(values, sections, problems)
    folder = Path(name).absolute().parent
    groups = region_groups(sections, folder, problems)
    grids = grid_choices(sections, groups, problems)
    report_layout(sections, grids, problems)
    retry = retry_policy(sections.general, problems)
    storage = storage_spec(sections, Path.cwd(), retry, problems)
    stores = store_specs(sections, folder, Path.cwd(), storage, retry, problems)
    datasets = dataset_specs(sections, grids, stores, folder, problems)
    preloads = preload_specs(sections, stores, datasets, problems)
    dask = dask_spec(sections.general, sections.dask, problems)
    sites = site_specs(sections, problems)
    if problems or storage is None:
        problems.raise_all()
    regions = _all_regions(groups)
    return Case(
        name=name,
        datasets=datasets,
        stores=tuple(stores.values()),
        regions=regions,
        storage=storage,
        preloads=preloads,
        dask=dask,
        automation=automation_spec(sections.automation),
        sites=sites,
        visualize=sections.general.visualize,
        warnings=(
            *_secret_warnings(raw),
            *small_cache_warnings(sections, stores),
            *outside_warnings(sites, regions, datasets),
            *steps_warnings(dask, datasets),
        ),
    )


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors and for people; does no I/O."""
    return Document.model_json_schema()


def dagster_home(case: Case, environ: Mapping[str, str] | None = None) -> Path:
    """``DAGSTER_HOME`` where it's set, else ``.dagster`` below the storage root; doesn't create it.

    Dagster keeps its history on a disk: where the storage isn't one, ``.dagster`` lies in the working directory.
    """
    variables = os.environ if environ is None else environ
    home = variables.get(_DAGSTER_HOME)
    if home:
        return Path(home).expanduser()
    return (Path.cwd() if "://" in case.storage.root else Path(case.storage.root)) / ".dagster"


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        message = (
            f"{name}: there is no such configuration file (working directory: {Path.cwd()}); "
            f"give its path, or set {_PATH_VARIABLE}"
        )
        raise ConfigurationError(message) from error
    except OSError as error:
        message = f"{name}: the configuration file can't be read: {error.strerror}"
        raise ConfigurationError(message) from error
    except UnicodeDecodeError as error:
        message = f"{name}: the configuration file isn't UTF-8 text (byte {error.start}); save it as UTF-8"
        raise ConfigurationError(message) from error


def _all_regions(groups: Mapping[str, RegionGroup]) -> tuple[Region, ...]:
    return tuple(region for group in groups.values() for region in group.regions)


def _secret_warnings(raw: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{rendered(path)}: a secret stands in the file; move it to the environment and write ${{NAME}} instead"
        for path in literal_secrets(raw)
    )
