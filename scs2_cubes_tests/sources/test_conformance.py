"""What every source must do, whatever its protocol: versions, editions, and errors instead of either.

A newcomer adds a parameter to :data:`OFFERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import Behaviour, CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes.sources import PROTOCOLS, Source, open_source
from scs2_cubes_tests.sources.worlds import QUICK


@dataclass(frozen=True)
class Offer:
    """A store of the embedded server, and how something newer comes there."""

    protocol: str
    params: Callable[[DemoServer], dict[str, Any]]
    data_id: str
    newer: str
    """The id of the edition that is published."""
    publish: Callable[[DemoServer], None]
    """Other content under ``data_id``."""
    publish_edition: Callable[[DemoServer], None]
    probes: int
    """Requests that a probe costs."""
    looks: int
    """Requests that looking for newer editions costs."""
    metadata: tuple[str, ...]
    """Parts of the addresses that a probe asks."""
    listings: tuple[str, ...]
    """Parts of the addresses that looking for newer editions asks."""

    def open(self, server: DemoServer) -> Source:
        rewrites = tuple(server.href_rewrite.items())
        return open_source(StoreSpec("archive", self.protocol, self.params(server), rewrites, QUICK))


GAMI = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
AGB = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
OFFERS = (
    Offer(
        "stac",
        lambda server: {"url": server.catalogue_url},
        GAMI,
        GAMI.replace("3.1", "3.2"),
        lambda server: server.catalogue.publish("GAMI", 2),
        lambda server: server.catalogue.publish_edition("GAMI", "3.2"),
        2,
        2,
        ("GAMI_v3.1.json", ".zmetadata"),
        ("GAMI_v3.1.json", "GAMI/collection.json"),
    ),
    Offer(
        "cciodp",
        lambda server: {
            "endpoint_url": f"{server.url}/opensearch/request",
            "endpoint_description_url": f"{server.url}/opensearch/description.xml?parentIdentifier=cci",
            "max_connections": 4,
        },
        AGB,
        AGB.replace("6-0", "7-0"),
        lambda server: server.portal.publish(2, 2016),
        lambda server: server.portal.publish_edition("7.0"),
        2,
        1,
        ("opensearch/request",),
        ("description.xml",),
    ),
    Offer(
        "clms",
        lambda server: {"api_url": server.clms.api_url, "credentials": "/nowhere/at/all.json"},
        f"forest-type-2015|{FILE}",
        f"forest-type-2015|{FILE}".replace("d04", "d05"),
        lambda server: server.clms.publish(FILE),
        lambda server: server.clms.publish_edition(5),
        3,
        3,
        ("@search",),
        ("@search",),
    ),
)


@pytest.fixture(params=OFFERS, ids=lambda offer: offer.protocol)
def offer(request: pytest.FixtureRequest) -> Offer:
    found: Offer = request.param
    return found


@pytest.fixture
def source(offer: Offer, demo_server: DemoServer) -> Source:
    return offer.open(demo_server)


def test_every_protocol_is_here() -> None:
    # What reads files is no service of the embedded server's: test_files.py has its own.
    assert {offer.protocol for offer in OFFERS} == set(PROTOCOLS) - {"file", "s3", "https"}


@dataclass(frozen=True)
class ShortBody:
    """The first part of the body, announced as if it were all: what a proxy makes of a broken connection."""

    keep: float

    def __call__(self, path: str, make: Callable[[], Answer]) -> Answer:
        whole = make()
        body = whole.body[: int(len(whole.body) * self.keep)]
        return replace(whole, body=body, content_length=len(body))


@dataclass(frozen=True)
class Page:
    """Success, and something else than what was asked for."""

    body: bytes

    def __call__(self, path: str, make: Callable[[], Answer]) -> Answer:
        return Answer(200, {"Content-Type": "text/html"}, self.body, len(self.body))


FAULTS: dict[str, tuple[Behaviour, type[SourceError]]] = {
    "denied": (Status(403), AccessDeniedError),
    "down": (Status(503), SourceUnavailableError),
    "broken": (Status(500), SourceUnavailableError),
    "busy": (Status(429, "0"), SourceUnavailableError),
    "cut": (CutBody(0.5), SourceUnavailableError),
    "garbled": (GarbledBody(), SourceFormatError),
    "short": (ShortBody(0.6), SourceFormatError),
    "empty": (ShortBody(0.0), SourceFormatError),
    "a page": (Page(b"<!DOCTYPE html><title>Down for maintenance</title>"), SourceFormatError),
    "other JSON": (Page(b'{"status": "maintenance"}'), SourceFormatError),
    "a list": (Page(b"[]"), SourceFormatError),
    "null": (Page(b"null"), SourceFormatError),
}


class TestVersions:
    def test_the_same_as_long_as_nothing_changes(self, offer: Offer, source: Source, demo_server: DemoServer) -> None:
        version = source.probe(offer.data_id)
        assert version
        assert source.probe(offer.data_id) == version
        assert offer.open(demo_server).probe(offer.data_id) == version

    def test_another_one_with_other_content(self, offer: Offer, source: Source, demo_server: DemoServer) -> None:
        version = source.probe(offer.data_id)
        offer.publish(demo_server)
        assert source.probe(offer.data_id) != version
        assert source.newer_editions(offer.data_id) == ()

    def test_few_requests_and_no_pixels(self, offer: Offer, source: Source, demo_server: DemoServer) -> None:
        source.probe(offer.data_id)
        asked = [request.path for request in demo_server.requests.entries()]
        assert len(asked) == offer.probes
        assert all(any(part in path for part in offer.metadata) for path in asked)


class TestEditions:
    def test_none_at_first(self, offer: Offer, source: Source) -> None:
        assert source.newer_editions(offer.data_id) == ()

    def test_the_newer_one_beside_the_pinned_one(self, offer: Offer, source: Source, demo_server: DemoServer) -> None:
        version = source.probe(offer.data_id)
        offer.publish_edition(demo_server)
        assert source.newer_editions(offer.data_id) == (offer.newer,)
        assert source.newer_editions(offer.newer) == ()
        assert source.probe(offer.data_id) == version, "an edition is no version of another one"
        assert source.probe(offer.newer) != version
        assert {offer.data_id, offer.newer} <= set(source.data_ids())

    def test_few_requests_and_no_pixels(self, offer: Offer, source: Source, demo_server: DemoServer) -> None:
        offer.publish_edition(demo_server)
        source.newer_editions(offer.data_id)
        asked = [request.path for request in demo_server.requests.entries()]
        assert len(asked) == offer.looks
        assert all(any(part in path for part in offer.listings) for path in asked)


class TestErrors:
    @pytest.mark.parametrize("ask", ["probe", "newer_editions"])
    def test_unknown_ids_name_the_nearest(self, offer: Offer, source: Source, ask: str) -> None:
        wanted = offer.newer
        with pytest.raises(DataIdNotFoundError) as refused:
            getattr(source, ask)(wanted)
        assert wanted in str(refused.value)
        assert offer.data_id in str(refused.value)

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("ask", ["probe", "newer_editions"])
    def test_never_an_answer_instead(
        self, offer: Offer, source: Source, demo_server: DemoServer, ask: str, fault: str
    ) -> None:
        behaviour, error = FAULTS[fault]
        for where in offer.metadata if ask == "probe" else offer.listings:
            demo_server.faults.clear()
            demo_server.faults.add(behaviour, where)
            with pytest.raises(error) as failed:
                getattr(source, ask)(offer.data_id)
            assert isinstance(failed.value, SourceError)
            assert failed.value.url.startswith(("http://", "https://")), where

    @pytest.mark.parametrize("ask", ["probe", "newer_editions"])
    def test_a_burst_passes(self, offer: Offer, source: Source, demo_server: DemoServer, ask: str) -> None:
        offer.publish_edition(demo_server)
        calm = getattr(source, ask)(offer.data_id)
        demo_server.faults.add(Status(503), times=1)
        demo_server.faults.add(CutBody(0.4), times=1)
        assert getattr(source, ask)(offer.data_id) == calm

    @pytest.mark.parametrize("ask", ["probe", "newer_editions"])
    def test_a_source_that_is_down_and_comes_back(
        self, offer: Offer, source: Source, demo_server: DemoServer, ask: str
    ) -> None:
        offer.publish_edition(demo_server)
        before = getattr(source, ask)(offer.data_id)
        demo_server.stop()
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            getattr(source, ask)(offer.data_id)
        demo_server.start()
        assert getattr(source, ask)(offer.data_id) == before
