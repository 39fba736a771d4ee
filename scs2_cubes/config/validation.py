"""Plain data against a pydantic model: what fits as values, what doesn't as problems with key path and remedy."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from scs2_cubes.config.models import (
    Automation,
    Bounded,
    Dask,
    Dataset,
    DataStore,
    Document,
    General,
    GridMapping,
    MultiSource,
    PreloadDataset,
    RegionTable,
    SingleSource,
    Site,
)
from scs2_cubes.config.problems import KeyPath, Problems, nearest

__all__ = ["Sections", "report_errors", "sections_of"]

M = TypeVar("M")

#: For each model that is the special one of two forms: the key that made it so, and the common form.
_SPECIAL_FORMS: Mapping[str, tuple[str, type[BaseModel]]] = {
    MultiSource.__name__: ("variables", SingleSource),
    RegionTable.__name__: ("table", Bounded),
}
_EXPECTED_NAME = re.compile(r"'([^']*)'")
_ATTEMPTS_TO_SALVAGE = 3
#: Values that are named all.
_FEW = 6


@dataclass(frozen=True, slots=True)
class Sections:
    """What of a configuration has the right form, by its index in the file; the rest is in the problems."""

    datasets: Mapping[int, SingleSource | MultiSource]
    data_stores: Mapping[int, DataStore]
    grid_mappings: Mapping[int, Bounded | RegionTable]
    preload_datasets: Mapping[int, PreloadDataset]
    general: General
    dask: Dask
    automation: Automation
    sites: Mapping[int, Site]
    names: Mapping[str, tuple[tuple[int, str], ...]]
    """(index, identifier) of all entries of each list section, also of those that have another form."""


def sections_of(values: dict[str, Any], problems: Problems) -> Sections:
    """The sections in ``values`` (after substitution); what doesn't fit the schema goes to ``problems``.

    An entry with a wrong key takes part in the checks that follow, without that key: so one error tells all problems.
    """
    try:
        Document.model_validate(values)
    except ValidationError as error:
        report_errors(Document, error, problems)
    return Sections(
        datasets=_entries(Dataset, values.get("datasets")),
        data_stores=_entries(DataStore, values.get("data_stores")),
        grid_mappings=_entries(GridMapping, values.get("grid_mappings")),
        preload_datasets=_entries(PreloadDataset, values.get("preload_datasets")),
        general=_salvaged(TypeAdapter(General), values.get("general")) or General(),
        dask=_salvaged(TypeAdapter(Dask), values.get("dask")) or Dask(),
        automation=_salvaged(TypeAdapter(Automation), values.get("automation")) or Automation(),
        sites=_entries(Site, values.get("sites")),
        names={name: _names(values.get(name)) for name in ("datasets", "data_stores", "grid_mappings", "sites")},
    )


def report_errors(model: type[BaseModel], error: ValidationError, problems: Problems) -> None:
    """Add what pydantic found in data for ``model`` to ``problems``, in the words of this package."""
    errors = error.errors(include_url=False)
    places = [details["loc"] for details in errors]
    for details in errors:
        loc = details["loc"]
        # A list that lost its wrong item is too short in pydantic's eyes: only the item is worth a line.
        if details["type"] in {"too_short", "missing"} and any(
            len(place) > len(loc) and place[: len(loc)] == loc for place in places
        ):
            continue
        path = _key_path(loc)
        problems.add(path, _explained(model, details, path, problems))


def _explained(model: type[BaseModel], details: ErrorDetails, path: KeyPath, problems: Problems) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(model, details["loc"])
    if kind == "missing":
        return "required key is missing"
    shown = problems.shown(path)
    if kind in {"literal_error", "enum"}:
        allowed = _EXPECTED_NAME.findall(details["ctx"]["expected"]) or re.findall(r"\d+", details["ctx"]["expected"])
        return f"{shown} isn't one of the values that are possible here; {_possible(shown, allowed)}"
    wording = _worded(details)
    # A section that contradicts itself says so itself.
    return wording if kind == "value_error" and shown == "a mapping" else f"{wording}, not {shown}"


def _possible(shown: str, allowed: list[str]) -> str:
    """The nearest of the values that are ``allowed``, and all of them where they are few."""
    hint = nearest(shown, allowed)
    few = len(allowed) <= _FEW and not hint.startswith("known")
    return f"{hint} Known: {', '.join(sorted(allowed))}" if few else hint


def _worded(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "too_short" | "too_long":
            size = context.get("max_length") or context["min_length"]
            return "should not be empty" if size == 1 else f"should have {size} values"
        case "tuple_type" | "list_type":
            return "should be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "should be a mapping"
        case "string_type":
            return "should be a string (put it into quotes)"
        case "string_too_short":
            return "should not be empty"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message.partition(", unable to")[0]


def _unknown_key(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    owners = _owners(model, loc)
    key = str(loc[-1])
    for owner in owners:
        distinction, common = _SPECIAL_FORMS.get(owner.__name__, ("", None))
        if common and key in common.model_fields:
            return f"can't stand together with {distinction!r}; leave one of the two out"
    return f"unknown key; {nearest(key, (field for owner in owners for field in owner.model_fields))}"


def _owners(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    owners = [model]
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        if _is_tag(part):
            owners = [owner for owner in owners if part == f"({owner.__name__})"] or owners
        else:
            fields = [owner.model_fields[part] for owner in owners if part in owner.model_fields]
            owners = [nested for field in fields for nested in _models_in(field.annotation)] or owners
    return owners


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("(") and part.endswith(")")


def _key_path(loc: tuple[str | int, ...]) -> KeyPath:
    return tuple(part for part in loc if not _is_tag(part))


def _entries(item_type: Any, values: object) -> dict[int, Any]:
    if not isinstance(values, list):
        return {}
    adapter: TypeAdapter[Any] = TypeAdapter(item_type)
    salvaged = ((index, _salvaged(adapter, value)) for index, value in enumerate(values))
    return {index: entry for index, entry in salvaged if entry is not None}


def _salvaged(adapter: TypeAdapter[M], value: object) -> M | None:
    """The value without what is wrong in it; None where it can't do without."""
    rest = copy.deepcopy(value)
    for _ in range(_ATTEMPTS_TO_SALVAGE):
        try:
            return adapter.validate_python(rest)
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                _remove(rest, _key_path(details["loc"]))
    return None


def _remove(value: Any, path: KeyPath) -> None:
    """Delete the innermost mapping key on ``path``: a list with a wrong item is wrong as a whole."""
    owner, key = None, None
    for part in path:
        if isinstance(value, dict) and part in value:
            owner, key, value = value, part, value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            break
    if owner is not None:
        del owner[key]


def _names(values: object) -> tuple[tuple[int, str], ...]:
    entries = enumerate(values) if isinstance(values, list) else ()
    return tuple(
        (index, entry["identifier"])
        for index, entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("identifier"), str)
    )
