"""Which workers of a cluster that exists may make tiles: those with the same installation and the same folders."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

from scs2_cubes.errors import ConfigurationError
from scs2_cubes.pipeline.installations import answers_of, named, require_agreement

__all__ = ["Admission", "absent", "marked"]

#: Names of markers begin so. They are hidden, and neither cubes, records nor caches have such names.
_MARKER = ".scs2-cubes-seen-by-workers-"
#: Seconds within which a worker answers: it may be starting, or its machine may be busy.
_ANSWER_SECONDS = 20.0
#: Seconds after which those that didn't answer are asked again.
_AGAIN_SECONDS = 60.0
#: … and within which they answer then: tiles that are finished wait meanwhile.
_AGAIN_ANSWER_SECONDS = 2.0
#: Seconds after which a marker belongs to a process that was killed: it is needed for seconds.
_LEFT_OVER = 3600.0


@dataclass
class Admission:
    """Examines the workers of one cluster, each of them until it has answered once."""

    client: Client
    """Connected."""
    address: str
    """The scheduler's, for messages."""
    folders: Sequence[str]
    """Paths of this machine that workers have to see, too."""
    tell: Callable[[str], None]
    """Takes what is worth knowing."""
    _examined: set[str] = field(default_factory=set)
    _silent: dict[str, float] = field(default_factory=dict)
    _is_scheduler_examined: bool = False
    _is_silence_told: bool = False
    _not_before: float = float("-inf")

    def examine_all(self) -> None:
        """Examine the scheduler and all workers that are there. Raises as :meth:`examine`."""
        try:
            scheduler: Any = self.client.scheduler
            info = self.client.sync(scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_SECONDS)
        except OSError as error:
            self._tell_silence(["the scheduler"], f"{type(error).__name__}: {error}")
            return
        self.examine(info["workers"])

    def examine(self, workers: Collection[str]) -> None:
        """Examine those of ``workers``, which are all that are there, that haven't been yet.

        Asks those workers, the first time the scheduler, too, and leaves a file in each folder for as long. Where one
        doesn't answer soon that is told, and it is asked again after a while, by itself; the others are examined.

        Raises ConfigurationError where something else is installed there, or where they don't see one of the folders.
        """
        # One that comes back at the same address may be another one.
        self._examined &= set(workers)
        self._silent = {worker: due for worker, due in self._silent.items() if worker in set(workers)}
        now = time.monotonic()
        if now < self._not_before:
            return
        fresh = sorted(set(workers) - self._examined - set(self._silent))
        again = sorted(worker for worker, due in self._silent.items() if now >= due)
        if fresh or not self._is_scheduler_examined:
            self._ask(fresh, _ANSWER_SECONDS)
        if again:
            self._ask(again, _AGAIN_ANSWER_SECONDS)

    def _ask(self, workers: Sequence[str], timeout: float) -> None:
        try:
            answered = self._require_folders(self._require_agreement(workers, timeout), timeout)
        except OSError as error:
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            self._tell_silence(["the scheduler"], f"{type(error).__name__}: {error}")
            return
        self._is_scheduler_examined = True
        self._examined |= answered
        silent = [worker for worker in workers if worker not in answered]
        due = time.monotonic() + _AGAIN_SECONDS
        self._silent = {worker: at for worker, at in self._silent.items() if worker not in answered}
        self._silent |= dict.fromkeys(silent, due)
        if silent:
            self._tell_silence(silent, f"no answer within {timeout:g} s")

    def _require_agreement(self, workers: Sequence[str], timeout: float) -> set[str]:
        return require_agreement(
            self.client,
            self.address,
            workers,
            self.tell,
            timeout=timeout,
            with_scheduler=not self._is_scheduler_examined,
        )

    def _require_folders(self, workers: set[str], timeout: float) -> set[str]:
        """Those of ``workers`` that have answered. Raises ConfigurationError where one doesn't see a folder."""
        with ExitStack() as stack:
            markers = dict(self._markers(stack))
            if not markers:
                return workers
            answers = answers_of(self.client, workers, absent, list(markers), timeout=timeout)
        missing = {
            folder: [worker for worker, paths in sorted(answers.items()) if _is_in(marker, paths)]
            for marker, folder in markers.items()
        }
        text = "; ".join(f"{folder} by {named(who)}" for folder, who in missing.items() if who)
        if text:
            raise ConfigurationError(
                f"dask.address: workers of the cluster of {self.address} don't see folders of this machine in which "
                f"cubes or caches lie: {text}. Share them with the workers at the same path, put them on S3 "
                "(store_id: s3), or set dask.mode to local or threads"
            )
        return set(answers)

    def _markers(self, stack: ExitStack) -> Iterator[tuple[str, str]]:
        """Path of a marker, and the folder that it lies in; removed with ``stack``."""
        for folder in self.folders:
            # Where there is no folder yet, there is nothing that could be missed.
            if Path(folder).is_dir():
                try:
                    yield str(stack.enter_context(marked(Path(folder)))), folder
                except OSError as error:
                    self.tell(f"can't write to {folder}, so whether workers see it isn't known: {error}")

    def _tell_silence(self, workers: Sequence[str], why: str) -> None:
        if not self._is_silence_told:
            self._is_silence_told = True
            self.tell(
                f"of {named(workers)} of the cluster of {self.address} it isn't known whether the same is installed "
                f"there and the same folders are seen ({why}): asking again while tiles are made"
            )


@contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """A file in ``folder`` that was never there before, until the end of the block; removes what killed ones left.

    A name that nobody has asked for yet can't be in a network filesystem's memory of what isn't there. Raises OSError.
    """
    for old in folder.glob(f"{_MARKER}*"):
        _remove_left_over(old)
    marker = folder / f"{_MARKER}{uuid.uuid4().hex}"
    marker.touch(exist_ok=False)
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def absent(paths: Sequence[str]) -> list[str]:
    """Those of ``paths`` where nothing is to be seen. Runs on workers."""
    return [path for path in paths if not Path(path).exists()]


def _remove_left_over(marker: Path) -> None:
    try:
        is_old = time.time() - marker.stat().st_mtime > _LEFT_OVER
    except FileNotFoundError:
        # Another process was faster.
        return
    if is_old:
        marker.unlink(missing_ok=True)


def _is_in(marker: str, answer: list[str] | Exception) -> bool:
    """Whether a worker says that it doesn't see ``marker``."""
    if isinstance(answer, Exception):
        raise answer
    return marker in answer
