"""Which process something belongs to, and whether that one has ended: known for certain on its own host alone."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process"]

#: States of Linux processes that have ended, and wait for their parents to notice (proc_pid_stat(5), field 3).
_ENDED = frozenset("ZXx")
#: Field 22 of ``/proc/<pid>/stat`` is the start; fields are counted here from the state on, which is field 3.
_START_FIELD = 22 - 3


@dataclass(frozen=True, slots=True)
class Process:
    """A process, so that another one can tell later whether it still runs."""

    host: str
    """Name of its host, for people."""
    system: str
    """Boot and PID namespace: containers may share a host's name, but not its numbers. Empty where nobody knows."""
    number: int
    """PID."""
    birth: str
    """When it started, in ticks since the boot: numbers are used again. Empty where nobody knows."""

    @classmethod
    def this(cls) -> Process:
        """The one that asks. Reads ``/proc`` where there is one."""
        return cls(socket.gethostname(), _system(), os.getpid(), _birth(os.getpid()) or "")

    @property
    def name(self) -> str:
        """For names of files: system, PID and birth, without a path's or a host's own characters."""
        return f"{self._fingerprint}-{self.birth}-{self.number}"

    def neighbour(self, name: str) -> Process | None:
        """The process of this one's system that is called ``name``; None where that is another system's, or no name."""
        found = re.fullmatch(rf"{self._fingerprint}-([0-9]*)-([0-9]+)", name)
        return Process(self.host, self.system, int(found[2]), found[1]) if found else None

    @property
    def _fingerprint(self) -> str:
        return hashlib.sha256(f"{self.host}\n{self.system}".encode()).hexdigest()[:16]

    def has_ended(self) -> bool:
        """True where it ran on this system and doesn't any more; False also where that can't be known."""
        if (self.host, self.system) != (socket.gethostname(), _system()):
            return False
        if not _is_running(self.number):
            return True
        birth = _birth(self.number)
        # Empty: hidden (mount option hidepid), as other users' processes may be.
        return birth is None or bool(birth and self.birth and birth != self.birth)


def _system() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _birth(number: int) -> str | None:
    """Start of a process; None where it has ended, empty where ``/proc`` doesn't tell."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in parentheses, and may hold spaces and parentheses of its own.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in _ENDED else fields[_START_FIELD]


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
