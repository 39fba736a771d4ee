"""Client of the Copernicus Land Monitoring Service: what it offers, and orders of it.

The service's API is Plone's. Searching is anonymous; ordering and looking after orders needs a token. What is ordered
is delivered as an archive after a while: waiting, downloading and caching are ``preload``'s business.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import tenacity

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import (
    AccessDeniedError,
    ConfigurationError,
    DataIdNotFoundError,
    OrderFailedError,
    SourceFormatError,
    redact,
)
from scs2_cubes.sources.clms_offers import EDITION, EEA, OfferedDataset, OfferedFile, read_dataset
from scs2_cubes.sources.clms_tasks import Task, read_task, read_tasks
from scs2_cubes.sources.clms_tokens import Token, TokenKeeper, is_inline
from scs2_cubes.sources.editions import newer_data_ids
from scs2_cubes.sources.http import (
    Answer,
    Documents,
    Request,
    TransientAnswerError,
    json_object,
    linked_address,
    reported_reason,
    retry_arguments,
)
from scs2_cubes.sources.missing import nearest_hint

__all__ = ["ClmsSource", "OfferedFile", "Task"]

_LOGGER = logging.getLogger(__name__)

_JSON = {"Accept": "application/json"}
#: Twenty times as many pages as the service has.
_MAX_PAGES = 200
_UNAUTHORISED = frozenset({HTTPStatus.UNAUTHORIZED})
#: Answers to an order that are about what is ordered.
_REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})


@dataclass(frozen=True)
class ClmsSource:
    """Client for the service at ``api_url``; data ids are ``<product>|<file>``, with or without ``.zarr`` at the end.

    Safe to share between threads. A copy that was sent to another process asks for a token of its own; a key that
    stood in the configuration itself, not in a file, isn't sent along.
    """

    store: StoreSpec
    documents: Documents
    tokens: TokenKeeper

    @classmethod
    def open(cls, store: StoreSpec) -> ClmsSource:
        """Client for ``store``, whose parameters are ``credentials`` and ``api_url``. No I/O.

        Raises ConfigurationError where ``api_url`` isn't an http(s) address; its default is the configuration's matter.
        """
        url = store.params.get("api_url")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise ConfigurationError(f"data store {store.identifier!r}: store_params.api_url isn't an http(s) address")
        documents = Documents(store.retry, store.href_rewrite)
        return cls(store, documents, TokenKeeper(store, documents))

    def __reduce__(self) -> tuple[Any, ...]:
        params = dict(self.store.params)
        if is_inline(params.get("credentials")):
            params.pop("credentials", None)
        return ClmsSource.open, (replace(self.store, params=params),)

    @property
    def url(self) -> str:
        """Address of the API, as configured, without a slash at its end."""
        return str(self.store.params["api_url"]).rstrip("/")

    def data_ids(self) -> Iterator[str]:
        """Every GeoTIFF that can be ordered: one request for each page of the search, without credentials.

        Raises SourceFormatError where a page can't be understood, or what asking for one raised.
        """
        for dataset in self._datasets():
            for file in dataset.files():
                yield file.data_id

    def probe(self, data_id: str) -> str:
        """Fingerprint of what the service says about the file's content. Raises as :meth:`find` does."""
        return self.find(data_id).version

    def newer_editions(self, data_id: str) -> tuple[str, ...]:
        """Later deliveries of the same file in the same dataset: a search, as :meth:`probe` makes.

        Spelt as ``data_id`` is: with ``.zarr`` at the end where that has it.

        A delivery (``d05`` beside ``d04``) or version (``V1_2`` beside ``V1_1``) is part of a file's name; what else
        is in it must be the same. Another reference year isn't an edition: it is another map, of another state of the
        land, and those who chose 2015 don't want 2018. Nor is another block, or another resolution. Raises as
        :meth:`find` does.
        """
        found, dataset = self._search(data_id)
        newer = newer_data_ids(found.data_id, (file.data_id for file in dataset.files()), EDITION)
        return tuple(f"{other}{data_id.removeprefix(found.data_id)}" for other in newer)

    def find(self, data_id: str) -> OfferedFile:
        """What is offered under ``data_id``: a walk through the search, without credentials.

        Raises DataIdNotFoundError, naming the nearest ids, the format that it is offered in, or the provider that
        serves it instead; SourceFormatError where several different files have the id or a page can't be understood;
        or what asking for a page raised.
        """
        return self._search(data_id)[0]

    def _search(self, data_id: str) -> tuple[OfferedFile, OfferedDataset]:
        """The file, and the dataset that has it. Asks for no page behind that one."""
        wanted = data_id.removesuffix(".zarr")
        product = wanted.partition("|")[0]
        namesakes: list[OfferedDataset] = []
        known: list[str] = []
        for dataset in self._datasets():
            files = list(dataset.files())
            matches = [file for file in files if file.data_id == wanted]
            if matches:
                return self._only(matches), dataset
            if dataset.product == product:
                namesakes.append(dataset)
            known.extend(file.data_id for file in files)
        raise self._not_found(wanted, namesakes, known)

    def public_href(self, data_id: str) -> str:
        """Address of the search for the product of ``data_id``, without secrets. No I/O."""
        product = data_id.partition("|")[0]
        return f"{redact(self.url)}/@search?{urlencode({'portal_type': 'DataSet', 'id': product})}"

    def tasks(self) -> tuple[Task, ...]:
        """Every order of this account, the expired ones and those that weren't made here among them: one request.

        Raises ConfigurationError where the credentials can't be used, AccessDeniedError, SourceFormatError, or
        SourceUnavailableError after retries.
        """
        answer = self._authorised(Request(f"{self.url}/@datarequest_search", headers=_JSON))
        return read_tasks(json_object(answer))

    def task(self, task_id: str) -> Task:
        """The order ``task_id`` as it is now: one request.

        Raises DataIdNotFoundError where the service doesn't know it, and otherwise as :meth:`tasks` does.
        """
        url = f"{self.url}/@datarequest_status_get?{urlencode({'TaskID': task_id})}"
        try:
            answer = self._authorised(Request(url, headers=_JSON))
        except DataIdNotFoundError as error:
            raise DataIdNotFoundError(f"there is no task {task_id}: {error.args[0]}", url=url) from error
        document = json_object(answer)
        task = read_task(task_id, document.get(task_id, document))
        if task is None:
            raise SourceFormatError(f"the answer about task {task_id} has no 'Status'", url=url)
        return task

    def order(self, file: OfferedFile) -> str:
        """Order ``file`` and return the task's id. Doesn't look whether it has been ordered before.

        An order whose answer is lost on the way isn't repeated before the account's tasks have been asked for it.
        Raises OrderFailedError where the service refuses the order, and otherwise as :meth:`tasks` does.
        """
        earlier = frozenset(task.task_id for task in self.tasks())
        retrying = tenacity.Retrying(**retry_arguments(self.store.retry, self._order_url))
        task_id: str = retrying(self._order_once, file, earlier, itertools.count())
        return task_id

    @property
    def _order_url(self) -> str:
        return f"{self.url}/@datarequest_post"

    def _order_once(self, file: OfferedFile, earlier: frozenset[str], attempts: Iterator[int]) -> str:
        # An attempt whose answer came too late may have been accepted since it was given up.
        if next(attempts) > 0 and (task_id := self._arrived(file, earlier)):
            return task_id
        body = json.dumps({"Datasets": [{"DatasetID": file.dataset_uid, "FileID": file.file_id}]}).encode()
        headers = {**_JSON, "Content-Type": "application/json"}
        request = Request(self._order_url, "POST", headers, body, accepted=_REFUSALS)
        try:
            return _task_id(self._authorised(request, once=True), file)
        except (TransientAnswerError, SourceFormatError) as error:
            _LOGGER.warning("the answer to the order of %s is lost (%s); looking for its task", file.data_id, error)
            task_id = self._arrived(file, earlier)
            if task_id is None:
                raise
            return task_id

    def _arrived(self, file: OfferedFile, earlier: frozenset[str]) -> str | None:
        """The task of ``file`` that isn't among the ``earlier`` ones."""
        wanted = (file.dataset_uid, file.file_id)
        for task in self.tasks():
            if task.task_id not in earlier and (task.dataset_uid, task.file_id) == wanted:
                return task.task_id
        return None

    def _authorised(self, request: Request, *, once: bool = False) -> Answer:
        """Send with a token; after a 401 a second time, with a new one. ``once`` leaves retries to the caller."""
        send = self.documents.send_once if once else self.documents.send
        token = self.tokens.token()
        answer = send(_with_token(request, token))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            token = self.tokens.token(rejected=token)
            answer = send(_with_token(request, token))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            reason = reported_reason(answer) or "it gives no reason"
            raise AccessDeniedError(
                f"HTTP 401: the service of data store {self.store.identifier!r} accepts the service key, but not the "
                f"token that it has just granted: {reason}",
                url=answer.url,
            )
        return answer

    def _datasets(self) -> Iterator[OfferedDataset]:
        """Every dataset of the search, page after page."""
        url: str | None = f"{self.url}/@search/?{urlencode({'portal_type': 'DataSet', 'fullobjects': '1'})}"
        asked: set[str] = set()
        while url is not None:
            if url in asked or len(asked) >= _MAX_PAGES:
                raise SourceFormatError(
                    f"the search doesn't come to an end: after {len(asked)} pages it leads on to one that was there "
                    f"before, or there are more than {_MAX_PAGES}",
                    url=url,
                )
            asked.add(url)
            page = json_object(self.documents.send(Request(url, headers=_JSON)))
            items = page.get("items")
            if not isinstance(items, list):
                raise SourceFormatError("a page of the search has no list 'items'", url=url)
            yield from (read_dataset(item) for item in items if isinstance(item, dict))
            url = _next_page(page, url)

    def _only(self, matches: list[OfferedFile]) -> OfferedFile:
        first = matches[0]
        versions = {file.version for file in matches}
        if len(versions) > 1:
            raise SourceFormatError(
                f"data_id {first.data_id!r} means {len(versions)} different files of dataset {first.title!r}",
                url=first.href,
            )
        if not first.dataset_uid or not first.file_id:
            raise SourceFormatError(
                f"data_id {first.data_id!r} can't be ordered, because its item has no 'UID' or its file no '@id'",
                url=first.href,
            )
        return first

    def _not_found(self, wanted: str, namesakes: list[OfferedDataset], known: list[str]) -> DataIdNotFoundError:
        product, _, file = wanted.partition("|")
        start = f"store {self.store.identifier!r} has no data_id {wanted!r}"
        for dataset in namesakes:
            if dataset.provider != EEA:
                provider = dataset.provider or "nobody that it names"
                return DataIdNotFoundError(
                    f"{start}: dataset {dataset.title!r} is served by {provider}; only files of {EEA} can be ordered",
                    url=dataset.href,
                )
            if formats := dataset.other_formats(file):
                return DataIdNotFoundError(
                    f"{start}: that file is offered as {', '.join(formats)}, and only GeoTIFFs can be read",
                    url=dataset.href,
                )
        near = [data_id for data_id in known if data_id.partition("|")[0] == product] or known
        return DataIdNotFoundError(f"{start}{nearest_hint(wanted, near)}", url=self.url)


def _with_token(request: Request, token: Token) -> Request:
    return replace(
        request,
        headers={**request.headers, "Authorization": f"Bearer {token.value}"},
        secrets=(*request.secrets, token.value),
        accepted=request.accepted | _UNAUTHORISED,
    )


def _next_page(page: dict[str, Any], url: str) -> str | None:
    batching = page.get("batching")
    following = batching.get("next") if isinstance(batching, dict) else None
    if not following:
        return None
    return linked_address(following, url, "'batching.next' of a page of the search")


def _task_id(answer: Answer, file: OfferedFile) -> str:
    """The id of the one task that an order of one file makes."""
    if answer.status in _REFUSALS:
        raise _refused(file, answer, reported_reason(answer) or f"HTTP {answer.status}")
    document = json_object(answer)
    made, refused = document.get("TaskIds"), document.get("ErrorTaskIds")
    if not made and refused:
        raise _refused(file, answer, "it is listed under ErrorTaskIds")
    entry = made[0] if isinstance(made, list) and len(made) == 1 else None
    task_id = entry.get("TaskID") if isinstance(entry, dict) else None
    if not isinstance(task_id, str | int) or not str(task_id):
        raise SourceFormatError(f"the answer to the order of {file.data_id} doesn't name one task", url=answer.url)
    return str(task_id)


def _refused(file: OfferedFile, answer: Answer, reason: str) -> OrderFailedError:
    return OrderFailedError(f"the service refuses the order of {file.data_id}: {reason} [{redact(answer.url)}]")
