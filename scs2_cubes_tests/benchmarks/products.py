"""What the six sources mean: the package's own descriptions, and stand-ins for products that it doesn't know yet."""

from __future__ import annotations

import math

from scs2_cubes.config.products import load_products, product_for
from scs2_cubes.core.variables import Kind, Product, Variable
from scs2_cubes_tests.benchmarks.layouts import SourceLayout

__all__ = ["data_id", "product_of"]


def product_of(layout: SourceLayout) -> Product:
    """The product of a source: the package's where it describes the data id, else this benchmark's. Reads its files."""
    return product_for(data_id(layout), load_products()) or _stand_in(layout)


def data_id(layout: SourceLayout) -> str:
    """The source's id in the benchmark's catalogue."""
    return f"{layout.item}.json"


def _stand_in(layout: SourceLayout) -> Product:
    return Product(layout.cube, layout.item, 1, (data_id(layout),), tuple(_variable(n) for n in layout.variables))


def _variable(name: str) -> Variable:
    if name.startswith("FTY_"):
        return Variable(name, Kind.CATEGORICAL, "uint8", 255, 255)
    if name == "disturbance_agent":
        return Variable(name, Kind.CATEGORICAL, "uint8", 255, -9999)
    if name == "agb_sd":
        return Variable(name, Kind.STANDARD_DEVIATION, "float32", math.nan)
    return Variable(name, Kind.CONTINUOUS, "float32", math.nan)
