"""A client that isn't ours, from the description of the protocol alone: PyJWT, httpx, zipfile."""

from __future__ import annotations

import io
import time
import zipfile
from typing import Any

import httpx
import jwt

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
JSON = {"Accept": "application/json"}
BLOCK = "FTY_2015_020m_eu_03035_d04_E30N20"


def request(method: str, url: str, **options: Any) -> httpx.Response:
    # Certificates of authorities, which take a while to load, don't matter on loopback.
    return httpx.request(method, url, trust_env=False, verify=False, timeout=30, **options)


def assertion(key: dict[str, Any], private_key: Any = None, algorithm: str = "RS256", **changes: Any) -> str:
    """Signed claims; a change to None leaves the claim out."""
    now = int(time.time())
    claims = {
        "iss": key["client_id"],
        "sub": key["user_id"],
        "aud": key["token_uri"],
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, private_key or key["private_key"], algorithm=algorithm)


def grant(key: dict[str, Any], **form: str | None) -> httpx.Response:
    fields = {"grant_type": GRANT_TYPE, "assertion": assertion(key), **form}
    sent = {name: value for name, value in fields.items() if value is not None}
    return request("POST", key["token_uri"], data=sent)


class Client:
    """One account."""

    def __init__(self, api: str, key: dict[str, Any]) -> None:
        self.api = api
        self._entries: dict[str, dict[str, str]] = {}
        self.token = grant(key).json()["access_token"]

    def ask(self, method: str, endpoint: str, **options: Any) -> httpx.Response:
        headers = {**JSON, "Authorization": f"Bearer {self.token}"}
        return request(method, f"{self.api}/{endpoint}", headers=headers, **options)

    def order(self, *datasets: dict[str, Any]) -> httpx.Response:
        return self.ask("POST", "@datarequest_post", json={"Datasets": list(datasets)})

    def order_file(self, name: str = BLOCK) -> str:
        if name not in self._entries:
            self._entries[name] = entry_of(self.api, name)
        reply = self.order(self._entries[name])
        assert reply.status_code == 201, reply.text
        (task,) = reply.json()["TaskIds"]
        return str(task["TaskID"])

    def tasks(self, status: str | None = None) -> dict[str, dict[str, Any]]:
        reply = self.ask("GET", "@datarequest_search", params=None if status is None else {"status": status})
        assert reply.status_code == 200, reply.text
        found: dict[str, dict[str, Any]] = reply.json()
        return found

    def task(self, task_id: str) -> dict[str, Any]:
        return self.tasks()[task_id]

    def wait(self, task_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (task := self.task(task_id))["Status"] in {"Queued", "In_progress"}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return task


def all_items(api: str) -> list[dict[str, Any]]:
    """Complete objects of all pages, as ``batching.next`` leads to them."""
    url: str | None = f"{api}/@search/?portal_type=DataSet&fullobjects=1"
    items: list[dict[str, Any]] = []
    while url is not None:
        page = request("GET", url, headers=JSON).json()
        items += page["items"]
        url = page.get("batching", {}).get("next")
    return items


def item_of(api: str, identifier: str) -> dict[str, Any]:
    return next(item for item in all_items(api) if item["id"] == identifier)


def entry_of(api: str, name: str) -> dict[str, str]:
    """What is ordered for a file of that name."""
    for item in all_items(api):
        for file in item["downloadable_files"]["items"]:
            if file.get("file") == name:
                return {"DatasetID": item["UID"], "FileID": file["@id"]}
    raise LookupError(name)


def unpack(body: bytes) -> dict[str, bytes]:
    """Files of the one inner archive of a delivery."""
    with zipfile.ZipFile(io.BytesIO(body)) as outer:
        assert outer.testzip() is None
        (inner,) = (name for name in outer.namelist() if name.startswith("Results/") and name.endswith(".zip"))
        content = outer.read(inner)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
