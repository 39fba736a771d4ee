"""Plans and inspections to draw, and what is found in the pictures of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from scs2_cubes.core.cube import CubeLayer
from scs2_cubes.core.grid import partitions_of
from scs2_cubes.core.variables import Kind, LegendEntry, Variable
from scs2_cubes.pipeline.inspection import Inspection
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.pipeline import worlds

LIMIT = 70_000
RED, NAVY, LIME, TEAL, PINK = "#fe0102", "#10206f", "#a0e010", "#0f8a80", "#f4a6c8"
LEGEND = tuple(
    LegendEntry(code, f"class_{code}", f"Class {code}", colour)
    for code, colour in enumerate((RED, NAVY, LIME, TEAL, PINK))
)
DATES = ("2010-01-01T00:00:00", "2012-07-02T00:00:00", "2020-01-01T00:00:00")


def rgb(colour: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(colour[1:]))  # type: ignore[return-value]  # three of them


def classes_plan(folder: Path, *, times: Sequence[str] = DATES, legend: tuple[LegendEntry, ...] = LEGEND) -> CubePlan:
    """130 rows x 135 columns of 30 m in EPSG:3035, uint8 with fill 255."""
    plan = worlds.genus_world(folder).plan
    variable = Variable("genus", Kind.CATEGORICAL, "uint8", 255, long_name="Dominant genus", legend=legend)
    return _with(plan, variable, {"long_name": "Dominant genus"}, times)


def quantity_plan(folder: Path, *, times: Sequence[str] = DATES, kind: Kind = Kind.CONTINUOUS) -> CubePlan:
    """The same grid, float32 with fill NaN."""
    plan = worlds.genus_world(folder).plan
    variable = Variable("agb", kind, "float32", float("nan"), units="Mg ha-1", long_name="Biomass")
    return _with(plan, variable, {"long_name": "Biomass", "units": "Mg ha-1"}, times)


def _with(plan: CubePlan, variable: Variable, attrs: dict[str, Any], times: Sequence[str]) -> CubePlan:
    layer = CubeLayer(variable.name, variable.dtype, variable.fill, attrs)
    schema = replace(
        plan.schema,
        layers=(layer,),
        times=tuple(times),
        time_is_dim=len(times) > 1,
        attrs={"title": "Some product", "license": "CC-BY-4.0", "citation": "Someone (2026)"},
    )
    return replace(plan, layers=(replace(plan.layers[0], variable=variable),), schema=schema)


def inspection(
    plan: CubePlan,
    views: Sequence[npt.NDArray[Any]],
    *,
    means: Sequence[float] = (),
    shares: Mapping[int, Sequence[float]] | None = None,
    sites: Mapping[str, npt.NDArray[Any]] | None = None,
    extremes: tuple[float, float] | None = None,
) -> Inspection:
    (partition,) = partitions_of(plan.region)
    name = plan.schema.layers[0].name
    return Inspection(
        partition,
        plan.data_version,
        (),
        {name: np.array(means, dtype=np.float64)},
        {name: {code: np.array(share) for code, share in (shares or {}).items()}},
        {(name, step): view for step, view in enumerate(views)},
        {site: {name: values} for site, values in (sites or {}).items()},
        {name: extremes} if extremes else {},
    )


def decoded(picture: bytes) -> npt.NDArray[np.uint8]:
    """(rows, columns, 3)."""
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB"))


def where(image: npt.NDArray[np.uint8], colour: tuple[int, int, int] | str) -> npt.NDArray[np.bool_]:
    """(rows, columns): which pixels have exactly that colour."""
    wanted = rgb(colour) if isinstance(colour, str) else colour
    found: npt.NDArray[np.bool_] = (image == np.array(wanted, dtype=np.uint8)).all(axis=-1)
    return found


def framed(image: npt.NDArray[np.uint8], colour: tuple[int, int, int] | str) -> tuple[int, int, int, int]:
    """(top, bottom, left, right), half-open, of a map whose outermost cube pixels all have a colour of their own.

    Swatches of a legend are smaller than 40 pixels.
    """
    mask = where(image, colour)
    rows, cols = np.flatnonzero(mask.sum(axis=1) > 40), np.flatnonzero(mask.sum(axis=0) > 40)
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1


def cut(image: npt.NDArray[np.uint8], box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    return image[box[0] : box[1], box[2] : box[3]]


def centre(mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(row, column) of the middle of the true pixels; their centres are whole numbers and a half."""
    rows, cols = np.nonzero(mask)
    return float(rows.mean()) + 0.5, float(cols.mean()) + 0.5
