"""Dagster's code server, whose housekeeping outlives an absent database.

``python -m scs2_cubes.orchestration.code_server OPTIONS`` is ``dagster api grpc OPTIONS``. That one looks after its
runs in a thread that marks those as failed whose process has died. If the database doesn't answer at that moment, the
thread ends with the error, and from then on the server takes dead runs for living ones: they hold their places for
ever. Here it looks again until the database is back.

For a history in PostgreSQL, and the only module that needs the extra ``postgres``: no other one imports it.
"""

from __future__ import annotations

import logging
import sys

# Neither has a public name.
from dagster._cli import create_dagster_cli
from dagster._grpc.server import DagsterApiServer
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["keep_looking_after_runs", "main"]

_LOGGER = logging.getLogger(__name__)


def keep_looking_after_runs() -> None:
    """Replace the server's look at its runs by one that takes an absent database for a reason to look again.

    Raises AttributeError where Dagster has no such method any more.
    """
    look = DagsterApiServer._check_for_orphaned_runs  # noqa: SLF001  (it can't be told from outside)

    def look_patiently(self: DagsterApiServer) -> None:
        try:
            look(self)
        except (DagsterPostgresException, SQLAlchemyError) as error:
            _LOGGER.warning("can't look after the runs, the database doesn't answer: %s", error)

    DagsterApiServer._check_for_orphaned_runs = look_patiently  # type: ignore[method-assign]  # noqa: SLF001  (see above)


def main() -> None:
    """Serve until a signal ends it, with the command line's options."""
    keep_looking_after_runs()
    cli = create_dagster_cli()  # type: ignore[no-untyped-call]  # Dagster's own
    cli(["api", "grpc", *sys.argv[1:]], prog_name="dagster")


# Dagster starts each run as a process that imports this module once more: it has to stay light.
if __name__ == "__main__":
    main()
