"""Methods that a configuration asks for: what they give, whom they are refused, and what they cost on empty tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scs2_cubes.core import resample as module
from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.methods import Method, choose_method
from scs2_cubes.core.resample import resample
from scs2_cubes.core.transform import IndexMap, index_map
from scs2_cubes.core.variables import Kind
from scs2_cubes.errors import GridError, PlanError
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.core.worlds import LAEA, LANDES, SOURCES, TARGET, footprint, raster, run

#: The schema's names of the methods that only summaries have.
SUMMARIES = ["count", "first", "last", "max", "median", "min", "prod", "std", "sum", "var"]
COARSENED = ["10 m aligned", "10 m shifted", "20 m aligned", "20 m shifted, ascending"]
DTYPES = [
    ("uint8", 0),
    ("uint16", 65535),
    ("int16", -9999),
    ("int32", None),
    ("int64", -1),
    ("float32", np.nan),
    ("float64", -9999.0),
    (">i2", -9999),
]
NESTED = index_map(SOURCES["10 m aligned"], Lattice(LAEA, 0.0, 3000.0, 30.0, -30.0, 100, 100))


def quantities(lattice: Lattice, dtype: str, nodata: float | None) -> npt.NDArray[Any]:
    rng = np.random.default_rng(5)
    field = (rng.random(lattice.shape) * 40 + 1).astype(dtype)
    # Patches, so that there are equal numbers under a footprint.
    field[:50] = np.kron(field[:10, : -(-lattice.nx // 5)], np.ones((5, 5)))[:50, : lattice.nx]
    if nodata is not None:
        field[rng.random(field.shape) < 0.3] = nodata
        field[: lattice.ny // 4, : lattice.nx // 4] = nodata
    return field


def expected(field: npt.NDArray[Any], mapping: IndexMap, name: str, nodata: float | None) -> npt.NDArray[np.float64]:
    target = mapping.target
    u, v = oracles.source_index(raster(mapping.source), raster(target), range(target.ny), range(target.nx))
    result = np.full(target.shape, np.nan)
    for place in np.ndindex(target.shape):
        number = oracles.summary(name, field, float(u[place]), float(v[place]), footprint(mapping), nodata)
        result[place] = np.nan if number is None else number
    return result


@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize(
    ("source", "dtype", "nodata"),
    [(COARSENED[k % 4], *case) for k, case in enumerate(DTYPES)] + [(name, "float32", np.nan) for name in COARSENED],
)
def test_summaries_match_the_definition(source: str, dtype: str, nodata: float | None, summary: str) -> None:
    # Reaches beyond the source at one corner.
    mapping = index_map(SOURCES[source], Lattice(LAEA, -60.0, 3060.0, 30.0, -30.0, 52, 43))
    field = quantities(SOURCES[source], dtype, nodata)
    method = choose_method(Kind.CONTINUOUS, mapping, coarsen=summary)
    found = run(field, mapping, method, "float64", nodata=nodata)
    wanted = expected(field, mapping, summary, nodata)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    assert np.isnan(found[0, 0])
    assert np.isfinite(found).mean() > 0.3


@pytest.mark.parametrize("summary", SUMMARIES)
def test_large_footprints_match_the_definition(summary: str) -> None:
    # 33 x 33 pixels and a bit: more than one gap of the sort.
    mapping = index_map(SOURCES["30 m shifted"], Lattice(LAEA, -500.0, 3200.0, 1000.0, -1000.0, 4, 4))
    field = quantities(SOURCES["30 m shifted"], "float64", np.nan) / 40
    found = run(field, mapping, choose_method(Kind.CONTINUOUS, mapping, coarsen=summary), "float64")
    np.testing.assert_allclose(found, expected(field, mapping, summary, np.nan), rtol=1e-9, atol=1e-200)


@pytest.mark.parametrize("summary", SUMMARIES)
def test_where_pixels_nest_blocks_are_summarised(summary: str) -> None:
    field = np.random.default_rng(8).normal(size=(300, 300)) * 3
    blocks = field.reshape(100, 3, 100, 3).transpose(0, 2, 1, 3).reshape(100, 100, 9)
    wanted = {
        "count": np.full((100, 100), 9.0),
        "first": blocks[..., 0],
        "last": blocks[..., -1],
        "max": blocks.max(-1),
        "median": np.sort(blocks)[..., 4],
        "min": blocks.min(-1),
        # Negative numbers too: a whole pixel has the exponent one.
        "prod": blocks.prod(-1),
        "std": blocks.std(-1),
        "sum": blocks.sum(-1),
        "var": blocks.var(-1),
    }[summary]
    found = run(field, NESTED, choose_method(Kind.CONTINUOUS, NESTED, coarsen=summary), "float64")
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COARSENED)
def test_totals_hold(name: str) -> None:
    mapping = index_map(SOURCES[name], TARGET)
    field = np.zeros(mapping.source.shape)
    # Away from the source's edge, where less than half of a footprint may be left.
    field[9:-9, 9:-9] = np.random.default_rng(9).random(field[9:-9, 9:-9].shape) + 0.5
    assert np.nansum(run(field, mapping, Method.SUM, "float64")) == pytest.approx(field.sum(), rel=1e-12)
    field[field == 0] = 1
    products = run(field, mapping, Method.PROD, "float64")
    assert np.nansum(np.log(products)) == pytest.approx(np.log(field).sum(), rel=1e-9)


def test_a_part_of_a_negative_pixel_has_no_product() -> None:
    mapping = index_map(SOURCES["20 m aligned"], TARGET)
    field = np.full(mapping.source.shape, -2.0)
    assert np.isnan(run(field, mapping, Method.PROD, "float64")).all()
    assert (run(field, mapping, Method.PROD, "float64", fill=7) == 7).all()
    assert run(-field, mapping, Method.PROD, "float64")[50, 50] == pytest.approx(2**2.25)


def test_count_is_zero_in_the_source_and_nothing_outside() -> None:
    field = np.full((300, 300), 255, np.uint8)
    mapping = index_map(SOURCES["10 m aligned"], TARGET)
    found = run(field, mapping, Method.COUNT, "int16", nodata=255, fill=-1)
    inside = np.zeros(TARGET.shape, bool)
    inside[2:102, 2:102] = True
    np.testing.assert_array_equal(found, np.where(inside, 0, -1))


def test_spread_of_large_equal_numbers_is_zero() -> None:
    mapping = index_map(SOURCES["20 m aligned"], TARGET)
    field = np.full(mapping.source.shape, 1e9 + 0.1)
    field[0, 0] = 0
    found = run(field, mapping, Method.STD, "float64")
    assert (found[10:90, 10:90] == 0).all()


@pytest.mark.parametrize(("method", "code"), [(Method.FIRST, 3), (Method.LAST, 200), (Method.MAX, 200)])
def test_ends_of_a_footprint_keep_codes(method: Method, code: int) -> None:
    field = np.tile(np.array([[255, 3, 9], [9, 9, 9], [9, 200, 255]], np.uint8), (100, 100))
    assert (run(field, NESTED, method, "uint8", nodata=255, fill=255) == code).all()
    # As floats, of which a cast would make codes that nobody wrote.
    if method is not Method.MAX:
        with pytest.raises(PlanError, match=r"2\.5 isn't a class code"):
            run(np.where(field == 3, 2.5, field), NESTED, method, "uint8", fill=255)


@pytest.mark.parametrize("name", SUMMARIES)
def test_tiles_equal_the_whole_across_projections(name: str) -> None:
    source = Lattice("EPSG:4326", -20.0, 60.0, 1e-4, -1e-4, 400_000, 300_000)
    mapping = index_map(source, LANDES.lattice)
    whole, part = Window(1990, 2110, 2640, 2740), Window(2033, 2077, 2666, 2701)
    needed, needed_part = mapping.source_window(whole), mapping.source_window(part)
    assert needed is not None
    assert needed_part is not None
    field = np.random.default_rng(6).integers(1, 6, needed.shape).astype(np.int16)
    method = choose_method(Kind.CONTINUOUS, mapping, coarsen=name)
    found = resample(field, needed, mapping, whole, method, nodata=5, dtype="float64", fill=-1)
    plane = field[needed_part.relative_to(needed).slices]
    tile = resample(plane, needed_part, mapping, part, method, nodata=5, dtype="float64", fill=-1)
    np.testing.assert_array_equal(tile, found[part.relative_to(whole).slices])
    assert (found != -1).mean() > 0.9


FINER, COARSER = index_map(SOURCES["100 m"], TARGET), NESTED
EQUAL = index_map(Lattice(LAEA, 0.0, 3000.0, 30.0, -30.0, 9, 9), TARGET)


@pytest.mark.parametrize("kind", [Kind.CONTINUOUS, Kind.ENSEMBLE, Kind.STANDARD_DEVIATION])
def test_quantities_may_have_any_method(kind: Kind) -> None:
    for name in SUMMARIES:
        assert choose_method(kind, COARSER, coarsen=name) == name
    assert choose_method(kind, COARSER, coarsen="center") is Method.NEAREST
    assert choose_method(kind, COARSER, coarsen="mode") is Method.MAJORITY
    assert choose_method(kind, FINER, refine="nearest") is Method.NEAREST
    assert choose_method(kind, FINER, refine="bilinear") is Method.BILINEAR


def test_an_override_holds_in_its_direction() -> None:
    assert choose_method(Kind.CONTINUOUS, COARSER, refine="nearest") is Method.MEAN
    assert choose_method(Kind.CONTINUOUS, FINER, coarsen="max") is Method.BILINEAR
    assert choose_method(Kind.CATEGORICAL, FINER, coarsen="first") is Method.NEAREST
    assert choose_method(Kind.CONTINUOUS, EQUAL, refine="bilinear", coarsen="max") is Method.COPY


def test_a_mean_of_errors_has_the_error_model() -> None:
    kind = Kind.STANDARD_DEVIATION
    assert choose_method(kind, COARSER, "independent", coarsen="mean") is Method.STD_INDEPENDENT
    assert choose_method(kind, COARSER, coarsen="mean") is Method.STD_CORRELATED
    assert choose_method(Kind.ENSEMBLE, COARSER, coarsen="mean") is Method.MEAN


def test_classes_may_be_picked() -> None:
    wanted = {"center": Method.NEAREST, "mode": Method.MAJORITY, "first": Method.FIRST, "last": Method.LAST}
    for name, method in wanted.items():
        assert choose_method(Kind.CATEGORICAL, COARSER, coarsen=name) is method
    assert choose_method(Kind.CATEGORICAL, FINER, refine="nearest") is Method.NEAREST


@pytest.mark.parametrize("mapping", [FINER, COARSER, EQUAL], ids=["finer", "coarser", "equal"])
def test_classes_are_never_blended(mapping: IndexMap) -> None:
    for name in ("mean", "median", "sum", "std", "var", "prod", "count", "min", "max"):
        with pytest.raises(PlanError, match=rf"agg_methods: '{name}' .*categorical.* center, first, last, mode"):
            choose_method(Kind.CATEGORICAL, mapping, coarsen=name)
    with pytest.raises(PlanError, match=r"interp_methods: 'bilinear' .*categorical.* one of nearest$"):
        choose_method(Kind.CATEGORICAL, mapping, refine="bilinear")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"coarsen": "meen"}, r"agg_methods: no method 'meen'; the nearest is 'mean'"),
        ({"coarsen": "bilinear"}, r"agg_methods: no method 'bilinear'"),
        ({"refine": "bilinaer"}, r"interp_methods: no method 'bilinaer'; the nearest is 'bilinear'"),
        ({"refine": "triangular"}, r"'triangular' isn't supported: use one of nearest, bilinear"),
        ({"refine": ""}, r"no method ''"),
    ],
)
def test_unknown_names_are_refused(names: dict[str, str], text: str) -> None:
    for kind in Kind:
        with pytest.raises(PlanError, match=text):
            choose_method(kind, COARSER, **names)


STEPS = st.sampled_from([7.5, 10.0, 20.0, 30.0, 31.0, 45.0, 100.0])
SHIFTS = st.one_of(st.integers(-90, 90).map(float), st.integers(-900_000, 900_000).map(lambda number: number / 1000))
VALUES = st.one_of(st.sampled_from([0.0, -0.0, 7.0, -9999.0, np.nan, np.inf, 0.1]), st.floats(width=32))


def plane_and_reference(
    mapping: IndexMap, value: float, kind: str, method: Method, dtype: str
) -> tuple[Any, Any] | None:
    """What resample makes of a plane that holds ``value`` alone, and what the kernel does."""
    window = mapping.target.window
    needed = mapping.source_window(window)
    if needed is None:
        return None
    plane = np.full(needed.shape, value).astype(kind)
    fill = 77.0
    task = module._Task(plane, needed, -9999, mapping, window, mapping.nodes(window), method)
    outcomes: list[Any] = []
    reference = np.full(window.shape, fill, dtype)
    for make in (
        lambda: resample(plane, needed, mapping, window, method, nodata=-9999, dtype=dtype, fill=fill),
        lambda: module._run_kernel(task, reference),
    ):
        try:
            made = make()
            outcomes.append(reference if made is None else made)
        except PlanError as error:
            # What comes after names the window that was read.
            outcomes.append(str(error).split(",")[0])
    return outcomes[0], outcomes[1]


@settings(deadline=None, max_examples=300)  # a shared machine stalls now and then
@given(
    steps=st.tuples(STEPS, STEPS),
    shift=st.tuples(SHIFTS, SHIFTS),
    method=st.sampled_from([m for m in Method if m is not Method.COPY]),
    value=VALUES,
    size=st.sampled_from([8, 60, 200]),
    dtypes=st.sampled_from([("float32", "float32"), ("float32", "float64"), ("float64", "float32")]),
)
def test_uniform_windows_are_as_the_kernels_make_them(
    steps: tuple[float, float],
    shift: tuple[float, float],
    method: Method,
    value: float,
    size: int,
    dtypes: tuple[str, str],
) -> None:
    dx, dy = steps[0], -steps[1]
    source = Lattice(LAEA, 180.0 + shift[0] - size // 2 * dx, 180.0 + shift[1] - size // 2 * dy, dx, dy, size, size)
    mapping = index_map(source, Lattice(LAEA, 0.0, 360.0, 30.0, -30.0, 12, 12))
    if method is Method.MAJORITY and np.isfinite(value):
        value = float(np.clip(np.rint(value), -1e6, 1e6))
    pair = plane_and_reference(mapping, value, dtypes[0], method, dtypes[1])
    if pair is not None:
        found, wanted = pair
        assert type(found) is type(wanted)
        if isinstance(found, str):
            assert found == wanted
        else:
            # Bit for bit, signs of zero included; one NaN is as good as another.
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(np.signbit(found) & (found == 0), np.signbit(wanted) & (wanted == 0))


#: Of which the target lies well inside: nested, and cut by footprints.
WIDE = [
    Lattice(LAEA, -5000.0, 5000.0, 10.0, -10.0, 999, 999),
    Lattice(LAEA, -5003.0, 5000.0, 20.0, -20.0, 999, 999),
    Lattice(LAEA, -5003.1, 5000.0, 17.3, -13.7, 999, 999),
    Lattice(LAEA, -5003.0, 5000.0, 100.0, -100.0, 99, 99),
]


def same(pair: tuple[Any, Any] | None) -> bool:
    assert pair is not None
    return bool(pair[0] == pair[1]) if isinstance(pair[0], str) else np.array_equal(*pair, equal_nan=True)


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.COPY])
@pytest.mark.parametrize("source", [*WIDE, SOURCES["20 m aligned"]])
def test_uniform_windows_of_any_dtype_are_as_the_kernels_make_them(source: Lattice, method: Method) -> None:
    mapping = index_map(source, TARGET)
    for value in (-9999.0, 7.0, 300.0):
        assert same(plane_and_reference(mapping, value, "int16", method, "uint8"))
    for value in (-9999.0, 0.0, 7.0, 1e30):
        for dtype in ("float32", "float64"):
            if method is not Method.MAJORITY or value < 1e9:
                assert same(plane_and_reference(mapping, value, "float32", method, dtype))
    # In the middle between two numbers of the cube's dtype: the last bit of a mean decides.
    for value in (1 + 2**-24, 1.1, 1 + 3 * 2**-24):
        assert method is Method.MAJORITY or same(plane_and_reference(mapping, value, "float64", method, "float32"))


@pytest.mark.parametrize("method", [Method.NEAREST, Method.MEAN])
def test_uniform_windows_end_where_they_end(method: Method) -> None:
    mapping = index_map(WIDE[0], TARGET)
    needed = mapping.source_window(TARGET.window)
    assert needed is not None
    part = Window(needed.row_start + 30, needed.row_stop, needed.col_start, needed.col_stop)
    found = resample(
        np.ones(part.shape), part, mapping, TARGET.window, method, nodata=None, dtype="float32", fill=np.nan
    )
    assert np.isnan(found[:10]).all()
    assert (found[10:] == 1).all()


def test_nothing_is_repeated_beyond_the_horizon() -> None:
    # The far side of the Earth has no place on an orthographic map, although the map reaches beyond its rim.
    source = Lattice("+proj=ortho +lat_0=0 +lon_0=0 +a=6371000 +b=6371000", -7e6, 7e6, 1e5, -1e5, 140, 140)
    target = Lattice("EPSG:4326", -60.0, 60.0, 4.0, -4.0, 60, 30)
    mapping = index_map(source, target)
    found = run(np.ones(source.shape), mapping, Method.NEAREST, "float32")
    # Up to 80 degrees, and from 100 degrees on.
    assert (found[:, :35] == 1).all()
    assert np.isnan(found[:, 40:]).all()


@pytest.mark.parametrize("value", [255, 4])
def test_uniform_windows_cost_one_pixel(value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = index_map(Lattice(LAEA, -5000.0, 5000.0, 10.0, -10.0, 999, 999), TARGET)
    made: list[tuple[int, ...]] = []
    run_kernel = module._run_kernel

    def watched(task: module._Task, out: npt.NDArray[Any]) -> None:
        made.append(out.shape)
        run_kernel(task, out)

    monkeypatch.setattr(module, "_run_kernel", watched)
    field = np.full(mapping.source.shape, value, np.uint8)
    found = run(field, mapping, Method.MAJORITY, "uint8", nodata=255, fill=99)
    assert (found == (99 if value == 255 else 4)).all()
    assert made == ([] if value == 255 else [(1, 1)])
    # The last pixel that is needed decides as much as the first.
    needed = mapping.source_window(TARGET.window)
    assert needed is not None
    field[needed.row_stop - 1, needed.col_stop - 1] = 1
    run(field, mapping, Method.MAJORITY, "uint8", nodata=255, fill=99)
    assert made[-1] == TARGET.shape


@pytest.mark.parametrize("method", [Method.NEAREST, Method.BILINEAR, Method.MEAN])
def test_nodes_can_be_shared(method: Method) -> None:
    source = Lattice("EPSG:4326", -20.0, 60.0, 1e-3, -1e-3, 40_000, 30_000)
    mapping = index_map(source, LANDES.lattice)
    window = Window(2033, 2177, 2666, 2801)
    needed = mapping.source_window(window)
    assert needed is not None
    field = np.random.default_rng(1).random(needed.shape)

    def made(**nodes: Any) -> npt.NDArray[Any]:
        return resample(field, needed, mapping, window, method, nodata=None, dtype="f8", fill=np.nan, **nodes)

    np.testing.assert_array_equal(made(nodes=mapping.nodes(window)), made())
    for other in (Window(2033, 2177, 2600, 2801), Window(2033, 2300, 2666, 2801), Window(0, 144, 0, 135)):
        with pytest.raises(GridError, match="nodes"):
            made(nodes=mapping.nodes(other))
