"""The demonstration's HTTP server, on loopback: HTTP/1.1 with connections that stay open."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import unquote, urlsplit

from scs2_cubes.demo.answers import Answer, error_answer
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.clms_service import ClmsService
from scs2_cubes.demo.faults import FaultTable
from scs2_cubes.demo.portal_archive import Portal
from scs2_cubes.demo.portal_service import SEARCH_PATH, PortalService
from scs2_cubes.demo.request_log import Request, RequestLog
from scs2_cubes.demo.services import CatalogueService, HttpRequest, Service
from scs2_cubes.demo.stac import BUCKET, ORIGIN
from scs2_cubes.errors import ConfigurationError, Scs2CubesError

__all__ = ["DemoServer", "serve"]

_HOST: Final = "127.0.0.1"
_LOGGER: Final = logging.getLogger(__name__)


class DemoServer:
    """Embedded services on loopback, as a context manager or by :meth:`start` and :meth:`stop`.

    Nothing happens before :meth:`start`. A stopped server refuses connections; started again it has the same address,
    the same catalogue with its editions, the same faults and the same log.
    """

    def __init__(self, port: int = 0, latency: float = 0.0, catalogue: Catalogue | None = None) -> None:
        """``port`` 0 lets the system choose; ``latency`` delays every answer, in seconds."""
        self.catalogue = catalogue or Catalogue()
        self.clms = ClmsService(lambda: self.url)
        self.portal = Portal()
        #: Asked in this order; the first that answers has the path.
        self.services: tuple[Service, ...] = (self.clms, PortalService(self.portal), CatalogueService(self.catalogue))
        self.faults = FaultTable(latency)
        self.requests = RequestLog()
        self._port = port
        self._http: _HttpServer | None = None

    def start(self) -> Self:
        """Listen. Raises ConfigurationError where the port isn't free."""
        if self._http is None:
            try:
                self._http = _HttpServer((_HOST, self._port), self)
            except OSError as error:
                raise ConfigurationError(
                    f"the demonstration can't listen on {_HOST}:{self._port} ({error.strerror}): choose another port"
                ) from error
            self._port = self._http.server_address[1]
            # A short poll so that stop() returns at once.
            run = partial(self._http.serve_forever, poll_interval=0.02)
            threading.Thread(target=run, name="demo-server", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and cut the open connections; does nothing where the server isn't running."""
        if self._http is not None:
            http, self._http = self._http, None
            http.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, also after :meth:`stop`. Raises Scs2CubesError before the first start."""
        if self._port == 0:
            raise Scs2CubesError("the demonstration's server has no address before it is started: call start()")
        return f"http://{_HOST}:{self._port}"

    @property
    def catalogue_url(self) -> str:
        """Address of the public root catalogue."""
        return f"{self.url}/{BUCKET}/collections/public/catalog.json"

    @property
    def search_url(self) -> str:
        """Address of the embedded CCI portal's search."""
        return f"{self.url}{SEARCH_PATH}"

    @property
    def href_rewrite(self) -> Mapping[str, str]:
        """Prefixes of the addresses in the documents, and what a client puts in their place."""
        return {ORIGIN: self.url}


def serve(port: int = 0) -> tuple[DemoServer, Mapping[str, str]]:
    """Start a server that goes on until it is stopped; return it with its addresses by the names of the services."""
    server = DemoServer(port).start()
    return server, {
        "EO Forest catalogue": server.catalogue_url,
        "CLMS": server.clms.api_url,
        "ESA CCI portal": server.search_url,
    }


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    # Dozens of clients may connect at once; the default of 5 lets some wait for a second.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], demo: DemoServer) -> None:
        self.demo = demo
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service what 127.0.0.1 is called.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, int(self.server_address[1])

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                # The client may have gone already.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        error = sys.exception()
        # A client that leaves in the middle of an answer is no error of the server's.
        if not isinstance(error, ConnectionError):
            _LOGGER.error("request from %s failed", client_address, exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "scs2-cubes-demo"
    sys_version = ""
    # Headers and body are two packets: without this the second waits 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve(send_body=True)

    def do_HEAD(self) -> None:
        self._serve(send_body=False)

    def do_POST(self) -> None:
        self._serve(send_body=True)

    def do_DELETE(self) -> None:
        self._serve(send_body=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: standard error belongs to the user, and the request log has it."""

    def _serve(self, *, send_body: bool) -> None:
        http = cast("_HttpServer", self.server)
        request = self._request()
        delay, behaviour = http.demo.faults.take(request.path)
        if delay > 0:
            http.stopping.wait(delay)
        make = partial(_usual_answer, http.demo.services, request)
        given = make() if behaviour is None else behaviour(request.path, make)
        if http.stopping.is_set():
            self.close_connection = True
            return
        http.demo.requests.add(Request(self.command, request.path, given.status, request.query))
        self._send(given, send_body=send_body)

    def _request(self) -> HttpRequest:
        url = urlsplit(self.path)
        return HttpRequest(
            method="GET" if self.command == "HEAD" else self.command,
            path=unquote(url.path),
            query=url.query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )

    def _send(self, given: Answer, *, send_body: bool) -> None:
        self.send_response(given.status)
        for name, value in given.headers.items():
            self.send_header(name, value)
        # With 304 its meaning would be another one, the length of the object that isn't sent, and with 204 it is
        # forbidden: RFC 9110, section 8.6.
        if given.status not in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT}:
            self.send_header("Content-Length", str(given.content_length))
        self.end_headers()
        if send_body:
            self.wfile.write(given.body)
        if given.close:
            self.close_connection = True


def _usual_answer(services: tuple[Service, ...], request: HttpRequest) -> Answer:
    for service in services:
        given = service.answer(request)
        if given is not None:
            return given
    return error_answer(HTTPStatus.NOT_FOUND, request.path)
