"""What people see in Dagster's web UI, in a real browser."""

from __future__ import annotations

import base64
import re

import numpy as np

from scs2_cubes.api import open_cube
from scs2_cubes.core.checks import CHECKS
from scs2_cubes_tests.browser.conftest import House, Made
from scs2_cubes_tests.browser.web_ui import WebUi
from scs2_cubes_tests.end_to_end.trial import in_process, squeezed

TILES = 9


def test_graph_has_groups_and_lineage(house: House, web: WebUi) -> None:
    web.open_graph("gami")
    for group in ("grids", "sources", "cubes"):
        web.nodes.get_by_text(group, exact=True).first.wait_for()
    # Names of sources end with a digest, and long ones are cut in their middle.
    edges = {(upstream[:5], cube) for upstream, cube in web.edges()}
    assert edges == {("GAMI_", "gami"), ("fores", "forest_type"), ("esacc", "biomass")}


def test_page_of_the_run_tells_its_progress(made: Made) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made.run)
    lines = made.run_page.splitlines()
    assert any(re.fullmatch(r"gami west: 9/9 tiles, \d+\.\d+ tiles/s, about 0 s left", line) for line in lines)
    assert "gami west: 9 tiles made, 0 kept" in lines
    assert "RUN_FAILURE" not in lines


def test_partition_made_by_clicking_is_there_with_its_numbers(made: Made, web: WebUi) -> None:
    assert len(made.trial.records("west/gami")) == TILES
    assert made.trial.records("east/gami") == set()
    web.open_partition("gami", "west")
    for state in ("Materialized (1)", "Missing (1)", "Failed (0)"):
        web.wait_for(state)
    fraction = np.isfinite(open_cube(made.trial.case(), "gami", "west")["forest_age"].to_numpy()).mean()
    told = web.metadata("tiles_made", "tiles_kept", "crs", "valid_fraction_forest_age")
    assert told == {
        "tiles_made": "9",
        "tiles_kept": "0",
        "crs": "EPSG:3035",
        "valid_fraction_forest_age": str(round(float(fraction), 6)),
    }


def test_checks_of_the_cube_are_shown_as_passed(made: Made, web: WebUi) -> None:
    web.open_check("gami", "as_recorded")
    assert web.check_states() == {**dict.fromkeys(CHECKS, "Succeeded"), "current": "Failed"}
    web.wait_for("This is a blocking asset check.")
    values = int(np.isfinite(open_cube(made.trial.case(), "gami", "west")["forest_age"].to_numpy()).sum())
    web.wait_for(f"{TILES} tiles hold {values} values, as recorded")


def test_check_current_says_what_status_says(made: Made, web: WebUi) -> None:
    told = in_process("status", "--config", str(made.trial.path), "--dataset", "gami", home=made.trial.home)
    rows = [squeezed(line) for line in told.out.splitlines() if line.startswith("│")]
    assert [row.split("│")[2:4] for row in rows] == [["west", "current"], ["east", "missing"]]
    web.open_check("gami", "current")
    web.wait_for("2 partitions: 1 current, 1 missing")
    assert web.check_states()["current"] == "Failed"
    shown = [squeezed(line) for line in web.markdown("status").inner_text().splitlines()]
    assert [line for line in shown if line.startswith("│")] == rows


def test_quicklook_is_rendered(made: Made, web: WebUi) -> None:
    web.open_partition("gami", "west")
    image = web.markdown("quicklook_forest_age").locator("img")
    image.wait_for()
    web.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    kind, _, content = str(image.get_attribute("src")).partition(",")
    assert kind == "data:image/png;base64"
    picture = base64.b64decode(content)
    assert len(picture) < 100_000
    assert picture == (made.trial.root / "west/gami.quicklooks/west.quicklook_forest_age.png").read_bytes()
    # Width and height stand in the header of a PNG: ISO/IEC 15948, 11.2.2.
    assert [image.evaluate("e => e.naturalWidth"), image.evaluate("e => e.naturalHeight")] == [
        int.from_bytes(picture[16:20], "big"),
        int.from_bytes(picture[20:24], "big"),
    ]


def test_page_of_sensors_shows_state_and_interval(house: House, web: WebUi) -> None:
    web.page.goto("/automation")
    for name in ("stac_versions", "clms_versions", "cciodp_versions"):
        web.page.get_by_text(name, exact=True).first.wait_for()
    web.page.get_by_role("link", name="clms_versions").first.click()
    web.wait_for("~30 min")
    web.wait_for("Asks the clms sources which version they have now")
    assert not web.page.get_by_role("row", name="Running").get_by_role("checkbox").is_checked()
    web.wait_for("Sensor has never run")
