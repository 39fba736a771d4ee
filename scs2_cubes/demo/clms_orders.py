"""Orders of the embedded CLMS service: what may be ordered, and what becomes of it in the queue."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from scs2_cubes.demo.clms_answers import plone_refusal, queue_refusal
from scs2_cubes.demo.clms_listing import Dataset, DownloadableFile

__all__ = ["Order", "custom_entry", "json_object", "prepackaged_entry", "read_order"]

_MAX_CUSTOM: Final = 5
#: Keys that make an order one by area, and those that two equal ones have in common.
_AREAS: Final = ("BoundingBox", "NUTS")
_SAME: Final = ("DatasetID", "BoundingBox", "NUTSID", "TemporalFilter", "OutputFormat", "OutputGCS")


@dataclass(frozen=True, slots=True)
class Order:
    """An order that can be carried out."""

    prepackaged: tuple[Mapping[str, Any], ...]
    """Entries of prepackaged files, as they stand in the task."""
    file_names: tuple[str, ...]
    """Names of these files; empty strings for files whose entries have none."""
    custom: tuple[Mapping[str, Any], ...]
    """Entries by area, as they stand in the task."""


def read_order(body: bytes, datasets: Sequence[Dataset], pending: Sequence[Mapping[str, Any]]) -> Order:
    """Read the body of an order, where ``pending`` are the entries of the user's tasks that haven't ended.

    Raises RefusedError for what can't be ordered, in the words of the real service.
    """
    entries = json_object(body).get("Datasets")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, DatasetID is not defined")
    known = {dataset.uid: dataset for dataset in datasets}
    prepackaged: list[tuple[Mapping[str, Any], str]] = []
    custom: list[Mapping[str, Any]] = []
    for entry in entries:
        dataset = _dataset(entry, known)
        if "FileID" in entry:
            file = _file(entry, dataset)
            prepackaged.append((prepackaged_entry(dataset, file), file.name))
        else:
            custom.append(_custom(entry, dataset))
    _limit(custom, pending)
    return Order(tuple(entry for entry, _ in prepackaged), tuple(name for _, name in prepackaged), tuple(custom))


def json_object(body: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises RefusedError where it isn't."""
    try:
        document = json.loads(body or b"{}")
    except ValueError as error:
        raise plone_refusal(HTTPStatus.BAD_REQUEST, "DeserializationError", str(error)) from error
    if not isinstance(document, dict):
        raise plone_refusal(HTTPStatus.BAD_REQUEST, "DeserializationError", "Malformed body")
    return document


def prepackaged_entry(dataset: Dataset, file: DownloadableFile) -> dict[str, Any]:
    """A prepackaged file as it stands among the ``Datasets`` of a task."""
    return {
        "DatasetID": dataset.uid,
        "DatasetTitle": dataset.title,
        "FileStructure": "",
        "FileID": file.file_id,
        "DatasetPath": "",
        "FilePath": base64.urlsafe_b64encode(file.document["path"].encode()).decode("ascii"),
        "DatasetSource": file.document["source"],
    }


def custom_entry(dataset: Dataset, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """An order by area as it stands among the ``Datasets`` of a task: it has no ``FileID``.

    ``wishes`` are the order's own keys, of which the area's name changes from ``NUTS`` to ``NUTSID``.
    """
    full_format = dataset.full_format
    default = full_format if isinstance(full_format, str) else full_format["token"]
    entry = {
        "DatasetFormat": default,
        "DatasetID": dataset.uid,
        "DatasetPath": base64.urlsafe_b64encode(f"demonstration/{dataset.identifier}".encode()).decode("ascii"),
        "DatasetSource": dataset.source,
        "DatasetTitle": dataset.title,
        "Metadata": [],
        "OutputFormat": wishes.get("OutputFormat", default),
        "OutputGCS": wishes.get("OutputGCS", dataset.crs),
        "WekeoChoices": "",
    }
    area = {"NUTSID": wishes["NUTS"]} if "NUTS" in wishes else {}
    return entry | area | {key: wishes[key] for key in ("BoundingBox", "TemporalFilter") if key in wishes}


def _dataset(entry: Mapping[str, Any], known: Mapping[str, Dataset]) -> Dataset:
    if not entry.get("DatasetID"):
        raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, DatasetID is not defined")
    dataset = known.get(str(entry["DatasetID"]))
    if dataset is None:
        raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, the DatasetID is not valid")
    return dataset


def _file(entry: Mapping[str, Any], dataset: Dataset) -> DownloadableFile:
    file = next((file for file in dataset.files if file.file_id == entry["FileID"]), None)
    if file is None or not file.can_be_ordered:
        raise queue_refusal(HTTPStatus.BAD_REQUEST, "Error, the FileID is not valid")
    return file


def _custom(entry: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    if dataset.source == "EEA" and not any(area in entry for area in _AREAS):
        raise queue_refusal(
            HTTPStatus.BAD_REQUEST,
            "Error, the whole dataset can't be requested without an area: choose files of its pre-packaged data "
            "collection",
        )
    return custom_entry(dataset, entry)


def _limit(custom: Sequence[Mapping[str, Any]], pending: Sequence[Mapping[str, Any]]) -> None:
    """Both limits hold for orders by area alone, never for prepackaged files."""
    if len(custom) > _MAX_CUSTOM:
        raise queue_refusal(
            HTTPStatus.BAD_REQUEST,
            "The download queue can only process 5 items at a time. Please try again with fewer items.",
        )
    wanted = [_signature(entry) for entry in (*custom, *(entry for entry in pending if "FileID" not in entry))]
    if any(_signature(entry) in wanted[:i] + wanted[i + 1 :] for i, entry in enumerate(custom)):
        raise queue_refusal(
            HTTPStatus.BAD_REQUEST,
            "You have requested to download the same thing at least twice. Please look into your download queue.",
        )


def _signature(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(json.dumps(entry.get(key), sort_keys=True) for key in _SAME)
