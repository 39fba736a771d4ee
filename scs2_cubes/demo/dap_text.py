"""The two texts that describe a dataset of OPeNDAP: structure (DDS) and attributes (DAS), as THREDDS writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.demo.dap_model import TYPE_NAMES, Attributes, DapDataset, DapVariable, Projection

__all__ = ["das", "dds"]

_STEP: Final = "    "


def dds(name: str, projections: Sequence[Projection]) -> str:
    """Structure of a constrained dataset; sizes are those of what was asked for."""
    lines = [line for projection in projections for line in _declaration(projection)]
    return "\n".join(["Dataset {", *(_STEP + line for line in lines), f"}} {name};", ""])


def das(dataset: DapDataset) -> str:
    """Attributes of all variables and, in ``NC_GLOBAL``, of the dataset. A constraint doesn't change them."""
    blocks = [(variable.name, variable.attrs) for variable in dataset.variables]
    lines = [line for name, attrs in [*blocks, ("NC_GLOBAL", dataset.attrs)] for line in _attributes(name, attrs)]
    return "\n".join(["Attributes {", *(_STEP + line for line in lines), "}", ""])


def _declaration(projection: Projection) -> Iterator[str]:
    arrays = [_array(variable, indices) for variable, indices in projection.members]
    if projection.kind == "Array":
        yield from arrays
        return
    yield f"{projection.kind} {{"
    if projection.kind == "Grid":
        array, *maps = arrays
        yield f" ARRAY:\n{_STEP * 2}{array}"
        yield " MAPS:"
        arrays = maps
    yield from (_STEP + array for array in arrays)
    yield f"}} {projection.name};"


def _array(variable: DapVariable, indices: Sequence[range]) -> str:
    sizes = "".join(f"[{dim} = {len(part)}]" for dim, part in zip(variable.dims, indices, strict=True))
    return f"{variable.type_name} {variable.name}{sizes};"


def _attributes(name: str, attrs: Attributes) -> Iterator[str]:
    yield f"{name} {{"
    yield from (f"{_STEP}{_attribute(key, value)}" for key, value in attrs.items())
    yield "}"


def _attribute(name: str, value: str | np.generic | npt.NDArray[Any]) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'String {name} "{escaped}";'
    numbers = np.atleast_1d(value)
    # repr of a Python number: the shortest text that gives the same number again.
    return f"{TYPE_NAMES[numbers.dtype.str[1:]]} {name} {', '.join(map(repr, numbers.tolist()))};"
