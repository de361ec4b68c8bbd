"""What must hold on a GPU; `tests.gpu.run --dry` runs it on a CPU, so that only the hardware differs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from curator import neighbours
from curator.errors import ModelError
from curator.model.dtype import chosen
from curator.model.load import device, load_model, load_tokenizer, memory
from curator.pipeline import build
from curator.recipe.represent import Represent
from curator.recipe.training import Training
from curator.represent.gradients import signs
from curator.represent.vectors import represent
from curator.train.sft import train
from tests import fakes
from tests.small_run import recipe

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def where() -> str:
    if not torch.cuda.is_available() and not os.environ.get("CURATOR_GPU_DRY"):
        pytest.skip("torch finds no GPU")
    return device()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of 16 MiB, so that its weights are more than what torch keeps beside."""
    wide = {"hidden_size": 256, "intermediate_size": 1024, "head_dim": 128, "initializer_range": 0.05}
    return fakes.save(tmp_path_factory.mktemp("model"), **wide)


def test_what_auto_chooses_is_bf16_where_the_gpu_has_it(where: str) -> None:
    choice = chosen("auto", "sandbox:", where=where)
    assert choice.dtype == ("bf16" if where == "cuda" and torch.cuda.get_device_capability() >= (8, 0) else "fp32")


ROWS = fakes.conversations() * 4
IDS = [str(number) for number in range(len(ROWS))]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_piece_is_computed_on_the_device_and_says_so(where: str, workers: int, tmp_path: Path) -> None:
    settings = [f"engine.workers={workers}", "engine.threads=1", "verify.seeds=1", "verify.arms=[curated, random]"]
    build(recipe(*settings), tmp_path, until="answer")
    markers = [json.loads(path.read_text())["where"] for path in tmp_path.glob("[56]-*/*/**/done.json")]
    assert len(markers) >= 8
    gpu = where == "cuda"
    assert {marker["device"] for marker in markers} == {torch.cuda.get_device_name() if gpu else "cpu"}
    assert {marker["dtype"] for marker in markers} == {"bfloat16" if gpu else "float32"}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_second_training_takes_no_more_memory_than_the_first(
    where: str, llama: str, method: str, tmp_path: Path
) -> None:
    section = Training(method=method, learning_rate=1e-3, steps=3, batch=4, micro_batch=4, max_tokens=128)
    peaks, held = [], []
    for name in ("one", "two", "three"):
        trained = train(
            ROWS, base=llama, revision=None, adapters=(), tokenizer=load_tokenizer(llama), section=section, steps=3,
            seed=0, folder=tmp_path / name, key="verify.align", dtype="bf16" if where == "cuda" else "fp32",
        )  # fmt: skip
        peaks.append(trained.peak_gib)
        held.append(torch.cuda.memory_allocated() if where == "cuda" else 0)
    assert all(np.isfinite(peaks))
    if where == "cuda":
        assert max(peaks[1:]) <= 1.05 * peaks[0]
        assert max(held[1:]) <= held[0] + 2**20


def test_signs_of_projections_are_those_of_the_cpu(where: str) -> None:
    for width in (7, 64, 3000):
        assert torch.equal(signs(256, width, 17, where).cpu(), signs(256, width, 17))


@pytest.mark.parametrize("kind", ["hidden-states", "gradients"])
def test_vectors_are_those_of_the_cpu(where: str, llama: str, kind: str) -> None:
    section = Represent.model_validate({"from": kind, **({"dimensions": 512} if kind == "gradients" else {})})
    model, tokenizer = load_model(llama), load_tokenizer(llama)
    given = {"section": section, "tokenizer": tokenizer, "name": "it"}
    expected = represent(IDS, ROWS, model=model.to("cpu"), **given).matrix
    found = represent(IDS, ROWS, model=model.to(where), **given).matrix
    assert (found * expected).sum(axis=1).min() > 0.9999
    rounded = represent(IDS, ROWS, model=load_model(llama, dtype="bf16"), **given).matrix
    assert (rounded * expected).sum(axis=1).min() > (0.999 if kind == "hidden-states" else 0.98)


def test_similarity_and_graph_are_those_of_the_cpu(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((50, 96))[draw.integers(0, 50, 9000)] + draw.standard_normal((9000, 96))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    assert neighbours.device().startswith(where)
    found = neighbours.nearest(rows, rows[:300], 10)
    cells = neighbours.graph(rows, 20, exact_up_to=0)
    with monkeypatch.context() as patch:
        patch.setattr(neighbours, "device", lambda: "cpu")
        expected, cells_expected = neighbours.nearest(rows, rows[:300], 10), neighbours.graph(rows, 20, exact_up_to=0)
    assert np.allclose(found[0], expected[0], atol=1e-5)
    assert (found[1] == expected[1]).mean() > 0.999
    assert cells.recall == pytest.approx(cells_expected.recall, abs=0.01)
    assert cells.recall > 0.9


def test_asking_for_more_memory_than_there_is_says_which_setting_to_lower(where: str) -> None:
    with pytest.raises(ModelError, match=r"^verify.align.micro_batch: out of memory \(.*\); lower it"):  # noqa: SIM117
        with memory("verify.align.micro_batch"):
            torch.empty(2**50, dtype=torch.uint8, device=where)


def test_a_gpu_that_is_full_says_so_of_similarity(where: str) -> None:
    if where != "cuda":
        pytest.skip("a GPU has room that can be taken")
    if neighbours.device() != "cuda by torch":
        pytest.skip("faiss takes its memory by other means")
    torch.cuda.empty_cache()
    rows = np.zeros((200_000, 2048), dtype=np.float32)
    taken = torch.empty(torch.cuda.mem_get_info()[0] - 2**28, dtype=torch.uint8, device=where)
    with pytest.raises(ModelError, match="the GPU is out of memory"):
        neighbours.nearest(rows, rows[:50_000], 5)
    del taken


def test_a_faiss_for_gpus_in_place_of_the_other_finds_the_same(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if neighbours.device() != "cuda by faiss":
        pytest.skip("faiss here is the one for CPUs; pip uninstall faiss-cpu, then install one for GPUs")
    rows = np.random.default_rng(1).standard_normal((3000, 64)).astype(np.float32)
    found = neighbours.nearest(rows, rows, 10)
    monkeypatch.setattr(neighbours, "device", lambda: f"{where} by torch")
    assert np.allclose(found[0], neighbours.nearest(rows, rows, 10)[0], atol=1e-3)
