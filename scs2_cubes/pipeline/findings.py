"""What blocking checks have found, kept beside the cube: a wrong partition stays so until it's looked at again.

Its records say that its tiles are done, which is true; without this the next run would call it current. What a run
mends by itself isn't kept, and neither is what is wrong with the configuration: a cube that is stale, or not finished,
or not this configuration's isn't a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scs2_cubes.core.checks import Verdict
from scs2_cubes.storage import CubeStore

__all__ = ["note_verdicts", "noted_findings", "noted_partitions"]

_FOLDER = "wrong"


def note_verdicts(
    store: CubeStore, partition: str, verdicts: Iterable[Verdict], *, data_version: str
) -> Mapping[str, str]:
    """Keep what is wrong with the stored ``partition``, or remove the note where nothing is.

    ``data_version`` is that of the plan by which it was judged. Where the checks of the values couldn't be judged, an
    older note stays. Returns check → what it found, of all that block, those that aren't kept included. Nothing is
    written beside a cube that isn't there. Raises StorageError.
    """
    blocking = [verdict for verdict in verdicts if verdict.blocks]
    lasting = {verdict.check: verdict.text for verdict in blocking if verdict.lasts}
    if lasting and store.exists():
        store.write_document(_document(partition), {"data_version": data_version, "found": lasting})
    elif not lasting and all(verdict.is_judged for verdict in blocking):
        store.remove_document(_document(partition))
    return {verdict.check: verdict.text for verdict in blocking}


def noted_findings(store: CubeStore, partition: str, data_version: str | None = None) -> Mapping[str, str]:
    """Check → what it found when ``partition`` was last looked at; empty where nothing is wrong.

    ``data_version``: only what was judged at this version; None: at whichever. Raises StorageError.
    """
    note = store.read_document(_document(partition)) or {}
    if data_version is not None and note.get("data_version") != data_version:
        return {}
    found: Mapping[str, str] = note.get("found", {})
    return found


def noted_partitions(store: CubeStore) -> list[str]:
    """Keys of the partitions of which something is noted. Lists the notes, and reads none. Raises StorageError."""
    return [name.removeprefix(f"{_FOLDER}/").removesuffix(".json") for name in store.documents(_FOLDER)]


def _document(partition: str) -> str:
    return f"{_FOLDER}/{partition}.json"
