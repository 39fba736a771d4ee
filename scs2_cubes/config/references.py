"""Names in a configuration that have to be unique, and names that have to exist: stores."""

from __future__ import annotations

from collections.abc import Iterator

from scs2_cubes.config.models import SingleSource
from scs2_cubes.config.problems import KeyPath, Problems, nearest
from scs2_cubes.config.validation import Sections

__all__ = ["STORAGE", "report_duplicates", "report_store_references"]

#: Identifier of the store that cubes are written to.
STORAGE = "storage"


def report_duplicates(sections: Sections, problems: Problems) -> None:
    """Report identifiers that occur twice in a list of the configuration."""
    for section, names in sections.names.items():
        first: dict[str, int] = {}
        for index, name in names:
            if name in first:
                text = f"duplicate identifier {name!r}, already used by {section}[{first[name]}]"
                problems.add((section, index, "identifier"), text)
            first.setdefault(name, index)


def report_store_references(sections: Sections, problems: Problems) -> None:
    """Report references to stores that don't exist, and a missing ``storage``."""
    known = {name for _, name in sections.names["data_stores"]}
    if STORAGE not in known:
        text = f"no store is called {STORAGE!r}: it says where cubes are written"
        problems.add(("data_stores",), f"{text}; {nearest(STORAGE, known)}" if known else text)
    for path, store in _references(sections):
        if store == STORAGE:
            problems.add(path, f"reading from the store {STORAGE!r} isn't supported yet")
        elif store not in known:
            problems.add(path, f"no data store {problems.shown(path)}; {nearest(store, known - {STORAGE})}")


def _references(sections: Sections) -> Iterator[tuple[KeyPath, str]]:
    for index, cube in sections.datasets.items():
        if isinstance(cube, SingleSource):
            yield ("datasets", index, "store"), cube.store
        else:
            for number, variable in enumerate(cube.variables):
                yield ("datasets", index, "variables", number, "store"), variable.store
    for index, preload in sections.preload_datasets.items():
        yield ("preload_datasets", index, "store"), preload.store
