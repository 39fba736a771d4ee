"""How values of a kind are brought onto another lattice: the methods, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum

from scs2_cubes.core.transform import IndexMap
from scs2_cubes.core.variables import Kind
from scs2_cubes.errors import PlanError

__all__ = ["AVERAGING", "IDEMPOTENT", "SELECTING", "Method", "choose_method"]


class Method(StrEnum):
    """How the value of a target pixel is made from source pixels. See ``scs2_cubes.core.kernels`` for each rule.

    Those from MIN on summarise the valid source pixels x that share an area w > 0 (in source pixels) with the target
    pixel's footprint; an edge within ``EDGE_TOLERANCE`` of a source edge lies on it. Like a mean, they have a value
    where at least half of the footprint is valid; COUNT excepted.
    """

    COPY = "copy"
    """The lattices coincide: the source pixel itself."""
    NEAREST = "nearest"
    """The source pixel that contains the target's centre."""
    BILINEAR = "bilinear"
    """Bilinear between the four nearest centres, nodata-aware."""
    MAJORITY = "majority"
    """The class with the largest share of the footprint's area."""
    MEAN = "mean"
    """Area-weighted mean over the valid part of the footprint."""
    STD_CORRELATED = "std_correlated"
    """Standard deviation of the mean where errors are fully correlated: the area-weighted mean of the field."""
    STD_INDEPENDENT = "std_independent"
    """Standard deviation of the mean where errors are independent: root of the weighted sum of squares."""
    MIN = "min"
    """The smallest x."""
    MAX = "max"
    """The greatest x."""
    MEDIAN = "median"
    """The area-weighted lower median: the smallest x for which those not greater have at least half of sum(w)."""
    SUM = "sum"
    """sum(w x). A source pixel is shared out among its footprints, so that totals hold; nodata adds nothing."""
    STD = "std"
    """Root of VAR."""
    VAR = "var"
    """sum(w (x - m)²) / sum(w) with the area-weighted mean m: spread under the footprint (ddof = 0), not an error."""
    COUNT = "count"
    """sum(w): the valid area in source pixels; 0 where all is nodata, no value where all is outside the source."""
    PROD = "prod"
    """product(x ** w): what SUM is for logarithms.

    So products of footprints multiply to the product of all, and where pixels nest it is the plain product. A pixel
    counted wholly or not at all would count in several footprints, or leave some without any. No value where a part
    of a negative pixel takes part.
    """
    FIRST = "first"
    """The x with the smallest (row, column) in the source."""
    LAST = "last"
    """The x with the greatest (row, column) in the source."""


#: Methods whose results are pixels of the source, which must not be rounded.
SELECTING = frozenset({Method.COPY, Method.NEAREST, Method.MAJORITY, Method.FIRST, Method.LAST})

#: Methods that give x, exactly, wherever all that they need is x.
IDEMPOTENT = (SELECTING - {Method.COPY}) | {Method.BILINEAR, Method.MIN, Method.MAX, Method.MEDIAN}

#: Methods that give x up to rounding wherever all that they need is x.
AVERAGING = frozenset({Method.MEAN, Method.STD_CORRELATED})

#: ``interp_methods`` of the configuration.
_REFINING = {"nearest": Method.NEAREST, "bilinear": Method.BILINEAR}

#: ``agg_methods`` of the configuration.
_COARSENING = {
    "center": Method.NEAREST,
    "count": Method.COUNT,
    "first": Method.FIRST,
    "last": Method.LAST,
    "max": Method.MAX,
    "mean": Method.MEAN,
    "median": Method.MEDIAN,
    "min": Method.MIN,
    "mode": Method.MAJORITY,
    "prod": Method.PROD,
    "std": Method.STD,
    "sum": Method.SUM,
    "var": Method.VAR,
}


def choose_method(
    kind: Kind,
    index_map: IndexMap,
    error_model: str = "correlated",
    refine: str | None = None,
    coarsen: str | None = None,
) -> Method:
    """The method for values of ``kind``; the dtype has no say.

    An ensemble is aggregated first and is continuous from then on. ``error_model``, ``correlated`` or
    ``independent``, matters for means of standard deviations.

    ``refine`` (``interp_methods``: nearest, bilinear) and ``coarsen`` (``agg_methods``: center, count, first, last,
    max, mean, median, min, mode, prod, std, sum, var) override the kind's own method, each in its direction; where
    the lattices coincide, pixels are copied all the same. ``mode`` needs whole numbers.

    Raises PlanError for an unknown error model or name, and for a name that isn't for classes where the kind is
    categorical: in both directions whatever the lattices, so that a configuration is right or wrong for all regions.
    """
    if error_model not in {"correlated", "independent"}:
        msg = f"error_model must be 'correlated' or 'independent', not {error_model!r}"
        raise PlanError(msg)
    finer = _override("interp_methods", refine, kind, _REFINING)
    coarser = _override("agg_methods", coarsen, kind, _COARSENING)
    if index_map.copy is not None:
        return Method.COPY
    if not index_map.coarsening:
        return finer or (Method.NEAREST if kind is Kind.CATEGORICAL else Method.BILINEAR)
    if coarser not in {None, Method.MEAN}:
        return coarser
    if kind is Kind.CATEGORICAL:
        return Method.MAJORITY
    if kind is Kind.STANDARD_DEVIATION:
        return Method.STD_INDEPENDENT if error_model == "independent" else Method.STD_CORRELATED
    return Method.MEAN


def _override(key: str, name: str | None, kind: Kind, methods: Mapping[str, Method]) -> Method | None:
    """The method that ``name`` means under ``key`` of the configuration. Raises PlanError as choose_method does."""
    if name is None:
        return None
    if name == "triangular":
        msg = f"spatial_resample_params.{key}: 'triangular' isn't supported: use one of {', '.join(methods)}"
        raise PlanError(msg)
    if name not in methods:
        close = get_close_matches(name, methods, n=1, cutoff=0)[0]
        msg = f"spatial_resample_params.{key}: no method {name!r}; the nearest is {close!r} of {', '.join(methods)}"
        raise PlanError(msg)
    if kind is Kind.CATEGORICAL and methods[name] not in SELECTING:
        allowed = ", ".join(known for known, method in methods.items() if method in SELECTING)
        msg = (
            f"spatial_resample_params.{key}: {name!r} would make numbers of class codes that mean no class, or another "
            f"one: for a categorical variable use one of {allowed}"
        )
        raise PlanError(msg)
    return methods[name]
