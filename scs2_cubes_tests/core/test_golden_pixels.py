"""Pixels that changed without a new code version: cubes would be kept that the present code would make otherwise.

Where this fails because pixels were meant to change, raise ``KERNEL_CODE_VERSION`` and write down the new fingerprints.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.methods import Method
from scs2_cubes.core.resample import aggregate, resample
from scs2_cubes.core.transform import index_map
from scs2_cubes.core.variables import Statistic
from scs2_cubes.core.versions import KERNEL_CODE_VERSION

TARGET = Lattice("EPSG:3035", 3401404.0, 2348000.0, 30.0, -30.0, 40, 37)
FINE = Lattice("EPSG:3035", 3401397.0, 2348013.0, 20.0, -20.0, 70, 70)
COARSE = Lattice("EPSG:4326", -1.4183, 43.6177, 1 / 1125, -1 / 1125, 40, 40)

GOLDEN: dict[tuple[int, str], str] = {
    (1, "majority"): "7ae54b44d20b",
    (1, "nearest-4326"): "918453b08a2a",
    (1, "bilinear-4326"): "533679c96302",
    (1, "mean"): "3723b809f6d4",
    (1, "median"): "bd9b6b6b19d7",
    (1, "std"): "9dd6b32c544e",
    (1, "std_correlated"): "58520b0cc434",
    (1, "std_independent"): "3c35f871109b",
    (1, "mean-3035"): "d7fd53f28c89",
    (1, "footprint-min"): "8cb10f8f4b1b",
    (1, "footprint-max"): "3e63cbda7670",
    (1, "footprint-median"): "c37ce1a4f90b",
    (1, "footprint-sum"): "ef0329b584f7",
    (1, "footprint-std"): "b61447d0dec5",
    (1, "footprint-var"): "42dfb00fa30c",
    (1, "footprint-count"): "b3122d7eb485",
    (1, "footprint-prod"): "06cef3b193ad",
    (1, "footprint-first"): "969a9750d65c",
    (1, "footprint-last"): "436c9c92e576",
    (1, "q05"): "ea70a213ddcd",
    (1, "q10"): "cce1b992cab7",
    (1, "q25"): "061cbf05b8fd",
    (1, "q75"): "c0c1f1907fe8",
    (1, "q90"): "7886852af366",
    (1, "q95"): "9855dfac6264",
}


def _fingerprint(values: npt.NDArray[Any]) -> str:
    # Rounded to six digits: the last bits of a mean may differ between processors.
    text = np.array2string(values, threshold=values.size + 1, precision=6, floatmode="fixed", max_line_width=10_000)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _case(name: str) -> npt.NDArray[Any]:
    rng = np.random.Generator(np.random.PCG64(20150101))
    if name in {"mean", "median", "std"} or name.startswith("q"):
        members = rng.integers(1, 300, (20, 12, 11)).astype("int16")
        members[rng.random(members.shape) < 0.3] = -9999
        members[:, 3, 4] = -9999
        return aggregate(members, Statistic(name), nodata=-9999)
    source = COARSE if name.endswith("4326") else FINE
    mapping = index_map(source, TARGET)
    assert mapping.source_window(TARGET.window) is not None
    window = source.window
    method = Method(name.removesuffix("-4326").removeprefix("footprint-"))
    if method in {Method.MAJORITY, Method.NEAREST, Method.FIRST, Method.LAST}:
        codes = rng.integers(0, 5, source.shape).astype("uint8")
        codes[rng.random(source.shape) < 0.2] = 255
        return resample(codes, window, mapping, TARGET.window, method, nodata=255, dtype="uint8", fill=255)
    field = rng.normal(100, 30, source.shape).astype("float32")
    field[rng.random(source.shape) < 0.2] = np.nan
    return resample(field, window, mapping, TARGET.window, method, nodata=None, dtype="float32", fill=np.nan)


CASES = ["majority", "nearest-4326", "bilinear-4326", "mean", "median", "std", "std_correlated", "std_independent"]
SUMMARIES = ["min", "max", "median", "sum", "std", "var", "count", "prod", "first", "last"]
CASES += [f"footprint-{name}" for name in SUMMARIES] + ["q05", "q10", "q25", "q75", "q90", "q95"]


@pytest.mark.parametrize("name", [*CASES, "mean-3035"])
def test_pixels_change_with_the_code_version_alone(name: str) -> None:
    values = _resampled_mean() if name == "mean-3035" else _case(name)
    assert GOLDEN[KERNEL_CODE_VERSION, name] == _fingerprint(values)


def _resampled_mean() -> npt.NDArray[Any]:
    rng = np.random.Generator(np.random.PCG64(7))
    field = rng.normal(100, 30, FINE.shape).astype("float32")
    field[rng.random(FINE.shape) < 0.2] = np.nan
    mapping = index_map(FINE, TARGET)
    return resample(field, FINE.window, mapping, TARGET.window, Method.MEAN, nodata=None, dtype="float32", fill=np.nan)
