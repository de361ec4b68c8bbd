"""How a build is shown: a progress bar with time left while a stage runs, and one line when it ends.

Outside of a terminal (a log file, CI) only plain lines are printed.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from curator.wording import duration, visible

if TYPE_CHECKING:
    from curator.run.folder import Made

EVERY = 30.0  # seconds between two progress lines off a terminal


class Rate(ProgressColumn):
    """Pieces per second, or seconds per piece."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.speed))


def rate(speed: float | None) -> str:
    """Pieces per second in words; empty while unknown."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


class Terminal:
    """Shows a build on standard output, or with `aside` on standard error; use as a context manager."""

    def __init__(self, console: Console | None = None, *, aside: bool = False) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, stderr=aside)
        stage = TextColumn("{task.description:<10}", markup=False)
        columns = (stage, BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        self.bar = Progress(*columns, *left, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task: TaskID | None = None
        self.stage, self.total, self.done, self.first = "", 0, 0, 0
        self.began = self.last_line = 0.0

    def __enter__(self) -> Terminal:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        # Characters of a name that a terminal could act on, or that are not text, are shown as a mark.
        lines = [visible(line) if not line.isprintable() else line for line in text.split("\n")]
        self.console.print("\n".join(lines), markup=False, emoji=False)

    def begin(self, text: str) -> None:
        """Announces the next step, and removes the bar of the one before."""
        self._clear()
        self.say(text)

    def embedding(self, done: int, total: int) -> None:
        self.progress("embed", done, total)

    def progress(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        # A stage may have several steps, each with a count of its own, and what was there already took no time.
        if (stage, total) != (self.stage, self.total) or done < self.done:
            self._clear()
            self.stage, self.total, self.began, self.last_line, self.first = stage, total, now, now, done
            self.task = self.bar.add_task(stage, total=total, completed=done)
        self.done = done
        if self.task is not None:
            self.bar.update(self.task, completed=done, total=total)
        if not self.console.is_terminal and self.first < done < total and now - self.last_line >= EVERY:
            self.last_line = now
            speed = (done - self.first) / (now - self.began)
            left = duration((total - done) / speed)
            self.say(f"{stage:<10} {done:,} of {total:,}, {rate(speed)}, about {left} left")

    def finished(self, stage: str, made: Made) -> None:
        self._clear()
        summary = made.record.get("summary", "")
        how = "kept" if made.kept else duration(made.seconds)
        self.say(f"{stage:<10} {how:>10}  {summary}")

    def _clear(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self.stage = ""
