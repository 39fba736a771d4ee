"""Tokens and orders: the grant, its renewal, lost answers, tasks of every kind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    OrderFailedError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes_tests.sources.clms_worlds import (
    CLIENT_ID,
    DATA_ID,
    FILE_ID,
    UID,
    USER_ID,
    Service,
    client,
    in_threads,
    json_answer,
    refusal,
    serving,
    task,
)
from scs2_cubes_tests.sources.worlds import QUICK

ORDERED = {"DatasetID": UID, "FileID": FILE_ID}
Make = Callable[[], Answer]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with serving(made):
        yield made


class TestTokens:
    def test_the_assertion(self, service: Service) -> None:
        before = time.time()
        client(service).tasks()
        (claims,) = service.claims
        assert set(claims) == {"iss", "sub", "aud", "iat", "exp"}
        assert (claims["iss"], claims["sub"]) == (CLIENT_ID, USER_ID)
        assert claims["aud"] == f"{service.url}/@@oauth2-token"
        assert claims["exp"] == claims["iat"] + 3600
        # A clock that is a little ahead of the service's isn't refused; nor is the assertion too old.
        assert before - 60 < claims["iat"] < before - 5
        grant = service.requests[0]
        assert grant.headers["content-type"] == "application/x-www-form-urlencoded"
        assert "authorization" not in grant.headers

    def test_one_grant_for_many_requests(self, service: Service) -> None:
        source = client(service)
        results = in_threads(source.tasks, 8)
        assert len(results) == 8
        assert len(service.granted) == 1
        assert {r.headers["authorization"] for r in service.requests[1:]} == {f"Bearer {service.granted[0]}"}

    def test_renewed_before_its_end(self, service: Service) -> None:
        service.expires_in = 1
        source = client(service)
        source.tasks()
        source.tasks()
        assert len(service.granted) == 1
        time.sleep(0.95)
        source.tasks()
        assert len(service.granted) == 2

    def test_refused_in_the_middle(self, service: Service) -> None:
        source = client(service)
        source.tasks()
        service.good_tokens.clear()
        source.tasks()
        assert len(service.granted) == 2
        service.good_tokens.clear()
        results = in_threads(source.tasks, 6)
        assert len(results) == 6
        assert len(service.granted) == 3

    def test_an_order_is_replayed_after_a_401(self, service: Service) -> None:
        source = client(service)
        file = source.find(DATA_ID)
        source.tasks()
        service.good_tokens.clear()
        assert source.order(file) in service.tasks
        assert len(service.tasks) == 1

    def test_refused_for_good(self, service: Service) -> None:
        source = client(service)
        service.bend = lambda request, make: (
            refusal(401, error="invalid_token", error_description="Nobody today") if "@data" in request.path else make()
        )
        with pytest.raises(AccessDeniedError, match=r"401.*Nobody today"):
            source.tasks()
        assert len(service.granted) == 2
        assert service.count("@datarequest_search") == 2

    def test_forbidden_is_not_replayed(self, service: Service) -> None:
        service.bend = lambda request, make: refusal(403, msg="No") if "@data" in request.path else make()
        with pytest.raises(AccessDeniedError, match="HTTP 403: access denied: No"):
            client(service).tasks()
        assert len(service.granted) == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"token_uri": "elsewhere"}, "invalid_grant: Audience doesn't match"),
            ({"client_id": "unknown"}, "No associated key found"),
        ],
    )
    def test_a_key_that_is_refused(self, service: Service, changes: dict[str, str], message: str) -> None:
        if "token_uri" in changes:
            changes = {"token_uri": f"{service.url}/other/@@oauth2-token"}
        else:
            words = {"error": "invalid_grant", "error_description": "No associated key found"}
            service.bend = lambda _, __: refusal(400, **words)
        with pytest.raises(AccessDeniedError, match=message):
            client(service, **changes).tasks()
        assert service.count("@data") == 0

    def test_a_burst_of_errors_passes(self, service: Service) -> None:
        service.bend = lambda _, make: refusal(503) if len(service.requests) < 3 else make()
        assert client(service).tasks() == ()

    def test_no_token_endpoint(self, service: Service) -> None:
        with pytest.raises(SourceUnavailableError, match="token_uri"):
            client(service, token_uri=service.url.replace("/clms", "/nothing")).tasks()

    @pytest.mark.parametrize(
        "granted", [{}, {"access_token": ""}, {"access_token": "a\nb"}, {"access_token": "é"}, {"access_token": 7}, []]
    )
    def test_grants_without_a_token(self, service: Service, granted: Any) -> None:
        service.bend = lambda _, __: json_answer(200, granted)
        with pytest.raises(SourceFormatError):
            client(service).tasks()

    @pytest.mark.parametrize("lifetime", [None, "soon", "3600", 3600.5])
    def test_odd_lifetimes(self, service: Service, lifetime: Any) -> None:
        service.good_tokens.add("plain")

        def bend(request: HttpRequest, make: Make) -> Answer:
            if "oauth2" in request.path:
                return json_answer(200, {"access_token": "plain", "expires_in": lifetime})
            return make()

        service.bend = bend
        source = client(service)
        source.tasks()
        source.tasks()
        assert service.count("oauth2") == 1


class TestTasks:
    def test_of_every_kind(self, service: Service) -> None:
        end = "2026-01-08T10:05:00+01:00"
        service.tasks = {
            "1": task("Queued"),
            "2": task("Finished_ok", FinalizationDateTime=end, DownloadURL="https://a.example/1.zip", FileSize=12),
            "3": task("Finished_nok", Message="The disk is full"),
            "4": task("Thinking", RegistrationDateTime="2022-09-29T13:12:37.391919"),
            "5": task("In_progress", [{"DatasetID": UID, "OutputFormat": "Geotiff"}]),
            "6": task("Rejected", [ORDERED, {**ORDERED, "FileID": "another"}], RegistrationDateTime="long ago"),
            "7": task("Cancelled", FileSize="77", Message=None),
            "8": None,
            "9": {"UserID": USER_ID},
            "10": {"Status": "Queued", "Datasets": None},
        }
        tasks = {one.task_id: one for one in client(service).tasks()}
        assert list(tasks) == ["1", "2", "3", "4", "5", "6", "7", "10"]
        states = {key: (one.pending, one.finished, one.failed) for key, one in tasks.items()}
        assert [key for key, state in states.items() if state == (True, False, False)] == ["1", "4", "5", "10"]
        assert [key for key, state in states.items() if state == (False, True, False)] == ["2"]
        assert [key for key, state in states.items() if state == (False, False, True)] == ["3", "6", "7"]
        assert (tasks["1"].dataset_uid, tasks["1"].file_id) == (UID, FILE_ID)
        assert (tasks["5"].dataset_uid, tasks["5"].file_id) == (UID, None)
        assert (tasks["6"].dataset_uid, tasks["6"].file_id, tasks["6"].registered) == (None, None, None)
        assert tasks["2"].finalized == datetime(2026, 1, 8, 9, 5, tzinfo=UTC)
        assert tasks["2"].finalized.utcoffset() is not None
        assert tasks["2"].download_url == "https://a.example/1.zip"
        assert [tasks[key].size for key in ("1", "2", "7")] == [None, 12, 77]
        assert tasks["4"].registered == datetime(2022, 9, 29, 13, 12, 37, 391919, tzinfo=UTC)
        assert [tasks[key].message for key in ("1", "3", "7")] == ["", "The disk is full", ""]

    def test_one(self, service: Service) -> None:
        service.tasks = {"65267487597": task("In_progress")}
        source = client(service)
        assert source.task("65267487597") == source.tasks()[0]
        assert service.requests[1].query == "TaskID=65267487597"

    def test_keyed_by_its_id(self, service: Service) -> None:
        service.tasks = {"7": {"7": task("In_progress")}}
        assert client(service).task("7").status == "In_progress"

    def test_an_unknown_one(self, service: Service) -> None:
        with pytest.raises(DataIdNotFoundError, match=r"task 12.*Error, the task does not exist"):
            client(service).task("12")

    @pytest.mark.parametrize("answer", [b"<html/>", [], {}, b'{"Status": "Que'])
    def test_what_is_no_task(self, service: Service, answer: Any) -> None:
        service.bend = lambda request, make: json_answer(200, answer) if "@data" in request.path else make()
        with pytest.raises(SourceFormatError):
            client(service).task("1")

    def test_recorded(self, service: Service, recorded: Path) -> None:
        """Real tasks: custom ones, with times that name no zone."""
        text = (recorded / "clms/datarequest_search_in_progress.json").read_text(encoding="utf-8")
        service.tasks = json.loads(text)
        (one,) = client(service).tasks()
        assert (one.task_id, one.status, one.pending, one.file_id) == ("2570221043", "In_progress", True, None)
        assert one.registered == datetime(2022, 9, 29, 13, 12, 37, 391919, tzinfo=UTC)
        assert (one.finalized, one.download_url, one.size, one.message) == (None, None, None, "")


class TestOrders:
    def test_an_order(self, service: Service) -> None:
        service.tasks = {"1": task("Finished_ok"), "2": task("Queued")}
        source = client(service)
        made = source.order(source.find(DATA_ID))
        assert made not in {"1", "2"}
        assert source.task(made).pending
        post = next(request for request in service.requests if request.path.endswith("_post"))
        assert post.method == "POST"
        assert json.loads(post.body) == {"Datasets": [ORDERED]}
        assert post.headers["content-type"] == "application/json"

    def test_recorded(self, service: Service, recorded: Path) -> None:
        answer = (recorded / "clms/datarequest_post_201.json").read_bytes()
        source = client(service)
        file = source.find(DATA_ID)
        service.bend = lambda request, make: json_answer(201, answer) if "_post" in request.path else make()
        assert source.order(file) == "65267487597"

    @pytest.mark.parametrize("how", ["500", "cut", "silence", "garbage"])
    def test_a_lost_answer_leads_to_no_second_order(self, service: Service, how: str) -> None:
        service.tasks = {"1": task("Queued"), "2": task("Queued", [{"DatasetID": UID, "FileID": "another"}])}
        source = client(service, replace(QUICK, timeout=0.3))
        file = source.find(DATA_ID)
        posts: list[int] = []

        def bend(request: HttpRequest, make: Make) -> Answer:
            given = make()
            if not request.path.endswith("_post"):
                return given
            posts.append(given.status)
            if how == "silence":
                time.sleep(0.6)
                return given
            if how == "garbage":
                return json_answer(201, b"\xff" * 30)
            return refusal(500, msg="Oh") if how == "500" else replace(given, body=given.body[:9], close=True)

        service.bend = bend
        made = source.order(file)
        assert posts == [201]
        assert set(service.tasks) == {"1", "2", made}

    def test_an_order_that_did_not_arrive_is_made_again(self, service: Service) -> None:
        service.tasks = {"1": task("Queued"), "2": task("Finished_ok")}
        source = client(service)
        file = source.find(DATA_ID)

        def bend(request: HttpRequest, make: Make) -> Answer:
            lost = request.path.endswith("_post") and service.count("_post") < 3
            return refusal(502) if lost else make()

        service.bend = bend
        assert source.order(file) not in {"1", "2"}
        assert service.count("_post") == 3
        assert len(service.tasks) == 3

    def test_an_order_that_arrives_late_is_found(self, service: Service) -> None:
        """The service registers it only after the account's tasks have been asked for it."""
        source = client(service)
        file = source.find(DATA_ID)

        def bend(request: HttpRequest, make: Make) -> Answer:
            if request.path.endswith("_post"):
                return refusal(504)
            if service.count("_post") == 1:
                given = make()
                service.tasks["77"] = task("Queued")
                return given
            return make()

        service.bend = bend
        assert source.order(file) == "77"
        assert service.count("_post") == 1

    def test_the_limits_of_the_policy(self, service: Service) -> None:
        source = client(service)
        file = source.find(DATA_ID)
        service.bend = lambda request, make: (
            refusal(500, status="error", msg="Error, all requests failed") if "_post" in request.path else make()
        )
        with pytest.raises(SourceUnavailableError, match=r"4 attempts.*Error, all requests failed"):
            source.order(file)
        assert service.count("_post") == 4

    def test_refused(self, service: Service) -> None:
        source = client(service)
        file = source.find(DATA_ID)
        service.bend = lambda request, make: (
            refusal(400, status="error", msg="Error, the FileID is not valid") if "_post" in request.path else make()
        )
        with pytest.raises(
            OrderFailedError,
            match=r"FTY_2015.*the FileID is not valid.*http://127\.0\.0\.1:[0-9]+/[^ ]*@datarequest_post",
        ):
            source.order(file)
        assert service.count("_post") == 1

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ({"TaskIds": [], "ErrorTaskIds": [{"TaskID": "1"}]}, OrderFailedError),
            ({"TaskIds": [], "ErrorTaskIds": []}, SourceFormatError),
            ({"TaskIds": [{"TaskID": "1"}, {"TaskID": "2"}]}, SourceFormatError),
            ({"TaskIds": [{}]}, SourceFormatError),
            ({}, SourceFormatError),
        ],
    )
    def test_answers_without_one_task(self, service: Service, answer: Any, error: type[Exception]) -> None:
        source = client(service)
        file = source.find(DATA_ID)
        service.bend = lambda request, make: json_answer(201, answer) if "_post" in request.path else make()
        with pytest.raises(error):
            source.order(file)

    def test_a_number_for_an_id(self, service: Service) -> None:
        source = client(service, RetryPolicy())
        file = source.find(DATA_ID)
        answer = {"TaskIds": [{"TaskID": 12}], "ErrorTaskIds": []}
        service.bend = lambda request, make: json_answer(201, answer) if "_post" in request.path else make()
        assert source.order(file) == "12"

    def test_a_redirected_order_is_not_followed(self, service: Service) -> None:
        source = client(service)
        file = source.find(DATA_ID)
        moved = Answer(307, {"Location": "https://u:p@elsewhere.example/x?k=1"}, b"", 0)
        service.bend = lambda request, make: moved if "_post" in request.path else make()
        with pytest.raises(SourceUnavailableError, match=r"https://elsewhere\.example/x"):
            source.order(file)
