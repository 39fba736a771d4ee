"""Exclusive claims, shared by threads, processes and workers that write one cache, or one cube.

Who wants a key puts a document of its own below ``claims/``, and then looks who else is there: it holds the key where
nobody else is. Of two that come at once the later one to look sees the other's document, so both can't hold it; of
several that see each other the one with the smallest name stays and the others withdraw (the idea is that of Lamport's
bakery, Communications of the ACM 17 (8), 1974). Nobody ever writes or removes a document that may be a living one's:
each has a name of its own, so that taking over from a dead one is no race. All that it needs is that a list shows what
was put before: folders and S3 do; conditional writes, which some S3 servers ignore without a word, aren't used.

A holder is dead at once when its process on this host has ended, and otherwise when its document hasn't changed for a
lease, by the clock of whoever looks: clocks of several hosts are never compared. A holder that was suspended for longer
than its lease has lost its claim, and notices: :meth:`Claim.check` before whatever mustn't happen twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from scs2_cubes.errors import PreloadError, StorageError, redact_text
from scs2_cubes.preload.base import Tell
from scs2_cubes.storage.processes import Process

__all__ = ["Claim", "Contender", "Documents", "Timing", "bury", "graves", "held"]

_LOGGER = logging.getLogger(__name__)

_FOLDER = "claims"
#: Seconds between two looks while others, which have smaller rights, withdraw, and for how long they are given.
_WITHDRAWAL, _PATIENCE = 0.02, 5.0
#: First wait of who finds a claim held, in seconds; it doubles up to ``Timing.poll``.
_FIRST_POLL = 0.05
#: Seconds between two lines that say who is waited for.
_TOLD_EVERY = 60.0


class Documents(Protocol):
    """Where claims lie: of :class:`scs2_cubes.storage.objects.Objects`, what they need."""

    def get(self, key: str) -> bytes | None:
        """The bytes under ``key``, or None. Raises StorageError."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Store ``value``, a JSON object, under ``key``, at once and whole. Raises StorageError."""
        ...

    def delete(self, key: str) -> None:
        """Remove ``key``; nothing happens where it isn't there. Raises StorageError."""
        ...

    def keys(self, prefix: str) -> Iterable[str]:
        """Keys in the folder ``prefix``, with all that was put before. Raises StorageError."""
        ...

    def shown(self, key: str) -> str:
        """Path or URL of ``key`` without its secrets, for people."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    beat: float = 10.0
    """From one sign of life of a holder to the next."""
    lease: float = 60.0
    """Without a sign of life for so long, it is dead."""
    poll: float = 1.0
    """Longest time between two looks of who waits."""


@dataclass(frozen=True, slots=True)
class _Notice:
    """What a document says."""

    key: str
    owner: str
    process: Process
    is_holder: bool
    beat: int
    since: str = ""
    """Its start by its host's clock, in UTC. For people: nothing is decided by it."""

    @property
    def shown(self) -> str:
        return f"process {self.process.number} on {self.process.host}"


def _encode(notice: _Notice) -> bytes:
    return json.dumps(asdict(notice), sort_keys=True).encode()


def _decode(content: bytes) -> _Notice | None:
    try:
        document = json.loads(content)
        return _Notice(**{**document, "process": Process(**document["process"])})
    except (ValueError, TypeError, LookupError):
        # Of another release. Whether it changes tells enough.
        return None


class Contender:
    """Somebody who wants ``key`` of ``objects`` for themselves alone. Making it does no I/O.

    Keep it from one try to the next: it remembers when the others last gave a sign of life.
    """

    def __init__(self, objects: Documents, key: str, timing: Timing | None = None) -> None:
        self._objects = objects
        self._key = key
        self._timing = timing or Timing()
        self._prefix = f"{_FOLDER}/{hashlib.sha256(key.encode()).hexdigest()[:32]}-"
        #: Document → its content, and when that was first seen (monotonic seconds).
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._buried: set[str] = set()
        self._rival = "another process"
        self._rival_since = ""

    @property
    def rival(self) -> str:
        """Who was in the way at the last try, for people."""
        return self._rival

    @property
    def rival_since(self) -> str:
        """Since when, for people; empty where that isn't known."""
        return self._rival_since

    def take(self) -> Claim | None:
        """The claim, renewed from now on by a thread until it is released; None where somebody else is in the way.

        Takes a moment where several try at once. Raises StorageError.
        """
        if self._others(""):
            return None
        owner = uuid.uuid4().hex
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        notice = _Notice(self._key, owner, Process.this(), is_holder=False, beat=0, since=since)
        document = f"{self._prefix}{owner}.json"
        put = _awake()
        self._objects.put(document, _encode(notice))
        won = False
        try:
            won = self._wins(document, owner)
        finally:
            if not won:
                self._objects.delete(document)
        if not won:
            return None
        claim = Claim(self._objects, document, notice, self._timing, frozenset(self._buried))
        return claim if claim.hold(put) else None

    def _wins(self, document: str, owner: str) -> bool:
        """Whether nobody else is left, once those have withdrawn that have to."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            keys = self._documents()
            if document not in keys:
                # Taken for dead by somebody else, for example after this process was suspended.
                return False
            others = self._others(document, keys)
            if not others:
                return True
            if any(other is None or other.is_holder or other.owner < owner for other in others):
                return False
            time.sleep(_WITHDRAWAL)
        return False

    def _documents(self) -> list[str]:
        return [key for key in self._objects.keys(_FOLDER) if key.startswith(self._prefix)]

    def _others(self, mine: str, keys: list[str] | None = None) -> list[_Notice | None]:
        """What the living others say, None for what can't be understood. Removes what the dead left."""
        living: list[_Notice | None] = []
        for key in self._documents() if keys is None else keys:
            content = None if key == mine else self._objects.get(key)
            if content is None:
                continue
            notice = _decode(content)
            if self._is_dead(key, content, notice):
                self._objects.delete(key)
                self._buried.add(key)
                continue
            living.append(notice)
            self._rival = notice.shown if notice is not None else "another process"
            self._rival_since = notice.since if notice is not None else ""
        return living

    def _is_dead(self, key: str, content: bytes, notice: _Notice | None) -> bool:
        if notice is not None and notice.process.has_ended():
            return True
        now = time.monotonic()
        known, since = self._seen.get(key, (b"", now))
        if known != content:
            since = now
        self._seen[key] = content, since
        return now - since >= self._timing.lease


@dataclass
class Claim:
    """A key that is held by whoever has this, until :meth:`release`. Also a context manager, which releases.

    The context manager only logs where releasing fails: what was done under the claim is done.
    Safe to share between threads of the process that took it.
    """

    objects: Documents
    """Where it lies."""
    document: str
    """Key of what the others see of it."""
    notice: _Notice
    """What that says."""
    timing: Timing
    """How often it is renewed."""
    buried: frozenset[str] = frozenset()
    """Documents of dead holders, of whom one may wake up and, before it notices, put its own back."""
    _alive: float = field(default=0.0, init=False)
    _lost: bool = field(default=False, init=False)
    _released: threading.Event = field(default_factory=threading.Event, init=False)
    _writing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except StorageError as problem:
            # What it was held for has ended, well or not, and that is what counts: others wait for a lease, no more.
            _LOGGER.warning("%s", problem)

    def hold(self, since: float) -> bool:
        """Tell the others that it is held, and go on telling; False where it may have been taken for dead meanwhile.

        ``since`` is a moment before its document was put first, by the clock of :func:`_awake`. Raises StorageError.
        """
        is_held = False
        try:
            is_held = self._stands(since)
        finally:
            if not is_held:
                self._give_up()
        if is_held:
            threading.Thread(target=self._beat, name=f"claim {self.notice.owner[:8]}", daemon=True).start()
        return is_held

    def _stands(self, since: float) -> bool:
        """Announce it, unless somebody has taken over, or may have, after this process was suspended."""
        if self.objects.get(self.document) is None:
            return False
        self._announce()
        # Who has just taken over may not have announced it yet, but can't have within a lease.
        return not self._is_deposed() and _awake() - since < self.timing.lease

    def check(self) -> None:
        """Raise PreloadError where it isn't held any more. No I/O."""
        silent = _awake() - self._alive
        if self._lost or self._released.is_set() or silent >= self.timing.lease:
            raise PreloadError(
                f"the claim on {self.notice.key!r} in {self.objects.shown(_FOLDER)} is lost, because this process gave "
                f"no sign of life for {silent:.0f} s (suspended, or cut off from the folder?), so that another run may "
                "go on with it. Nothing is harmed: run again"
            )

    def release(self) -> None:
        """Let others have it; nothing happens the second time. Where it raises StorageError, they wait for a lease."""
        if not self._released.is_set():
            self._give_up()

    def renew(self) -> None:
        """Give a sign of life now, and look whether somebody has taken over. Raises StorageError."""
        with self._writing:
            if self._released.is_set() or self._lost:
                return
            # A document that another one removed mustn't come back.
            if self.objects.get(self.document) is None:
                self._lost = True
                return
            self._announce()
            self._lost = self._is_deposed()
            # Who released it meanwhile, and didn't wait for this put, left the rest to it.
            if self._lost or self._released.is_set():
                self.objects.delete(self.document)

    def _announce(self) -> None:
        moment = _awake()
        self.notice = replace(self.notice, is_holder=True, beat=self.notice.beat + 1)
        self.objects.put(self.document, _encode(self.notice))
        self._alive = moment

    def _is_deposed(self) -> bool:
        """Whether the document came back into a folder in which another one holds the key by now."""
        prefix = self.document.rpartition("-")[0]
        for key in self.objects.keys(_FOLDER):
            if key not in {self.document, *self.buried} and key.startswith(prefix):
                content = self.objects.get(key)
                other = None if content is None else _decode(content)
                if other is not None and other.is_holder and not other.process.has_ended():
                    return True
        return False

    def _beat(self) -> None:
        while not self._released.wait(self.timing.beat):
            try:
                self.renew()
            except Exception as error:  # noqa: BLE001 - whatever it is, without this thread the claim is lost for good
                # The next one may succeed; check() knows how long ago the last one was.
                shown = f"{type(error).__name__}: {redact_text(str(error))}"
                _LOGGER.warning("the claim on %r can't be renewed: %s", self.notice.key, shown)

    def _give_up(self) -> None:
        self._released.set()
        # Not for ever: a put to a server that is silent takes its time, and after a lease nobody waits any more.
        if not self._writing.acquire(timeout=self.timing.lease):
            raise StorageError(
                f"the claim on {self.notice.key!r} in {self.objects.shown(_FOLDER)} can't be removed, because the last "
                f"sign of life is still being written after {self.timing.lease:.0f} s. Others wait for a lease"
            )
        try:
            self.objects.delete(self.document)
        finally:
            self._writing.release()


def _awake() -> float:
    """Seconds on a clock that goes on while the machine sleeps, as those of other hosts do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def graves(objects: Documents) -> list[str]:
    """Documents of processes that have ended on this host. Reads every document. Raises StorageError."""
    notices = ((key, _decode(objects.get(key) or b"")) for key in objects.keys(_FOLDER))
    return [key for key, notice in notices if notice is not None and notice.process.has_ended()]


def bury(objects: Documents) -> None:
    """Remove the documents of processes that have ended on this host, whatever they held of ``objects``.

    Whoever contends for a key does so for that key; of what is complete nobody contends for any more. Reads every
    document. Raises StorageError.
    """
    for key in graves(objects):
        objects.delete(key)


@contextmanager
def held(
    objects: Documents,
    key: str,
    *,
    tell: Tell,
    max_wait: float,
    timing: Timing | None = None,
    quiet: float = 0.0,
    refuse: Callable[[str], Exception] = PreloadError,
) -> Iterator[Claim]:
    """Hold ``key`` of ``objects``; wait for it where another one has it, telling so now and then.

    Tells nothing for the first ``quiet`` seconds. Raises what ``refuse`` makes of a message where that takes longer
    than ``max_wait`` seconds, and StorageError.
    """
    waiting = _Waiting(Contender(objects, key, timing), key, tell, max_wait, (timing or Timing()).poll, quiet, refuse)
    with waiting.claim() as claim:
        yield claim


@dataclass(frozen=True, slots=True)
class _Waiting:
    """See :func:`held`; ``poll``: the longest time between two looks, in seconds."""

    contender: Contender
    key: str
    tell: Tell
    max_wait: float
    poll: float
    quiet: float
    refuse: Callable[[str], Exception]

    def claim(self) -> Claim:
        started = time.monotonic()
        told = self.quiet - _TOLD_EVERY
        pause = min(_FIRST_POLL, self.poll)
        while (claim := self.contender.take()) is None:
            waited = time.monotonic() - started
            if waited >= self.max_wait:
                raise self.refuse(
                    f"{self.contender.rival} has been busy with {self.key!r}{self._since} for the {waited:.0f} s that "
                    "this run may wait: wait for its end, or end it, and run again"
                )
            if waited - told >= _TOLD_EVERY:
                told = waited
                self.tell(f"{self.key}: {self.contender.rival} is busy with it{self._since}; waiting for its end")
            # Not all of them at the same moments.
            time.sleep(min(pause, self.max_wait - waited) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it
            pause = min(2 * pause, self.poll)
        return claim

    @property
    def _since(self) -> str:
        since = self.contender.rival_since
        return f" (since {since})" if since else ""
