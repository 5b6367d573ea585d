"""Shows the steps of a start: spinners on a terminal, otherwise a line when a step is done."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

NOTE_SECONDS = 10.0


class _Seconds(ProgressColumn):
    """The seconds of a step so far, with one decimal."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0:5.1f} s", style="dim")


class Steps:
    """The steps of one start; `console` prints above them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._live = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.fields[name]:<8}", style="bold", markup=False),
            _Seconds(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def begin(self, name: str, text: str) -> None:
        """Show a step that begins."""
        self._began[name] = self._noted[name] = time.monotonic()
        self._tasks[name] = self._live.add_task(text, total=1, name=name)

    def note(self, name: str, text: str) -> None:
        """Show the progress of a step; without a terminal, at most every `NOTE_SECONDS`."""
        self._live.update(self._tasks[name], description=text)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._noted[name] > NOTE_SECONDS:
            self._noted[name] = now
            self._print(name, text)

    def end(self, name: str, text: str) -> None:
        """Show that a step is done."""
        self._live.update(self._tasks[name], description=text, completed=1)
        if not self.console.is_terminal:
            self._print(name, text)

    def _print(self, name: str, text: str) -> None:
        seconds = time.monotonic() - self._began[name]
        self.console.print(f"{name:<8} {seconds:5.1f} s  {text}", soft_wrap=True)
