"""Jobs in this process and in several: the same results, errors as they were raised, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curator.engine import runner
from curator.engine.local import run_local
from curator.errors import DataError, RecipeError, RunError
from curator.provenance import PACKAGE, cores, own_code, resolved_threads, set_threads
from curator.recipe import Engine
from tests.engine import jobs
from tests.engine.ending import assert_all_end, trap, wait_until
from tests.small_run import QUICKSTART, SMALL


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts the thread settings back, which the engine changes for the whole process."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(work: Callable[[Any], Any], given: list[Any], workers: int, threads: int = 1) -> list[Any]:
    return list(run_local(work, given, workers=workers, threads=threads, preload="curator.train.trainer"))


def test_two_workers_find_what_one_finds() -> None:
    given = list(range(6))
    assert sorted(results(jobs.product_of_matrices, given, 2)) == sorted(results(jobs.product_of_matrices, given, 1))


def test_one_worker_goes_in_order_and_in_this_process() -> None:
    assert results(lambda number: (number, os.getpid()), [3, 1, 2], 1) == [(n, os.getpid()) for n in (3, 1, 2)]


def test_one_worker_starts_no_job_before_its_result_is_asked_for() -> None:
    begun: list[int] = []
    going = run_local(begun.append, [1, 2], workers=1, threads=1, preload="curator.train.trainer")
    next(going)
    assert begun == [1]


def test_no_job_gives_no_result() -> None:
    assert results(jobs.squared, [], 2) == []


def test_threads_are_set_in_every_worker_and_here() -> None:
    for workers in (1, 2):
        found = results(jobs.threads, [0, 1, 2, 3], workers, threads=2)
        assert {one[:2] for one in found} == {("2", 2)}
        assert (os.getpid() in {one[2] for one in found}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_that_the_user_can_mend_arrives_as_itself(workers: int) -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: is empty$"):
        results(jobs.a_mistake, [0, 1], workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_problem_of_a_recipe_arrives(workers: int) -> None:
    with pytest.raises(RecipeError) as caught:
        results(jobs.several_mistakes, [0, 1], workers)
    assert caught.value.problems == ("a: one", "b: two")
    assert str(caught.value) == "2 problems:\n  a: one\n  b: two"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_arrives_as_itself(workers: int) -> None:
    with pytest.raises(KeyError, match="column"):
        results(jobs.a_bug, [0, 1], workers)


def test_a_bug_in_a_worker_shows_where_it_was_raised() -> None:
    with pytest.raises(KeyError) as caught:
        results(jobs.a_bug, [0, 1], 2)
    assert "in a_bug" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told_in_words_and_not_taken_for_a_killed_worker() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in awkward.*AwkwardError: this and that"):
        results(jobs.awkward, [0, 1], 2)


def test_a_killed_worker_is_a_run_error_that_says_what_to_do() -> None:
    with pytest.raises(RunError) as caught:
        results(jobs.killed, [0, 1], 2)
    assert str(caught.value) == (
        "engine.workers: a worker process was killed, most likely because memory ran out; "
        "lower engine.workers and run the same command again (finished work is kept)"
    )


def test_a_worker_that_ends_by_itself_is_not_said_to_lack_memory() -> None:
    with pytest.raises(RunError) as caught:
        results(jobs.ended, [0, 1], 2)
    assert str(caught.value).startswith("engine.workers: a worker process ended by itself (exit code 3)")
    assert '`if __name__ == "__main__":`' in str(caught.value)


def test_a_worker_that_is_gone_before_it_gets_its_job_is_the_same_error() -> None:
    from multiprocessing import Pipe, Process

    from curator.engine import local

    killed = Process(target=signal.pause)
    killed.start()
    killed.kill()
    ours, theirs = Pipe()
    theirs.close()
    with pytest.raises(RunError, match="a worker process was killed"):
        local._give(local.Worker(killed, ours), "a job")


def test_an_error_ends_the_jobs_that_still_run(tmp_path: Path) -> None:
    folders = [tmp_path / "failing", tmp_path / "sleeping"]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(DataError, match="the first job fails"):
        results(jobs.fail_or_sleep, [str(folder) for folder in folders], 2)
    assert_all_end(pids_in(tmp_path))


def test_leaving_the_results_early_ends_the_workers(tmp_path: Path) -> None:
    going = run_local(jobs.threads, list(range(20)), workers=2, threads=1, preload="curator.train.trainer")
    worker = next(going)[2]
    going.close()
    assert_all_end([worker])


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a worker that sleeps and one that waits, and a process group to itself."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.jobs", str(tmp_path)],
        cwd=root,
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    try:
        ready = lambda: (tmp_path / "idle").exists() and len(pids_in(tmp_path)) == 2  # noqa: E731
        wait_until(lambda: ready() or process.poll() is not None)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_workers_end_when_their_parent_is_killed(parent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    workers = pids_in(tmp_path)
    assert len(workers) == 2
    os.kill(parent.pid, signal.SIGKILL)
    assert_all_end(workers)


def test_ctrl_c_ends_the_workers_quietly_and_raises_here(parent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    workers = pids_in(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == -signal.SIGINT
    assert errors.decode().strip().endswith("KeyboardInterrupt")
    assert errors.decode().count("Traceback") == 1, "a worker told of the interrupt too"
    assert_all_end(workers)


def test_threads_left_open_share_the_cores() -> None:
    assert resolved_threads(Engine(workers=1)) == cores()
    assert resolved_threads(Engine(workers=2 * cores())) == 1
    assert resolved_threads(Engine(workers=2, threads=3)) == 3


def test_the_runner_of_a_recipe_runs_with_its_threads(tmp_path: Path) -> None:
    run = runner(Engine(workers=1, threads=1), preload="curator.train.trainer", folder=tmp_path)
    assert [found[:2] for found in run(jobs.threads, [0])] == [("1", 1)]


def test_threads_reach_a_library_that_is_loaded_already() -> None:
    import torch

    set_threads(2)
    assert torch.get_num_threads() == 2


BARS = """
from curator.engine.local import run_local
from tests.engine import jobs

print(sorted(run_local(jobs.with_a_bar, [3, 4], workers=2, threads=1, preload="curator.train.trainer")))
"""


def test_workers_leave_no_semaphore_of_the_system_behind() -> None:
    done = subprocess.run([sys.executable, "-c", BARS], capture_output=True, text=True, check=True)
    assert done.stdout == "[3, 4]\n"
    assert "leaked" not in done.stderr


def pids_in(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.rglob("*.pid")]


def built_in(folder: Path, root: Path, *settings: str) -> str:
    """What `python -m curator build` says of a small grid that it is called for in a folder."""
    options = [*SMALL, "verify.arms=[curated, random]", "verify.seeds=1", *settings]
    command = [sys.executable, "-m", "curator", "build", str(QUICKSTART), "--out", str(root), "--until", "answer"]
    command += [word for setting in options for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_build_runs_no_code_of_the_folder_one_stands_in(tmp_path: Path) -> None:
    """Neither the command, nor its workers, nor the processes of one training."""
    settings = ("engine.workers=2", "engine.threads=1", "verify.align.processes=2", "verify.align.micro_batch=16")
    assert "2 aligned and 2 fine-tuned models" in built_in(trap(tmp_path / "here"), tmp_path / "run", *settings)


@pytest.mark.slow
@pytest.mark.long  # two minutes, nearly all of them Ray's; what runs here without it is in the default suite
def test_a_build_by_ray_runs_no_code_of_the_folder_one_stands_in(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    settings = ("engine.kind=ray", "engine.workers=2", "engine.threads=1")
    assert "2 aligned and 2 fine-tuned models" in built_in(trap(tmp_path / "here"), tmp_path / "run", *settings)


def test_children_look_where_curator_is_and_nothing_is_left_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    # In the folder of a checkout, that folder is where curator is found, and stays so.
    for folder, path, variable in (
        (tmp_path, ["/elsewhere"], "/elsewhere"),
        (PACKAGE, [str(PACKAGE), "/elsewhere"], f"{PACKAGE}{os.pathsep}/elsewhere"),
    ):
        monkeypatch.chdir(folder)
        with own_code():
            assert (sys.path, os.environ["PYTHONPATH"]) == (path, variable)
            assert os.environ["PYTHONSAFEPATH"] == "1"
        assert (sys.path, os.environ["PYTHONPATH"]) == (["", "/elsewhere"], "/elsewhere")
        assert "PYTHONSAFEPATH" not in os.environ
