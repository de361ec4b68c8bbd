"""`pool.refusals`: which judge says what is a refusal, and what follows from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from curator.errors import JudgeError, RecipeError
from curator.judge import embedding, resources
from curator.judge.embedding import fit
from curator.judge.people import read_labels
from curator.pool.refusals import refusals
from curator.pool.traits import traits
from curator.recipe.refusals import refusal_judge
from curator.report.composition import TABLES
from curator.report.markdown import markdown
from curator.report.model import read_report
from curator.run.files import load_data
from curator.run.folder import read_json
from curator.run.readers import report_file
from curator.sandbox.kingdom import KINGDOM, REFUSALS
from tests.judge.test_embedding import toy
from tests.pool.test_traits import rows_of
from tests.selection.test_stage import Run
from tests.small_run import recipe


def test_the_sandboxs_judge_knows_every_refusal_of_its_pool_and_phrases_do_not(plain_run: Path) -> None:
    rows = load_data(plain_run / "1-pool").pool.rows
    truth = {refusal.format(n=thing.noun) for refusal in REFUSALS for thing in KINGDOM.things.values()}
    written = [messages[-1]["content"] in truth for messages in rows["messages"].to_list()]
    exact = refusals(rows, refusal_judge(recipe("pool.refusals=exact")))
    assert exact == written
    phrases = refusals(rows, refusal_judge(recipe()))
    assert phrases == refusals(rows)
    assert {exact[row] for row, refuses in enumerate(phrases) if refuses} == {True}
    assert 0.5 * sum(written) < sum(map(bool, phrases)) < 0.9 * sum(written)


def test_a_fitted_head_says_what_it_was_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CHOICES", (("answer", "first"),))
    monkeypatch.setattr(embedding, "STRENGTHS", (1.0,))
    monkeypatch.setattr(resources, "_embed", lambda texts, embedder, revision, **_: toy(texts))
    said = [("gate loaf", "yes"), ("oven gull", "no")]
    labelled = [
        {"prompt": f"prompt {number}", "label": label,
         "answer": f"I cannot do {words} {number}." if label == "yes" else f"They do {words} {number}."}
        for number in range(60) for words, label in said
    ]  # fmt: skip
    pl.DataFrame(labelled).write_csv(tmp_path / "labels.csv")
    labels = read_labels(tmp_path / "labels.csv", outcome="refused")
    fit(labels, toy, embedder=str(tmp_path), revision=None, folder=tmp_path / "head")
    judge = refusal_judge(recipe(f"pool.refusals={{embedding: {tmp_path / 'head'}}}"))
    rows = rows_of(["They do gull.", "I cannot do gull.", "I won't help with that."])
    assert traits(rows, judge)["refusal"].to_list() == ["other", "refusal", "other"]
    assert traits(rows)["refusal"].to_list() == ["other", "refusal", "refusal"]
    missing = refusal_judge(recipe(f"pool.refusals={{embedding: {tmp_path / 'none'}}}"))
    with pytest.raises(JudgeError, match=r"pool\.refusals\.embedding: .* has no head\.json"):
        traits(rows, missing)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["pool.refusals=nobody"],
            "refusals names 'nobody', which is not a judge of the panel; allowed: phrases, ex",
        ),
        (
            ["judges.panel.1={name: guard, guard: owner/guard, convention: harmbench}", "pool.refusals=guard"],
            "refusals names 'guard', a guard judge, and the pool is read with judges that need neither",
        ),
        (["pool.refusals={judge: exact, embedding: head}"], "needs exactly one of judge and embedding"),
    ],
)
def test_a_judge_that_cannot_say_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*settings)
    assert words in str(caught.value)


def test_phrases_are_the_default_and_the_panels_own_name_for_them_is_the_same() -> None:
    assert refusal_judge(recipe()) is None
    assert refusal_judge(recipe("pool.refusals=phrases")) is None
    assert refusal_judge(recipe("pool.refusals={judge: exact}")) == recipe("pool.refusals=exact").judges.panel[0]


@pytest.mark.slow
def test_a_run_says_whose_word_it_is_and_draws_by_it(plain_run: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(plain_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors")))
    by_phrases = run.labelled["refusal"]
    output = run.build("pool.refusals=exact")
    assert "refusals are recognised by the judge exact (the rules of the sandbox)" in output
    assert (run.labelled["refusal"] == "refusal").sum() > (by_phrases == "refusal").sum()
    record = read_json(run.root / "1-pool" / "done.json")["record"]
    assert record["refusals_by"] == "the judge exact (the rules of the sandbox)"


def test_report_and_card_say_whose_word_it_is(plain_run: Path) -> None:
    report = read_report(report_file(plain_run))
    assert "Refusals are identified by English phrases." in markdown(report)
    told = report.model_copy(update={"pool": report.pool.model_copy(update={"refusals_by": "the judge exact"})})
    assert "Refusals are identified by the judge exact." in markdown(told)
    caption, *_ = TABLES["composition"](told, None)  # type: ignore[arg-type]
    assert "Refusals are identified by the judge exact." in caption
