"""The check ``newest_edition`` of a source's asset: is there a newer edition of its product, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.sources import Source

__all__ = ["NEWEST_EDITION", "asked_edition_check", "edition_check", "edition_evaluation", "edition_spec"]

#: Name of the check.
NEWEST_EDITION = "newest_edition"


def edition_spec(source: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of the source asset ``source``."""
    return dg.AssetCheckSpec(
        NEWEST_EDITION,
        asset=source,
        description="The source offers no newer edition of this product. Which edition is used says the configuration: "
        "a newer one is reported, never taken by itself.",
    )


def edition_check(newer: Sequence[str], data_id: str) -> dg.AssetCheckResult:
    """What follows from the ``newer`` editions of ``data_id``, newest last."""
    if not newer:
        return _result(passed=True, text=f"{data_id} is the newest edition")
    text = f"a newer edition is there: {newer[-1]}. {data_id} stays in use; to change, write data_id: {newer[-1]}"
    return _result(passed=False, text=text, newer_editions=", ".join(newer))


def asked_edition_check(client: Source, data_id: str) -> dg.AssetCheckResult:
    """Ask ``client``, and tell what follows. A source that doesn't say is no reason to stop a run."""
    try:
        return edition_check(client.newer_editions(data_id), data_id)
    except Scs2CubesError as error:
        return _result(passed=False, text=f"can't be found out now: {type(error).__name__}: {error}")


def edition_evaluation(source: dg.AssetKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """``result`` as what is told of the asset ``source`` outside of a run."""
    return dg.AssetCheckEvaluation(
        asset_key=source,
        check_name=NEWEST_EDITION,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def _result(*, passed: bool, text: str, **metadata: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        check_name=NEWEST_EDITION,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata=metadata,
    )
