from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.clms_client import GRANT_TYPE, JSON, Client, assertion, grant, request


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture
def key(server: DemoServer) -> dict[str, Any]:
    return server.clms.credentials()


@pytest.fixture(scope="module")
def foreign() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_the_service_key_has_the_documented_fields(key: dict[str, Any], server: DemoServer) -> None:
    assert set(key) == {*("client_id", "user_id", "token_uri", "private_key", "key_id", "issued", "title", "ip_range")}
    assert (len(key["client_id"]), len(key["key_id"])) == (32, 40)
    assert int(key["client_id"] + key["key_id"], 16) > 0
    assert key["token_uri"] == f"{server.url}/clms/@@oauth2-token"
    assert key["private_key"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    assert datetime.fromisoformat(key["issued"]).tzinfo is None
    assert key["ip_range"] is None
    assert server.clms.credentials() == key


def test_the_key_file_is_for_its_owner_alone(key: dict[str, Any], server: DemoServer, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("longer than nothing" * 1000)
    path.chmod(0o644)
    server.clms.write_credentials(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert httpx.Response(200, content=path.read_bytes()).json() == key


def test_a_token_is_granted(key: dict[str, Any]) -> None:
    reply = grant(key)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert (reply.headers["Cache-Control"], reply.headers["Pragma"]) == ("no-store", "no-cache")
    document = reply.json()
    assert set(document) == {"access_token", "expires_in", "token_type"}
    assert (document["expires_in"], document["token_type"]) == (3600, "Bearer")
    # 64 bytes in base64 without padding.
    assert len(document["access_token"]) == 86
    assert document["access_token"] != grant(key).json()["access_token"]


def test_only_posts(key: dict[str, Any]) -> None:
    reply = request("GET", key["token_uri"])
    assert reply.status_code == 405
    assert reply.json() == {"error": "invalid_request", "error_description": "POST only"}


@pytest.mark.parametrize(
    ("form", "description"),
    [
        ({"grant_type": None}, "Missing 'grant_type'"),
        ({"grant_type": "password"}, f"Only grant type '{GRANT_TYPE}' is supported"),
        ({"assertion": None}, "Missing 'assertion'"),
    ],
)
def test_requests_that_are_no_grant(key: dict[str, Any], form: dict[str, str | None], description: str) -> None:
    reply = grant(key, **form)
    assert reply.status_code == 400
    assert reply.json() == {"error": "invalid_request", "error_description": description}


def test_a_body_that_is_no_form_has_no_fields(key: dict[str, Any]) -> None:
    reply = request("POST", key["token_uri"], json={"grant_type": GRANT_TYPE})
    assert reply.json()["error_description"] == "Missing 'grant_type'"


def test_another_algorithm(key: dict[str, Any]) -> None:
    for algorithm in ("RS384", "PS256"):
        reply = grant(key, assertion=assertion(key, algorithm=algorithm))
        assert reply.status_code == 400
        assert reply.json() == {
            "error": "invalid_request",
            "error_description": "Only RS256 signature algorithm is supported",
        }


NOW = time.time


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        (lambda: {"iss": "0" * 32}, "No associated key found"),
        (lambda: {"iss": None}, "No associated key found"),
        (lambda: {"aud": "https://elsewhere.example/@@oauth2-token"}, "Audience doesn't match"),
        (lambda: {"aud": None}, 'Token is missing the "aud" claim'),
        (lambda: {"exp": int(NOW()) - 10}, "Signature has expired"),
        (lambda: {"exp": int(NOW()) + 24 * 3600 + 60}, "JWT expiration is more than a day in the future"),
        (lambda: {"iat": int(NOW()) - 3600 - 60}, "JWT was issued more than an hour in the past"),
        (lambda: {"iat": int(NOW()) + 120}, "JWT issue time is in the future"),
        (lambda: {"exp": None}, "Missing 'exp' claim"),
        (lambda: {"iat": None}, "Missing 'iat' claim"),
        (lambda: {"nbf": int(NOW())}, "The 'nbf' claim is not suppported"),
        (lambda: {"nbf": int(NOW()) + 900}, "The 'nbf' claim is not suppported"),
        (lambda: {"scope": "read"}, "Scopes are not supported yet"),
        (lambda: {"sub": "somebody"}, "JWT subject doesn't match user_id of service key."),
        (lambda: {"sub": None}, "JWT subject doesn't match user_id of service key."),
    ],
)
def test_assertions_that_are_refused(
    key: dict[str, Any], changes: Callable[[], dict[str, Any]], description: str
) -> None:
    reply = grant(key, assertion=assertion(key, **changes()))
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json() == {"error": "invalid_grant", "error_description": description}


@pytest.mark.parametrize(
    "changes",
    [
        lambda: {"iat": int(NOW()) + 30},
        lambda: {"iat": int(NOW()) - 3500},
        lambda: {"exp": int(NOW()) + 24 * 3600 - 60},
    ],
)
def test_clocks_may_differ_a_little(key: dict[str, Any], changes: Callable[[], dict[str, Any]]) -> None:
    assert grant(key, assertion=assertion(key, **changes())).status_code == 200


def test_a_foreign_signature(key: dict[str, Any], foreign: rsa.RSAPrivateKey) -> None:
    reply = grant(key, assertion=assertion(key, private_key=foreign))
    assert reply.status_code == 400
    assert reply.json() == {"error": "invalid_grant", "error_description": "Signature verification failed"}


@pytest.mark.parametrize("text", ["nonsense", "a.b.c", "é"])
def test_an_assertion_that_is_no_jwt(key: dict[str, Any], text: str) -> None:
    reply = grant(key, assertion=text)
    assert reply.status_code == 400
    assert reply.json()["error"] == "invalid_grant"


def test_an_unsigned_assertion(key: dict[str, Any]) -> None:
    claims = {"iss": key["client_id"], "sub": key["user_id"], "aud": key["token_uri"]}
    reply = grant(key, assertion=jwt.encode(claims, "", algorithm="none"))
    assert reply.json()["error_description"] == "Only RS256 signature algorithm is supported"


def test_a_token_expires(server: DemoServer, key: dict[str, Any]) -> None:
    server.clms.tokens.lifetime = 1.0
    client = Client(server.clms.api_url, key)
    server.clms.tokens.lifetime = 3600.0
    assert client.ask("GET", "@datarequest_search").status_code == 200
    time.sleep(1.1)
    # Also where an anonymous request is welcome.
    for endpoint in ("@datarequest_search", "@search"):
        reply = client.ask("GET", endpoint)
        assert reply.status_code == 401
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.json() == {"error": "invalid_token", "error_description": "Access token expired"}


def test_tokens_that_are_expired_on_purpose(server: DemoServer, key: dict[str, Any]) -> None:
    client = Client(server.clms.api_url, key)
    server.clms.expire_tokens()
    assert client.ask("GET", "@datarequest_search").json()["error_description"] == "Access token expired"


def test_a_revoked_token_is_an_anonymous_request(server: DemoServer, key: dict[str, Any]) -> None:
    client = Client(server.clms.api_url, key)
    server.clms.revoke_tokens()
    reply = client.ask("GET", "@datarequest_search")
    assert reply.status_code == 401
    assert reply.headers["Content-Type"] == "application/json"
    anonymous = request("GET", f"{client.api}/@datarequest_search", headers=JSON)
    assert (anonymous.status_code, anonymous.json()) == (401, reply.json())
    assert client.ask("GET", "@search").status_code == 200
    assert Client(server.clms.api_url, key).ask("GET", "@datarequest_search").status_code == 200
