"""What is secret in an address stays out of everything that people read."""

from __future__ import annotations

import pytest

from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import SourceError, SourceUnavailableError
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes.sources.stac import StacSource
from scs2_cubes_tests.sources.worlds import source

GAMI = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
ORIGIN = "https://s3.gfz-potsdam.de"


class TestSecrets:
    SECRET = "hunter2"  # a password that everybody knows

    def catalogue_url(self, server: DemoServer) -> str:
        return f"{server.catalogue_url.replace('http://', f'http://forester:{self.SECRET}@')}?token={self.SECRET}"

    @pytest.mark.parametrize(
        "fault",
        [Status(401), Status(403), Status(404), Status(503), Status(400), CutBody(0.5), GarbledBody()],
        ids=lambda fault: f"{fault}",
    )
    @pytest.mark.parametrize("where", ["catalog.json", "GAMI_v3.1.json", ".z", "latitude/0", "forest_age/"])
    def test_never_in_messages(self, demo_server: DemoServer, fault: Status, where: str) -> None:
        url = self.catalogue_url(demo_server)
        origin = url.partition("/dog")[0]
        client = source(url, {ORIGIN: origin})
        demo_server.faults.add(fault, where)
        shown = []
        for action in (
            lambda: list(client.data_ids()),
            lambda: client.probe(GAMI),
            lambda: self.read(client),
            lambda: client.describe("nothing.json"),
        ):
            try:
                action()
            except SourceError as error:
                shown.append(f"{error} {error!r} {error.url}")
        # Nothing is called so, whatever else goes wrong.
        assert shown
        assert self.SECRET not in " ".join(shown)

    def test_never_in_messages_of_a_stopped_server(self, demo_server: DemoServer) -> None:
        url = self.catalogue_url(demo_server)
        client = source(url, {ORIGIN: url.partition("/dog")[0]})
        native = client.describe(GAMI)
        demo_server.stop()
        for action in (
            lambda: client.probe(GAMI),
            lambda: read_chunk(open_reader(native.location), native.array("forest_age"), (0, 101, 397, 0)),
        ):
            with pytest.raises(SourceUnavailableError) as failed:
                action()
            assert self.SECRET not in f"{failed.value}{failed.value!r}"

    def test_never_in_what_cubes_say_of_their_source(self, demo_server: DemoServer) -> None:
        url = self.catalogue_url(demo_server)
        client = source(url, {ORIGIN: url.partition("/dog")[0]})
        native = client.describe(GAMI)
        shown = f"{native.href}{native.provenance}{native.attrs}{client.public_href(GAMI)}"
        assert self.SECRET not in shown

    @staticmethod
    def read(client: StacSource) -> None:
        native = client.describe(GAMI)
        # A chunk that exists.
        read_chunk(open_reader(native.location), native.array("forest_age"), (0, 101, 397, 0))
