"""What may go wrong on the way, on purpose: faults that are switched on and off while the server runs.

A behaviour turns the answer that would be given into another one. It is given a function that makes the answer, so
that a behaviour that doesn't need it doesn't pay for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol

from scs2_cubes.demo.answers import Answer, error_answer

__all__ = ["Behaviour", "CutBody", "Delay", "Fault", "FaultTable", "GarbledBody", "Status"]

MakeAnswer = Callable[[], Answer]


class Behaviour(Protocol):
    """Something that a fault does to an answer."""

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        """Return what is answered at ``path`` instead of ``make()``."""


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with a status code instead of the object."""

    code: int
    """For example 403, 404, 429, 500, 503."""
    retry_after: str | None = None
    """Value of Retry-After: seconds or an HTTP date; None sends no such field."""

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        del make
        return error_answer(self.code, path, None if self.retry_after is None else {"Retry-After": self.retry_after})


@dataclass(frozen=True, slots=True)
class CutBody:
    """Announce the whole body, send the first part of it, close the connection."""

    keep: float = 0.5
    """Fraction of the body that is sent."""

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        del path
        whole = make()
        return replace(whole, body=whole.body[: int(len(whole.body) * self.keep)], close=True)


@dataclass(frozen=True, slots=True)
class GarbledBody:
    """Send as many bytes as announced, each with all its bits turned over: no JSON, no UTF-8, no Blosc frame."""

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        del path
        whole = make()
        return replace(whole, body=whole.body.translate(bytes(range(255, -1, -1))))


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before the answer, which is then the usual one. Adds to other faults at the same path."""

    seconds: float
    """How long."""

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        del path
        return make()


@dataclass(frozen=True, slots=True)
class Fault:
    """A behaviour, where it applies and how often."""

    behaviour: Behaviour
    """What happens."""
    where: str | re.Pattern[str] = ""
    """Substring of the decoded path, or a compiled pattern that is searched in it."""
    times: int | None = None
    """How many requests it hits before it is used up; None for all."""

    def matches(self, path: str) -> bool:
        """Whether it applies at that path."""
        return self.where in path if isinstance(self.where, str) else self.where.search(path) is not None


class FaultTable:
    """The faults that are switched on. Safe to use from several threads."""

    def __init__(self, latency: float = 0.0) -> None:
        #: Seconds by which every answer is delayed.
        self.latency = latency
        self._armed: list[tuple[Fault, int]] = []
        self._lock = Lock()

    def add(self, behaviour: Behaviour, where: str | re.Pattern[str] = "", times: int | None = None) -> Fault:
        """Switch a fault on: at paths with the string or pattern ``where`` in them, for ``times`` requests."""
        fault = Fault(behaviour, where, times)
        with self._lock:
            self._armed.append((fault, 0))
        return fault

    def clear(self) -> None:
        """Switch all faults off; the latency stays."""
        with self._lock:
            self._armed.clear()

    def take(self, path: str) -> tuple[float, Behaviour | None]:
        """Seconds to wait and what to do at ``path``; counts the faults that this uses.

        All matching delays add up. Of the others the one applies that was switched on first and isn't used up.
        """
        delay, behaviour = self.latency, None
        with self._lock:
            for i, (fault, used) in enumerate(self._armed):
                if (fault.times is not None and used >= fault.times) or not fault.matches(path):
                    continue
                if isinstance(fault.behaviour, Delay):
                    delay += fault.behaviour.seconds
                elif behaviour is None:
                    behaviour = fault.behaviour
                else:
                    continue
                self._armed[i] = (fault, used + 1)
        return delay, behaviour
