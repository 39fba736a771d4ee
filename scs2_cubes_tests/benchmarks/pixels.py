"""What the pixels of each synthetic source are: in the ranges, with the gaps and about as compressible as real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes_tests.benchmarks.fields import Block, grain, noise

__all__ = ["PIXELS", "Pixels"]

#: (rows and columns, position on the time axis, members) → values (row, column), or (member, row, column).
Pixels = Callable[[Block, int, range], npt.NDArray[Any]]

#: Below this share of the largest shapes lies the sea.
_SEA = 0.22


def _sea(block: Block, scale: int) -> npt.NDArray[np.bool_]:
    return noise(block, (scale,), seed=7) < _SEA


def _forest(block: Block, scale: int) -> npt.NDArray[np.bool_]:
    return noise(block, (4 * scale, scale, scale // 4, 3), seed=11) > 0.45


def _forest_type(block: Block, _step: int, _members: range) -> npt.NDArray[np.uint8]:
    kind = noise(block, (120, 30, 8, 3), seed=3)
    codes = np.where(kind > 0.5, np.uint8(2), np.uint8(1))
    codes[~_forest(block, 60)] = 0
    codes[noise(block, (50,), seed=5) > 0.985] = 254
    codes[_sea(block, 1000)] = 255
    return codes


def _genus(block: Block, _step: int, _members: range) -> npt.NDArray[np.uint16]:
    # Values crowd around 0.5, so classes at even distances there are of different sizes, as genera are.
    edges = np.array([0.3, 0.36, 0.46, 0.52, 0.58, 0.64, 0.7], np.float32)
    codes = np.digitize(noise(block, (200, 60, 16, 5), seed=13), edges).astype(np.uint16)
    codes[~_forest(block, 120)] = 7
    codes[_sea(block, 2000)] = 255
    return codes


def _quantity(block: Block, seed: int, top: float, rough: float) -> npt.NDArray[np.float32]:
    """0 outside the forest, else positive with a grain of ``rough`` times ``top``."""
    field = noise(block, (150, 40, 10), seed) * top + grain(block, seed) * (rough * top)
    values: npt.NDArray[np.float32] = np.clip(field, 0.02 * top, top).astype(np.float32)
    values[~_forest(block, 40) | _sea(block, 700)] = 0
    return values


def _biomass(block: Block, _step: int, _members: range) -> npt.NDArray[np.float32]:
    return _quantity(block, 17, 25000, 0.03)


def _height(block: Block, _step: int, _members: range) -> npt.NDArray[np.float32]:
    return _quantity(block, 19, 35, 0.03)


def _cover(block: Block, _step: int, _members: range) -> npt.NDArray[np.uint8]:
    return np.rint(_quantity(block, 23, 100, 0.03)).astype(np.uint8)


def _agent(block: Block, step: int, _members: range) -> npt.NDArray[np.int16]:
    """Few and small disturbances in each year, and a forest mask that doesn't change."""
    event = noise(block, (24, 9), seed=1000 + step)
    agent = np.where(noise(block, (300,), seed=2000 + step) > 0.6, np.int16(1), np.int16(3))
    codes = np.where(event > 0.82, agent, np.int16(0))
    codes[~_forest(block, 40) | _sea(block, 700)] = -9999
    return codes


def _age(block: Block, step: int, members: range) -> npt.NDArray[np.int16]:
    base = noise(block, (80, 20, 5), seed=29) * 180 + 5 + 10 * step
    outside = ~_forest(block, 16) | _sea(block, 400)
    out = np.empty((len(members), *base.shape), np.int16)
    for number, member in enumerate(members):
        spread = noise(block, (12, 3), seed=3000 + member) - np.float32(0.5)
        out[number] = np.clip(np.rint(base * (1 + 0.5 * spread)), 1, 300)
        out[number][outside] = -9999
    return out


def _agb(block: Block, step: int, _members: range) -> npt.NDArray[np.int16]:
    field = noise(block, (60, 15, 4), seed=31) * 400 + grain(block, 100 + step) * 12 + 2 * step
    values: npt.NDArray[np.int16] = np.clip(np.rint(field), 1, 10000).astype(np.int16)
    values[~_forest(block, 16)] = 0
    values[_sea(block, 400)] = -32768
    return values


def _agb_sd(block: Block, step: int, _members: range) -> npt.NDArray[np.int16]:
    agb = _agb(block, step, _members)
    wide = np.rint(np.abs(agb) * (0.3 + 0.1 * grain(block, 200 + step)))
    spread: npt.NDArray[np.int16] = np.clip(wide, 0, 10000).astype(np.int16)
    spread[agb == -32768] = -32768
    return spread


#: Name of an array → its pixels. Arrays that aren't here are declared and hold nothing.
PIXELS: Mapping[str, Pixels] = MappingProxyType(
    {
        "FTY_2015_020m_eu_03035_d04_E30N20": _forest_type,
        "genus": _genus,
        "aboveground_biomass": _biomass,
        "canopy_cover": _cover,
        "canopy_height": _height,
        "disturbance_agent": _agent,
        "forest_age": _age,
        "agb": _agb,
        "agb_sd": _agb_sd,
    }
)
