"""Which versions scheduler, workers and this process have, and where they must be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client

from scs2_cubes.errors import ConfigurationError

__all__ = ["Disagreement", "disagreements", "require_agreement"]

#: Without the same ones tasks can't be unpickled, or pixels depend on who made them.
_MUST_AGREE = ("scs2_cubes", "python", "dask", "distributed")
#: Differences of these are worth knowing of.
_SHOULD_AGREE = ("zarr", "numpy", "numba")
#: How many workers are named in a message.
_NAMED = 3


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
        others = ", ".join(f"{version} on {_named(who)}" for version, who in self.others.items())
        return f"{self.package} is {self.here} here, {others}"


def disagreements(versions: Mapping[str, Any]) -> list[Disagreement]:
    """Where ``versions``, as ``Client.get_versions`` gives them, differ from those of this process. Pure."""
    here = versions["client"]["packages"]
    others = {"the scheduler": versions["scheduler"]["packages"]}
    others |= {f"worker {address}": info["packages"] for address, info in sorted(versions["workers"].items())}
    return [found for package in (*_MUST_AGREE, *_SHOULD_AGREE) for found in _compared(package, here, others)]


def require_agreement(client: Client, address: str, tell: Callable[[str], None]) -> None:
    """Ask the scheduler at ``address`` and its workers for their versions; ``tell`` of those that merely differ.

    One request to each; workers that come later aren't asked. Raises ConfigurationError where scs2_cubes, Python (its
    minor version), dask or distributed differ: tasks couldn't be unpickled, or pixels would depend on who makes them.
    """
    versions: Any = client.get_versions(packages=[*_MUST_AGREE, *_SHOULD_AGREE])
    found = disagreements(versions)
    fatal = "; ".join(one.text for one in found if one.is_fatal)
    if fatal:
        raise ConfigurationError(
            f"dask.address: the cluster of {address} has other versions: {fatal}. Install the same "
            "ones there (as a rule: the same image or the same lock file), or set dask.mode to local or threads"
        )
    if found:
        tell(
            f"the cluster of {address} has other versions: {'; '.join(one.text for one in found)}. "
            "As a rule results are the same; install the same ones to be sure"
        )


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


def _named(who: tuple[str, ...]) -> str:
    more = len(who) - _NAMED
    return ", ".join(who[:_NAMED]) + (f" and {more} more" if more > 0 else "")
