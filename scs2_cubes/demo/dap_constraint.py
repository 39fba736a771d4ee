"""Constraint expressions of DAP2: which variables of a dataset, and which of their indices.

Source: The Data Access Protocol DAP 2.0, ESE-RFC-004.1.1, section 4 on constraint expressions. Projections are read
whole; selections, which filter sequences, are refused, because there are no sequences here.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from scs2_cubes.demo.dap_model import DapDataset, DapError, DapVariable, Projection

__all__ = ["parse_constraint"]

_ITEM: Final = re.compile(r"(?P<name>[^\[\],&]+)(?P<slab>(?:\[[^\[\]]*\])*)")
_BRACKET: Final = re.compile(r"\[([^\[\]]*)\]")
_INDEX: Final = re.compile(r"\s*([0-9]{1,18})\s*")


def parse_constraint(query: str, dataset: DapDataset) -> tuple[Projection, ...]:
    """Declarations that a query string asks for, in its order; without any, all of the dataset.

    Members of one Grid that are asked for one by one are put into one Structure, as THREDDS does. Raises DapError.
    """
    text = unquote(query)
    if "&" in text:
        raise DapError(400, f"Selections aren't supported, for there are no sequences: {text!r}")
    if not text:
        return tuple(_declare(dataset, variable, variable.whole) for variable in dataset.variables)
    found: dict[str, Projection] = {}
    for item in text.split(","):
        projection = _parse_item(item, dataset)
        before = found.get(projection.name)
        found[projection.name] = projection if before is None else _merge(before, projection)
    return tuple(found.values())


def _parse_item(item: str, dataset: DapDataset) -> Projection:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise DapError(400, f"Malformed projection {item!r}: expected name[start:stride:stop]")
    outer, dot, inner = match["name"].strip().partition(".")
    variable = dataset.find(outer)
    if not dot:
        return _declare(dataset, variable, _parse_slab(match["slab"], variable))
    for member in (variable, *dataset.maps(variable)):
        if dataset.maps(variable) and member.name == inner:
            return Projection("Structure", outer, ((member, _parse_slab(match["slab"], member)),))
    raise DapError(400, f"Unknown variable: {outer!r} has no member {inner!r}")


def _parse_slab(text: str, variable: DapVariable) -> tuple[range, ...]:
    parts: list[str] = _BRACKET.findall(text)
    if not parts:
        return variable.whole
    if len(parts) != len(variable.shape):
        raise DapError(400, f"{variable.name} has {len(variable.shape)} dimensions, not {len(parts)}: {text!r}")
    return tuple(
        _parse_part(part, size, f"dimension {dim!r} of {variable.name}")
        for part, dim, size in zip(parts, variable.dims, variable.shape, strict=True)
    )


def _parse_part(part: str, size: int, where: str) -> range:
    numbers = [_INDEX.fullmatch(number) for number in part.split(":")]
    values = [int(number[1]) for number in numbers if number is not None]
    if len(values) != len(numbers) or len(values) > 3:  # noqa: PLR2004 - start, stride and stop
        raise DapError(400, f"Malformed hyperslab [{part}] for {where}: expected [start:stride:stop]")
    start, stop = values[0], values[-1]
    stride = values[1] if len(values) == 3 else 1  # noqa: PLR2004 - as above
    if stride < 1 or stop < start or stop >= size:
        raise DapError(400, f"Bad hyperslab [{part}] for {where}: its indices are 0 to {size - 1}")
    return range(start, stop + 1, stride)


def _declare(dataset: DapDataset, variable: DapVariable, indices: tuple[range, ...]) -> Projection:
    maps = dataset.maps(variable)
    if not maps:
        return Projection("Array", variable.name, ((variable, indices),))
    with_maps = tuple((coordinate, (part,)) for coordinate, part in zip(maps, indices, strict=True))
    return Projection("Grid", variable.name, ((variable, indices), *with_maps))


def _merge(first: Projection, second: Projection) -> Projection:
    taken = {member.name for member, _ in first.members} & {member.name for member, _ in second.members}
    if first.kind != "Structure" or second.kind != "Structure" or taken:
        raise DapError(400, f"{first.name!r} is asked for twice")
    return Projection("Structure", first.name, first.members + second.members)
