"""The kernels alone. As tests they run once; ``pytest --benchmark-enable scs2_cubes_tests/benchmarks`` times them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.resample import aggregate, resample
from scs2_cubes.core.transform import index_map
from scs2_cubes.core.variables import Statistic

TARGET = Lattice("EPSG:3035", 3401404.0, 2348000.0, 30.0, -30.0, 256, 256)
SHIFTED = Lattice("EPSG:3035", 3401400.0, 2348017.0, 30.0, -30.0, 300, 300)
FINE = Lattice("EPSG:3035", 3401390.0, 2348020.0, 10.0, -10.0, 800, 800)
TWENTY = Lattice("EPSG:3035", 3401380.0, 2348040.0, 20.0, -20.0, 400, 400)
DEGREES = Lattice("EPSG:4326", -1.45, 43.64, 1 / 1125, -1 / 1125, 200, 200)

CASES = {
    "nearest 30 m": (SHIFTED, Method.NEAREST, "int16", "uint8"),
    "majority 10 m": (FINE, Method.MAJORITY, "uint16", "uint8"),
    "majority 20 m": (TWENTY, Method.MAJORITY, "uint8", "uint8"),
    "bilinear 30 m": (SHIFTED, Method.BILINEAR, "float32", "float32"),
    "bilinear degrees": (DEGREES, Method.BILINEAR, "int16", "float32"),
    "mean 10 m": (FINE, Method.MEAN, "float32", "float32"),
}


def patches(lattice: Lattice, dtype: str) -> npt.NDArray[Any]:
    """Patches of 8 x 8 pixels of the numbers 0 to 7, 0 being nodata."""
    rows, cols = -(-lattice.ny // 8), -(-lattice.nx // 8)
    coarse = np.random.default_rng(1).integers(0, 8, (rows, cols))
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[: lattice.ny, : lattice.nx].astype(dtype)


@pytest.mark.parametrize("case", CASES)
def test_resample(case: str, benchmark: Any) -> None:
    lattice, method, dtype, made = CASES[case]
    plane = patches(lattice, dtype)
    mapping = index_map(lattice, TARGET)
    fill = np.nan if made == "float32" else 255
    values = benchmark(resample, plane, lattice.window, mapping, TARGET.window, method, nodata=0, dtype=made, fill=fill)
    valid = values[~np.isnan(values)] if made == "float32" else values[values != 255]
    assert values.shape == TARGET.shape
    assert valid.size > 0.5 * values.size
    assert 1 <= valid.min() <= valid.max() <= 7


@pytest.mark.parametrize("statistic", Statistic)
def test_aggregate(statistic: Statistic, benchmark: Any) -> None:
    members = np.stack([patches(SHIFTED, "int16")] * 20)
    layer = benchmark(aggregate, members, statistic, nodata=0)
    expected = np.zeros(layer.shape) if statistic is Statistic.STD else members[0]
    assert np.array_equal(layer, np.where(members[0] == 0, np.nan, expected), equal_nan=True)


def test_nodes(benchmark: Any) -> None:
    lattice = Lattice("EPSG:4326", -180.0, 90.0, 1 / 1125, -1 / 1125, 405000, 202500)
    mapping = index_map(lattice, TARGET)
    window = benchmark(mapping.source_window, Window(0, 256, 0, 256))
    assert window.height < 256
