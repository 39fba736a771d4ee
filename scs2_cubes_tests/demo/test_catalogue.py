from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pystac
import pystac_client
import pytest
from pystac.stac_io import DefaultStacIO
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import FallbackToPystac, NoConformsTo

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.conftest import BASE, ask

REAL = "https://s3.gfz-potsdam.de"
ITEMS = [
    "LIU_BIOMASS_v0.1",
    "EFDA_v2.0.0",
    "EFDA_v2.1.1",
    "GAMI_v3.0",
    "GAMI_v3.1",
    "FORESTPATHS_GENUS_v0.0.1",
]


def rewriting_io(server: DemoServer) -> DefaultStacIO:
    class RewritingIO(DefaultStacIO):
        def read_text_from_href(self, href: str) -> str:
            return super().read_text_from_href(href.replace(REAL, server.url))

    return RewritingIO()


def document(server: DemoServer, key: str) -> dict[str, Any]:
    reply = ask(server, key)
    assert reply.status == 200, key
    assert reply.headers["Content-Type"] == "application/json"
    loaded: dict[str, Any] = json.loads(reply.body)
    return loaded


def test_pystac_walks_the_public_tree(server: DemoServer) -> None:
    root = pystac.Catalog.from_file(server.catalogue_url, stac_io=rewriting_io(server))
    assert [child.id for child in root.get_children()] == [
        "biomass-carbon",
        "disturbance-change",
        "structure-demography",
        "als-lidar",
        "land-use-land-cover",
    ]
    items = list(root.get_items(recursive=True))
    assert [item.id for item in items] == ITEMS
    # It follows the absolute root link, so the internal root has to be there.
    assert server.requests.count("/collections/catalog.json", status=200) == 1
    assert server.requests.count(status=404) == 0


def test_pystac_reads_the_data_id_that_clients_use(server: DemoServer) -> None:
    url = urljoin(server.catalogue_url, "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json")
    item = pystac.Item.from_file(url, stac_io=rewriting_io(server))
    asset = item.assets["zarr"]
    assert asset.href == f"{REAL}{BASE}/GAMI/GAMI_v3.1.zarr"
    assert asset.media_type == "application/vnd.zarr"
    assert item.datetime == pystac.utils.str_to_datetime("2020-12-31T00:00:00Z")
    assert not any(name.startswith("proj:") for name in item.properties)


def test_pystac_client_walks_it_too(server: DemoServer) -> None:
    class RewritingIO(StacApiIO):
        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            href = source if isinstance(source, str) else source.get_absolute_href()
            text: str = super().read_text(href.replace(REAL, server.url), *args, **kwargs)
            return text

    # A static catalogue conforms to no API, and says so by saying nothing.
    with pytest.warns(NoConformsTo):
        client = pystac_client.Client.open(server.catalogue_url, stac_io=RewritingIO())
    # … so the client walks the links, and says so at each catalogue.
    with pytest.warns(FallbackToPystac):
        assert [item.id for item in client.get_items(recursive=True)] == ITEMS


def test_relative_links_resolve_against_the_fetched_address(server: DemoServer) -> None:
    """A walk without any STAC library; ``self`` would lead astray."""
    found, todo = [], [server.catalogue_url]
    while todo:
        url = todo.pop()
        path = url.removeprefix(server.url)
        content = json.loads(ask(server, path).body)
        own = next(link["href"] for link in content["links"] if link["rel"] == "self")
        assert own == REAL + path.replace("/public/", "/")
        todo += [urljoin(url, link["href"]) for link in content["links"] if link["rel"] in {"child", "item"}]
        found += [content["id"]] if content["type"] == "Feature" else []
    assert sorted(found) == sorted(ITEMS)


def test_the_internal_tree_has_no_themes(shared_server: DemoServer) -> None:
    assert document(shared_server, "catalog.json")["links"][0]["href"] == "./catalog.json"
    assert document(shared_server, "public/catalog.json")["links"][0]["href"] == f"{REAL}{BASE}/catalog.json"
    assert ask(shared_server, "structure-demography/catalog.json").status == 404
    item = document(shared_server, "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json")
    own = next(link["href"] for link in item["links"] if link["rel"] == "self")
    assert own == (
        "s3://dog.atlaseo-glm.eo-gridded-data/collections/structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
    )


RECORDED = [
    "catalog.json",
    "public/catalog.json",
    "public/structure-demography/catalog.json",
    "public/structure-demography/GAMI/collection.json",
    "public/structure-demography/GAMI/GAMI_v3.0/GAMI_v3.0.json",
    "public/structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json",
]
#: Keys whose values are texts of our own.
TEXTS = {"description", "title", "keywords", "providers", "product_name", "ensemble_notes"}
#: Those that the embedded catalogue hasn't got.
ELSEWHERE = {
    "./GAMI_AGECLASS/collection.json",
    "./POTAPOV_HEIGHT/collection.json",
    "./WANG_FORESTAGE/collection.json",
    "./GAMI_v2.0/GAMI_v2.0.json",
    "./GAMI_v2.1/GAMI_v2.1.json",
}


@pytest.mark.parametrize("key", RECORDED)
def test_documents_have_the_recorded_structure(shared_server: DemoServer, recorded: Path, key: str) -> None:
    real = json.loads((recorded / "collections" / key).read_text("utf-8"))
    ours = document(shared_server, key)
    assert list(ours) == list(real)
    links = [link for link in real.pop("links") if link["href"] not in ELSEWHERE]
    assert skeleton(ours.pop("links")) == skeleton(links)
    assert skeleton(ours) == skeleton(real)


def skeleton(value: Any, key: str = "") -> Any:
    """The document with its descriptive texts taken out: keys, addresses, numbers and dates remain."""
    if key in TEXTS:
        return type(value).__name__
    if isinstance(value, dict):
        return {name: skeleton(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [skeleton(inner) for inner in value]
    return value


def test_genus_item_says_what_the_facts_say(shared_server: DemoServer) -> None:
    item = document(
        shared_server,
        "public/structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json",
    )
    assert item["properties"]["variables"] == ["genus"]
    assert "units" in item["properties"]
    assert item["assets"]["zarr"]["raster:bands"] == [{"name": "genus", "data_type": "uint16", "nodata": 255}]
    assert item["assets"]["zarr"]["href"] == f"{REAL}{BASE}/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1.zarr"
    collection = document(shared_server, "public/structure-demography/FORESTPATHS_GENUS/collection.json")
    assert [entry["value"] for entry in collection["summaries"]["classes"]] == list(range(8))


ITEM_FACTS = [
    (
        "biomass-carbon/LIU_BIOMASS",
        "LIU_BIOMASS_v0.1",
        ("2019-01-01T00:00:00+00:00", "2019-12-31T00:00:00+00:00"),
        [
            {"name": "canopy_cover", "unit": "percent", "data_type": "uint8", "nodata": 0},
            {"name": "canopy_height", "unit": "m", "data_type": "float32", "nodata": 0},
            {"name": "aboveground_biomass", "unit": "Mg ha-1", "data_type": "float32", "nodata": 0},
        ],
    ),
    *(
        (
            "disturbance-change/EFDA",
            item,
            ("1985-01-01T00:00:00+00:00", "2023-12-31T00:00:00+00:00"),
            [
                {"name": "disturbance_agent", "data_type": "int16", "nodata": -9999},
                {"name": "disturbance_occurrence", "data_type": "int16", "nodata": -9999},
            ],
        )
        for item in ("EFDA_v2.0.0", "EFDA_v2.1.1")
    ),
]


@pytest.mark.parametrize(("home", "name", "interval", "bands"), ITEM_FACTS)
def test_items_say_what_the_facts_say(
    shared_server: DemoServer, home: str, name: str, interval: tuple[str, str], bands: list[dict[str, Any]]
) -> None:
    item = document(shared_server, f"public/{home}/{name}/{name}.json")
    properties = item["properties"]
    assert (properties["start_datetime"], properties["end_datetime"]) == interval
    assert properties["datetime"] == interval[1].replace("+00:00", "Z")
    assert properties["variables"] == [band["name"] for band in bands]
    assert "units" not in properties
    assert not any(key.startswith("proj:") for key in properties)
    collection = home.split("/")[1]
    assert item["assets"]["zarr"]["href"] == f"{REAL}{BASE}/{collection}/{name}.zarr"
    assert item["assets"]["zarr"]["raster:bands"] == bands
    assert ask(shared_server, f"{collection}/{name}.zarr/.zmetadata", "HEAD").status == 200
