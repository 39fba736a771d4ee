"""The descriptions of known products: ``scs2_cubes/products/*.yml``, read and checked as strictly as configurations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator

from scs2_cubes.config.document import parse_yaml
from scs2_cubes.config.models import Section
from scs2_cubes.config.problems import Problems
from scs2_cubes.config.validation import report_errors
from scs2_cubes.core.variables import Kind, LegendEntry, Product, Variable

__all__ = ["is_storable", "load_products", "parse_product", "product_for"]

_PACKAGE = "scs2_cubes.products"
#: In a variable's name: what the data id has after its last ``|``, for archives that name variables after files.
_FILE = "{file}"
_Name = Annotated[str, Field(min_length=1)]


class _Class(Section):
    code: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    label: _Name
    colour: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]


class _Variable(Section):
    # NaN is the usual fill of floats.
    model_config = ConfigDict(allow_inf_nan=True)

    name: Annotated[str, Field(pattern=r"^([^{}]+|\{file\})$")]
    kind: Literal["categorical", "continuous", "standard_deviation", "ensemble"]
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
    fill: float
    nodata: float | None = None
    units: str | None = None
    long_name: _Name
    valid_range: Annotated[tuple[float, ...], Field(min_length=2, max_length=2)] | None = None
    legend: tuple[_Class, ...] = ()
    aliases: tuple[_Name, ...] = ()
    ensemble_dim: str | None = None
    time: Literal["all", "last"] = "all"
    zero: Literal["nodata", "value"] = "nodata"

    @model_validator(mode="after")
    def _holds_together(self) -> _Variable:
        problem = _contradiction(self)
        if problem:
            raise ValueError(problem)
        return self


class _Product(Section):
    title: _Name
    code_version: Annotated[int, Field(ge=1)]
    data_ids: Annotated[tuple[_Name, ...], Field(min_length=1)]
    variables: Annotated[tuple[_Variable, ...], Field(min_length=1)]
    licence: _Name
    licence_url: str = ""
    non_commercial: bool = False
    references: tuple[Annotated[str, Field(pattern=r"^https://")], ...] = ()
    citation: str = ""


def load_products() -> tuple[Product, ...]:
    """All known products, in the order of their names. Reads the package's own files on each call.

    Raises ConfigurationError, naming the file, for a description that doesn't hold together.
    """
    sources = sorted((item for item in files(_PACKAGE).iterdir() if item.name.endswith(".yml")), key=lambda f: f.name)
    return tuple(
        parse_product(source.name.removesuffix(".yml"), source.read_text(encoding="utf-8")) for source in sources
    )


def product_for(data_id: str, products: Iterable[Product]) -> Product | None:
    """The first product one of whose patterns matches ``data_id``; None where none does. Case counts.

    A variable that is described as ``{file}`` gets its name from the data id: the part after the last ``|``, without
    ``.zarr``.
    """
    for product in products:
        if any(fnmatchcase(data_id, pattern) for pattern in product.data_ids):
            return _named(product, data_id.rpartition("|")[2].removesuffix(".zarr"))
    return None


def parse_product(identifier: str, text: str) -> Product:
    """The product that a YAML ``text`` describes. Raises ConfigurationError with one line for each problem."""
    problems = Problems(f"scs2_cubes/products/{identifier}.yml")
    values = parse_yaml(text, problems)
    try:
        model = _Product.model_validate(values)
    except ValidationError as error:
        report_errors(_Product, error, problems)
        problems.raise_all()
    return Product(
        identifier=identifier,
        title=model.title,
        code_version=model.code_version,
        data_ids=model.data_ids,
        variables=tuple(_variable(variable) for variable in model.variables),
        licence=model.licence,
        licence_url=model.licence_url,
        non_commercial=model.non_commercial,
        references=model.references,
        citation=model.citation,
    )


def _named(product: Product, file: str) -> Product:
    variables = tuple(
        replace(variable, name=file) if variable.name == _FILE else variable for variable in product.variables
    )
    return replace(product, variables=variables)


def _variable(model: _Variable) -> Variable:
    return Variable(
        name=model.name,
        kind=Kind(model.kind),
        dtype=model.dtype,
        fill=model.fill,
        nodata=model.nodata,
        units=model.units,
        long_name=model.long_name,
        valid_range=(model.valid_range[0], model.valid_range[1]) if model.valid_range else None,
        legend=tuple(LegendEntry(entry.code, entry.name, entry.label, entry.colour) for entry in model.legend),
        aliases=model.aliases,
        ensemble_dim=model.ensemble_dim,
        time=model.time,
        zero_is_value=model.zero == "value",
    )


def _contradiction(variable: _Variable) -> str:
    """What of a variable's description contradicts the rest of it; empty where nothing does."""
    dtype = np.dtype(variable.dtype)
    codes = [entry.code for entry in variable.legend]
    smallest, largest = variable.valid_range or (0, 0)
    checks = (
        (is_storable(variable.fill, dtype), f"fill {variable.fill:g} can't be stored as {dtype}"),
        ((variable.kind == "categorical") == bool(codes), "a categorical variable has a legend, and no other one has"),
        (codes == sorted(set(codes)), "the legend's codes should be in ascending order, each once"),
        (not {variable.fill, variable.nodata} & set(codes), "fill and nodata can't be a class of the legend"),
        (all(is_storable(code, dtype) for code in codes), f"a code of the legend can't be stored as {dtype}"),
        (
            (variable.kind == "ensemble") == (variable.ensemble_dim is not None),
            "a variable of kind ensemble has an ensemble_dim, and no other one has",
        ),
        (
            variable.zero == "nodata" or 0 not in {variable.fill, variable.nodata},
            "where zero is a value, neither fill nor nodata can be 0",
        ),
        (smallest <= largest, "valid_range should be the smallest value, then the largest"),
    )
    return next((text for holds, text in checks if not holds), "")


def is_storable(value: float, dtype: np.dtype[np.generic]) -> bool:
    """Whether an array of ``dtype`` can hold ``value``: for floats anything, for integers what is one and in range."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype.name)
    return math.isfinite(value) and value == round(value) and limits.min <= value <= limits.max
