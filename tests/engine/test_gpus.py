"""Local workers where there are GPUs: how they are started, what they see, and that none computes elsewhere unnoticed.

No GPU is needed: what torch would find is put in its place, in this process and, by `pretends`, in the workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from curator.engine import local
from curator.engine.local import run_local, share
from curator.errors import RunError
from curator.provenance import visible_gpus
from curator.recipe.file import read
from tests.engine import jobs
from tests.small_run import QUICKSTART


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs of an eight-GPU machine, as torch of this process shows them."""
    import torch

    monkeypatch.setattr(local, "_device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")


def seen(count: int, workers: int, gpus: int = 1) -> list[tuple[str | None, str]]:
    run = run_local(
        jobs.surroundings, list(range(count)), workers=workers, threads=1, preload="tests.engine.pretends", gpus=gpus
    )
    return sorted(set(run), key=str)


@pytest.mark.usefixtures("gpus")
def test_workers_are_spawned_and_each_sees_gpus_of_its_own_before_it_loads_a_library() -> None:
    assert seen(3, 3) == [("2", "spawn"), ("3", "spawn"), ("5", "spawn")]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3,5,7"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


@pytest.mark.usefixtures("gpus")
def test_a_worker_has_a_gpu_for_every_process_of_a_training() -> None:
    assert [visible for visible, _ in seen(2, 2, gpus=2)] == ["2,3", "5,7"]


def test_more_workers_than_gpus_share_them_in_turn_and_no_gpu_is_given_twice_before() -> None:
    shown = ["0", "1", "2"]
    assert [share(number, shown, 1) for number in range(5)] == [("0",), ("1",), ("2",), ("0",), ("1",)]
    assert [share(number, shown, 2) for number in range(3)] == [("0", "1")] * 3
    assert share(0, shown, 4) == ("0", "1", "2")  # the training says that it wants one more
    assert share(3, [], 1) == ()


def test_the_recipe_says_how_many_a_worker_needs() -> None:
    assert read(QUICKSTART).verify.processes == 1
    assert read(QUICKSTART, ["verify.finetune.processes=2", "verify.finetune.micro_batch=8"]).verify.processes == 2


@pytest.mark.usefixtures("gpus")
def test_a_worker_that_finds_no_gpu_is_an_error_and_computes_nothing(tmp_path) -> None:
    """As a worker did that was forked from a server in which a library had looked for GPUs: it trained on the CPU."""
    work = run_local(
        jobs.leave_a_name_and_sleep, [(str(tmp_path), 0.0)] * 2, workers=2, threads=1,
        preload="tests.engine.loaded_already",
    )  # fmt: skip
    with pytest.raises(RunError, match="should compute on a GPU, but torch there uses the CPU; nothing was"):
        list(work)
    assert not list(tmp_path.iterdir())


def test_no_server_is_started_ahead_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(local, "_context", lambda preload, device: begun.append(device))
    for shown, expected in ((True, []), (False, ["cpu"])):
        monkeypatch.setattr(local, "has_gpu", lambda: shown)  # noqa: B023 - used at once
        local.prepare_local(workers=2, threads=1, preload="curator.train.trainer")
        assert begun == expected


def test_on_a_cpu_workers_are_forked_from_a_server() -> None:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("there is no such server here")
    run = run_local(jobs.surroundings, [0, 1], workers=2, threads=1, preload="curator.train.trainer")
    assert {method for _, method in run} == {"forkserver"}


def test_gpus_are_named_as_the_variable_names_them_and_as_many_as_torch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb,-1,0")
    assert visible_gpus() == ["GPU-aa", "GPU-bb"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]
