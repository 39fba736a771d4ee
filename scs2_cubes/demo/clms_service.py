"""The embedded CLMS service: search, token endpoint, download queue and deliveries, as one service of the server.

It behaves as the real one is known to behave; where that isn't known (the anonymous 401, an expired link, an assertion
that is no JWT), as Plone and PyJWT would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.clms_answers import RefusedError, json_answer, no_content, plone_refusal, queue_refusal
from scs2_cubes.demo.clms_delivery import Deliveries, archive_answer
from scs2_cubes.demo.clms_listing import Dataset, DownloadableFile, datasets, with_delivery, with_version
from scs2_cubes.demo.clms_orders import custom_entry, json_object, prepackaged_entry, read_order
from scs2_cubes.demo.clms_queue import PENDING, STATUSES, TaskQueue
from scs2_cubes.demo.clms_search import search_answer
from scs2_cubes.demo.clms_tokens import DEFAULT_USER, Tokens
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import ConfigurationError

__all__ = ["API_PATH", "ClmsService"]

_PREFIX: Final = "/clms"
API_PATH: Final = f"{_PREFIX}/api"
_TOKEN_PATH: Final = f"{_PREFIX}/@@oauth2-token"
_RESULTS_PATH: Final = f"{_PREFIX}/results"


class ClmsService:
    """CLMS below ``/clms`` of a server at ``address()``. Answers from several threads at once.

    Behaviour is switched by attributes and methods while the server runs. Nothing is computed before it is asked for.
    """

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._deliveries = Deliveries()
        self._lock = Lock()
        #: The token endpoint; ``tokens.lifetime`` is settable.
        self.tokens = Tokens(lambda: f"{address()}{_TOKEN_PATH}")
        #: The download queue; ``queue.seconds`` and ``queue.naive_dates`` are settable.
        self.queue = TaskQueue(self._deliveries.archive, lambda: f"{address()}{_RESULTS_PATH}")
        #: Whether deliveries can be asked for in parts; that the real server can isn't known.
        self.ranges = True
        #: Whether the machinery behind the queue refuses all orders.
        self.refuse_orders = False

    @property
    def api_url(self) -> str:
        """Address of the API. Raises Scs2CubesError before the server's first start."""
        return f"{self._address()}{API_PATH}"

    @property
    def queue_seconds(self) -> float:
        """Time from an order to its end; it holds for tasks that are pending, too."""
        return self.queue.seconds

    @queue_seconds.setter
    def queue_seconds(self, seconds: float) -> None:
        self.queue.seconds = seconds

    def credentials(self, user_id: str = DEFAULT_USER) -> dict[str, Any]:
        """Service key of a user, as its JSON. Raises Scs2CubesError before the server's first start."""
        return self.tokens.credentials(user_id)

    def write_credentials(self, path: Path, user_id: str = DEFAULT_USER) -> None:
        """Write the service key of a user to ``path``, readable by its owner alone."""
        # Its mode from the beginning: a chmod afterwards leaves a moment in which others can read it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(self.credentials(user_id), file, indent=2)

    def revoke_tokens(self) -> None:
        """Forget all tokens: who shows one is anonymous."""
        self.tokens.revoke()

    def expire_tokens(self) -> None:
        """Let all tokens expire now."""
        self.tokens.expire()

    def next_outcome(self, status: str, message: str = "") -> None:
        """Let the next order end with a status, one of the vocabulary or not. Several calls are for several orders."""
        self.queue.next_outcome(status, message)

    def expire_links(self, status: int = HTTPStatus.NOT_FOUND) -> None:
        """Let the links of all finished tasks answer ``status``; those of later orders work."""
        self.queue.expire_links(status)

    def publish(self, file_name: str, version: str = "V1_2") -> None:
        """List a file with another ``version``: to clients another version under the same data id.

        What is delivered stays, unless :meth:`deliver` plants something else. Raises ConfigurationError where no such
        file is listed.
        """
        self._listed(file_name)
        with self._lock:
            self._datasets = with_version(self._datasets, file_name, version)

    def publish_edition(self, delivery: int = 5) -> None:
        """List that delivery of the forest types of 20 m beside the fourth: another edition, with data ids of its own.

        Nothing changes under the ids that are there. There is nothing behind the new ones but what :meth:`deliver`
        plants.
        """
        with self._lock:
            self._datasets = with_delivery(self._datasets, delivery)

    def deliver(self, file_name: str, path: Path) -> None:
        """Deliver the archive at ``path`` for orders of a file, as it is.

        Raises ConfigurationError where no such file is listed or no archive lies there.
        """
        self._listed(file_name)
        self._deliveries.plant(file_name, path)

    def add_old_task(self, file_name: str, hours: float = 100.0, user_id: str = DEFAULT_USER) -> str:
        """Register a task for a file that ended that long ago, whose link still works; return its TaskID.

        Raises ConfigurationError where no such file is listed.
        """
        dataset, file = self._listed(file_name)
        return self.queue.add_finished(user_id, [prepackaged_entry(dataset, file)], [file_name], hours * 3600)

    def add_custom_task(self, user_id: str = DEFAULT_USER) -> str:
        """Register an order by area, which has no FileID; return its TaskID. It ends as any order does."""
        wishes = {"BoundingBox": [-1.2, 44.0, -1.0, 44.2]}
        return self.queue.order(user_id, [custom_entry(self._datasets[-1], wishes)], [])

    def answer(self, request: HttpRequest) -> Answer | None:
        if not request.path.startswith(f"{_PREFIX}/"):
            return None
        try:
            return self._granted(request)
        except RefusedError as refused:
            return refused.answer

    def _granted(self, request: HttpRequest) -> Answer:
        if request.path == _TOKEN_PATH:
            return self.tokens.grant(request)
        if request.path.startswith(f"{_RESULTS_PATH}/"):
            return self._result(request)
        if "application/json" not in request.headers.get("accept", ""):
            # Plone takes it for a page's address then, and has none there.
            body = b"<!DOCTYPE html><title>Not Found</title>"
            return Answer(HTTPStatus.NOT_FOUND, {"Content-Type": "text/html;charset=utf-8"}, body, len(body))
        user_id = self.tokens.user(request.headers)
        endpoint = request.path.removeprefix(f"{API_PATH}/").rstrip("/")
        if (request.method, endpoint) == ("GET", "@search"):
            url = f"{self._address()}{request.path}"
            return search_answer(self._datasets, url, self.api_url, request.query)
        endpoints: dict[tuple[str, str], Callable[[str, HttpRequest], Answer]] = {
            ("POST", "@datarequest_post"): self._post,
            ("GET", "@datarequest_search"): self._tasks,
            ("GET", "@datarequest_status_get"): self._task,
            ("DELETE", "@datarequest_delete"): self._delete,
        }
        act = endpoints.get((request.method, endpoint))
        if act is None:
            raise plone_refusal(HTTPStatus.NOT_FOUND, "NotFound", f"Resource not found: {request.path}")
        if user_id is None:
            text = "You are not authorized to access this resource."
            raise plone_refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized", text)
        return act(user_id, request)

    def _post(self, user_id: str, request: HttpRequest) -> Answer:
        tasks = self.queue.documents(user_id).values()
        pending = [entry for task in tasks if task["Status"] in PENDING for entry in task["Datasets"]]
        order = read_order(request.body, self._datasets, pending)
        if self.refuse_orders:
            raise queue_refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Error, all requests failed")
        # All prepackaged files of an order are one task, all others a second one.
        both = ((order.prepackaged, order.file_names), (order.custom, ()))
        ids = [self.queue.order(user_id, entries, names) for entries, names in both if entries]
        return json_answer(
            HTTPStatus.CREATED, {"TaskIds": [{"TaskID": task_id} for task_id in ids], "ErrorTaskIds": []}
        )

    def _tasks(self, user_id: str, request: HttpRequest) -> Answer:
        status = parse_qs(request.query).get("status", [None])[0]
        if status is not None and status not in STATUSES:
            raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, status not recognized")
        return json_answer(HTTPStatus.OK, self.queue.documents(user_id, status))

    def _task(self, user_id: str, request: HttpRequest) -> Answer:
        task_id = parse_qs(request.query).get("TaskID", [None])[0]
        if task_id is None:
            raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, TaskID not defined")
        task = self.queue.documents(user_id).get(task_id)
        if task is None:
            raise queue_refusal(HTTPStatus.NOT_FOUND, "Error, the task does not exist")
        return json_answer(HTTPStatus.OK, task)

    def _delete(self, user_id: str, request: HttpRequest) -> Answer:
        task_id = str(json_object(request.body).get("TaskID", ""))
        owner = self.queue.owner(task_id)
        # The codes are this way round in the real service.
        if owner is None:
            raise queue_refusal(HTTPStatus.FORBIDDEN, "Error, TaskID not registered")
        if owner != user_id:
            raise queue_refusal(HTTPStatus.NOT_FOUND, "Error, permission denied")
        self.queue.cancel(task_id)
        return no_content()

    def _result(self, request: HttpRequest) -> Answer:
        found = self.queue.delivery(request.path.removeprefix(f"{_RESULTS_PATH}/"))
        if found is None or isinstance(found, int):
            status = HTTPStatus.NOT_FOUND if found is None else found
            body = b"<!DOCTYPE html><title>The file is not available</title>"
            return Answer(status, {"Content-Type": "text/html"}, body, len(body))
        if request.method != "GET":
            raise plone_refusal(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "Only GET and HEAD are allowed")
        return archive_answer(found, request.headers, ranges=self.ranges)

    @cached_property
    def _datasets(self) -> tuple[Dataset, ...]:
        return datasets()

    def _listed(self, file_name: str) -> tuple[Dataset, DownloadableFile]:
        for dataset in self._datasets:
            for file in dataset.files:
                if file_name and file.name == file_name:
                    return dataset, file
        raise ConfigurationError(
            f"the embedded CLMS service lists no file {file_name!r}: choose one under downloadable_files of its search"
        )
