"""What steps print, captured by helpers that don't hear Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster._core.storage.compute_log_manager import CapturedLogContext  # no public name
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager  # no public name
from dagster._serdes import ConfigurableClassData

__all__ = ["ShieldedComputeLogManager"]


class ShieldedComputeLogManager(LocalComputeLogManager):
    """Dagster's own, whose ``tail`` and watchdog ignore the interruption that a terminal sends to the whole group.

    The watchdog is a Python of its own, which would print a traceback for each stream. Both are ended by this process,
    or by the watchdog where it was killed.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> ShieldedComputeLogManager:
        # The parent's makes a parent.
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        with ExitStack() as stack:
            # A child inherits which signals are blocked, but not the handlers: sigaction(2) and execve(2).
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                context = stack.enter_context(super().capture_logs(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield context
