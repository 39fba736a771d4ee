"""Every kernel against its definition, pixel by pixel, in worlds of one CRS."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.methods import Method, choose_method
from scs2_cubes.core.resample import resample
from scs2_cubes.core.transform import IndexMap, index_map
from scs2_cubes.core.variables import Kind
from scs2_cubes.errors import GridError, PlanError
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.core.worlds import LAEA, SOURCES, TARGET, footprint, raster, run

#: dtype of the source, its nodata, dtype of classes in the cube.
DTYPES = [
    ("uint8", 255, "uint8"),
    ("uint16", 255, "uint8"),
    ("int16", -9999, "uint8"),
    ("int16", None, "int16"),
    ("float32", np.nan, "uint8"),
]
PARTS = [Window(0, 30, 0, 60), Window(30, 77, 0, 60), Window(0, 30, 60, 104), Window(30, 104, 60, 104)]


def classes(lattice: Lattice, dtype: str, nodata: float | None, seed: int = 1) -> npt.NDArray[Any]:
    """Codes 0 to 4 in patches and as noise, with holes; many ties."""
    rng = np.random.default_rng(seed)
    patches = np.kron(rng.integers(0, 5, (lattice.ny // 5 + 1, lattice.nx // 5 + 1)), np.ones((5, 5), int))
    field = patches[: lattice.ny, : lattice.nx].astype(dtype)
    noisy = rng.random(field.shape) < 0.3
    field[noisy] = rng.integers(0, 5, int(noisy.sum()))
    if nodata is not None:
        field[rng.random(field.shape) < 0.2] = nodata
        field[: lattice.ny // 4, : lattice.nx // 4] = nodata
    return field


def quantities(lattice: Lattice, dtype: str, nodata: float | None) -> npt.NDArray[Any]:
    rng = np.random.default_rng(2)
    field = (rng.random(lattice.shape) * 200 + 1).astype(dtype)
    if nodata is not None:
        field[rng.random(field.shape) < 0.2] = nodata
        field[: lattice.ny // 4, : lattice.nx // 4] = nodata
    return field


def expected(
    field: npt.NDArray[Any], mapping: IndexMap, method: Method, nodata: float | None
) -> npt.NDArray[np.float64]:
    """NaN where there is no value."""
    target = mapping.target
    u, v = oracles.source_index(raster(mapping.source), raster(target), range(target.ny), range(target.nx))
    size = footprint(mapping)
    result = np.full(target.shape, np.nan)
    for place in np.ndindex(target.shape):
        x, y = float(u[place]), float(v[place])
        number: float | None
        if method is Method.NEAREST:
            number = oracles.nearest(field, x, y, nodata)
        elif method is Method.BILINEAR:
            number = oracles.bilinear(field, x, y, nodata)
        elif method is Method.MAJORITY:
            number = oracles.majority(field, x, y, size, nodata)
        elif method is Method.STD_INDEPENDENT:
            number = oracles.independent_error(field, x, y, size, nodata)
        elif method in {Method.MEAN, Method.STD_CORRELATED}:
            number = oracles.mean(field, x, y, size, nodata)
        else:
            number = oracles.summary(str(method), field, x, y, size, nodata)
        if number is not None:
            result[place] = number
    return result


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("dtype", "nodata", "out"), DTYPES)
def test_classes_match_the_definition(name: str, dtype: str, nodata: float | None, out: str) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    field = classes(SOURCES[name], dtype, nodata)
    method = choose_method(Kind.CATEGORICAL, mapping)
    assert method is (Method.MAJORITY if mapping.coarsening else Method.NEAREST)
    found = run(field, mapping, method, out, nodata=nodata, fill=200)
    wanted = expected(field, mapping, method, nodata)
    assert found.dtype == out
    np.testing.assert_array_equal(found, np.where(np.isnan(wanted), 200, wanted))
    # Never blended: only codes that occur in the source occur in the cube.
    assert set(np.unique(found)) <= {0, 1, 2, 3, 4, 200}
    assert 200 in found


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -32768), ("float32", np.nan), ("float32", -9999)]
)
def test_quantities_match_the_definition(name: str, dtype: str, nodata: float) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    field = quantities(SOURCES[name], dtype, nodata)
    method = choose_method(Kind.CONTINUOUS, mapping)
    assert method is (Method.MEAN if mapping.coarsening else Method.BILINEAR)
    found = run(field, mapping, method, "float32", nodata=nodata)
    np.testing.assert_allclose(found, expected(field, mapping, method, nodata), rtol=1e-6)
    # Nodata is never blended in: a mean lies among the numbers that it is made of.
    assert np.nanmin(found) >= 1
    assert np.nanmax(found) <= 201


@pytest.mark.parametrize("name", ["10 m shifted", "20 m aligned"])
@pytest.mark.parametrize("error_model", ["correlated", "independent"])
def test_standard_deviations_match_the_definition(name: str, error_model: str) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    field = quantities(SOURCES[name], "float32", -9999)
    method = choose_method(Kind.STANDARD_DEVIATION, mapping, error_model)
    found = run(field, mapping, method, "float32", nodata=-9999)
    np.testing.assert_allclose(found, expected(field, mapping, method, -9999), rtol=1e-6)


def test_independent_errors_average_out() -> None:
    mapping = index_map(SOURCES["10 m aligned"], TARGET)
    field = np.full(mapping.source.shape, 6.0, np.float32)
    assert run(field, mapping, Method.STD_INDEPENDENT, "float32")[50, 50] == pytest.approx(2.0)
    assert run(field, mapping, Method.STD_CORRELATED, "float32")[50, 50] == pytest.approx(6.0)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("method", [m for m in Method if m not in {Method.COPY, Method.STD_CORRELATED}])
def test_tiles_equal_the_whole_bit_for_bit(name: str, method: Method) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    field = quantities(SOURCES[name], "int16", -9999)
    whole = resample(
        field, mapping.source.window, mapping, TARGET.window, method, nodata=-9999, dtype="float64", fill=-1
    )
    for part in PARTS:
        tile = run(field, mapping, method, "float64", nodata=-9999, fill=-1, window=part)
        np.testing.assert_array_equal(tile, whole[part.slices])


STEPS = st.sampled_from([5.0, 7.5, 10.0, 12.0, 20.0, 25.0, 30.0, 31.0, 45.0, 60.0, 100.0])
# Whole millimetres: a point is on an edge, or further from it than the tolerance by which edges are the same.
SHIFTS = st.one_of(st.integers(-600, 600).map(float), st.integers(-600_000, 600_000).map(lambda number: number / 1000))


@settings(deadline=None, max_examples=150)  # a shared machine stalls now and then
@given(
    steps=st.tuples(STEPS, STEPS),
    signs=st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])),
    shift=st.tuples(SHIFTS, SHIFTS),
    method=st.sampled_from([m for m in Method if m not in {Method.COPY, Method.STD_CORRELATED}]),
    seed=st.integers(0, 99),
)
def test_any_lattices_match_the_definition(
    steps: tuple[float, float], signs: tuple[int, int], shift: tuple[float, float], method: Method, seed: int
) -> None:
    # Around the target's middle, from clipped to wholly outside.
    dx, dy = steps[0] * signs[0], steps[1] * signs[1]
    source = Lattice(LAEA, 180.0 + shift[0] - 20 * dx, 180.0 + shift[1] - 20 * dy, dx, dy, 40, 40)
    mapping = index_map(source, Lattice(LAEA, 0.0, 360.0, 30.0, -30.0, 12, 12))
    field = classes(source, "int16", -9999, seed)
    # 256 and 512 have the last eight bits of 0 in common.
    field[field == 3] = 256
    field[field == 4] = 512
    found = run(field, mapping, method, "float64", nodata=-9999)
    # A variance of equal numbers is zero, in the oracle but for rounding.
    np.testing.assert_allclose(found, expected(field, mapping, method, -9999), rtol=1e-9, atol=1e-6)


def one_pixel(block: list[list[int]], method: Method, size: int = 30, *, nodata: float | None = 255) -> int:
    """One target pixel of 30 m whose upper-left corner is the source's; fill is 99."""
    source = np.array(block, np.uint8)
    lattice = Lattice(LAEA, 0.0, 0.0, 30.0 / size, -30.0 / size, source.shape[1], source.shape[0])
    mapping = index_map(lattice, Lattice(LAEA, 0.0, 0.0, 30.0, -30.0, 1, 1))
    return int(run(source, mapping, method, "uint8", nodata=nodata, fill=99)[0, 0])


@pytest.mark.parametrize(
    ("block", "expected_code"),
    [
        ([[7, 7, 3], [3, 3, 7], [1, 1, 2]], 3),  # 7 and 3 tie, 3 is under the centre
        ([[7, 7, 7], [3, 5, 3], [3, 1, 1]], 3),  # 7 and 3 tie, 5 is under the centre: the smallest
        ([[7, 7, 7], [3, 255, 3], [3, 1, 1]], 3),  # … nodata is under the centre
        ([[255, 255, 255], [255, 1, 2], [2, 3, 3]], 2),  # 4 of 9 are nodata: they don't win, though the most
        ([[255, 255, 255], [255, 255, 2], [2, 2, 2]], 99),  # 5 of 9 are nodata
        ([[255, 255, 255], [255, 255, 255], [255, 255, 255]], 99),
        ([[9, 9, 9], [9, 9, 0], [0, 0, 0]], 9),
    ],
)
def test_votes(block: list[list[int]], expected_code: int) -> None:
    assert one_pixel(block, Method.MAJORITY, 3) == expected_code


def test_half_of_the_area_is_enough_for_a_class() -> None:
    assert one_pixel([[255, 255], [4, 5]], Method.MAJORITY, 2) == 5
    assert one_pixel([[255, 4], [255, 6]], Method.MAJORITY, 2) == 6
    assert one_pixel([[255, 255], [255, 5]], Method.MAJORITY, 2) == 99


def test_half_of_the_area_is_enough_for_a_mean() -> None:
    assert one_pixel([[255, 255], [10, 20]], Method.MEAN, 2) == 15
    assert one_pixel([[255, 255], [255, 20]], Method.MEAN, 2) == 99
    # Beyond the source's edge is as invalid as nodata.
    assert one_pixel([[10, 20]], Method.MEAN, 2) == 15
    assert one_pixel([[10]], Method.MEAN, 2) == 99


def test_majority_takes_codes_of_any_size() -> None:
    source = np.array([[-30000, 31000, 31000], [31000, 5, -30000], [-30000, -30000, 5]], np.int16)
    mapping = index_map(Lattice(LAEA, 0.0, 0.0, 10.0, -10.0, 3, 3), Lattice(LAEA, 0.0, 0.0, 30.0, -30.0, 1, 1))
    assert run(source, mapping, Method.MAJORITY, "int16", fill=0)[0, 0] == -30000


@pytest.mark.parametrize("name", ["10 m aligned", "10 m shifted", "20 m aligned", "20 m shifted, ascending"])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_class_areas_hold(name: str, share: float) -> None:
    source = SOURCES[name]
    large = Lattice(LAEA, source.x_origin, source.y_origin, source.dx, source.dy, 3000, 3000)
    size = int(3000 * abs(source.dx) / 30) - 2
    north = large.bbox[3] - 30
    target = Lattice(LAEA, np.ceil(large.bbox[0] / 30) * 30, np.floor(north / 30) * 30, 30.0, -30.0, size, size)
    rng = np.random.default_rng(4)
    # Patches of 20 pixels: larger than a footprint, as classes on maps are.
    field = np.kron(rng.random((150, 150)) < share, np.ones((20, 20), bool)).astype(np.uint8)
    noise = rng.random(field.shape) < 0.5
    found = run(field, index_map(large, target), Method.MAJORITY, "uint8", fill=255)
    assert abs(float(found.mean()) - float(field.mean())) < 0.005
    # A balanced random field has no side to lean to.
    found = run(noise.astype(np.uint8), index_map(large, target), Method.MAJORITY, "uint8", fill=255)
    assert abs(float(found.mean()) - float(noise.mean())) < 0.005


@pytest.mark.parametrize(
    "source",
    [
        Lattice(LAEA, -300.0, 9000.0, 30.0, -30.0, 500, 500),
        Lattice(LAEA, -300.0, -90.0, 30.0, 30.0, 500, 500),
        Lattice(LAEA, 15_000.0, 9000.0, -30.0, -30.0, 600, 500),
        Lattice(LAEA, 0.0, 3000.0, 30.0, -30.0, 50, 50),
        Lattice(LAEA, 1500.0, 0.0, -30.0, 30.0, 50, 90),
    ],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_equal_lattices_are_copied(source: Lattice, kind: Kind) -> None:
    mapping = index_map(source, TARGET)
    method = choose_method(kind, mapping)
    assert method is Method.COPY
    field = quantities(source, "float32", -9999)
    whole = run(field, mapping, method, "float32", nodata=-9999)
    # An equal lattice is the one case in which all methods agree with nearest.
    np.testing.assert_array_equal(whole, expected(field, mapping, Method.NEAREST, -9999).astype(np.float32))
    for part in PARTS:
        np.testing.assert_array_equal(
            run(field, mapping, method, "float32", nodata=-9999, window=part), whole[part.slices]
        )


def test_outside_the_source_is_fill() -> None:
    mapping = index_map(SOURCES["30 m shifted"], TARGET)
    assert (run(np.ones((100, 100), np.uint8), mapping, Method.NEAREST, "uint8", fill=255)[0] == 255).all()
    found = resample(
        np.empty((0, 0)), Window(0, 0, 0, 0), mapping, Window(0, 3, 0, 4), Method.BILINEAR,
        nodata=None, dtype="float32", fill=np.nan,
    )  # fmt: skip
    assert found.shape == (3, 4)
    assert np.isnan(found).all()


@pytest.mark.parametrize("method", [Method.NEAREST, Method.MAJORITY, Method.COPY, Method.FIRST, Method.LAST])
def test_codes_that_do_not_fit_are_named(method: Method) -> None:
    size = 30.0 if method is Method.COPY else 10.0
    mapping = index_map(Lattice(LAEA, 0.0, 3000.0, size, -size, 60, 60), TARGET)
    field = np.full((60, 60), 7, np.uint16)
    # 999 is nodata and may be anything.
    field[:3, :3] = 999
    assert 7 in run(field, mapping, method, "uint8", nodata=999, fill=255)
    field[30:40, 30:40] = 300
    with pytest.raises(PlanError, match="300 doesn't fit uint8"):
        run(field, mapping, method, "uint8", nodata=999, fill=255)


def test_only_what_is_written_must_fit() -> None:
    mapping = index_map(SOURCES["10 m aligned"], TARGET)
    field = np.full((300, 300), 7, np.uint16)
    field[::3, ::3] = 300
    assert set(np.unique(run(field, mapping, Method.MAJORITY, "uint8", fill=255))) == {7, 255}


def test_float_codes_must_be_whole() -> None:
    mapping = index_map(SOURCES["10 m aligned"], TARGET)
    with pytest.raises(PlanError, match=r"2\.5 isn't a class code"):
        run(np.full((300, 300), 2.5, np.float32), mapping, Method.MAJORITY, "uint8", fill=255)


def test_quantities_are_rounded_to_integers() -> None:
    mapping = index_map(SOURCES["10 m aligned"], TARGET)
    field = np.tile(np.array([[4.0, 5.0, 6.0], [4.0, 5.0, 5.9], [5.0, 5.0, 5.0]]), (100, 100))
    assert run(field, mapping, Method.MEAN, "int16", fill=-1)[50, 50] == 5
    with pytest.raises(PlanError, match="doesn't fit uint8"):
        run(field * 100, mapping, Method.MEAN, "uint8", fill=0)


@pytest.mark.parametrize("fill", [np.nan, 256, -1, 0.5])
def test_fill_must_fit(fill: float) -> None:
    mapping = index_map(SOURCES["30 m shifted"], TARGET)
    with pytest.raises(PlanError, match="fill"):
        run(np.ones((100, 100), np.uint8), mapping, Method.NEAREST, "uint8", fill=fill)


def test_plane_must_have_the_shape_of_its_window() -> None:
    mapping = index_map(SOURCES["30 m shifted"], TARGET)
    for shape, window, text in (((5, 5), Window(0, 5, 0, 6), "shape"), ((5, 5), Window(97, 102, 0, 5), "leaves")):
        with pytest.raises(GridError, match=text):
            resample(
                np.ones(shape), window, mapping, TARGET.window, Method.BILINEAR, nodata=None, dtype="f4", fill=np.nan
            )


def test_copying_needs_equal_lattices() -> None:
    with pytest.raises(PlanError, match="choose_method"):
        run(np.ones((100, 100)), index_map(SOURCES["30 m shifted"], TARGET), Method.COPY, "float32")


def test_methods_by_kind() -> None:
    finer, coarser = index_map(SOURCES["20 m aligned"], TARGET), index_map(SOURCES["100 m"], TARGET)
    assert choose_method(Kind.ENSEMBLE, finer) is Method.MEAN
    assert choose_method(Kind.ENSEMBLE, coarser) is Method.BILINEAR
    assert choose_method(Kind.STANDARD_DEVIATION, finer) is Method.STD_CORRELATED
    assert choose_method(Kind.STANDARD_DEVIATION, finer, "independent") is Method.STD_INDEPENDENT
    assert choose_method(Kind.STANDARD_DEVIATION, coarser, "independent") is Method.BILINEAR
    with pytest.raises(PlanError, match="'none'"):
        choose_method(Kind.STANDARD_DEVIATION, finer, "none")


def test_importing_does_not_import_numba() -> None:
    code = "import sys, scs2_cubes.core.resample; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
