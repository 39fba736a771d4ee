"""The form of data ids, as far as it can be told without asking anybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.core.data_ids import CCI_PARTS

__all__ = ["report_data_id"]


def report_data_id(store_id: str, data_id: str, path: KeyPath, problems: Problems) -> None:
    """Report a ``data_id`` that no store with ``store_id`` can have; whether one has it only they know. No I/O."""
    misfit = _FORMS.get(store_id)
    text = misfit(data_id) if misfit else ""
    if text:
        problems.add(path, f"{problems.shown(path)} can't be a data id of a {store_id} store: {text}")


def _clms(data_id: str) -> str:
    parts = data_id.removesuffix(".zarr").split("|")
    if len(parts) == 2 and all(part.strip() for part in parts):  # noqa: PLR2004  (product and file)
        return ""
    return "it should be <product>|<file>, such as forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"


def _cci(data_id: str) -> str:
    # After ~ stands a part of the files' addresses.
    parts = data_id.partition("~")[0].split(".")
    if len(parts) != len(CCI_PARTS):
        problem = f"it has {len(parts)} of {len(CCI_PARTS)} parts"
    elif parts[0] != CCI_PARTS[0]:
        problem = f"its first part isn't {CCI_PARTS[0]}"
    else:
        empty = [name for name, part in zip(CCI_PARTS, parts, strict=True) if not part]
        problem = f"it lacks {', '.join(empty)}" if empty else ""
    form = ".".join(f"<{name}>" if name != CCI_PARTS[0] else name for name in CCI_PARTS)
    return problem and f"{problem}; it should be {form}"


#: ``store_id`` → what is wrong with a data id; empty where nothing is.
_FORMS: Mapping[str, Callable[[str], str]] = MappingProxyType({"clms": _clms, "cciodp": _cci})
