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
