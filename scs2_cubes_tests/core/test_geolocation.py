"""Nothing is displaced: fields that hold their own coordinates, and exact pyproj for every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.methods import Method, choose_method
from scs2_cubes.core.resample import resample
from scs2_cubes.core.transform import index_map
from scs2_cubes.core.variables import Kind
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.core.worlds import GAMI, LANDES, SOURCES, TARGET, raster, run

WINDOW = Window(1900, 2300, 2500, 3000)
#: Target pixels whose footprints lie inside every source.
INNER = (slice(8, 92), slice(8, 92))


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("axis", [0, 1])
def test_ramps_on_one_crs(name: str, axis: int) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    ramp = np.indices(mapping.source.shape)[axis] + 0.5
    method = choose_method(Kind.CONTINUOUS, mapping)
    found = run(ramp, mapping, method, "float64")[INNER]
    u, v = oracles.source_index(raster(mapping.source), raster(TARGET), range(TARGET.ny), range(TARGET.nx))
    displacement = found - (v, u)[axis][INNER]
    # A mean of whole pixels isn't a straight line where footprints cut pixels (20 to 30 m), but never leans.
    assert abs(displacement.mean()) <= 0.001
    if not name.startswith(("20 m", "10 m shifted")):
        assert np.abs(displacement).max() <= 0.001


@pytest.mark.parametrize("name", ["10 m aligned", "20 m aligned"])
def test_class_maps_are_not_displaced(name: str) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    source = mapping.source
    # Stripes four pixels wide. Where a class is found, against where its stripe has its middle.
    field = np.tile((np.arange(source.nx) // 4).astype(np.uint16), (source.ny, 1))
    found = run(field, mapping, Method.MAJORITY, "uint16", fill=65535)[INNER]
    u, _ = oracles.source_index(raster(source), raster(TARGET), range(TARGET.ny), range(TARGET.nx))
    displacement = (found * 4.0 + 2.0) - u[INNER]
    # Both patterns repeat after eight target pixels: 80 leave nothing over.
    assert abs(displacement[:, :80].mean()) <= 0.001


def test_ramps_from_degrees() -> None:
    mapping = index_map(GAMI, LANDES.lattice)
    needed = mapping.source_window(WINDOW)
    assert needed is not None
    u, v = oracles.source_index(
        raster(GAMI),
        raster(LANDES.lattice),
        range(WINDOW.row_start, WINDOW.row_stop),
        range(WINDOW.col_start, WINDOW.col_stop),
    )
    rows, cols = np.indices(needed.shape)
    for ramp, exact in ((cols + needed.col_start + 0.5, u), (rows + needed.row_start + 0.5, v)):
        found = resample(ramp, needed, mapping, WINDOW, Method.BILINEAR, nodata=None, dtype="float64", fill=np.nan)
        assert np.abs(found - exact).max() <= 0.001


@pytest.mark.parametrize(
    "source", [GAMI, Lattice("EPSG:4326", -20.0, 60.0, 2e-4, -2e-4, 200_000, 150_000)], ids=["100 m", "20 m"]
)
def test_nearest_is_that_of_exact_pyproj(source: Lattice) -> None:
    mapping = index_map(source, LANDES.lattice)
    needed = mapping.source_window(WINDOW)
    assert needed is not None
    field = np.arange(needed.height * needed.width, dtype=np.int32).reshape(needed.shape)
    found = resample(field, needed, mapping, WINDOW, Method.NEAREST, nodata=None, dtype="int32", fill=-1)
    u, v = oracles.source_index(
        raster(source),
        raster(LANDES.lattice),
        range(WINDOW.row_start, WINDOW.row_stop),
        range(WINDOW.col_start, WINDOW.col_stop),
    )
    exact = field[np.floor(v).astype(int) - needed.row_start, np.floor(u).astype(int) - needed.col_start]
    differs = found != exact
    assert differs.mean() <= 0.001
    from_edge = np.minimum(np.abs(u - np.rint(u)), np.abs(v - np.rint(v)))
    assert (from_edge[differs] <= 0.001).all()


@pytest.mark.parametrize("kind", [Kind.CATEGORICAL, Kind.CONTINUOUS])
@pytest.mark.parametrize(
    "source", [GAMI, Lattice("EPSG:4326", -20.0, 60.0, 1e-4, -1e-4, 400_000, 300_000)], ids=["refining", "coarsening"]
)
def test_tiles_equal_the_whole_bit_for_bit(source: Lattice, kind: Kind) -> None:
    mapping = index_map(source, LANDES.lattice)
    needed = mapping.source_window(WINDOW)
    assert needed is not None
    field = np.random.default_rng(6).integers(0, 6, needed.shape).astype(np.int16)
    method = choose_method(kind, mapping)
    assert mapping.coarsening is (source is not GAMI)
    whole = resample(field, needed, mapping, WINDOW, method, nodata=5, dtype="float32", fill=-1)
    middle = Window(2033, 2177, 2666, 2801)
    part = mapping.source_window(middle)
    assert part is not None
    plane = field[part.relative_to(needed).slices]
    tile = resample(plane, part, mapping, middle, method, nodata=5, dtype="float32", fill=-1)
    np.testing.assert_array_equal(tile, whole[middle.relative_to(WINDOW).slices])
