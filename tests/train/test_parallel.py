"""A training in several processes against the same in one; real processes over gloo, so most of it is slow."""

from __future__ import annotations

import multiprocessing.util
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
import transformers
from safetensors.torch import load_file

from curator.engine.local import run_local
from curator.errors import DataError, ModelError, RunError
from curator.recipe.training import Training
from curator.train import parallel
from curator.train.sft import _arguments, train
from tests import fakes
from tests.train.test_loss import EXPERTS, made

ROWS = fakes.conversations(
    13
)  # with 8 a step the second batch of an epoch is short, and the last process has none of it
SETTINGS = {"steps": 6, "batch": 8, "micro_batch": 2, "learning_rate": 1e-2, "schedule": "constant", "rank": 4}


def settings_of(method):
    """Without what the method does not read."""
    return {name: value for name, value in SETTINGS.items() if method != "full" or name != "rank"}


def fit(base, folder, checkpoints=(), rows=ROWS, **changes):
    section = Training(**{**settings_of(changes.get("method")), **changes})
    return train(
        rows, base=base, revision=None, adapters=(), tokenizer=fakes.tokenizer(), section=section, steps=section.steps,
        seed=5, folder=folder, key="verify.align", checkpoints=checkpoints,
    )  # fmt: skip


def assert_equal(found, wanted):
    assert found.losses == pytest.approx(wanted.losses, rel=1e-4)
    assert (found.rows, found.tokens, found.steps, found.dropped) == (
        wanted.rows,
        wanted.tokens,
        wanted.steps,
        wanted.dropped,
    )
    assert [step for step, _ in found.checkpoints] == [step for step, _ in wanted.checkpoints]
    folders = [(one.path, *(path for _, path in one.checkpoints)) for one in (found, wanted)]
    for pair in zip(*folders, strict=True):
        ours, theirs = (load_file(next(Path(path).glob("*.safetensors"))) for path in pair)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert (ours[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name


def trainings(folder):
    """Processes whose command line names a job below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            line, status = process.cmdline(), process.status()
        except psutil.Error:
            continue
        if status != psutil.STATUS_ZOMBIE and parallel.CHILD in line and any(str(folder) in word for word in line):
            found.append(process)
    return found


def gone(folder, within=20.0):
    limit = time.monotonic() + within
    while trainings(folder):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Where jobs of this test are put, so that its processes can be told from others."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    multiprocessing.util.get_temp_dir()  # once for the whole process, and sockets in a long path cannot be made
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_an_adapter_trained_in_two_processes_is_that_of_one(llama_folder, tmp_path, jobs, capfd):
    one = fit(llama_folder, tmp_path / "one")
    two = fit(llama_folder, tmp_path / "two", processes=2)
    assert_equal(two, one)
    assert two.peak_gib > 0.1
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["weights"]
    assert not list(jobs.iterdir())
    assert capfd.readouterr() == ("", "")
    assert gone(jobs, 0)


@pytest.mark.slow
def test_a_process_without_a_row_adds_nothing_to_the_loss_of_a_models_router(tmp_path, jobs):
    """Only blank rows are left for it."""
    made(transformers.MixtralConfig, **EXPERTS).save_pretrained(tmp_path / "base")
    settings = {"rows": ROWS[:1], "method": "full", "batch": 2, "micro_batch": 1, "steps": 2}
    one = fit(str(tmp_path / "base"), tmp_path / "one", **settings)
    two = fit(str(tmp_path / "base"), tmp_path / "two", processes=2, **settings)
    assert_equal(two, one)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_try_goes_on_to_the_weights_of_one(llama_folder, tmp_path, jobs):
    settings = {"method": "full", "steps": 16, "save_steps": 4, "learning_rate": 1e-3, "checkpoints": (2, 6, 15)}
    one = fit(llama_folder, tmp_path / "one", **settings)
    checkpoints = tmp_path / "two" / "checkpoints"

    def kill():
        while not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        trainings(jobs)[-1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RunError) as error:
        fit(llama_folder, tmp_path / "two", processes=2, **settings)
    killer.join()
    assert str(error.value) == (
        "verify.align.processes: one of the 2 training processes was killed (signal 9), most likely because "
        "memory ran out; lower verify.align.micro_batch or verify.align.processes and run the same command again. "
        "Finished work is kept"
    )
    assert gone(jobs, 0)
    assert not (tmp_path / "two" / "weights").exists()
    assert list(checkpoints.glob("checkpoint-*/trainer_state.json"))
    two = fit(llama_folder, tmp_path / "two", processes=2, **settings)
    assert_equal(two, one)


@pytest.mark.slow
def test_what_a_process_raises_is_raised_here_and_nothing_is_left(llama_folder, tmp_path, jobs):
    with pytest.raises(
        ModelError, match=r"^verify.align.learning_rate: training diverged at 1e\+30 \(the loss of step [23] is not fin"
    ):
        fit(llama_folder, tmp_path / "two", processes=2, method="full", learning_rate=1e30)
    assert not list((tmp_path / "two").iterdir())
    assert gone(jobs, 0)


@pytest.mark.slow
def test_workers_of_the_local_engine_train_in_several_processes_too(llama_folder, tmp_path, jobs):
    one = fit(llama_folder, tmp_path / "one")
    work = partial(fit, llama_folder, processes=2)
    # These workers are daemons, which may not have children by multiprocessing.
    found = run_local(work, [tmp_path / "two", tmp_path / "three"], workers=2, threads=1, preload="curator.train.sft")
    for several in found:
        assert_equal(several, one)
    assert gone(jobs, 0)


def test_a_process_that_ends_without_an_error_tells_its_last_line_and_nothing_is_printed(jobs, monkeypatch, capfd):
    monkeypatch.setattr(parallel, "CHILD", "curator.nowhere")
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(
        RunError, match=r"ended without a result \(exit code 1, .*No module named curator.nowhere\); set it to 1"
    ):
        parallel.train_apart({}, processes=2, key="verify.align")
    assert capfd.readouterr() == ("", "")
    assert handlers == {one: signal.getsignal(one) for one in handlers}


OWNER = """
import sys
from curator.train import parallel
parallel.train_apart({"rows": []}, processes=2, key="verify.align")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_all_end_with_the_process_that_asked_for_them(jobs, how):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], env={**os.environ, "TMPDIR": str(jobs)}, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 60
    while len(trainings(jobs)) < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
    owner.send_signal(how)
    assert owner.wait(20) != 0
    assert gone(jobs)


@pytest.mark.parametrize(
    "error",
    [
        DataError("verify.align.max_tokens: none of the 3 rows"),
        ModelError("verify.align.micro_batch: out of memory (no room); lower it"),
    ],
)
def test_of_several_errors_the_one_a_user_can_act_on_is_raised_and_else_the_first(monkeypatch, error):
    lost = RuntimeError("Connection closed by peer")
    told = [parallel.Failure(lost, "a trace", 1.0), parallel.Failure(error, "the trace", 2.0)]

    def launch(folder, processes):
        for rank, one in enumerate(told[:processes]):
            (folder / f"error-{rank}").write_bytes(pickle.dumps(one))
        return [parallel.Ended(1, "ImportError: no torch"), parallel.Ended(-signal.SIGTERM, "")]

    monkeypatch.setattr(parallel, "_launch", launch)
    with pytest.raises(type(error)) as found:
        parallel.train_apart({}, processes=2, key="verify.align")
    assert str(found.value) == str(error)
    assert "the trace" in str(found.value.__cause__)
    told[1] = parallel.Failure(ValueError("later"), "", 2.0)
    with pytest.raises(RuntimeError, match="Connection closed"):
        parallel.train_apart({}, processes=2, key="verify.align")
    told.clear()
    with pytest.raises(RunError, match=r"ended without a result \(exit code 1, ImportError: no torch\); set it to 1"):
        parallel.train_apart({}, processes=2, key="verify.align")


def test_fewer_gpus_than_processes_are_told_before_any_is_started(monkeypatch):
    monkeypatch.setattr(parallel, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RunError, match=r"^verify.align.processes: found 2, but this machine shows 1 GPU,"):
        parallel.train_apart({}, processes=2, key="verify.align")


def test_one_process_takes_one_gpu_of_several_and_keeps_its_batch(tmp_path, monkeypatch):
    import transformers

    def two_gpus(self):
        self._n_gpu, self.distributed_state = 2, None
        return torch.device("cpu")

    monkeypatch.setattr(transformers.TrainingArguments, "_setup_devices", property(two_gpus))
    settings = _arguments(Training(**SETTINGS), 6, 5, tmp_path, dtype="fp32", saves=False, tracker=None)
    assert (settings.n_gpu, settings.train_batch_size) == (1, 8)


@pytest.mark.parametrize(("rows", "batch", "processes"), [(13, 8, 2), (8, 8, 2), (5, 12, 4), (1, 6, 3), (24, 24, 3)])
def test_every_step_deals_out_the_rows_of_one_process_in_full_batches_of_like_length(rows, batch, processes):
    from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
    from torch.utils.data import BatchSampler

    from curator.train.trainer import Order

    blank = -rows % batch
    lengths = [10 + 7 * row % 11 for row in range(rows)] + [2] * blank
    for epoch in (0, 1):
        alone = SeedableRandomSampler(range(rows), data_seed=5, generator=torch.Generator())
        alone.set_epoch(epoch)
        wanted = list(alone)
        dealt = []
        for rank in range(processes):
            order = Order(lengths, blank=blank, batch=batch, processes=processes, seed=5)
            order.set_epoch(epoch)
            sampler = BatchSampler(order, batch // processes, drop_last=False)
            dealt.append(list(BatchSamplerShard(sampler, num_processes=processes, process_index=rank)))
        assert {len(batches) for batches in dealt} == {-(-rows // batch)}
        assert {len(part) for batches in dealt for part in batches} == {batch // processes}
        for step in range(-(-rows // batch)):
            parts = [batches[step] for batches in dealt]
            real = [row for part in parts for row in part if row < rows]
            assert sorted(real) == sorted(wanted[step * batch : (step + 1) * batch])
            sums = [sum(lengths[row] for row in part) for part in parts]
            taken = [lengths[row] for part in parts for row in part]
            assert max(sums) - min(sums) <= max(taken) - min(taken)
