"""Tokens that are drawn: from the model's own distribution, and the same whatever is at work beside a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from curator.model import greedy as greedy_module
from curator.model.draws import BLOCK, Sampling
from curator.model.greedy import joinable
from tests.model.test_greedy import ENDS, FAMILIES, NEW, SYSTEM, WHOLE, ask, model, rows

SEEDS = [100 + number for number in range(13)]


def test_tokens_come_as_often_as_the_distribution_says():
    logits = torch.tensor([1.0, -torch.inf, 0.0, 2.5, -1.0])
    draws = 40_000
    numbers = torch.from_numpy(np.random.default_rng(1).random(draws))
    for temperature in (0.5, 1.0, 3.0):
        tokens = Sampling(temperature, []).tokens(logits.expand(draws, -1), numbers)
        counts = np.bincount(tokens.numpy(), minlength=5)
        shares = (logits.double() / temperature).softmax(-1).numpy()
        assert counts[1] == 0
        sure = shares > 0
        assert stats.chisquare(counts[sure], draws * shares[sure]).pvalue > 0.001
    # A temperature that is not used would not be seen in any one of them.
    assert Sampling(0.01, []).tokens(logits.expand(draws, -1), numbers).unique().tolist() == [3]


def test_the_ends_of_the_distribution_are_drawn_and_nothing_beyond():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    assert Sampling(1.0, []).tokens(logits, ends).tolist() == [1, 2]


def test_a_row_has_its_own_numbers_whichever_way_they_are_asked_for():
    sampling, cpu = Sampling(1.0, [3, 4]), torch.device("cpu")
    whole = sampling.numbers([0, 1], [0, 0], 2 * BLOCK + 5, cpu)
    assert whole.shape == (2, 2 * BLOCK + 5)
    assert len(set(whole.flatten().tolist())) == whole.numel()
    for at in (0, 7, BLOCK - 1, 2 * BLOCK):
        assert torch.equal(sampling.numbers([1], [at], 5, cpu)[0], whole[1, at : at + 5])


def twin(made, row, seed, temperature):
    """The whole model anew for each token, by the cumulated distribution as a list."""
    said = []
    numbers = np.random.default_rng(seed).random(BLOCK)
    while len(said) < NEW and (not said or said[-1] not in ENDS):
        with torch.inference_mode():
            logits = made(torch.tensor([row + said])).logits[0, -1].double()
        shares = np.cumsum((logits / temperature).softmax(-1).numpy())
        said.append(next(token for token, share in enumerate(shares) if share > numbers[len(said)] * shares[-1]))
    return said


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_come_and_go_draw_what_each_draws_alone(family):
    made, asked = model(family), rows()
    assert joinable(made) == (family not in WHOLE)
    expected = [twin(made, row, seed, 0.7) for row, seed in zip(asked, SEEDS, strict=True)]
    assert expected != ask(family, asked)  # else nothing was drawn
    for batch in (1, 4, 64):
        assert ask(family, asked, batch=batch, sampling=Sampling(0.7, SEEDS)) == expected
    backwards = ask(family, asked[::-1], sampling=Sampling(0.7, SEEDS[::-1]))
    assert backwards[::-1] == expected
    prompted = [SYSTEM + row for row in asked[3:]]
    together = ask(family, prompted, sampling=Sampling(0.7, SEEDS[3:]))
    assert together == [twin(made, row, seed, 0.7) for row, seed in zip(prompted, SEEDS[3:], strict=True)]


def test_looking_at_several_steps_at_once_draws_the_same(monkeypatch):
    every = ask("llama", rows(), sampling=Sampling(0.7, SEEDS))
    monkeypatch.setitem(greedy_module.STEPS, "cpu", 5)  # as on a GPU
    assert ask("llama", rows(), sampling=Sampling(0.7, SEEDS)) == every


def test_other_seeds_draw_other_replies_to_the_same_row():
    row = rows(1)[0]
    replies = ask("llama", [row] * 6, sampling=Sampling(1.0, range(6)))
    assert len({tuple(reply) for reply in replies}) > 3
    assert ask("llama", [row] * 6, sampling=Sampling(1.0, [5] * 6)) == [replies[5]] * 6
