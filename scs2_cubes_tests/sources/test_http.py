from __future__ import annotations

import logging
import random
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import tenacity

from scs2_cubes.core.native import Location, RetryPolicy
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.demo.faults import CutBody, Delay, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import AccessDeniedError, DataIdNotFoundError, SourceUnavailableError
from scs2_cubes.report.retries import OncePerWait, retries_told_once
from scs2_cubes.sources.http import (
    Documents,
    TransientAnswerError,
    is_local,
    local_path,
    refuse_status,
    retry_after_seconds,
    retry_arguments,
    rewrite,
)
from scs2_cubes_tests.sources.worlds import QUICK

NOW = 1_700_000_000.0


def documents(**changes: float) -> Documents:
    policy = {field: getattr(QUICK, field) for field in QUICK.__slots__}
    return Documents(RetryPolicy(**{**policy, **changes}))


class TestTelling:
    def test_a_retry_says_which_attempt_it_was_and_when_it_ends(
        self, demo_server: DemoServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        demo_server.faults.add(Status(503), times=4)
        documents(max_attempts=7, deadline=30).get(demo_server.catalogue_url)
        said = [record.getMessage() for record in caplog.records]
        # The first failure is nobody's business.
        assert len(said) == 3
        for number, line in enumerate(said, 2):
            assert line.startswith(f"{demo_server.catalogue_url}: HTTP 503")
            how = rf"; attempt {number} of 7 failed after \d+ s, asking again in 0\.\d s, giving up after 30 s"
            assert re.search(f"{how}$", line), line

    def test_one_line_for_each_wait_and_host(self, demo_server: DemoServer, caplog: pytest.LogCaptureFixture) -> None:
        demo_server.faults.add(Status(503), times=4)
        asked = documents(max_attempts=7, deadline=30)
        with retries_told_once():
            asked.get(demo_server.catalogue_url)
        assert len(caplog.records) == 1
        demo_server.faults.add(Status(503), times=4)
        asked.get(demo_server.catalogue_url)
        assert len(caplog.records) == 1 + 3, "the filter has outlived its block"

    def test_hosts_and_waits_are_kept_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("scs2_cubes.report.retries.time.monotonic", lambda: now)
        once = OncePerWait()

        def passes(host: str | None, wait: float) -> bool:
            record = logging.LogRecord("a", logging.WARNING, "", 0, "text", None, None)
            if host is not None:
                record.__dict__.update(host=host, wait=wait)
            return once.filter(record)

        assert [passes("one", 8.0), passes("two", 0.0), passes(None, 0.0)] == [True, True, True]
        assert not passes("one", 4.0)
        now = 0.9
        assert [passes("one", 4.0), passes("two", 0.0), passes(None, 0.0)] == [False, False, True]
        now = 1.0
        assert [passes("one", 4.0), passes("two", 0.0)] == [False, True]
        now = 8.0
        assert passes("one", 4.0)


class TestAnswers:
    def test_a_burst_passes(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(503), times=3)
        assert b"EOForestSTAC" in documents().get(demo_server.catalogue_url)
        assert [request.status for request in demo_server.requests.entries()] == [503, 503, 503, 200]

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_asked_again(self, demo_server: DemoServer, status: int) -> None:
        demo_server.faults.add(Status(status), times=1)
        documents().get(demo_server.catalogue_url)
        assert demo_server.requests.count() == 2

    @pytest.mark.parametrize("status", [401, 403])
    def test_denied_at_once(self, demo_server: DemoServer, status: int) -> None:
        demo_server.faults.add(Status(status))
        with pytest.raises(AccessDeniedError, match=f"HTTP {status}") as refused:
            documents().get(demo_server.catalogue_url)
        assert refused.value.url == demo_server.catalogue_url
        assert demo_server.requests.count() == 1

    def test_a_hint_is_the_caller_s(self, demo_server: DemoServer) -> None:
        """A document isn't a bucket, and no tiles are made of it."""
        demo_server.faults.add(Status(403), times=1)
        demo_server.faults.add(Status(503))
        for error in (AccessDeniedError, SourceUnavailableError):
            with pytest.raises(error) as refused:
                documents().get(demo_server.catalogue_url)
            assert "bucket" not in str(refused.value)
            assert "tiles" not in str(refused.value)
        with pytest.raises(AccessDeniedError, match="order it anew"):
            refuse_status(403, {}, "http://host.example", hint="order it anew")

    @pytest.mark.parametrize("status", [404, 410])
    def test_missing_at_once(self, demo_server: DemoServer, status: int) -> None:
        demo_server.faults.add(Status(status))
        with pytest.raises(DataIdNotFoundError, match=f"HTTP {status}"):
            documents().get(demo_server.catalogue_url)
        assert demo_server.requests.count() == 1

    def test_other_refusals_at_once(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(400))
        with pytest.raises(SourceUnavailableError, match="HTTP 400"):
            documents().get(demo_server.catalogue_url)
        assert demo_server.requests.count() == 1

    def test_a_cut_body_is_asked_for_again(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(CutBody(0.5), times=2)
        assert documents().get(demo_server.catalogue_url).rstrip().endswith(b"}")
        assert demo_server.requests.count() == 3

    def test_a_silent_server_is_asked_again(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Delay(5), times=1)
        started = time.monotonic()
        documents(timeout=0.2).get(demo_server.catalogue_url)
        assert time.monotonic() - started < 3

    def test_a_stopped_server(self, demo_server: DemoServer) -> None:
        url = demo_server.catalogue_url
        demo_server.stop()
        with pytest.raises(SourceUnavailableError, match="4 attempts") as refused:
            documents().get(url)
        assert refused.value.url == url


class TestLimits:
    def test_attempts(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(503))
        with pytest.raises(SourceUnavailableError, match=r"after 4 attempts .* last: HTTP 503"):
            documents().get(demo_server.catalogue_url)
        assert demo_server.requests.count() == 4

    def test_deadline(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(503))
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="HTTP 503"):
            documents(deadline=0.3, max_attempts=10_000).get(demo_server.catalogue_url)
        assert time.monotonic() - started < 2
        assert demo_server.requests.count() > 4

    def test_waits_double_with_full_jitter(self) -> None:
        random.seed(5)
        policy = RetryPolicy(initial_wait=0.5, max_wait=3.0)
        wait = retry_arguments(policy, "http://host.example")["wait"]
        for attempt in range(1, 8):
            state = failed_attempt(attempt)
            waits = [wait(state) for _ in range(300)]
            bound = min(3.0, 0.5 * 2 ** (attempt - 1))
            assert 0 <= min(waits) < 0.1 * bound
            assert 0.9 * bound < max(waits) <= bound


def failed_attempt(number: int, retry_after: float | None = None) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = number
    state.outcome = tenacity.Future(number)
    state.outcome.set_exception(TransientAnswerError("HTTP 503", retry_after))
    return state


class TestRetryAfter:
    def test_a_server_that_asks_for_patience_gets_it(self) -> None:
        wait = retry_arguments(RetryPolicy(max_wait=0.1), "http://host.example")["wait"]
        assert wait(failed_attempt(1, retry_after=42.0)) == 42.0

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_in_both_forms(self, demo_server: DemoServer, form: str) -> None:
        # A date has whole seconds, so two seconds ahead mean at least one.
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        demo_server.faults.add(Status(429, retry_after="1" if form == "seconds" else date), times=1)
        started = time.monotonic()
        documents().get(demo_server.catalogue_url)
        assert 0.95 <= time.monotonic() - started < 5
        assert demo_server.requests.count() == 2

    def test_beyond_the_deadline_nobody_waits(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(429, retry_after="3600"))
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="3600 s"):
            documents().get(demo_server.catalogue_url)
        assert time.monotonic() - started < 2
        assert demo_server.requests.count() == 1

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (None, None),
            ("120", 120.0),
            (" 7 ", 7.0),
            ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
            # The obsolete forms of RFC 9110, 5.6.7.
            ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
            ("Tue Nov 14 22:13:50 2023", 30.0),
            ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
            ("soon", None),
            ("-3", None),
            ("²", None),
            ("", None),
        ],
    )
    def test_reading(self, value: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        try:
            assert retry_after_seconds(value, NOW) == seconds
        finally:
            monkeypatch.undo()
            time.tzset()


class TestAddresses:
    def test_rewriting_takes_the_first_prefix(self) -> None:
        prefixes = [("https://host.example/deep/", "http://near.example/"), ("https://host.example/", "/disk/")]
        assert rewrite("https://host.example/deep/a", prefixes) == "http://near.example/a"
        assert rewrite("https://host.example/a", prefixes) == "/disk/a"
        assert rewrite("https://other.example/a", prefixes) == "https://other.example/a"

    def test_documents_are_asked_for_at_the_new_address(self, demo_server: DemoServer) -> None:
        elsewhere = demo_server.catalogue_url.replace(demo_server.url, "https://s3.gfz-potsdam.de")
        rewriting = Documents(QUICK, tuple(demo_server.href_rewrite.items()))
        assert b"EOForestSTAC" in rewriting.get(elsewhere)

    def test_local_addresses(self, tmp_path: Path) -> None:
        file = tmp_path / "a b.json"
        file.write_bytes(b"here")
        for url in (str(file), f"file://{tmp_path}/a%20b.json"):
            assert is_local(url)
            assert local_path(url) == file
            assert documents().get(url) == b"here"
        assert not is_local("s3://bucket/key")
        with pytest.raises(DataIdNotFoundError, match="no such file"):
            documents().get(str(tmp_path / "nothing"))

    def test_what_is_no_address_is_refused_at_once(self) -> None:
        started = time.monotonic()
        for url in ("ftp://host.example/a", "http://"):
            with pytest.raises(SourceUnavailableError):
                documents(initial_wait=5.0, max_wait=5.0).get(url)
        assert time.monotonic() - started < 1


def test_descriptions_for_people_hold_no_options() -> None:
    secret = {"key": "hunter2"}
    for value in (Location("s3://a", secret), StorageSpec("s3://a", secret), StoreSpec("a", "stac", secret)):
        assert "hunter2" not in repr(value)
        assert "hunter2" not in str(value)
