"""Credentials that can't be used, and secrets that stay where they are."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import ConfigurationError, Scs2CubesError, SourceUnavailableError
from scs2_cubes.sources.clms import ClmsSource
from scs2_cubes.sources.clms_tokens import read_service_key
from scs2_cubes_tests.sources.clms_worlds import (
    DATA_ID,
    MARK,
    Service,
    client,
    credentials,
    json_answer,
    private_pem,
    refusal,
    rsa_public,
    serving,
    task,
)
from scs2_cubes_tests.sources.worlds import QUICK

Make = Callable[[], Answer]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with serving(made):
        yield made


def pem(key: Any, password: bytes | None = None) -> str:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return content.decode()


def public_pem() -> str:
    content: bytes = rsa_public().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return content.decode()


class TestCredentials:
    def source(self, service: Service, given: Any) -> ClmsSource:
        params = {"api_url": f"{service.url}/api", "credentials": given}
        return ClmsSource.open(StoreSpec("clms", "clms", params, (), QUICK))

    def refused(self, service: Service, given: Any) -> str:
        with pytest.raises(ConfigurationError) as refused:
            self.source(service, given).tasks()
        assert not service.requests
        assert refused.value.__context__ is None or isinstance(refused.value.__context__, OSError)
        return str(refused.value)

    def test_from_a_file_that_is_read_when_it_is_needed(self, service: Service, tmp_path: Path) -> None:
        file = tmp_path / "key.json"
        source = self.source(service, str(file))
        file.write_text(json.dumps(credentials(service)), encoding="utf-8")
        assert source.tasks() == ()
        file.unlink()
        service.good_tokens.clear()
        # Read once; a run that takes days doesn't need the file any more.
        assert source.tasks() == ()

    def test_keys_that_do_not_matter(self, service: Service) -> None:
        assert client(service, ip_range=None, key_id=None, issued=None, title=None).tasks() == ()

    @pytest.mark.parametrize("given", [None, "", "  ", 7, {"client_id": "x"}])
    def test_none_at_all(self, service: Service, given: Any) -> None:
        assert "'clms': store_params.credentials is missing" in self.refused(service, given)

    def test_a_missing_file(self, service: Service, tmp_path: Path) -> None:
        message = self.refused(service, str(tmp_path / "key.json"))
        assert str(tmp_path / "key.json") in message
        assert "No such file" in message

    def test_a_folder(self, service: Service, tmp_path: Path) -> None:
        assert f"can't be read ({tmp_path}): Is a directory" in self.refused(service, str(tmp_path))

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe", b"[]", b'"text"', f'{{"private_key": "{MARK}"'.encode()]
    )
    def test_a_file_that_is_no_json_object(self, service: Service, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "key.json"
        file.write_bytes(content)
        message = self.refused(service, str(file))
        assert f"{file}: not a JSON object" in message
        assert MARK not in message

    @pytest.mark.parametrize("name", ["client_id", "user_id", "token_uri", "private_key"])
    @pytest.mark.parametrize("value", [None, "", 12, [MARK]])
    def test_a_missing_key(self, service: Service, tmp_path: Path, name: str, value: Any) -> None:
        file = tmp_path / "key.json"
        file.write_text(json.dumps(credentials(service, **{name: value})), encoding="utf-8")
        message = self.refused(service, str(file))
        assert f"lacks {name} (" in message
        assert str(file) in message
        assert MARK not in message

    def test_a_key_of_another_service(self, service: Service, tmp_path: Path) -> None:
        file = tmp_path / "key.json"
        document = {"type": "service_account", "client_id": "1", "private_key": MARK, "client_email": MARK}
        file.write_text(json.dumps(document), encoding="utf-8")
        message = self.refused(service, str(file))
        assert "not a CLMS service key, because it lacks user_id, token_uri" in message
        assert MARK not in message

    @pytest.mark.parametrize("value", [f"ftp://{MARK}", f"/{MARK}", MARK])
    def test_an_address_that_is_none(self, service: Service, value: str) -> None:
        message = self.refused(service, json.dumps(credentials(service, token_uri=value)))
        assert "'token_uri' isn't an http(s) address" in message
        assert MARK not in message

    @pytest.mark.parametrize("kind", ["marked", "torn", "encrypted", "elliptic", "public", "doubly escaped"])
    def test_a_private_key_that_cannot_be_read(self, service: Service, kind: str) -> None:
        value = {
            "marked": f"-----BEGIN RSA PRIVATE KEY-----\n{MARK}\n-----END RSA PRIVATE KEY-----\n",
            "torn": private_pem()[:400],
            "encrypted": pem(rsa.generate_private_key(public_exponent=65537, key_size=2048), MARK.encode()),
            "elliptic": pem(ec.generate_private_key(ec.SECP256R1())),
            "public": public_pem(),
            "doubly escaped": private_pem().replace("\n", "\\n"),
        }[kind]
        message = self.refused(service, json.dumps(credentials(service, private_key=value)))
        assert "'private_key' isn't an unencrypted RSA private key" in message
        assert "store_params.credentials of data store 'clms'" in message
        assert value[40:90] not in message
        assert MARK not in message

    def test_a_secret_where_a_path_belongs(self, service: Service) -> None:
        flat = json.dumps(credentials(service))
        for given in (
            private_pem(),
            flat[1:],
            flat.encode().hex(),
            f'"{MARK}"',
            MARK * 5,
            f"/folder/{MARK}",
            f"{MARK}\0",
        ):
            with pytest.raises(ConfigurationError, match=r"store_params\.credentials names can't be read") as refused:
                self.source(service, given).tasks()
            text = "".join(traceback.format_exception(refused.value)) + repr(refused.value.__context__)
            for secret in (given[:60], MARK):
                assert secret not in text

    @pytest.mark.parametrize("name", ["a{b}/key.json", 'a"b.json', "key", "x" * 200])
    def test_a_path_is_what_does_not_begin_with_a_brace(self, service: Service, tmp_path: Path, name: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(credentials(service)), encoding="utf-8")
        assert self.source(service, str(file)).tasks() == ()
        # And it travels, because it isn't the key itself.
        assert pickle.loads(pickle.dumps(self.source(service, str(file)))).tasks() == ()

    def test_blanks_before_the_brace(self, service: Service) -> None:
        given = "\n  " + json.dumps(credentials(service))
        assert self.source(service, given).tasks() == ()
        assert MARK.encode() not in pickle.dumps(self.source(service, given))

    def test_the_key_shows_nothing_and_stays(self, service: Service) -> None:
        given = json.dumps(credentials(service))
        key = read_service_key(StoreSpec("clms", "clms", {"credentials": given}))
        assert "private_key" not in repr(key)
        with pytest.raises(TypeError, match="stays in the process"):
            pickle.dumps(key)


class TestPlanted:
    """Every secret is known here, and searched for in everything that people or files get to see."""

    def secrets(self, service: Service) -> set[str]:
        lines = [line for line in private_pem().splitlines() if not line.startswith("-----")]
        parts = [part for assertion in service.assertions for part in assertion.split(".")[1:]]
        return {MARK, *lines, *parts}

    def told(self, error: BaseException) -> Iterator[str]:
        """An error with everything that hangs on it, as it is printed with the values of all variables."""
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        # Variables of the test itself hold the planted secrets.
        yield from (line for line in trace.format() if "scs2_cubes_tests" not in line)
        chain: list[BaseException | None] = [error]
        while chain:
            link = chain.pop()
            if link is not None:
                yield from (str(link), repr(link), repr(link.args), repr(vars(link)))
                chain += [link.__cause__, link.__context__]
        yield repr(pickle.loads(pickle.dumps(error))) if isinstance(error, Scs2CubesError) else ""

    @pytest.mark.parametrize("where", ["oauth2-token", "@datarequest", "@datarequest_post"])
    @pytest.mark.parametrize(
        "how",
        ["echo 400", "echo 401", "echo 403", "echo 404", "echo 409", "echo 422", "echo 500", "cut", "garbled", "307"],
    )
    def test_in_errors_and_logs(self, service: Service, where: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        for name in ("httpx", "httpcore", "scs2_cubes"):
            caplog.set_level(logging.DEBUG, logger=name)
        source = client(service)
        file = source.find(DATA_ID)

        def bend(request: HttpRequest, make: Make) -> Answer:
            given = make()
            if where not in request.path:
                return given
            sent = request.headers.get("authorization", "") + request.body.decode()
            words = {"error": sent, "error_description": sent, "msg": sent}
            if how.startswith("echo"):
                return refusal(int(how[-3:]), **words)
            if how == "cut":
                return Answer(given.status, given.headers, given.body[:-3], len(given.body), close=True)
            if how == "307":
                return Answer(307, {"Location": "https://host.example/"}, b"", 0)
            return json_answer(200, b"\x00" + given.body)

        service.bend = bend
        shown: list[str] = []
        for action in (source.tasks, lambda: source.task("7"), lambda: source.order(file)):
            try:
                action()
            except Scs2CubesError as error:
                shown += self.told(error)
        assert shown
        assert service.assertions
        shown += [record.getMessage() + repr(record.args) for record in caplog.records]
        shown += [caplog.text, repr(source), repr(source.tokens), repr(source.store)]
        text = "\n".join(shown)
        # The log was really on, down to the library that sends bytes.
        assert "send_request_headers" in caplog.text
        for secret in self.secrets(service):
            assert secret not in text

    def test_where_all_goes_well(self, service: Service, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        source = client(service)
        made = source.order(source.find(DATA_ID))
        service.tasks[made] = task("Finished_ok", DownloadURL=f"https://land.example/{MARK}.zip")
        text = caplog.text + repr(source) + repr(source.task(made)) + repr(source.tasks())
        assert "httpcore" in text
        for secret in self.secrets(service):
            assert secret not in text

    def test_in_copies_that_travel(self, service: Service, tmp_path: Path) -> None:
        source = client(service)
        source.tasks()
        inline = pickle.dumps(source)
        file = tmp_path / "key.json"
        file.write_text(json.dumps(credentials(service)), encoding="utf-8")
        params = {"api_url": f"{service.url}/api", "credentials": str(file)}
        from_file = ClmsSource.open(StoreSpec("clms", "clms", params, (), QUICK))
        from_file.tasks()
        named = pickle.dumps(from_file)
        for secret in (*self.secrets(service), *service.granted):
            assert secret.encode() not in inline + named
        assert pickle.loads(named).tasks() == ()
        assert pickle.loads(inline).probe(DATA_ID) == source.probe(DATA_ID)
        with pytest.raises(ConfigurationError, match="credentials is missing"):
            pickle.loads(inline).tasks()

    def test_another_host_never_sees_a_token(self, service: Service) -> None:
        """Searching is anonymous, and whatever is sent with a token isn't led elsewhere with it."""
        stranger = Service()
        with serving(stranger):
            target = f"{stranger.url}/api/@datarequest_search"
            moved = Answer(302, {"Location": target}, b"", 0)
            service.bend = lambda request, make: moved if "@data" in request.path else make()
            source = client(service)
            with pytest.raises(SourceUnavailableError, match="the address has changed"):
                source.tasks()
            assert not stranger.requests
            service.bend = lambda _, make: make()
            service.pages = [{"items": [], "batching": {"next": f"{stranger.url}/api/@search/"}}]
            assert list(source.data_ids()) == [DATA_ID]
            assert stranger.requests
            assert all("authorization" not in request.headers for request in stranger.requests)
