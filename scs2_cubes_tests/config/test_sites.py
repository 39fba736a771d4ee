"""Points of which time series are drawn: what is taken, what is refused, and what is only warned about."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pyproj import Transformer

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import SiteSpec
from scs2_cubes.demo import efda
from scs2_cubes.demo import region as demo_region
from scs2_cubes.demo import world as demo_world
from scs2_cubes.demo.portal_stands import LATTICE, Stands
from scs2_cubes_tests.config.conftest import World
from scs2_cubes_tests.docs.cases import CONFIGS


def test_sites_in_the_order_of_the_file(world: World) -> None:
    world.data["sites"] = [
        {"identifier": "degrees", "point": [-0.9, "44.5"]},
        {"identifier": "metres", "point": [3456124, 2439077], "crs": "EPSG:3035"},
    ]
    case = world.load()
    assert case.sites == (
        SiteSpec("degrees", -0.9, 44.5, "EPSG:4326"),
        SiteSpec("metres", 3456124.0, 2439077.0, "EPSG:3035"),
    )
    assert case.warnings == ()


@pytest.mark.parametrize("empty", [None, []])
def test_no_sites(world: World, empty: object) -> None:
    world.data["sites"] = empty
    assert world.load().sites == ()


@pytest.mark.parametrize(
    ("site", "problem"),
    [
        ({"point": [0, 44]}, "sites[0].identifier: required key is missing"),
        ({"identifier": "a"}, "sites[0].point: required key is missing"),
        ({"identifier": "", "point": [0, 44]}, "sites[0].identifier: should not be empty, not ''"),
        ({"identifier": "a", "point": [0]}, "sites[0].point: should have 2 values, not [0]"),
        ({"identifier": "a", "point": [0, 1, 2]}, "sites[0].point: should have 2 values, not [0, 1, 2]"),
        ({"identifier": "a", "point": "0 44"}, "sites[0].point: should be a list, not '0 44'"),
        ({"identifier": "a", "point": [0, "north"]}, "sites[0].point[1]: should be a valid number"),
        ({"identifier": "a", "point": [0, float("nan")]}, "sites[0].point[1]: should be a finite number"),
        ({"identifier": "a", "point": [0, 44], "crs": "nowhere"}, "sites[0].crs: unknown CRS"),
        ({"identifier": "a", "point": [0, 44], "csr": "x"}, "sites[0].csr: unknown key; did you mean 'crs'?"),
    ],
)
def test_sites_of_another_form_are_refused(world: World, site: dict[str, object], problem: str) -> None:
    world.data["sites"] = [site]
    (line,) = world.lines()
    assert line.startswith(problem)


def test_each_site_has_a_name_of_its_own(world: World) -> None:
    world.data["sites"] = [{"identifier": name, "point": [-0.9, 44.5]} for name in ("a", "b", "a")]
    assert world.lines() == ["sites[2].identifier: duplicate identifier 'a', already used by sites[0]"]


@pytest.mark.parametrize(
    ("point", "crs"),
    [
        ([-180.1, 44], "EPSG:4326"),
        ([181, 44], "EPSG:4326"),
        ([0, 90.5], "EPSG:4326"),
        # Metres without their CRS.
        ([3456124, 2439077], "EPSG:4326"),
        # In grads: a right angle has 100 of them.
        ([0, 100.5], "EPSG:4807"),
        # Further from the projection's centre than any place on Earth.
        ([4321000 + 13_000_000, 3210000], "EPSG:3035"),
        ([500000, 1e12], "EPSG:32630"),
    ],
)
def test_a_point_that_cannot_be_is_refused(world: World, point: list[float], crs: str) -> None:
    world.data["sites"] = [{"identifier": "a", "point": point, "crs": crs}]
    (line,) = world.lines()
    assert line.startswith(f"sites[0].point: {point} isn't a ")
    assert f"in {crs}" in line
    assert "or say the point's own crs" in line


@pytest.mark.parametrize(
    ("point", "crs"),
    [
        ([180, -90], "EPSG:4326"),
        ([-200, 100], "EPSG:4807"),
        # Les Landes, from the neighbouring zone: beyond its area of use, and quite exact.
        ([30000, 4950000], "EPSG:32631"),
        ([4321000, 3210000], "EPSG:3035"),
    ],
)
def test_a_point_at_the_limits_is_taken(world: World, point: list[float], crs: str) -> None:
    world.data["sites"] = [{"identifier": "a", "point": point, "crs": crs}]
    assert [(site.x, site.y) for site in world.load().sites] == [tuple(point)]


def test_all_problems_at_once(world: World) -> None:
    world.data["sites"] = [{"identifier": "a", "point": [0, 91]}, {"identifier": "b", "point": [0, 44], "more": 1}]
    assert [line.partition(":")[0] for line in world.lines()] == ["sites[1].more", "sites[0].point"]


# Sites in none of the regions.


def test_a_site_in_none_of_the_regions_is_warned_about(world: World) -> None:
    world.data["sites"] = [
        {"identifier": "there", "point": [-0.9, 44.5]},
        {"identifier": "swapped", "point": [44.5, -0.9]},
        # The antipodes have no coordinates in the region's CRS.
        {"identifier": "antipodes", "point": [-170, -52]},
    ]
    case = world.load()
    assert [site.name for site in case.sites] == ["there", "swapped", "antipodes"]
    swapped, antipodes = case.warnings
    assert swapped.startswith("sites[1].point: 'swapped' at [44.5, -0.9] (EPSG:4326) lies in none of the regions")
    assert "(landes, corner)" in swapped
    assert antipodes.startswith("sites[2].point: 'antipodes'")


@pytest.mark.parametrize(
    ("x", "y", "within"),
    [
        (3401404, 2347097, True),  # upper-left corner of the region corner: its first pixel
        (3401404 - 0.01, 2347000, False),
        (3401704 - 0.01, 2346797.01, True),
        (3401704, 2347000, False),  # its eastern edge is the next region's first column
        (3401500, 2346797, False),
        (3401500, 2347097.01, False),
    ],
)
def test_edges_of_regions_are_those_of_their_pixels(world: World, x: float, y: float, *, within: bool) -> None:
    world.data["grid_mappings"] = world.data["grid_mappings"][1:]
    for dataset in world.data["datasets"]:
        dataset["grid_mapping"] = "corner"
    world.data["sites"] = [{"identifier": "a", "point": [x, y], "crs": "EPSG:3035"}]
    assert (world.load().warnings == ()) == within


def test_a_grid_that_only_its_source_knows_may_hold_any_site(world: World) -> None:
    del world.data["datasets"][1]["grid_mapping"]
    world.data["sites"] = [{"identifier": "far", "point": [100, 0]}]
    assert world.load().warnings == ()


# The demonstration's.


def atlas(site: SiteSpec) -> set[int]:
    """Years in which the synthetic EFDA has a disturbance at the 3 x 3 pixels of 30 m around a site."""
    lattice = efda.LATTICE
    x, y = Transformer.from_crs(site.crs, lattice.crs, always_xy=True).transform(site.x, site.y)
    row, col = int((y - lattice.y_origin) // lattice.dy), int((x - lattice.x_origin) // lattice.dx)
    store = efda.efda_store("2.1.1", lambda _: datetime(2026, 1, 1, tzinfo=UTC))
    (agent,) = [array for array in store.arrays(1) if array.name == "disturbance_agent"]
    years = efda.years_of(1)
    values = agent.values((slice(0, len(years)), slice(row - 1, row + 2), slice(col - 1, col + 2)), 1)
    assert (values >= 0).all(), "outside the forest"
    return {year for year, plane in zip(years, values, strict=True) if plane.any()}


def test_the_demonstrations_sites_are_stands_with_four_pasts() -> None:
    sites = load_case(CONFIGS / "demo.yml", environ={}).sites
    assert len(sites) == 4
    years = (2007, 2010, 2015, 2016, 2017, 2018, 2019, 2020, 2021, 2022)
    stands = Stands()
    series = {}
    for site in sites:
        assert site.crs == "EPSG:4326"
        x, y = Transformer.from_crs(site.crs, demo_region.CRS, always_xy=True).transform(site.x, site.y)
        west, south, east, north = demo_region.BBOX
        assert west < x < east
        assert south < y < north
        # In the midst of a stand: pixels of 300 m around it hold forest alone.
        around = 150.0 * np.array([-1, 0, 1])
        assert demo_world.forest(x + around[np.newaxis, :], y + around[:, np.newaxis]).all()
        # The portal's pixel that holds it.
        row = int((LATTICE.y_origin - site.y) / -LATTICE.dy)
        col = int((site.x - LATTICE.x_origin) / LATTICE.dx)
        series[site.name] = [int(stands.biomass(np.array([row]), np.array([col]), year)[0][0, 0]) for year in years]
    undisturbed, regrowing = series["undisturbed"], series["regrowing"]
    assert undisturbed == sorted(undisturbed)
    assert undisturbed[0] > 150
    assert regrowing == sorted(regrowing)
    assert regrowing[-1] > 2 * regrowing[0] > 0
    # The atlas of disturbances tells the same, around the site, too: nothing, or one event in just that year.
    assert {site.name: atlas(site) for site in sites} == {
        "undisturbed": set(),
        "regrowing": {2002},
        "disturbed_2015": {2015},
        "disturbed_2020": {2020},
    }
    for year in (2015, 2020):
        found = series[f"disturbed_{year}"]
        when = years.index(year)
        assert min(found[:when]) > 100
        assert found[when] < 20
        assert found[when:] == sorted(found[when:])
