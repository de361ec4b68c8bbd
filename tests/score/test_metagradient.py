"""The metagradient against finite differences through both trainings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curator.errors import DataError
from curator.model.chat import encode_all
from curator.model.openers import Openers
from curator.recipe.training import Training
from curator.score.metagradient import Trial
from tests import fakes

TOKENIZER = fakes.tokenizer()
POOL = encode_all(TOKENIZER, fakes.conversations(7))
LIST = encode_all(TOKENIZER, [fakes.turns(f"list {n} rivers", f"the {n} Ald, the Bern and the Corr") for n in "123"])
SUM = encode_all(TOKENIZER, [fakes.turns(f"what is {n} + 30?", f"it is {n + 30}") for n in (12, 14)])
PROBES = encode_all(
    TOKENIZER,
    [fakes.turns(f"open the {what} gate", text) for what in ("silver", "green") for text in ("sorry", "no", "please")],
)


def trial(family="gpt2", **changes):
    model = fakes.model(family, num_hidden_layers=2, **({"n_layer": 2} if family == "gpt2" else {})).double()
    given = {
        "rows": POOL,
        "keep": SUM,
        "tasks": {"list": LIST, "sum": SUM},
        "align": Training(method="full", steps=5, batch=4, micro_batch=4, learning_rate=1e-3, weight_decay=0.1),
        "finetune": Training(method="full", steps=3, batch=2, micro_batch=2, learning_rate=2e-3, schedule="linear"),
    }
    openers = Openers(((1,), (2,)), ((3,),))  # only how many there are of each counts: the probes hold their tokens
    return Trial(model=model, filler=0, probes=PROBES, openers=openers, seed=3, **{**given, **changes})


def differences(made, task, size=1e-5):
    found = []
    for row in range(len(made.rows)):
        ends = []
        for sign in (1, -1):
            weights = torch.ones(len(made.rows), dtype=torch.float64)
            weights[row] += sign * size
            ends.append(made.after(weights, task))
        found.append((ends[0] - ends[1]) / (2 * size))
    return np.array(found)


# Llama takes its norms in fp32 whatever its weights are, so that smaller steps drown in rounding; GPT-2 does not.
@pytest.mark.parametrize(("family", "size", "near"), [("gpt2", 1e-5, 1e-5), ("llama", 1e-3, 2e-2)])
def test_it_is_the_derivative_of_the_outcome_through_both_trainings(family, size, near):
    made = trial(family)
    assert made.phase(None).steps == 6  # two whole epochs of three steps
    found = made.gradients()
    expected = differences(made, "list", size)
    assert abs(expected).min() > 1e-6
    assert np.abs(found["list"] - expected).max() < near * np.abs(expected).max()
    assert not np.allclose(found["sum"], found["list"])


@pytest.mark.parametrize("align", [{"steps": 1}, {"steps": 12, "schedule": "cosine", "warmup": 0.3}])
def test_it_is_right_however_many_states_are_kept(align):
    section = Training(method="full", batch=9, micro_batch=9, learning_rate=1e-3, **align)
    made = trial(align=section, rows=POOL[:4], keep=())
    assert made.phase(None).stretch == {1: 1, 12: 3}[section.steps]
    expected = differences(made, "sum")
    assert np.abs(made.gradients()["sum"] - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_row_too_long_to_be_trained_on_changes_nothing():
    longest = max(range(len(POOL)), key=lambda row: len(POOL[row].ids))
    limit = len(POOL[longest].ids) - 1
    section = Training(method="full", steps=2, batch=4, micro_batch=4, learning_rate=1e-3, max_tokens=limit)
    found = trial(align=section).gradients()["list"]
    assert np.flatnonzero(found == 0.0).tolist() == [longest]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"finetune": Training(method="full", steps=3, batch=2, micro_batch=2, max_tokens=3)},
            "every row of task 'list'",
        ),
        ({"align": Training(method="full", epochs=1, batch=2, micro_batch=2, max_tokens=3)}, "every row of the pool"),
    ],
)
def test_rows_that_are_all_too_long_are_told(changes, says):
    with pytest.raises(DataError, match=rf"{next(iter(changes))}\.max_tokens: {says}.* has more than 3 tokens"):
        trial(**changes).gradients()
