"""What a value means: kinds, legends, variables and products.

The kind of a variable, never its dtype, decides how it may be resampled: a class map that arrives as float must not
be blended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Kind", "LegendEntry", "Product", "Statistic", "Variable"]


class Kind(StrEnum):
    """What the values of a variable mean."""

    CATEGORICAL = "categorical"
    """Class codes: only codes that occur in the source may occur in the cube."""
    CONTINUOUS = "continuous"
    """Quantities that may be averaged."""
    STANDARD_DEVIATION = "standard_deviation"
    """Standard deviations of a quantity; averaging needs an error-correlation model."""
    ENSEMBLE = "ensemble"
    """Several realisations of one quantity along a dimension of their own."""


class Statistic(StrEnum):
    """How an ensemble's members become one layer, over the valid members of each source pixel."""

    MEAN = "mean"
    MEDIAN = "median"
    STD = "std"
    """Population standard deviation (ddof = 0), as ``numpy.nanstd`` has it by default."""
    Q05 = "q05"
    """Percentile, linear between members as ``numpy.nanquantile`` has it by default; so are the following."""
    Q10 = "q10"
    Q25 = "q25"
    Q75 = "q75"
    Q90 = "q90"
    Q95 = "q95"

    @property
    def quantile(self) -> float | None:
        """The fraction of members below; None for mean and standard deviation."""
        if self is Statistic.MEDIAN:
            return 0.5
        return int(self.value[1:]) / 100 if self.value[0] == "q" else None


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One class of a categorical variable."""

    code: int
    """The stored number."""
    name: str
    """CF flag meaning: one word, lower case, underscores."""
    label: str
    """For people."""
    colour: str
    """``#rrggbb``."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A named layer of a product, and what its values mean."""

    name: str
    """Name in the cube."""
    kind: Kind
    """What the values mean."""
    dtype: str
    """numpy name of the dtype in the cube, for example ``uint8``."""
    fill: float
    """The number stored in the cube where there is no value; NaN for floats."""
    nodata: float | None = None
    """The source's number for "no value"; None where the source's own metadata tells. NaN is nodata always."""
    units: str | None = None
    """UDUNITS string of the stored numbers; None for classes."""
    long_name: str = ""
    """CF long_name."""
    valid_range: tuple[float, float] | None = None
    """Smallest and largest value that may occur, in ``units``."""
    legend: tuple[LegendEntry, ...] = ()
    """The classes, in order of their codes; empty unless categorical."""
    aliases: tuple[str, ...] = ()
    """Names that the variable had in older stores."""
    ensemble_dim: str | None = None
    """Dimension of the members, where the kind is ensemble."""
    time: str = "all"
    """Which steps are used unless the dataset selects others: ``all`` or ``last``."""
    zero_is_value: bool = False
    """True where 0 is a value although the source declares it as "no value"."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a dataset means, wherever it is read from."""

    identifier: str
    """Name of its file in ``scs2_cubes/products``."""
    title: str
    """For people, and for the cube's ``title``."""
    code_version: int
    """Raised by hand when this description changes pixels."""
    data_ids: tuple[str, ...] = ()
    """Shell patterns (fnmatch) of the data ids that it describes."""
    variables: tuple[Variable, ...] = field(default=())
    """Its layers."""
    licence: str = ""
    """SPDX identifier or name of the licence."""
    licence_url: str = ""
    """Where the licence can be read."""
    non_commercial: bool = False
    """True where the licence forbids commercial use."""
    references: tuple[str, ...] = ()
    """DOI links."""
    citation: str = ""
    """How to cite it."""
