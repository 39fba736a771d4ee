"""What a dataset's sections say by variable, against what its product has: names, statistics, zeros."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from scs2_cubes.config.models import SingleSource
from scs2_cubes.config.problems import KeyPath, Problems, nearest
from scs2_cubes.core.variables import Kind, Product, Statistic, Variable

__all__ = ["KnownVariables", "known_variables", "member_statistics", "zero_values"]


@dataclass(frozen=True, slots=True)
class KnownVariables:
    """The variables that the sections of a dataset can name."""

    product: Product | None
    """What describes them; None where no known product matches the data id."""
    described: Mapping[str, Variable]
    """By their names in the cube, and by the older names that they had in stores."""
    is_complete: bool
    """False where there may be others: the product is unknown, or a user's function can make any."""

    def name(self, name: str, path: KeyPath, problems: Problems) -> str:
        """The name in the cube; reports one that no variable can have."""
        if name in self.described:
            return self.described[name].name
        if self.is_complete and self.product:
            hint = nearest(name, (variable.name for variable in self.product.variables))
            problems.add(path, f"the product {self.product.identifier} has no variable {name!r}; {hint}")
        return name

    def in_cube(self, *selections: Iterable[str] | None) -> tuple[Variable, ...]:
        """The described variables that each of the selections holds (None: all), where there can be no others."""
        variables = self.product.variables if self.product and self.is_complete else ()
        for selection in selections:
            if selection is not None:
                wanted = {self.described[name].name for name in selection if name in self.described}
                variables = tuple(variable for variable in variables if variable.name in wanted)
        return variables


def known_variables(cube: SingleSource, product: Product | None) -> KnownVariables:
    """What can be known of the variables of ``cube`` without asking its source."""
    variables = product.variables if product else ()
    names = {alias: variable for variable in variables for alias in variable.aliases}
    names |= {variable.name: variable for variable in variables}
    return KnownVariables(product, names, is_complete=product is not None and cube.custom_processing is None)


def member_statistics(
    cube: SingleSource, known: KnownVariables, path: KeyPath, problems: Problems
) -> Mapping[str, tuple[Statistic, ...]]:
    """The section at ``path`` by the variable's name in the cube; reports variables that are no ensembles."""
    statistics: dict[str, tuple[Statistic, ...]] = {}
    for key, value in (cube.statistics or {}).items():
        place = (*path, key)
        chosen = (value,) if isinstance(value, Statistic) else value
        variable = known.described.get(key)
        if variable and variable.kind is not Kind.ENSEMBLE:
            text = f"{key!r} is of kind {variable.kind}; only an ensemble has members to take statistics of"
            problems.add(place, text)
        for number, statistic in enumerate(chosen):
            if statistic in chosen[:number]:
                problems.add((*place, number), f"{str(statistic)!r} stands in the list twice")
        statistics[known.name(key, place, problems)] = chosen
    if statistics and cube.custom_processing:
        problems.add(path, "can't stand together with 'custom_processing', whose function gets the members themselves")
    return statistics


def zero_values(
    cube: SingleSource, known: KnownVariables, path: KeyPath, problems: Problems
) -> tuple[Product | None, frozenset[str]]:
    """The product, less the zeros that the section at ``path`` takes for nodata, and the names that it has as values.

    Both are needed: a product's description, too, can say that 0 is a value.
    """
    words = {known.name(key, (*path, key), problems): word for key, word in (cube.zero or {}).items()}
    values = frozenset(name for name, word in words.items() if word == "value")
    if known.product is None:
        return None, values
    variables = tuple(
        replace(variable, zero_is_value=False) if words.get(variable.name) == "nodata" else variable
        for variable in known.product.variables
    )
    return replace(known.product, variables=variables), values
