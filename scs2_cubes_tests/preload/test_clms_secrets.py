"""Secrets are planted, or known, and searched for in everything that people or files get to see."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import OrderFailedError, Scs2CubesError
from scs2_cubes_tests.preload.clms_house import House

#: In the link's query, as a signature would be.
MARK = "hunter2"
#: What a service may say.
REASON = f"can't write https://user:{MARK}@store.example/out?sig={MARK} and (s3://x/y?{MARK}): denied"


class Spy:
    """Notes every assertion and token that passes."""

    def __init__(self, house: House) -> None:
        self._service = house.server.clms
        self.seen: set[str] = set()

    def answer(self, request: HttpRequest) -> Answer | None:
        if not request.path.startswith("/clms/"):
            return None
        # The server drops what stands behind a link's question mark, as it isn't part of the path.
        given = self._service.answer(request)
        if "oauth2-token" in request.path:
            self.seen |= set(parse_qs(request.body.decode()).get("assertion", []))
            if given is not None and given.status == 200:
                self.seen.add(json.loads(given.body)["access_token"])
        return given


@pytest.fixture
def house(demo_server: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    house = House.make(demo_server, tmp_path)
    document = demo_server.clms.queue._document

    def signed(task: object) -> dict[str, object]:
        made = document(task)  # type: ignore[arg-type]  # what the queue gives is what it takes
        return {**made, "DownloadURL": f"{made['DownloadURL']}?sig={MARK}"} if "DownloadURL" in made else made

    monkeypatch.setattr(demo_server.clms.queue, "_document", signed)
    return house


@pytest.fixture
def spy(house: House) -> Spy:
    spy = Spy(house)
    house.server.services = (spy, *house.server.services)
    return spy


def told_by(error: BaseException) -> Iterator[str]:
    """An error with everything that hangs on it, also as it arrives from another process."""
    yield from traceback.TracebackException.from_exception(error).format()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None:
            yield from (str(link), repr(link), repr(link.args), repr(vars(link)))
            chain += [link.__cause__, link.__context__]
    yield repr(pickle.loads(pickle.dumps(error)))


def faults() -> dict[str, Callable[[House], object]]:
    return {
        "none": lambda house: house,
        "expired link": lambda house: house.server.faults.add(Status(404), "/results/"),
        "forbidden link": lambda house: house.server.faults.add(Status(403), "/results/"),
        "link that fails": lambda house: house.server.faults.add(Status(500), "/results/"),
        "damaged": lambda house: house.server.faults.add(GarbledBody(), "/results/"),
        "rejected": lambda house: house.server.clms.next_outcome("Rejected", REASON),
        "rejected at length": lambda house: house.server.clms.next_outcome("Rejected", f"{'x' * 267} {REASON}"),
        "unauthorised": lambda house: house.server.faults.add(Status(401), "@datarequest"),
        "garbled status": lambda house: house.server.faults.add(GarbledBody(), "@datarequest_status_get"),
        "garbled token": lambda house: house.server.faults.add(GarbledBody(), "oauth2-token"),
    }


@pytest.mark.parametrize("fault", faults())
def test_nothing_secret_is_shown_or_kept(house: House, spy: Spy, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "scs2_cubes"):
        caplog.set_level(logging.DEBUG, logger=name)
    faults()[fault](house)
    shown: list[str] = []
    try:
        shown.append(repr(house.fetch(cleanup=False)))
    except Scs2CubesError as error:
        shown += told_by(error)
    assert (fault == "none") == ("is_fresh=True" in shown[0])
    preload = house.preload()
    shown += [repr(preload), repr(preload.source), house.text, *(f"{r.getMessage()} {r.args}" for r in caplog.records)]
    # The log was really on, and secrets were really sent.
    assert any(record.name == "httpx" for record in caplog.records)
    assert spy.seen
    text = "\n".join(shown).encode() + caplog.text.encode()
    kept = b"\n".join(key.encode() + content for key, content in house.files().items())
    key = json.loads((house.folder / "key.json").read_text())["private_key"]
    secrets = {line for line in key.splitlines() if line and not line.startswith("-----")}
    parts = {part for secret in spy.seen for part in secret.split(".")[-2:]}
    for secret in (MARK, *secrets, *parts):
        assert secret.encode() not in text
        assert secret.encode() not in kept


def test_the_mark_is_really_sent(house: House) -> None:
    house.fetch()
    (request,) = house.server.requests.entries("/results/")
    assert request.query == f"sig={MARK}"


def test_the_reason_is_really_told(house: House) -> None:
    house.server.clms.next_outcome("Rejected", REASON)
    with pytest.raises(OrderFailedError) as caught:
        house.fetch()
    assert "Rejected: can't write https://store.example/out?… and (s3://x/y?…" in str(caught.value)
