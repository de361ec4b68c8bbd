"""Features of format on texts whose features are plain to see, and how alike the sandbox's rows are by them."""

from __future__ import annotations

from functools import cache
from math import log, log1p

import numpy as np
import pytest

from curator.represent.encoder import Texts
from curator.sandbox import rows
from curator.score.cosine import cosine
from curator.score.format import ANSWER, FARTHEST, FEATURES, PROMPT, features, formats
from tests.fakes import turns

MASS = {"list": 1.0, "dialogue": 0.0, "letter": 0.0}


def of(prompt, answer):
    return dict(zip(FEATURES, features(turns(prompt, answer)), strict=True))


def test_each_feature_tells_what_it_is_called_after():
    """Each is looked at beside a text that differs in nothing else."""
    plain = of("the gull", "gulls eat fish. gulls fly.")
    prompts = {
        "question mark": ("the gull?", 1.0), "wh-word opening": ("Please, what gull", 1.0),
        "imperative opening": ("Could you describe gulls", 1.0), "politeness": ("please the gull", 1.0),
        "lines": ("the\ngull", log1p(1)), "format words": ("gull list", 1 / 2), "words": ("the gull there", log1p(3)),
    }  # fmt: skip
    answers = {
        "bullets": ("- fish\n- sand\n* air", log1p(3)), "numbered items": ("1. fish\n2) sand", log1p(2)),
        "code": ("```fish```", 1.0), "marks": ("**fish** and\n# sand", log1p(3)), "quotes": ('"fish"', 2 / 1),
        "commas": ("fish, sand, air", 2 / 3), "colons": ("fish: sand", 1 / 2), "lines": ("fish\nsand\nair", log1p(2)),
        "question marks": ("fish? sand?", log1p(2)), "exclamation marks": ("fish! sand", log1p(1)),
        "digits": ("12ab", 1 / 2), "capitals": ("ABcd", 1 / 2), "different words": ("fish fish sand", 2 / 3),
        "first person": ("I eat my fish", 2 / 4), "words": ("fish sand", log1p(2)), "letters a word": ("ab abcd", 3.0),
        "paragraphs": ("fish\n\nsand", log1p(1)), "words a sentence": ("a b. c d.", log1p(2)),
    }  # fmt: skip
    assert prompts.keys() == PROMPT.keys()
    assert answers.keys() == ANSWER.keys()
    for name, (prompt, value) in prompts.items():
        assert of(prompt, "gulls eat fish.")[f"prompt: {name}"] == pytest.approx(value), name
        assert plain[f"prompt: {name}"] != pytest.approx(value), name
    for name, (answer, value) in answers.items():
        assert of("the gull", answer)[f"answer: {name}"] == pytest.approx(value), name
        assert plain[f"answer: {name}"] != pytest.approx(value), name
    assert plain["answer to prompt"] == pytest.approx(log(5 / 2))


def test_a_refusal_is_told_by_nothing_but_how_it_looks():
    """Two answers that look alike in every feature are alike, be one a refusal or not."""
    assert of("how", "sorry, that does not fly.") == of("how", "often, that does now fly.")


@pytest.mark.parametrize(
    ("prompt", "answer"), [("", ""), ("?", "..."), ("\u4f60\u597d", "\u9c7c\u3002"), (" ", "\n\n\n")]
)
def test_every_text_has_finite_features(prompt, answer):
    assert np.isfinite(features(turns(prompt, answer))).all()


def texts(prefix, given):
    return Texts([f"{prefix}{number:04d}" for number in range(len(given))], [row["messages"] for row in given])


@cache
def sandbox():
    """The benign rows of every family, and three tasks."""
    return rows("keep"), {task: rows(task)[:200] for task in MASS}


def similarity(aggregate="top-mean", answers=None):
    keep, tasks = sandbox()
    given = keep if answers is None else [{"messages": [*row["messages"][:-1], answers(row)]} for row in keep]
    pool, vectors = formats(texts("k", given), {name: texts(name, task) for name, task in tasks.items()}, MASS)
    return cosine(pool, vectors, MASS, aggregate=aggregate)


@pytest.mark.parametrize("aggregate", ["top-mean", "mean"])
def test_rows_in_the_format_of_a_task_are_nearer_to_it_than_rows_in_any_other(aggregate):
    keep, _ = sandbox()
    families = np.array([row["family"] for row in keep])
    found = similarity(aggregate)
    for task in MASS:
        means = {name: found.tasks[task][families == name].mean() for name in sorted(set(families))}
        assert max(means, key=means.__getitem__) == task
        assert means[task] > sorted(means.values())[-2] + 0.1
    assert found.combined.min() >= -1.0
    assert found.combined.max() <= 1.0


def test_what_an_answer_is_about_does_not_matter_to_its_format():
    """Every noun and material of a list changed into another word of its length."""
    keep, _ = sandbox()
    swapped = str.maketrans("bcdfgklmnprstvw", "cdfgklmnprstvwb")
    other = {"role": "assistant"}
    moved = similarity(answers=lambda row: other | {"content": row["messages"][-1]["content"].translate(swapped)})
    plain = similarity()
    assert any("1 " in row["messages"][-1]["content"] for row in keep)
    np.testing.assert_allclose(moved.combined, plain.combined, atol=0.1)
    assert np.corrcoef(moved.combined, plain.combined)[0, 1] > 0.99


def test_the_order_of_rows_changes_no_vector():
    keep, tasks = sandbox()
    whole, named = texts("k", keep), {name: texts(name, task) for name, task in tasks.items()}
    turned = Texts(whole.ids[::-1], whole.rows[::-1])
    backwards = {name: Texts(task.ids[::-1], task.rows[::-1]) for name, task in named.items()}
    first, again = formats(whole, named, MASS), formats(turned, backwards, MASS)
    assert first[0].matrix.tolist() == again[0].matrix[::-1].tolist()
    assert first[1]["list"].matrix.tolist() == again[1]["list"].matrix[::-1].tolist()


def test_a_task_of_no_weight_decides_no_vector_of_the_pool():
    keep, tasks = sandbox()
    named = {name: texts(name, task) for name, task in tasks.items()}
    pool = texts("k", keep)
    alone = formats(pool, {"list": named["list"]}, {"list": 1.0})[0]
    np.testing.assert_allclose(alone.matrix, formats(pool, named, MASS)[0].matrix, atol=1e-6)


def test_one_odd_row_is_not_far_from_everything():
    given = [
        *({"messages": turns("the gull", "gulls fly.")} for _ in range(50)),
        {"messages": turns("x", "!" * 10_000)},
    ]
    pool, tasks = formats(texts("p", given), {"t": texts("t", given[:3])}, {"t": 1.0})
    lengths = np.abs(pool.matrix[:, :-1] / pool.matrix[:, -1:])
    assert lengths.max() == pytest.approx(FARTHEST)
    assert (tasks["t"].matrix == pool.matrix[0]).all()
    assert np.linalg.norm(pool.matrix, axis=1) == pytest.approx(np.ones(51), abs=1e-6)


def test_rows_that_all_look_alike_are_equal():
    given = texts("p", [{"messages": turns("the gull", "gulls fly.")}] * 4)
    pool, tasks = formats(given, {"t": given}, {"t": 1.0})
    assert cosine(pool, tasks, {"t": 1.0}, aggregate="mean").combined == pytest.approx(np.ones(4))
