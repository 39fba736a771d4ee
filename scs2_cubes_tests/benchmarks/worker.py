"""Where measurements happen: ``python -m scs2_cubes_tests.benchmarks.worker CONTENDER``.

The process imports what its contender needs. For each line on standard input, the paths of a task and of a result
(JSON, tab between), it forks a process of its own for that measurement, and answers with its exit code. Nothing but
imports happens before the fork, so there are no threads to lose.

In the fork the contender first does a small task, untimed: what it compiles and connects is paid before the clock
starts, and the memory that it has then is the base.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scs2_cubes_tests.benchmarks import contenders
from scs2_cubes_tests.benchmarks.tasks import Task, small_task

__all__ = ["Measurement", "warm_up_session"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run took."""

    cpu: float
    """Seconds of CPU, user and system, of the process and its children."""
    wall: float
    """Seconds."""
    peak_above_base: int
    """Bytes of resident memory at the peak, less those before the start."""
    base: int
    """Bytes of resident memory before the start."""
    load: float
    """The machine's load over the last minute, at the start."""
    graph_tasks: int | None
    """Tasks of the graph; None without a graph."""
    graph_bytes: int | None
    """Bytes of the graph, pickled."""


def warm_up_session(url: str) -> str:
    """The address of the same files for the warm-up: another session of the server's."""
    return f"{url}-warm-up"


def _measure(task: Task) -> Measurement:
    contender = contenders.find(task.contender)
    small = small_task(task, warm_up_session(task.url), f"{task.output}-warm-up")
    contender.run(small, contender.prepare(small) if contender.prepare else None)
    prepared = contender.prepare(task) if contender.prepare else None
    gc.collect()
    load = os.getloadavg()[0]
    _reset_peak()
    base, cpu, wall = _memory("VmRSS"), _cpu(), time.monotonic()
    outcome = contender.run(task, prepared)
    cpu, wall, peak = _cpu() - cpu, time.monotonic() - wall, _memory("VmHWM")
    size = outcome.graph() if outcome.graph else None
    return Measurement(
        cpu=cpu,
        wall=wall,
        peak_above_base=peak - base,
        base=base,
        load=load,
        graph_tasks=size.tasks if size else None,
        graph_bytes=size.n_bytes if size else None,
    )


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reset_peak() -> None:
    # Where the kernel doesn't allow it the peak is that since the process's start, which the warm-up hardly raises.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}: memory can be measured on Linux only")


def _serve(name: str) -> None:
    warnings.simplefilter("ignore")
    contenders.find(name)
    for line in sys.stdin:
        task_path, result_path = line.rstrip("\n").split("\t")
        sys.stdout.write(f"{_in_fork(task_path, result_path)}\n")
        sys.stdout.flush()


def _in_fork(task_path: str, result_path: str) -> int:
    """Measure in a fork; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task = Task.from_json(Path(task_path).read_text())
            Path(result_path).write_text(json.dumps(asdict(_measure(task))))
            code = 0
        except Exception:  # noqa: BLE001 - the fork must end here whatever happened; the parent raises for its code
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve(sys.argv[1])
