"""Work for the engine's tests: top-level functions, because jobs travel to other processes.

As a program, `python -m tests.engine.jobs`, it is a parent whose end is looked at.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from curator.errors import DataError, RecipeError
from curator.run.folder import TEMPORARY, make, replacing


class AwkwardError(Exception):
    """Cannot be put together again from its `args`, as some libraries' errors cannot."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def squared(number: int) -> int:
    return number * number


def with_a_bar(number: int) -> int:
    """A library shows the progress of a job."""
    from tqdm.auto import tqdm

    return sum(1 for _ in tqdm(range(number), disable=True))


def product_of_matrices(seed: int) -> bytes:
    import torch

    drawn = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(200, 300, generator=drawn) for _ in range(2))
    return (left @ right.T).sum().numpy().tobytes()


def threads(_: int) -> tuple[str | None, int, int]:
    import torch

    return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads(), os.getpid()


def surroundings(_: int) -> tuple[str | None, str]:
    """GPUs that this process sees, and how it was started: `spawn` or `forkserver`."""
    import multiprocessing

    time.sleep(0.3)  # so that every worker gets a job
    kind = type(multiprocessing.current_process()).__name__
    return os.environ.get("CUDA_VISIBLE_DEVICES"), kind.removesuffix("Process").lower()


def several_mistakes(number: int) -> int:
    if number == 1:
        raise RecipeError(["a: one", "b: two"])
    return number


def a_mistake(number: int) -> int:
    if number == 1:
        raise DataError("rows.jsonl:3: is empty")
    return number


def awkward(number: int) -> int:
    if number == 1:
        raise AwkwardError("this", "that")
    return number


def a_bug(number: int) -> int:
    if number == 1:
        raise KeyError("column")
    return number


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def ended(number: int) -> int:
    """A library ends its process."""
    os._exit(3)


def leave_a_name_and_sleep(job: tuple[str, float]) -> None:
    folder, seconds = job
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(seconds)


def fail_or_sleep(folder: str) -> None:
    """The first to come waits for a second and fails; the second would sleep for long."""
    mine = Path(folder, f"{os.getpid()}.pid")
    mine.touch()
    if folder.endswith("failing"):
        while len(list(Path(folder).parent.glob("*/*.pid"))) < 2:
            time.sleep(0.01)
        raise DataError("the first job fails")
    time.sleep(600)


def killed_once(job: tuple[str, int]) -> int:
    """The first attempt at a job leaves a half-written piece behind and is killed."""
    folder, number = job
    mark = Path(folder, f"{number}.attempt")
    if number == 1 and not mark.exists():
        mark.touch()
        killed(1)
    return number * number


def piece_killed_once(folder: str) -> str:
    """A piece of a run folder whose first attempt is killed while it writes."""

    def work(own: Path) -> dict[str, int]:
        left = [path.name for path in own.glob(f".*{TEMPORARY}")]
        with replacing(own / "weights") as temporary:
            temporary.write_text("half")
            if not (own.parent / "once").exists():
                (own.parent / "once").touch()
                killed(1)
            temporary.write_text("whole")
        return {"left": len(left)}

    return str(make(Path(folder, "piece"), "k", work).record["left"])


def until_it_is_the_second(folder: str) -> int:
    """The first process waits to be lost with its node; the one that takes its place is through at once."""
    Path(folder, f"{os.getpid()}.pid").touch()
    if len(list(Path(folder).glob("*.pid"))) < 2:
        time.sleep(600)
    return os.getpid()


def ended_by_ctrl_c() -> None:
    """A process with a Ray of its own, two of whose jobs sleep, as the command line runs it: `jobs ray FOLDER`."""
    # Workers load this file under its own name.
    from curator.cli import _run
    from curator.engine import engaged, runner
    from curator.recipe import Engine
    from tests.engine.jobs import leave_a_name_and_sleep

    section, folder = Engine(kind="ray", workers=2, threads=1), Path(sys.argv[2])

    def command() -> None:
        with engaged(section):
            run = runner(section, preload="", folder=folder)
            list(run(leave_a_name_and_sleep, [(str(folder), 600.0)] * 2))

    sys.exit(_run(command))


def main() -> None:
    """A process with two workers, one at a long job and one that waits for more: `jobs FOLDER`."""
    from curator.engine.local import run_local

    given = [(sys.argv[1], 600), (sys.argv[1], 0)]
    for _ in run_local(leave_a_name_and_sleep, given, workers=2, threads=1, preload="tests.engine.loaded_already"):
        Path(sys.argv[1], "idle").touch()


if __name__ == "__main__":
    ended_by_ctrl_c() if sys.argv[1] == "ray" else main()
