"""The numeric loops: compiled by numba, serial, without the GIL.

Serial because Dask runs tiles in threads already, and numba's own threads under them can abort the process. Importing
this package imports numba, which takes half a second: import it inside the function that calls a kernel.

Every kernel takes a :class:`SourcePlane` and a :class:`Mapping`, and writes into ``out`` (row, column) of the target
window, which the caller has filled with "no value"; pixels without a value aren't touched. Arithmetic is float64.
Whatever lies outside the plane is invalid, as nodata is. A result depends on the pixels that it needs and on the mesh
of nodes, never on the extent of plane or window, so that tiles equal the whole bit for bit. Those of ``ensembles`` take
the members of a window instead, and write all of it.
"""

from scs2_cubes.core.kernels.area import area_weighted
from scs2_cubes.core.kernels.elections import majority
from scs2_cubes.core.kernels.ensembles import ensemble_mean, ensemble_quantiles, ensemble_std
from scs2_cubes.core.kernels.interpolation import bilinear, nearest
from scs2_cubes.core.kernels.mapping import Mapping
from scs2_cubes.core.kernels.planes import SourcePlane, holds_one_number
from scs2_cubes.core.kernels.summaries import Summary, footprint_end, footprint_summary

__all__ = [
    "Mapping",
    "SourcePlane",
    "Summary",
    "area_weighted",
    "bilinear",
    "ensemble_mean",
    "ensemble_quantiles",
    "ensemble_std",
    "footprint_end",
    "footprint_summary",
    "holds_one_number",
    "majority",
    "nearest",
]
