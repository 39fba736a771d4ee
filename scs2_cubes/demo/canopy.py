"""What the synthetic stands look like from above in 2019: age, biomass, height and cover of their canopy.

Pure functions of EPSG:3035 coordinates in metres, under the rules of :mod:`scs2_cubes.demo.world`. Each quantity
grows with age towards a limit, as limit · age / (age + half), where ``half`` is the age at half of the limit; how
fertile a site is scales them all by up to a fifth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.demo import disturbance, world

__all__ = ["PIXEL_AREA", "SEED_FERTILITY", "YEAR", "aboveground_biomass", "cover", "fertility", "height", "stand_age"]

Floats = npt.NDArray[np.float64]

#: Year in which the canopy is looked at.
YEAR: Final = 2019

#: Area of a pixel of 30 m in square metres.
PIXEL_AREA: Final = 900.0

#: Limit in Mg/ha, m and percent, and age at half of it in years.
_BIOMASS: Final = (350.0, 60.0)
_HEIGHT: Final = (36.0, 25.0)
_COVER: Final = (95.0, 6.0)
#: 1 Mg/ha is 1000 kg on 10 000 m².
_KG_PER_PIXEL: Final = PIXEL_AREA * 1_000.0 / 10_000.0

SEED_FERTILITY: Final = 9_000


def stand_age(x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Age of the stand in years, at least 1 where there is forest, and 0 elsewhere; of the broadcast shape.

    Where there was a disturbance, of the first edition, the stand is as old as that is long ago; it was there before
    otherwise, with the age that :func:`scs2_cubes.demo.world.age` tells.
    """
    disturbed = disturbance.latest_year(x, y, YEAR)
    since = np.maximum(YEAR - disturbed, world.MIN_AGE)
    age = np.where(disturbed > 0, since, world.age(x, y, YEAR))
    return np.where(world.forest(x, y), age, 0.0).astype(np.float32)


def fertility(x: npt.ArrayLike, y: npt.ArrayLike, edition: int = 1) -> Floats:
    """Factor between 0.8 and 1.2 by which a site exceeds the average; it alone changes with the edition."""
    return 0.8 + 0.4 * world.noise(x, y, 700.0, 2, SEED_FERTILITY + world.SEED_EDITION * (edition - 1))


def aboveground_biomass(age: npt.ArrayLike, site: Floats) -> Floats:
    """Dry matter in kg on a pixel of 900 m²: less than 37 800, which are 420 Mg/ha.

    For the ages (years) and fertilities of some points, as for the functions below; 0 where the age is 0.
    """
    return _KG_PER_PIXEL * _growth(age, site, *_BIOMASS)


def height(age: npt.ArrayLike, site: Floats) -> Floats:
    """Height of the canopy in metres."""
    return _growth(age, site, *_HEIGHT)


def cover(age: npt.ArrayLike, site: Floats) -> Floats:
    """Share of the ground below the canopy in whole percent: 0 where the age is 0, at most 100."""
    return np.minimum(np.rint(_growth(age, site, *_COVER)), 100.0)


def _growth(age: npt.ArrayLike, site: Floats, limit: float, half: float) -> Floats:
    age = np.asarray(age, dtype=np.float64)
    return np.asarray(site * (limit * age / (age + half)))
