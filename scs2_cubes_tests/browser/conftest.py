"""The web UI over a small case with embedded sources, and a page of the browser that looks at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.browser.chromium import chromium, find_chromium, open_page
from scs2_cubes_tests.browser.dagster_dev import DagsterDev, left_over
from scs2_cubes_tests.browser.web_ui import WebUi
from scs2_cubes_tests.end_to_end.trial import GAMI, Trial, dataset, region

FOREST_TYPE = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20.zarr"
BIOMASS = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
#: 192 x 192 pixels in nine tiles each, side by side, of the demonstration's coast.
_EDGE = 192 * 30
_WEST, _SOUTH = 3_430_404, 2_446_817


@dataclass(frozen=True)
class House:
    """What is looked at."""

    trial: Trial
    """Configuration, cubes and history."""
    servers: DagsterDev
    """Web server and daemon."""


@dataclass(frozen=True)
class Made:
    """What was made by clicking."""

    trial: Trial
    """Configuration, cubes and history."""
    run: str
    """Id of the run."""
    run_page: str
    """All that the run's page showed when the run was over."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("no browser here: .ci/setup installs chromium")
    if path is None:
        pytest.skip("no browser here: the tests of the web UI need chromium or google-chrome on the PATH")
    with chromium(path) as running:
        yield running


@pytest.fixture(scope="module")
def house(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A cube of each kind of source, none of them made yet. Needs the browser: without it nothing is started."""
    with DemoServer() as server:
        trial = Trial(tmp_path_factory.mktemp("house"), server)
        key = trial.folder / "clms-credentials.json"
        server.clms.write_credentials(key)
        trial.data["data_stores"] += [
            {
                "identifier": "clms",
                "store_id": "clms",
                "store_params": {"credentials": str(key), "api_url": server.clms.api_url},
            },
            {
                "identifier": "cci",
                "store_id": "cciodp",
                "store_params": {"endpoint_url": f"{server.url}/opensearch/request"},
            },
        ]
        trial.data["grid_mappings"] = [
            region(name, [west, _SOUTH, west + _EDGE, _SOUTH + _EDGE], 64)
            for name, west in (("west", _WEST), ("east", _WEST + _EDGE))
        ]
        trial.data["datasets"] = [
            dataset("gami", GAMI, ["west", "east"]),
            {**dataset("forest_type", FOREST_TYPE, ["west"]), "store": "clms"},
            {**dataset("biomass", BIOMASS, ["west"]), "store": "cci"},
        ]
        trial.data["automation"] = {"interval": 1800, "sensors": "stopped"}
        trial.data["general"]["visualize"] = True
        with DagsterDev(trial.write(), trial.home) as servers:
            yield House(trial, servers)
        assert left_over(trial.home) == []


@pytest.fixture
def web(house: House, browser: Browser, tmp_path: Path) -> Iterator[WebUi]:
    """A fresh page; what it shows last is kept as a picture beside the test's other files."""
    with open_page(browser, house.servers.url) as page:
        yield WebUi(page)
        page.screenshot(path=tmp_path / "page.png")


@pytest.fixture(scope="module")
def made(house: House, browser: Browser) -> Made:
    """The partition ``west`` of ``gami``, made by clicking."""
    # High enough for the whole log: lines that aren't in sight aren't on the page.
    with open_page(browser, house.servers.url, height=4000) as page:
        web = WebUi(page)
        web.materialize("gami", "west")
        run = web.page.url.rpartition("/")[2]
        web.wait_for_log("RUN_SUCCESS")
        return Made(house.trial, run, page.inner_text("body"))
