"""``configs/*.yml`` against what they say of themselves, and what is said of them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from pyproj import Transformer

from scs2_cubes.config import load_case
from scs2_cubes.demo import region as demo_region
from scs2_cubes_tests.docs.cases import CONFIGS, REFERENCE
from scs2_cubes_tests.docs.markdown import links


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yml")), ids=lambda path: path.name)
def test_every_configuration_loads(path: Path) -> None:
    case = load_case(path, environ={})
    assert case.warnings == ()
    assert all(dataset.product for dataset in case.datasets)
    assert path.name in links(REFERENCE)


def test_the_case_is_landes() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    (landes,) = case.regions
    assert landes.name == "landes"
    assert (landes.grid.nx, landes.grid.ny, landes.grid.x_res, landes.grid.crs) == (5156, 6418, 30, "EPSG:3035")
    assert {"gami", "forestpaths_genus"} <= {dataset.identifier for dataset in case.datasets}
    assert {dataset.partition_keys for dataset in case.datasets} == {("landes",)}
    assert case.storage.root == str(Path.cwd() / "data")


def test_the_case_has_four_sites_in_landes_far_from_each_other() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    (landes,) = case.regions
    west, south, east, north = landes.grid.bbox
    places = {
        site.name: Transformer.from_crs(site.crs, "EPSG:3035", always_xy=True).transform(site.x, site.y)
        for site in case.sites
    }
    assert len(places) == 4
    assert all(west < x < east and south < y < north for x, y in places.values())
    distances = [math.dist(one, other) for one, other in itertools.combinations(places.values(), 2)]
    assert min(distances) > 10_000
    # The same places as in the table of regions of 3 x 3 km.
    regions = {region.name: region for region in load_case(CONFIGS / "sites.yml", environ={}).regions}
    for site, region in (("le_bray_tower", "le_bray"), ("sabres_storm_2009", "sabres")):
        left, bottom, right, top = regions[region].grid.bbox
        assert left < places[site][0] < right
        assert bottom < places[site][1] < top


def test_the_case_has_its_cubes_in_order_and_what_they_need() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    order = ["forest_type_2015", "gami", "forestpaths_genus", "liu", "esa_cci_biomass", "efda"]
    assert [dataset.identifier for dataset in case.datasets] == order
    assert {dataset.identifier: dataset.store.identifier for dataset in case.datasets} == {
        **dict.fromkeys(order, "eoforest_stac"),
        "forest_type_2015": "clms",
        "esa_cci_biomass": "esa_cci",
    }
    (preload,) = case.preloads
    assert (preload.store.identifier, preload.data_id) == (
        "clms",
        "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20",
    )
    assert preload.store.params["credentials"] == str(CONFIGS / "clms-credentials.json")


def test_the_demonstration_is_the_same_products_from_the_embedded_services() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    settings = {"SCS2_DEMO_URL": "http://127.0.0.1:1", "SCS2_DEMO_ROOT": "/x", "SCS2_DEMO_CLMS_CREDENTIALS": "/key"}
    demo = load_case(CONFIGS / "demo.yml", environ=settings)
    served = {dataset.store.identifier for dataset in demo.datasets}
    assert [(d.identifier, d.data_id) for d in demo.datasets] == [
        (d.identifier, d.data_id) for d in case.datasets if d.store.identifier in served
    ]
    assert demo.regions == (demo_region.demo_region(),)
    catalogue, clms, portal = demo.stores
    assert [catalogue.params] == [store.params for store in case.stores if store.identifier == catalogue.identifier]
    assert [replacement for _, replacement in catalogue.href_rewrite] == ["http://127.0.0.1:1"]
    assert clms.params == {"credentials": "/key", "api_url": "http://127.0.0.1:1/clms/api"}
    assert portal.params["endpoint_url"] == "http://127.0.0.1:1/opensearch/request"
    assert portal.params["endpoint_description_url"].startswith("http://127.0.0.1:1/opensearch/description.xml?")
    assert [preload.data_id for preload in demo.preloads] == [preload.data_id for preload in case.preloads]
    assert demo.storage.root == "/x"


def test_the_functions_are_the_cases_own_two() -> None:
    case = load_case(CONFIGS / "scs2.yml", environ={})
    functions = load_case(CONFIGS / "scs2_functions.yml", environ={})
    assert all(store in case.stores for store in functions.stores)
    for dataset in functions.datasets:
        plain = case.dataset(dataset.identifier)
        assert (dataset.data_id, dataset.product) == (plain.data_id, plain.product)
        assert dataset.processing is not None
        assert dataset.processing.name == f"modify_{dataset.identifier}"
        assert not dataset.processing.whole
    (landes,), (same,) = case.regions, functions.regions
    assert (same.name, same.grid.lattice) == (landes.name, landes.grid.lattice)
    # Same names, same region: they mustn't take each other for another version of themselves.
    assert functions.storage.root != case.storage.root


def test_the_sites_lie_in_landes_pixel_on_pixel() -> None:
    (landes,) = load_case(CONFIGS / "scs2.yml", environ={}).regions
    case = load_case(CONFIGS / "sites.yml", environ={})
    west, south, east, north = landes.grid.bbox
    assert len(case.regions) == 4
    for site in case.regions:
        grid = site.grid
        assert (grid.nx, grid.ny, grid.x_res, grid.y_res) == (100, 100, 30, 30)
        assert (grid.tile_nx, grid.tile_ny, grid.crs) == (512, 512, "EPSG:3035")
        assert west <= grid.west
        assert south <= grid.south
        assert grid.bbox[2] <= east
        assert grid.bbox[3] <= north
        assert ((grid.west - west) % 30, (grid.south - south) % 30) == (0, 0)
    names = tuple(site.name for site in case.regions)
    assert [dataset.identifier for dataset in case.datasets] == ["gami", "forestpaths_genus"]
    for dataset in case.datasets:
        assert dataset.partition_keys == names
        assert dataset.region_folders
    assert "bilos" in names
