"""The README's screenshots, made anew: ``python -m scs2_cubes_tests.browser.screenshots``.

Makes the demonstration from embedded sources in a temporary folder, serves it with ``dagster dev`` and looks at it with
the system's Chromium. Takes two or three minutes; nothing of it leaves this computer.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

# Matplotlib's own dependency.
from PIL import Image
from playwright.sync_api import Browser, Page

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.browser.chromium import chromium, find_chromium, open_page
from scs2_cubes_tests.browser.dagster_dev import DagsterDev
from scs2_cubes_tests.browser.web_ui import WebUi
from scs2_cubes_tests.end_to_end.trial import CHECKOUT, CLI, environment

__all__ = ["make_screenshots"]

_CONFIG = CHECKOUT / "configs/demo.yml"
_COLOURS = 256
_LARGEST = 250_000
#: Steps out, until all of the graph is in the window; at two more, Dagster leaves away what is in the boxes.
_ZOOM = 3
_CUBE, _PARTITION, _PICTURE = "gami", "demo", "quicklook_forest_age"


def make_screenshots(folder: Path) -> list[Path]:
    """Write ``asset_graph.png`` and ``quicklook.png`` to ``folder``; return their paths."""
    path = find_chromium()
    if path is None:
        raise FileNotFoundError("no browser here: .ci/setup installs chromium")
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="scs2-cubes-") as temporary, DemoServer() as server:
        home, key = Path(temporary) / "history", Path(temporary) / "clms-credentials.json"
        server.clms.write_credentials(key)
        settings = {
            "SCS2_DEMO_URL": server.url,
            "SCS2_DEMO_ROOT": str(Path(temporary) / "cubes"),
            "SCS2_DEMO_CLMS_CREDENTIALS": str(key),
        }
        _make_cubes(home, settings)
        with DagsterDev(_CONFIG, home, settings) as servers, chromium(path) as browser:
            return [
                _keep(_asset_graph(browser, servers.url), folder / "asset_graph.png"),
                _keep(_quicklook(browser, servers.url), folder / "quicklook.png"),
            ]


def _make_cubes(home: Path, settings: Mapping[str, str]) -> None:
    command = [sys.executable, *CLI, "run", "--config", str(_CONFIG)]
    subprocess.run(command, env=environment(home, settings), cwd=CHECKOUT, check=True)


def _asset_graph(browser: Browser, url: str) -> bytes:
    with open_page(browser, url, height=1500) as page:
        web = WebUi(page)
        web.open_graph(_CUBE)
        for _ in range(_ZOOM):
            page.get_by_role("button").filter(has=page.get_by_label("zoom_out")).click()
        web.settle()
        return _picture(page)


def _quicklook(browser: Browser, url: str) -> bytes:
    with open_page(browser, url, height=900) as page:
        web = WebUi(page)
        web.open_partition(_CUBE, _PARTITION)
        web.markdown(_PICTURE).locator("img").wait_for()
        # Behind the picture, the upper part of the table.
        web.metadata_row("variables").first.scroll_into_view_if_needed()
        web.settle()
        return _picture(page)


def _picture(page: Page) -> bytes:
    # The pointer would leave its mark on whatever lies below it.
    page.mouse.move(0, 0)
    return page.screenshot()


def _keep(screenshot: bytes, path: Path) -> Path:
    """Write a screenshot with a palette. Raises ValueError where it's too large for a README all the same."""
    with Image.open(io.BytesIO(screenshot)) as image:
        image.convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {_LARGEST}: lower _COLOURS")
    return path


if __name__ == "__main__":
    for written in make_screenshots(Path(__file__).with_name("screenshots")):
        sys.stdout.write(f"{written}\n")
