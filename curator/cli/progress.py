"""How a build is shown: a progress bar with time left while a stage runs, and one line when it ends.

Outside of a terminal (a log file, CI) only plain lines are printed.
"""

from __future__ import annotations

import time
from datetime import timedelta
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
)
from rich.text import Text

from curator.wording import duration, visible

if TYPE_CHECKING:
    from curator.run.folder import Made

EVERY = 30.0  # seconds between two progress lines off a terminal


class Rate(ProgressColumn):
    """Pieces per second, or seconds per piece."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.fields["speed"]))


class Left(ProgressColumn):
    """Time left, which runs down between pieces."""

    def render(self, task: Task) -> Text:
        ends = task.fields["ends"]
        return Text("-:--:--" if ends is None else str(timedelta(seconds=max(0, round(ends - time.monotonic())))))


def rate(speed: float | None) -> str:
    """Pieces per second in words; empty while unknown."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


class Terminal:
    """Shows a build on standard output, or with `aside` on standard error; use as a context manager.

    Speed and time left are told once as many pieces are done as there are `workers`: they begin together, so that the
    first piece alone would make the rest seem to take as many times as long.
    """

    def __init__(self, console: Console | None = None, *, aside: bool = False, workers: int = 1) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, stderr=aside)
        stage = TextColumn("{task.description:<10}", markup=False)
        columns = (stage, BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn())
        left = (TextColumn("left"), Left())
        self.bar = Progress(*columns, *left, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task: TaskID | None = None
        self.workers = workers
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
            self.task = self.bar.add_task(stage, total=total, completed=done, speed=None, ends=None)
        new = done - self.first
        if new >= self.workers and done != self.done:
            speed = new / max(now - self.began, 1e-9)
            left = (total - done) / speed
            self._update(speed=speed, ends=now + left)
            if not self.console.is_terminal and done < total and now - self.last_line >= EVERY:
                self.last_line = now
                self.say(f"{stage:<10} {done:,} of {total:,}, {rate(speed)}, about {duration(left)} left")
        self.done = done
        self._update(completed=done)

    def finished(self, stage: str, made: Made) -> None:
        self._clear()
        summary = made.record.get("summary", "")
        how = "kept" if made.kept else duration(made.seconds)
        self.say(f"{stage:<10} {how:>10}  {summary}")

    def _update(self, **changes: float) -> None:
        if self.task is not None:
            self.bar.update(self.task, **changes)  # type: ignore[arg-type]

    def _clear(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self.stage = ""
