"""What scheduler, workers and this process have installed, and where it must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scs2_cubes.errors import ConfigurationError

if TYPE_CHECKING:
    # A second of import, and threads need the fingerprint alone.
    from distributed import Client

__all__ = [
    "Disagreement",
    "answers_of",
    "differing_sources",
    "disagreements",
    "named",
    "require_agreement",
    "require_sources",
    "source_fingerprint",
]

#: Without the same ones tasks can't be unpickled, or pixels depend on who made them.
_MUST_AGREE = ("scs2_cubes", "python", "dask", "distributed")
#: Differences of these are worth knowing of: they make the numbers, decode pixels, place nodes, make bytes.
_SHOULD_AGREE = ("zarr", "numpy", "numba", "rasterio", "pyproj", "numcodecs")
#: How many workers are named in a message.
_NAMED = 3
#: Digits of a fingerprint that are shown.
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A package of which somebody in the cluster has another version than this process."""

    package: str
    """Its name, or ``python``."""
    here: str
    """Version of this process."""
    others: Mapping[str, tuple[str, ...]]
    """Other version → who has it."""
    is_fatal: bool
    """Whether nothing may be made."""

    @property
    def text(self) -> str:
        """For people: which package, and who has which."""
        others = ", ".join(f"{version} on {named(who)}" for version, who in self.others.items())
        return f"{self.package} is {self.here} here, {others}"


def disagreements(versions: Mapping[str, Any]) -> list[Disagreement]:
    """Where ``versions``, as ``Client.get_versions`` gives them, differ from those of this process. Pure.

    ``scheduler`` may be missing, where it has been compared before.
    """
    here = versions["client"]["packages"]
    others = {"the scheduler": versions["scheduler"]["packages"]} if "scheduler" in versions else {}
    others |= {f"worker {address}": info["packages"] for address, info in sorted(versions["workers"].items())}
    return [found for package in (*_MUST_AGREE, *_SHOULD_AGREE) for found in _compared(package, here, others)]


@cache
def source_fingerprint() -> str:
    """SHA-256 over the relative paths and contents of this package's Python files, as hexadecimal digits.

    Reads some 200 files at the first call and none later: what a process has loaded doesn't change with its files. The
    first call comes with the import of :mod:`scs2_cubes.pipeline.tile`, if not before, so that a worker that runs on
    through an update of its files is found out, too.
    """
    root = Path(__file__).parents[1]
    digest = sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        name, text = path.relative_to(root).as_posix().encode(), path.read_bytes()
        # Lengths, so that no two packages give the same stream.
        digest.update(b"%d %s %d " % (len(name), name, len(text)) + text)
    return digest.hexdigest()


def differing_sources(here: str, answers: Mapping[str, Any]) -> Disagreement | None:
    """Whether ``answers``, worker → fingerprint or the error that came instead, differ from the one ``here``. Pure.

    A worker that is lost meanwhile (OSError) is no disagreement.
    """
    differing: dict[str, list[str]] = {}
    for address, answer in sorted(answers.items()):
        if answer != here and not isinstance(answer, OSError):
            differing.setdefault(_source_text(answer), []).append(f"worker {address}")
    others = {text: tuple(who) for text, who in differing.items()}
    return Disagreement("the source text of scs2_cubes", _source_text(here), others, is_fatal=True) if others else None


def require_sources(expected: str) -> None:
    """Refuse to make pixels where this process has loaded other Python files than those of fingerprint ``expected``.

    Workers ask themselves, for each task: the scheduler gives a worker tasks from the moment of its coming, before
    anybody else can have looked at it. Raises ConfigurationError.
    """
    here = source_fingerprint()
    if here != expected:
        raise ConfigurationError(
            f"this worker has loaded another source text of scs2_cubes ({_source_text(here)}) than the process whose "
            f"run it works for ({_source_text(expected)}). Install the same one in both places (the same image, or the "
            "same commit and constraints) and start both again, which keep what they have loaded"
        )


def require_agreement(
    client: Client,
    address: str,
    workers: Collection[str],
    tell: Callable[[str], None],
    *,
    timeout: float,
    with_scheduler: bool = True,
) -> set[str]:
    """Compare ``workers`` of the cluster of ``address`` with this process, and ``tell`` of what merely differs.

    The scheduler is asked, too, if ``with_scheduler``, and each worker twice. Returns the workers that have answered
    both times, each within ``timeout`` seconds; nothing is known of the others.

    Raises ConfigurationError where scs2_cubes, Python (its minor version), dask or distributed differ: tasks couldn't
    be unpickled, or pixels would depend on who makes them. So it does where the Python files of scs2_cubes differ,
    whatever their version says: a record says at which code version its tile was made, and a worker with an older
    checkout would make that untrue. Differences that no pixel depends on are refused, too, because nobody can tell them
    apart. The scheduler makes no pixels, so of it only versions count. Raises OSError where it gives no answer within
    ``timeout`` seconds.
    """
    versions = _versions(client, workers, timeout, with_scheduler=with_scheduler)
    found = disagreements(versions)
    answers: dict[str, Any] = {}
    if not any(one.is_fatal for one in found):
        answers = answers_of(client, versions["workers"], source_fingerprint, timeout=timeout)
        sources = differing_sources(source_fingerprint(), answers)
        found += [sources] if sources else []
    fatal = "; ".join(one.text for one in found if one.is_fatal)
    if fatal:
        raise ConfigurationError(
            f"dask.address: the cluster of {address} has other versions: {fatal}. Install the same ones there (the "
            "same image, or the same commit and constraints) and start workers again, which keep what they have "
            "loaded, or set dask.mode to local or threads"
        )
    if found:
        tell(
            f"the cluster of {address} has other versions: {'; '.join(one.text for one in found)}. "
            "As a rule results are the same; install the same ones to be sure"
        )
    return set(answers)


def answers_of(
    client: Client, workers: Collection[str], question: Callable[..., Any], *arguments: object, timeout: float
) -> dict[str, Any]:
    """Worker → what ``question`` of ``arguments`` gives there, or the error that it raises, but for OSErrors.

    Without workers that are lost or give no answer within ``timeout`` seconds. Each is asked by itself: a question to
    many has no answer before the slowest has given its own.
    """

    async def ask(worker: str) -> Any:
        found = await client.run(question, *arguments, workers=[worker], on_error="return")
        return found[worker]

    found: dict[str, Any] = client.sync(_gathered, workers, ask, timeout)
    return {worker: answer for worker, answer in found.items() if not isinstance(answer, OSError)}


def named(who: Collection[str]) -> str:
    """For people: the first ones of many."""
    more = len(who) - _NAMED
    return ", ".join(list(who)[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _versions(client: Client, workers: Collection[str], timeout: float, *, with_scheduler: bool) -> dict[str, Any]:
    """As Client.get_versions, but of some workers: those that came later. Without those that give no answer."""
    from distributed.versions import get_versions  # noqa: PLC0415  (a second of import, for clusters only)

    packages = [*_MUST_AGREE, *_SHOULD_AGREE]
    scheduler: Any = client.scheduler
    found = {"client": get_versions(packages=packages)}
    if with_scheduler:
        found["scheduler"] = client.sync(scheduler.versions, packages=packages, callback_timeout=timeout)

    async def ask(worker: str) -> Any:
        question = {"op": "versions", "packages": packages}
        return (await scheduler.broadcast(msg=question, workers=[worker], on_error="ignore")).get(worker)

    answers: dict[str, Any] = client.sync(_gathered, workers, ask, timeout)
    return found | {"workers": {worker: answer for worker, answer in answers.items() if answer is not None}}


async def _gathered(workers: Collection[str], ask: Callable[[str], Awaitable[Any]], seconds: float) -> dict[str, Any]:
    """Worker → what ``ask`` gives for it; without those for which it raises OSError, or takes longer than that."""
    tasks = {worker: asyncio.ensure_future(ask(worker)) for worker in workers}
    if not tasks:
        return {}
    done, pending = await asyncio.wait(tasks.values(), timeout=seconds)
    for task in pending:
        task.cancel()
    return {
        worker: task.result()
        for worker, task in tasks.items()
        if task in done and not isinstance(task.exception(), OSError)
    }


def _source_text(answer: object) -> str:
    """For people: a fingerprint, or what came instead."""
    if isinstance(answer, str):
        return answer[:_SHOWN]
    # Distributed sends the error that unpickling a task's function raises as it is, or as an Exception with its repr.
    if "ModuleNotFoundError" in repr(answer):
        return f"missing ({answer})"
    # As a rule an older one without the function that was to be called.
    return f"another one ({type(answer).__name__}: {answer})"


def _compared(
    package: str, here: Mapping[str, str | None], others: Mapping[str, Mapping[str, str | None]]
) -> Iterator[Disagreement]:
    mine = _version(package, here)
    differing: dict[str, list[str]] = {}
    is_fatal = False
    for who, packages in others.items():
        version = _version(package, packages)
        if version != mine:
            differing.setdefault(version, []).append(who)
            is_fatal = is_fatal or _is_fatal(package, mine, version)
    if differing:
        yield Disagreement(package, mine, {version: tuple(who) for version, who in differing.items()}, is_fatal)


def _version(package: str, packages: Mapping[str, str | None]) -> str:
    version = packages.get(package) or "not installed"
    # distributed gives all five parts of Python's: 3.11.2.final.0.
    return ".".join(version.split(".")[:3]) if package == "python" else version


def _is_fatal(package: str, mine: str, version: str) -> bool:
    if package == "python":
        return mine.split(".")[:2] != version.split(".")[:2]
    return package in _MUST_AGREE
