from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.resample import aggregate, aggregate_each
from scs2_cubes.core.variables import Statistic
from scs2_cubes.errors import PlanError

ORACLES: dict[Statistic, Callable[..., Any]] = {
    Statistic.MEAN: np.nanmean,
    Statistic.MEDIAN: np.nanmedian,
    Statistic.STD: np.nanstd,
    Statistic.Q05: partial(np.nanquantile, q=0.05),
    Statistic.Q10: partial(np.nanquantile, q=0.1),
    Statistic.Q25: partial(np.nanquantile, q=0.25),
    Statistic.Q75: partial(np.nanquantile, q=0.75),
    Statistic.Q90: partial(np.nanquantile, q=0.9),
    Statistic.Q95: partial(np.nanquantile, q=0.95),
}


def members(dtype: str, count: int, nodata: float | None) -> npt.NDArray[Any]:
    """Pixels with all, some, one and no valid members; the biggest numbers of the dtype among them."""
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype)
    top = 300.0 if kind.kind == "f" else np.iinfo(kind).max - 1
    field = (rng.random((count, 17, 23)) * top).astype(kind)
    if nodata is not None:
        field[field == nodata] += 1
        gone = rng.random(field.shape) < 0.5
        gone[:, :2] = False
        gone[:, 2] = True
        gone[1:, 3] = True
        field[gone] = nodata
    return field


def expected(field: npt.NDArray[Any], statistic: Statistic, nodata: float | None) -> npt.NDArray[np.float64]:
    numbers = field.astype(np.float64)
    if nodata is not None:
        numbers[numbers == nodata] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: npt.NDArray[np.float64] = ORACLES[statistic](numbers, axis=0)
    return result


@pytest.mark.parametrize("statistic", list(Statistic))
@pytest.mark.parametrize("count", [1, 2, 7, 20])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("int16", -9999), ("uint8", 0), ("uint16", 65535), ("int32", -1), ("float32", np.nan), ("float64", -9999.0)],
)
def test_statistics_over_valid_members(dtype: str, nodata: float, count: int, statistic: Statistic) -> None:
    field = members(dtype, count, nodata)
    found = aggregate(field, statistic, nodata=nodata)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(field, statistic, nodata), rtol=2e-7, atol=1e-6)
    assert np.isnan(found[2]).all()
    assert not np.isnan(found[0]).any()


@pytest.mark.parametrize("statistic", list(Statistic))
def test_any_strides(statistic: Statistic) -> None:
    field = members("int16", 20, -9999)
    # As GAMI stores it: (member, y, x, time), of which one time is taken.
    stored = np.stack([field * 0, field], axis=-1)[:, ::-1, :, 1]
    np.testing.assert_array_equal(
        aggregate(stored, statistic, nodata=-9999), aggregate(field, statistic, nodata=-9999)[::-1]
    )


def test_several_at_once_are_those_one_by_one() -> None:
    field = members("int16", 20, -9999)
    asked = (Statistic.Q95, Statistic.STD, Statistic.Q05, Statistic.MEAN, Statistic.Q95)
    found = aggregate_each(field, asked, nodata=-9999)
    assert set(found) == set(asked)
    for statistic, layer in found.items():
        np.testing.assert_array_equal(layer, aggregate(field, statistic, nodata=-9999))
    assert aggregate_each(field, (), nodata=-9999) == {}


def test_an_infinite_member_is_no_quantile_but_its_own() -> None:
    field = np.array([np.inf, 1.0, 3.0, 2.0, -np.inf]).reshape(5, 1, 1)
    found = aggregate_each(field, (Statistic.MEDIAN, Statistic.Q25, Statistic.Q75, Statistic.Q95), nodata=None)
    assert [float(layer[0, 0]) for layer in found.values()] == [2, 1, 3, np.inf]


def test_big_endian() -> None:
    field = members("int16", 5, -9999)
    np.testing.assert_array_equal(
        aggregate(field.astype(">i2"), Statistic.MEAN, nodata=-9999), aggregate(field, Statistic.MEAN, nodata=-9999)
    )


def test_nodata_that_the_dtype_cannot_hold_hides_nothing() -> None:
    field = np.full((3, 2, 2), 241, np.uint8)
    # -9999 taken modulo 256.
    np.testing.assert_array_equal(aggregate(field, Statistic.MEAN, nodata=-9999), 241)


def test_std_of_large_numbers_keeps_its_digits() -> None:
    field = np.array([1e8, 1e8 + 1, 1e8 + 2]).reshape(3, 1, 1)
    assert aggregate(field, Statistic.STD, nodata=None)[0, 0] == pytest.approx(np.sqrt(2 / 3), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 2), (1, 2, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="member, y, x"):
        aggregate(np.zeros(shape), Statistic.MEAN, nodata=None)
