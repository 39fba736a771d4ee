"""Dagster's web UI as a person uses it: where to click, and where what is shown stands on the page."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

__all__ = ["WebUi"]

#: Milliseconds for the layout to settle: there's no event for it, and open websockets keep the network from being idle.
_LAYOUT_MS = 1500
#: Dagster builds a dialog anew when answers to its questions come in, and a click in that moment is lost: so often is
#: one made, with so many milliseconds for what it opens.
_CLICKS, _OPENED_MS = 5, 6000
#: Milliseconds for a run to be taken from the queue, started and done.
_RUN_MS = 90_000
#: Ends of the graph's edges, and of each the name on the node at whose rim it lies.
_EDGES = """() => {
  const nodes = [...document.querySelectorAll('foreignObject')].flatMap(node => {
    const name = node.querySelector('[class*=AssetNode_assetName]');
    return name ? [{name: name.innerText.trim(), box: node.getBoundingClientRect()}] : [];
  });
  const at = (path, length, side) => {
    const point = path.getPointAtLength(length).matrixTransform(path.getScreenCTM());
    const distance = box => Math.hypot(box[side] - point.x, (box.top + box.bottom) / 2 - point.y);
    return nodes.reduce((one, other) => distance(other.box) < distance(one.box) ? other : one).name;
  };
  return [...document.querySelectorAll('svg path[marker-end]')].map(path =>
    [at(path, 0, 'right'), at(path, path.getTotalLength(), 'left')]);
}"""


@dataclass(frozen=True)
class WebUi:
    """One page of the browser."""

    page: Page
    """Its relative addresses begin at the web server."""

    def settle(self) -> None:
        """Give the layout time."""
        self.page.wait_for_timeout(_LAYOUT_MS)

    def wait_for(self, text: str) -> None:
        """Wait until ``text`` is to be read somewhere on the page."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for()

    def _open(self, target: Locator, opened: Locator) -> None:
        """Click ``target``, once more where that has no effect, until ``opened`` is seen."""
        for _ in range(_CLICKS):
            self.settle()
            if opened.is_visible():
                return
            with suppress(PlaywrightTimeoutError):
                # What has opened late may lie over it.
                target.click(timeout=_OPENED_MS)
                opened.wait_for(timeout=_OPENED_MS)
        opened.wait_for()

    def open_graph(self, asset: str) -> None:
        """The graph of all assets with its groups opened; ``asset`` is one that is seen then."""
        self.page.goto("/asset-groups")
        self.page.locator("foreignObject").first.wait_for()
        self.settle()
        self.page.keyboard.press("Alt+e")
        self.nodes.get_by_text(asset, exact=True).first.wait_for()
        self.settle()

    @property
    def nodes(self) -> Locator:
        """Everything that lies in the graph: assets and groups."""
        return self.page.locator("foreignObject")

    def edges(self) -> set[tuple[str, str]]:
        """(upstream, downstream) for each arrow of the graph that is drawn, by the names on the nodes."""
        return {(str(upstream), str(downstream)) for upstream, downstream in self.page.evaluate(_EDGES)}

    def materialize(self, asset: str, partition: str) -> None:
        """Click through the dialogs that materialize one partition of ``asset``, and on to the page of the run."""
        self.page.goto(f"/assets/{asset}")
        self.page.get_by_role("button", name="Materialize…").click()
        chooser = self.page.get_by_text("Select a partition or create one")
        # Dagster asks first where what it is made from hasn't been materialized yet.
        warning = self.page.get_by_role("button", name="Confirm")
        warning.or_(chooser).first.wait_for()
        if warning.is_visible():
            warning.click()
        listed = self.page.locator("[data-radix-popper-content-wrapper]").last.get_by_text(partition, exact=True).first
        self._open(chooser, listed)
        listed.click()
        self.page.keyboard.press("Escape")
        self.page.get_by_role("button", name="Launch 1 run").click()
        self.page.get_by_role("link", name="View", exact=True).click()
        self.page.wait_for_url("**/runs/*")

    def wait_for_log(self, line: str) -> None:
        """Wait until the page of a run shows ``line`` among its log lines."""
        self.page.get_by_text(line).first.wait_for(timeout=_RUN_MS)

    def open_asset(self, asset: str, view: str = "overview") -> None:
        """The page of ``asset``: ``overview``, ``partitions``, ``events``, ``checks`` or ``lineage``."""
        self.page.goto(f"/assets/{asset}?view={view}")
        self.page.get_by_role("button", name="Materialize…").wait_for()

    def open_partition(self, asset: str, partition: str) -> None:
        """The page of one partition of ``asset``, chosen from the list of them."""
        self.open_asset(asset, "partitions")
        named = self.page.get_by_text(partition, exact=True).locator("visible=true")
        # Once in the list, and over what is told of the one that is chosen.
        self._open(named.first, named.nth(1))

    def metadata_row(self, key: str) -> Locator:
        """The row of a partition's metadata that begins with ``key``."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_text(key, exact=True))

    def metadata(self, *keys: str) -> Mapping[str, str]:
        """Metadata key → the text beside it."""
        found = {}
        for key in keys:
            value = self.metadata_row(key).first.get_by_role("cell").nth(1)
            value.wait_for()
            found[key] = value.inner_text().strip()
        return found

    def markdown(self, key: str) -> Locator:
        """Open by a click what lies in Markdown under the metadata ``key``; the dialog that shows it."""
        dialog = self.page.get_by_role("dialog").last
        self._open(self.metadata_row(key).first.get_by_text("Show Markdown"), dialog.get_by_text(key, exact=True))
        self.settle()
        return dialog

    def open_check(self, asset: str, check: str) -> None:
        """The latest evaluation of a check of ``asset``."""
        self.page.goto(f"/assets/{asset}?view=checks&checkDetail={check}")
        self.page.get_by_text("Evaluation result").wait_for()

    def check_states(self) -> Mapping[str, str]:
        """Check → ``Succeeded``, ``Failed`` …, as the list of an asset's checks has it."""
        self.page.get_by_text("Succeeded", exact=True).first.wait_for()
        self.settle()
        lines = self.page.inner_text("body").splitlines()
        listed = lines[lines.index("Execute all") + 1 : lines.index("Execute")]
        # Each name stands there twice, since it could be too long, with the state after it.
        return {listed[i - 1]: line for i, line in enumerate(listed) if line in {"Succeeded", "Failed", "In progress"}}
