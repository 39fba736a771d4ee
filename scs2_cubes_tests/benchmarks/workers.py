"""The benchmark's side of the processes that measure: one per contender, which forks for each measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from scs2_cubes_tests.benchmarks.tasks import Task
from scs2_cubes_tests.benchmarks.worker import Measurement

__all__ = ["Workers"]


class Workers:
    """Processes by contender, as a context manager; each is started when it is first needed.

    ``folder`` takes the files through which they talk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            # The end of its input is the end of its work.
            process.communicate()

    def measure(self, task: Task) -> Measurement:
        """Run ``task`` in a process of its own. Raises RuntimeError where that fails; standard error has its trace."""
        task_path, result_path = self._folder / "task.json", self._folder / "result.json"
        task_path.write_text(task.to_json())
        process = self._process(task.contender)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker was started without pipes")
        process.stdin.write(f"{task_path.absolute()}\t{result_path.absolute()}\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
        if answer != "0":
            raise RuntimeError(f"{task.contender} couldn't make {task.cube}: exit code {answer or 'none'}, see above")
        return Measurement(**json.loads(result_path.read_text()))

    def _process(self, contender: str) -> subprocess.Popen[str]:
        if contender not in self._processes:
            # numba and BLAS would otherwise start threads of their own.
            single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
            self._processes[contender] = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", contender],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
                env=os.environ | single,
            )
        return self._processes[contender]
