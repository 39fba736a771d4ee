"""Progress on the terminal: a bar where there is one, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from scs2_cubes.pipeline.materialize import Progress as TileProgress

__all__ = ["TerminalProgress"]

_LINE_INTERVAL = 5.0


class TerminalProgress:
    """Tiles done, rate and time left of each partition, and what preloading tells; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def listener(self, _log: object, name: str) -> Callable[[TileProgress], None]:
        """What is called after each tile of the partition that ``name`` describes."""
        if not self._console.is_terminal:
            return self._line_listener(name)
        task: TaskID | None = None

        def listen(progress: TileProgress) -> None:
            nonlocal task
            if task is None:
                task = self._bars.add_task(name, total=progress.total, text="")
            self._bars.update(task, completed=progress.done, text=progress.text)

        return listen

    def tell(self, line: str) -> None:
        """Print a line that preloading has to tell; bars stay below it."""
        # Not broken before a path: it is for copying.
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _line_listener(self, name: str) -> Callable[[TileProgress], None]:
        last = time.monotonic()

        def listen(progress: TileProgress) -> None:
            nonlocal last
            now = time.monotonic()
            if progress.done == progress.total or now - last >= _LINE_INTERVAL:
                last = now
                self._console.print(f"{name}: {progress.text}", highlight=False, markup=False)

        return listen
