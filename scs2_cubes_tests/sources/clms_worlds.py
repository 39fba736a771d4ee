"""A land monitoring service of a few lines, written from the wire protocol alone, whose answers a test can bend."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.sources.clms import ClmsSource
from scs2_cubes_tests.sources.worlds import QUICK

FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
DATA_ID = f"forest-type-2015|{FILE}"
UID = "0" * 31 + "1"
FILE_ID = "b813d203-d09b-4663-95f7-65dc6d53789e"
CLIENT_ID = "c" * 32
USER_ID = "n00000aa"
#: Planted in everything secret, so that a search finds it wherever it gets.
MARK = "hunter2"


@cache
def private_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def entry(file: str | None = FILE, file_id: str = FILE_ID, **changes: Any) -> dict[str, Any]:
    """An entry of ``downloadable_files``; ``file`` None leaves that key out, as older entries do."""
    found: dict[str, Any] = {
        "@id": file_id,
        "area": "Europe",
        "format": "Geotiff",
        "path": f"H:\\Forest\\{file}.zip",
        "resolution": "20 m",
        "size": "1 MB",
        "source": "EEA",
        "title": "",
        "type": "Raster",
        "version": "V1_1",
        "year": "",
    }
    return {**found, **({} if file is None else {"file": file}), **changes}


def dataset(product: str = "forest-type-2015", *entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An item of the search, complete; without entries it has the one file of :data:`DATA_ID`."""
    return {
        "@id": f"https://land.example/api/en/products/{product}",
        "@type": "DataSet",
        "id": product,
        "title": product.replace("-", " ").title(),
        "UID": UID,
        "dataset_download_information": {"items": [{"@id": "1", "full_format": "Geotiff", "full_source": "EEA"}]},
        "downloadable_files": {"items": list(entries or (entry(),))},
        **changes,
    }


def provided(source: Any) -> dict[str, Any]:
    """``dataset_download_information`` of that provider."""
    return {"items": [{"@id": "1", "full_format": "Geotiff", "full_source": source}]}


def json_answer(status: int, document: Any, content_type: str = "application/json") -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Answer(status, {"Content-Type": content_type}, body, len(body))


def refusal(code: int, /, **words: str) -> Answer:
    return json_answer(code, words)


@dataclass
class Service:
    """Search, token endpoint and orders. ``before`` may answer instead of it: a list of functions that are asked."""

    pages: list[Any] = field(default_factory=lambda: [[dataset()]])
    """Each the items of one page, or a whole document."""
    tasks: dict[str, Any] = field(default_factory=dict)
    """As they are listed."""
    good_tokens: set[str] = field(default_factory=set)
    """Those that are accepted."""
    claims: list[dict[str, Any]] = field(default_factory=list)
    """Of every assertion that came."""
    assertions: list[str] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)
    requests: list[HttpRequest] = field(default_factory=list)
    bend: Callable[[HttpRequest, Callable[[], Answer]], Answer] = field(default=lambda _, make: make())
    """Gets each request with the usual answer, and gives the real one."""
    expires_in: int = 3600
    url: str = ""

    def answer(self, request: HttpRequest) -> Answer | None:
        if not request.path.startswith("/clms/"):
            return None
        self.requests.append(request)
        return self.bend(request, lambda: self._usual(request))

    def count(self, part: str) -> int:
        return sum(part in request.path for request in self.requests)

    def _usual(self, request: HttpRequest) -> Answer:
        if request.path.endswith("@@oauth2-token"):
            return self._grant(request)
        if "/@search" in request.path:
            return self._search(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.good_tokens:
            return refusal(401, error="invalid_token", error_description="Access token expired")
        if request.path.endswith("@datarequest_post"):
            return self._order(request)
        if request.path.endswith("@datarequest_search"):
            return json_answer(200, self.tasks)
        return self._status(request)

    def _status(self, request: HttpRequest) -> Answer:
        task_id = parse_qs(request.query)["TaskID"][0]
        if task_id not in self.tasks:
            return refusal(404, status="error", msg="Error, the task does not exist")
        return json_answer(200, self.tasks[task_id])

    def _grant(self, request: HttpRequest) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if request.method != "POST" or form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return refusal(400, error="invalid_request", error_description="wrong")
        public = rsa_public()
        self.assertions.append(form["assertion"])
        try:
            claims = jwt.decode(form["assertion"], public, algorithms=["RS256"], audience=f"{self.url}/@@oauth2-token")
        except jwt.PyJWTError as error:
            return refusal(400, error="invalid_grant", error_description=str(error))
        self.claims.append(claims)
        if claims["iat"] > time.time():
            return refusal(400, error="invalid_grant", error_description="JWT issue time is in the future")
        token = f"{MARK}-token-{len(self.granted)}"
        self.granted.append(token)
        self.good_tokens.add(token)
        return json_answer(200, {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"})

    def _search(self, request: HttpRequest) -> Answer:
        number = int(parse_qs(request.query).get("b_start", ["0"])[0]) // 25
        page = self.pages[number]
        if not isinstance(page, list):
            return json_answer(200, page)
        document: dict[str, Any] = {"@id": self.url, "items": page, "items_total": 1}
        if len(self.pages) > 1:
            document["batching"] = {"first": "…", "last": "…"}
            if number + 1 < len(self.pages):
                document["batching"]["next"] = f"{self.url}/api/@search/?b_start={25 * (number + 1)}"
        return json_answer(200, document)

    def _order(self, request: HttpRequest) -> Answer:
        ordered = json.loads(request.body)["Datasets"]
        task_id = str(65267487597 + len(self.tasks))
        self.tasks[task_id] = task("Queued", ordered)
        return json_answer(201, {"TaskIds": [{"TaskID": task_id}], "ErrorTaskIds": []})


def task(status: str, datasets: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "Status": status,
        "UserID": USER_ID,
        "RegistrationDateTime": "2026-01-08T09:00:00.123456+00:00",
        "FMETaskId": 4050,
        "Datasets": datasets or [{"DatasetID": UID, "FileID": FILE_ID, "DatasetSource": "EEA"}],
        **changes,
    }


@cache
def rsa_public() -> Any:
    return rsa_private().public_key()


def rsa_private() -> rsa.RSAPrivateKey:
    return jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(private_pem())  # type: ignore[return-value]  # of a private PEM it is one


@contextmanager
def serving(service: Service) -> Iterator[DemoServer]:
    """The embedded server with ``service`` instead of its own."""
    with DemoServer() as server:
        server.services = (service, *server.services)
        service.url = f"{server.url}/clms"
        yield server


def credentials(service: Service, **changes: Any) -> dict[str, Any]:
    """The content of a service key's file; None as a value leaves a key out."""
    document = {
        "client_id": CLIENT_ID,
        "ip_range": None,
        "issued": "2026-01-01T00:00:00",
        "key_id": "d" * 40,
        "private_key": private_pem(),
        "title": "for tests",
        "token_uri": f"{service.url}/@@oauth2-token",
        "user_id": USER_ID,
        **changes,
    }
    return {name: value for name, value in document.items() if value is not None}


def client(service: Service, retry: RetryPolicy = QUICK, /, **changes: Any) -> ClmsSource:
    """A client with the key as the parameter itself."""
    params = {"api_url": f"{service.url}/api", "credentials": json.dumps(credentials(service, **changes))}
    return ClmsSource.open(StoreSpec("clms", "clms", params, (), retry))


def in_threads(action: Callable[[], Any], number: int) -> list[Any]:
    """What ``action`` returned in each of ``number`` threads that start at once."""
    results: list[Any] = []
    gate = threading.Barrier(number)

    def run() -> None:
        gate.wait()
        results.append(action())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
