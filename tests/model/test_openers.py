"""How likely openers are, against a plain pass over one row and one opener at a time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from curator.errors import RecipeError
from curator.model import greedy as greedy_module
from curator.model.openers import Opened, Openers, Tree, openers_of
from tests.model.test_greedy import FAMILIES, SYSTEM, WHOLE, ask, model, rows, shapes

OPENERS = [(120,), (130, 140), (130, 150, 160), (130, 150, 170, 180), (200, 210, 220), (2,)]
ONE_BY_ONE = {*WHOLE, "gemma", "gemma3", "mistral", "bloom"}  # a short window, or positions that are not an input


def plainly(made, row, opener):
    """The sum of log-probabilities of an opener's tokens, from one unpadded pass without a cache."""
    with torch.inference_mode():
        logits = made(input_ids=torch.tensor([[*row, *opener]])).logits[0].float()
    steps = torch.log_softmax(logits, dim=-1)
    return sum(float(steps[len(row) - 1 + at, token]) for at, token in enumerate(opener))


def taken(family, asked, openers=OPENERS, **settings):
    opened = Opened(openers, len(asked))
    replies = ask(family, asked, opened=opened, **settings)
    return opened.log_probs, replies


@pytest.mark.parametrize("family", FAMILIES)
def test_an_opener_is_as_likely_as_a_plain_pass_says_and_no_reply_differs(family, monkeypatch):
    asked = rows()
    read, one_by_one = [], []
    tree, slow = Opened.read, greedy_module.Table._open
    monkeypatch.setattr(Opened, "read", lambda *given: (read.append(1), tree(*given)))
    monkeypatch.setattr(greedy_module.Table, "_open", lambda *given: (one_by_one.append(1), slow(*given)))
    expected = np.array([[plainly(model(family), row, opener) for opener in OPENERS] for row in asked])
    assert expected.std() > 0.5
    without = ask(family, asked)
    for batch in (1, 4, 64):
        found, replies = taken(family, asked, batch=batch)
        np.testing.assert_allclose(found, expected, atol=2e-4)
        assert replies == without
    backwards, _ = taken(family, asked[::-1])
    np.testing.assert_allclose(backwards[::-1], expected, atol=2e-4)
    # Where a window is longer than every row, the tree is read there too.
    assert bool(read) == (family not in WHOLE and family != "bloom")
    assert bool(one_by_one) == (family in ONE_BY_ONE)


def test_a_model_in_bf16_tells_them_in_fp32():
    rounded = copy.deepcopy(model("llama")).to(torch.bfloat16)
    asked, opened = rows(), Opened(OPENERS, len(rows()))
    ask(rounded, asked, opened=opened)
    expected = np.array([[plainly(rounded, row, opener) for opener in OPENERS] for row in asked])
    np.testing.assert_allclose(opened.log_probs, expected, atol=0.3)  # logits of 10 are known to 0.03 in bf16
    # Of logits that were rounded, probabilities still sum to 1.
    every = Opened([(token,) for token in range(320)], len(asked))
    ask(rounded, asked, opened=every)
    np.testing.assert_allclose(np.exp(every.log_probs).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_what_all_rows_begin_with_is_read_once_for_openers_too(family):
    asked = [SYSTEM + row for row in rows()[3:]]
    found, _ = taken(family, asked)
    expected = [[plainly(model(family), row, opener) for opener in OPENERS] for row in asked]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_openers_cost_one_pass_of_their_inner_tokens_and_none_where_each_is_one_token(monkeypatch):
    seen = shapes(monkeypatch, model("llama"))
    ask("llama", rows(), batch=64)
    without = seen.copy()
    seen.clear()
    taken("llama", rows(), [(120,), (130,)], batch=64)
    assert seen == without
    seen.clear()
    taken("llama", rows(), batch=64)
    begun = [count for count, tokens, _ in without if tokens > 1]
    nodes = len(Tree(OPENERS).nodes)
    assert nodes == 5
    assert [each for each in seen if each in without] == without
    assert [each for each in seen if each not in without] == [(count, nodes, nodes) for count in begun]


def test_a_model_that_answers_elsewhere_is_asked_for_one_token():
    found, replies = taken("llama", rows(), new=1)
    assert all(len(reply) == 1 for reply in replies)
    np.testing.assert_allclose(found, taken("llama", rows())[0], atol=1e-5)


def test_the_tree_holds_what_openers_share_once():
    tree = Tree([(1, 2, 3), (1, 2, 4), (1, 5), (6,)])
    assert tree.nodes == [(1,), (1, 2)]
    assert tree.ancestors == [[0], [0, 1]]
    assert tree.steps == {-1: ([0, 1, 2, 3], [1, 1, 1, 6]), 0: ([0, 1, 2], [2, 2, 5]), 1: ([0, 1], [3, 4])}


def test_the_odds_are_of_the_sums_of_both_sets():
    probabilities = np.array([[0.5, 0.25, 0.1], [0.1, 0.1, 0.4]])
    odds = Openers(((1,), (2,)), ((3,),)).odds(np.log(probabilities))
    np.testing.assert_allclose(np.exp(odds.refuse), [0.75, 0.2])
    np.testing.assert_allclose(odds.refuse - odds.comply, np.log([0.75 / 0.1, 0.2 / 0.4]))


def test_an_opener_that_another_begins_would_count_twice_and_goes():
    openers, dropped = openers_of([(1, 2, 3), (1, 2), (4,), (1, 2)], [(5,), (6, 7), (5, 8)])
    assert openers == Openers(((1, 2), (4,)), ((5,), (6, 7)))
    assert dropped == [(0, 0), (0, 3), (1, 2)]


@pytest.mark.parametrize(("refuse", "comply"), [([(1, 2)], [(3,), (1,)]), ([(1,)], [(1, 2)]), ([(1,)], [(1,)])])
def test_an_opener_of_one_set_that_begins_one_of_the_other_is_refused(refuse, comply):
    with pytest.raises(RecipeError, match="could count as both"):
        openers_of(refuse, comply)
