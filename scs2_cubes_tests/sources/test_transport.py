"""Bodies that come slowly or don't end, and what is logged of requests; for every client alike."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import SourceFormatError, SourceUnavailableError
from scs2_cubes.sources.dap import DapClient
from scs2_cubes.sources.http import Documents
from scs2_cubes_tests.sources.dap_worlds import biomass_file, hand_server
from scs2_cubes_tests.sources.worlds import QUICK

HASTY = RetryPolicy(deadline=0.5, max_attempts=2, initial_wait=0.01, max_wait=0.02, timeout=1.0)

Ask = Callable[[str, RetryPolicy], Any]


def ask_for_a_document(url: str, policy: RetryPolicy) -> bytes:
    return Documents(policy).get(url)


def ask_for_a_structure(url: str, policy: RetryPolicy) -> Any:
    return DapClient(policy).structure(url)


CLIENTS = pytest.mark.parametrize("ask", [ask_for_a_document, ask_for_a_structure])


@contextmanager
def pouring(pieces: int, piece: bytes, pause: float) -> Iterator[tuple[str, list[str]]]:
    """A server whose every body is ``pieces`` times ``piece``, with a pause before each; and the paths asked for."""
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(pieces * len(piece)))
            self.end_headers()
            for _ in range(pieces):
                if over.wait(pause):
                    return
                self.wfile.write(piece)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    # Clients that give up leave in the middle of an answer.
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # one line instead of a class
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/a", asked
    finally:
        over.set()
        http.shutdown()
        http.server_close()
        thread.join()


@CLIENTS
def test_a_body_that_drips_is_given_up(ask: Ask) -> None:
    """A byte each tenth of a second is never silent for as long as the time-out."""
    with pouring(100, b"x", 0.1) as (url, _):
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="slow"):
            ask(url, HASTY)
        assert time.monotonic() - started < 3


def test_a_large_body_may_take_its_time() -> None:
    """Twice the deadline, at a rate that gets somewhere."""
    with pouring(10, b"x" * 100_000, 0.1) as (url, asked):
        assert len(Documents(HASTY).get(url)) == 1_000_000
    assert len(asked) == 1


def test_a_document_that_is_none() -> None:
    with pouring(200, bytes(1 << 20), 0) as (url, asked):
        with pytest.raises(SourceFormatError, match="longer than the 67108864 bytes"):
            Documents(QUICK).get(url)
        # Nor is it asked for again.
        assert len(asked) == 1


@CLIENTS
def test_addresses_in_logs_hold_no_secrets(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with hand_server() as (server, service):
        service.put_file("/f.nc", biomass_file())
        service.documents["/f.nc"] = b"{}"
        # What is behind the query of an OPeNDAP address is the suffix, so it is part of the secret here.
        origin = server.url.replace("http://", "http://user:pa55-marked@")
        ask(f"{origin}/f.nc", QUICK)
        Documents(QUICK).get(f"{origin}/f.nc?sig=s1g-marked")
    assert "HTTP Request: GET" in caplog.text
    assert "marked" not in caplog.text + repr([record.__dict__ for record in caplog.records])


def test_other_libraries_logs_are_theirs(demo_server: DemoServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Documents(QUICK).get(demo_server.catalogue_url)
    logging.getLogger("httpx").info("%s %d", "text", 3)
    assert "text 3" in caplog.text
