from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from pyproj import CRS

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.transform import CopyOffset, IndexMap, index_map
from scs2_cubes.errors import GridError
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.core.worlds import GAMI, LAEA, LANDES, SOURCES, TARGET, raster

CHECKOUT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("SCS2_RECORDED", CHECKOUT.parent / "shared" / "data" / "recorded"))
UTM = Lattice("EPSG:32630", 600_000.0, 5_000_000.0, 30.0, -30.0, 9000, 9000)


@pytest.fixture(scope="module")
def gami_map() -> IndexMap:
    return index_map(GAMI, LANDES.lattice)


def block(index_map: IndexMap, window: Window) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.arange(window.row_start, window.row_stop), np.arange(window.col_start, window.col_stop)
    return index_map.nodes(window).at(rows, cols)


@pytest.mark.parametrize(
    "window",
    [Window(0, 300, 0, 300), Window(6118, 6418, 4856, 5156), Window(3001, 3301, 2047, 2300), Window(6417, 6418, 0, 1)],
)
@pytest.mark.parametrize("source", [GAMI, UTM, Lattice("EPSG:4326", -20.0, 60.0, 1e-4, -1e-4, 400_000, 300_000)])
def test_geolocation_is_within_a_thousandth_of_a_pixel(source: Lattice, window: Window) -> None:
    found = block(index_map(source, LANDES.lattice), window)
    exact = oracles.source_index(
        raster(source),
        raster(LANDES.lattice),
        range(window.row_start, window.row_stop),
        range(window.col_start, window.col_stop),
    )
    for one, other in zip(found, exact, strict=True):
        assert np.abs(one - other).max() <= 3e-4


def test_a_mesh_is_worth_its_while(gami_map: IndexMap) -> None:
    assert gami_map.step >= 16
    assert gami_map.step & (gami_map.step - 1) == 0


@pytest.mark.parametrize("name", SOURCES)
def test_same_crs_is_affine(name: str) -> None:
    found = block(index_map(SOURCES[name], TARGET), TARGET.window)
    exact = oracles.source_index(raster(SOURCES[name]), raster(TARGET), range(TARGET.ny), range(TARGET.nx))
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_nodes_of_a_part_are_those_of_the_whole(gami_map: IndexMap) -> None:
    whole = block(gami_map, Window(1000, 1400, 500, 1000))
    part = block(gami_map, Window(1203, 1255, 761, 870))
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[203:255, 261:370], other)


def test_where_nothing_can_be_transformed_is_outside() -> None:
    # The antipode of the projection's centre, and beyond: not on the map.
    target = Lattice(LAEA, -2e7, 2e7, 30_000.0, -30_000.0, 50, 50)
    mapping = index_map(Lattice("EPSG:4326", -180.0, 90.0, 1.0, -1.0, 360, 180), target)
    assert np.isnan(block(mapping, target.window)[0]).all()
    assert mapping.source_window(target.window) is None


@pytest.mark.parametrize(
    ("source", "coarsening"),
    [(name, name.startswith(("10 m", "20 m"))) for name in SOURCES],
)
def test_coarsening_same_crs(source: str, coarsening: bool) -> None:
    assert index_map(SOURCES[source], TARGET).coarsening is coarsening


def test_coarsening_across_crs(gami_map: IndexMap) -> None:
    assert not gami_map.coarsening
    # 0.0003 degrees of longitude are 23 m at 45 degrees north, and 33 m of latitude: finer in one direction only.
    source = Lattice("EPSG:4326", -3.0, 48.0, 0.0003, -0.0003, 20_000, 20_000)
    assert index_map(source, LANDES.lattice).coarsening


def test_a_millionth_of_a_pixel_is_not_coarsening() -> None:
    target = Lattice(LAEA, 0.4, 0.0, 30.0, -30.0, 100, 100)
    assert not index_map(Lattice(LAEA, 0.0, 0.0, 30.0 / (1 + 5e-7), -30.0, 100, 100), target).coarsening
    assert index_map(Lattice(LAEA, 0.0, 0.0, 30.0 / (1 + 5e-6), -30.0, 100, 100), target).coarsening


def test_footprint_has_the_second_moments_of_the_parallelogram(gami_map: IndexMap) -> None:
    nodes = gami_map.nodes(Window(2000, 2010, 2000, 2010))
    width, height = (extent[0, 0] for extent in gami_map.footprints(nodes))
    # A cloud of points in the target pixel, carried over one by one.
    offsets = (np.arange(64) + 0.5) / 64 - 0.5
    pixel = ("EPSG:3035", 3401404 + 30 * (2005 + offsets[0]), 2539337 - 30 * (2005 + offsets[0]), 30 / 64, -30 / 64)
    u, v = oracles.source_index(raster(GAMI), pixel, range(64), range(64))
    assert width == pytest.approx(np.sqrt(12) * u.std(), rel=1e-3)
    assert height == pytest.approx(np.sqrt(12) * v.std(), rel=1e-3)


@pytest.mark.parametrize("wkt", ["WKT1_GDAL", "WKT1_ESRI", "WKT2_2019"])
def test_wkt_of_the_same_crs_is_the_same(wkt: str) -> None:
    text = CRS.from_epsg(3035).to_wkt(wkt)
    source = Lattice(text, 3401404.0 - 300, 2539337.0 + 600, 30.0, -30.0, 6000, 7000)
    assert index_map(source, LANDES.lattice).copy == CopyOffset(20, 10, 1, 1)


def test_recorded_wkt_is_the_same() -> None:
    path = RECORDED / "eoforest" / "stores" / "genus.zarr" / "spatial_ref" / ".zattrs"
    if not path.exists():
        pytest.skip(f"no recorded genus store at {path}")
    source = Lattice(json.loads(path.read_text())["crs_wkt"], 900_000.0, 5_500_000.0, 10.0, -10.0, 660_000, 460_000)
    assert index_map(source, LANDES.lattice).same_crs


def test_another_projection_with_the_same_name_is_another() -> None:
    text = CRS.from_epsg(3035).to_wkt("WKT1_GDAL").replace('"latitude_of_center",52', '"latitude_of_center",51')
    assert not index_map(Lattice(text, 0.0, 3e6, 30.0, -30.0, 100, 100), LANDES.lattice).same_crs


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Lattice(LAEA, -300.0, 9000.0, 30.0, -30.0, 500, 500), CopyOffset(198, 8, 1, 1)),
        (Lattice(LAEA, -300.0, -90.0, 30.0, 30.0, 500, 500), CopyOffset(104, 8, -1, 1)),
        (Lattice(LAEA, 15_000.0, 9000.0, -30.0, -30.0, 500, 500), CopyOffset(198, 501, 1, -1)),
        (Lattice(LAEA, -300.0 + 1e-6, 9000.0, 30.0, -30.0, 500, 500), CopyOffset(198, 8, 1, 1)),
        (Lattice(LAEA, -300.0 + 1e-3, 9000.0, 30.0, -30.0, 500, 500), None),
        (Lattice(LAEA, -300.0, 9015.0, 30.0, -30.0, 500, 500), None),
        (Lattice(LAEA, -300.0, 9000.0, 30.000003, -30.0, 500, 500), None),
        (Lattice(LAEA, -300.0, 9000.0, 15.0, -30.0, 500, 500), None),
        (Lattice("EPSG:32632", -300.0, 9000.0, 30.0, -30.0, 500, 500), None),
    ],
)
def test_copy(source: Lattice, expected: CopyOffset | None) -> None:
    mapping = index_map(source, TARGET)
    assert mapping.copy == expected
    if expected is not None:
        # By coordinates: the centre of the source pixel is the centre of the target pixel.
        row, col = expected.row_offset + 5 * expected.row_sign, expected.col_offset + 7 * expected.col_sign
        assert source.x_origin + (col + 0.5) * source.dx == pytest.approx(TARGET.x_origin + 7.5 * TARGET.dx, abs=1e-4)
        assert source.y_origin + (row + 0.5) * source.dy == pytest.approx(TARGET.y_origin + 5.5 * TARGET.dy, abs=1e-4)


def test_source_window_is_tight(gami_map: IndexMap) -> None:
    window = Window(2048, 4096, 2048, 4096)
    needed = gami_map.source_window(window)
    u, v = oracles.source_index(raster(GAMI), raster(LANDES.lattice), range(2048, 4096), range(2048, 4096))
    assert needed is not None
    for low, high, index in (
        (needed.col_start, needed.col_stop, u),
        (needed.row_start, needed.row_stop, v),
    ):
        assert 0 <= np.floor(index.min() - 0.5) - low <= 1
        assert 0 <= high - np.ceil(index.max() + 0.5) <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Target pixel 2 + i covers source pixels 3 i … 3 i + 2: nothing beside them is read.
        ("10 m aligned", Window(0, 30, 30, 60)),
        ("20 m aligned", Window(0, 15, 15, 30)),
        ("30 m half a pixel", Window(0, 11, 10, 21)),
    ],
)
def test_source_window_has_no_needless_margin(name: str, expected: Window) -> None:
    assert index_map(SOURCES[name], TARGET).source_window(Window(2, 12, 12, 22)) == expected


def test_source_window_of_a_copy_flips() -> None:
    mapping = index_map(Lattice(LAEA, -300.0, -90.0, 30.0, 30.0, 500, 500), TARGET)
    assert mapping.source_window(Window(0, 10, 0, 20)) == Window(95, 105, 8, 28)


def test_source_window_outside_or_empty_is_none() -> None:
    mapping = index_map(SOURCES["20 m aligned"], TARGET)
    assert mapping.source_window(Window(0, 1, 0, 104)) is None
    assert mapping.source_window(Window(5, 5, 0, 104)) is None


def test_map_travels(gami_map: IndexMap) -> None:
    text = pickle.dumps(gami_map)
    assert pickle.loads(text) == gami_map
    assert len(text) < 1000


def test_unknown_crs_is_named() -> None:
    with pytest.raises(GridError, match="EPSG:99999"):
        index_map(Lattice("EPSG:99999", 0.0, 0.0, 1.0, -1.0, 5, 5), TARGET)


def test_empty_window_has_no_nodes(gami_map: IndexMap) -> None:
    with pytest.raises(GridError, match="empty"):
        gami_map.nodes(Window(5, 5, 0, 3))


@pytest.mark.parametrize("target", [Lattice("EPSG:3832", 3_200_000.0, 100_000.0, 1000.0, -1000.0, 400, 200)])
def test_target_across_the_antimeridian_is_refused(target: Lattice) -> None:
    world = Lattice("EPSG:4326", -180.0, 90.0, 0.1, -0.1, 3600, 1800)
    with pytest.raises(GridError, match="180° meridian"):
        index_map(world, target)
