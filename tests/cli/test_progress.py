import io

import pytest
from rich.console import Console

from curator.cli import progress as room
from curator.cli.progress import Terminal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    return now


def lines(terminal: Terminal) -> list[str]:
    assert isinstance(terminal.console.file, io.StringIO)
    return terminal.console.file.getvalue().splitlines()


def test_each_step_of_a_stage_has_its_own_clock(clock: list[float]) -> None:
    terminal = Terminal(Console(file=io.StringIO(), width=200))
    terminal.progress("select", 0, 100)
    for clock[0], done in ((50.0, 50), (100.0, 100)):
        terminal.progress("select", done, 100)
    terminal.progress("select", 0, 10)  # answers follow the trainings
    clock[0] = 140.0
    terminal.progress("select", 4, 10)
    assert lines(terminal)[-1] == "select     4 of 10, 10.0 s each, about 1 min 0 s left"


def test_pieces_that_were_there_already_say_nothing_of_the_speed(clock: list[float]) -> None:
    terminal = Terminal(Console(file=io.StringIO(), width=200))
    terminal.progress("train", 900, 1000)
    clock[0] = 30.0
    terminal.progress("train", 910, 1000)
    assert lines(terminal) == ["train      910 of 1,000, 3.0 s each, about 4 min 30 s left"]


def test_the_last_piece_has_no_time_left_to_tell(clock: list[float]) -> None:
    terminal = Terminal(Console(file=io.StringIO(), width=200))
    for clock[0], done in ((0.0, 0), (40.0, 1), (80.0, 2)):
        terminal.progress("train", done, 2)
    assert lines(terminal) == ["train      1 of 2, 40.0 s each, about 40 s left"]


def test_time_left_is_told_when_every_worker_has_done_a_piece(clock: list[float]) -> None:
    terminal = Terminal(Console(file=io.StringIO(), width=200), workers=2)
    for clock[0], done in ((0.0, 0), (610.0, 1), (630.0, 2), (1230.0, 3)):
        terminal.progress("train", done, 24)
    assert lines(terminal) == [
        "train      2 of 24, 315.0 s each, about 1 h 55 min left",
        "train      3 of 24, 410.0 s each, about 2 h 23 min left",
    ]


def test_time_left_on_a_terminal_runs_down_between_pieces(clock: list[float]) -> None:
    terminal = Terminal(Console(file=io.StringIO(), width=120, force_terminal=True), workers=2)
    shown = []
    for clock[0], done in ((0.0, 0), (100.0, 1), (110.0, 2), (130.0, None)):
        if done is not None:
            terminal.progress("train", done, 10)
        page = Console(file=io.StringIO(), width=120)
        page.print(terminal.bar.make_tasks_table(terminal.bar.tasks))
        assert isinstance(page.file, io.StringIO)
        shown.append(page.file.getvalue().split("left")[1].strip())
    assert shown == ["-:--:--", "-:--:--", "0:07:20", "0:07:00"]
