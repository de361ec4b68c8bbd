"""`select.answers` and the arm `random-capped`, by the user's own commands on the sandbox."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from curator.errors import RecipeError, SelectionError
from curator.recipe.select import Select, rows_wanted
from curator.records import Scores, Vectors
from curator.run.files import load_arms
from curator.selection.bounds import caps_of
from curator.selection.stage import choose
from tests.selection.test_stage import Run, invoke
from tests.small_run import recipe


@pytest.fixture(scope="module")
def run(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    heavy = shutil.ignore_patterns("*.safetensors")
    return Run(shutil.copytree(plain_run, tmp_path_factory.mktemp("runs") / "capped", ignore=heavy))


def most(run: Run, ids: tuple[str, ...]) -> dict[str, int]:
    """How many of the rows share one opener, and one answer, at most."""
    traits = pl.read_parquet(run.root / "1-pool" / "traits.parquet").filter(pl.col("id").is_in(ids))
    return {name: max(Counter(traits[name]).values()) for name in ("opener", "answer")}


def test_no_more_rows_share_an_opener_or_an_answer_than_the_recipe_allows(run: Run) -> None:
    free = most(run, run.choose().ids)
    assert free["opener"] > 4
    assert free["answer"] > 2
    found = run.choose("select.answers={max_same: 0.1, max_opener: 0.2}")
    assert len(found.ids) == 20
    assert most(run, found.ids) == {"opener": 4, "answer": 2}
    found = run.choose("select.answers={max_same: null, max_opener: 0.2}")
    assert most(run, found.ids)["opener"] == 4
    quotas = run.choose("select.answers={max_same: 0.1, max_opener: 0.2}", "select.quotas={max: 5}")
    assert most(run, quotas.ids)["opener"] <= 4
    assert max(run.counts(quotas, "category").values()) <= 5
    text = invoke("show", str(run.root), "--why", next(
        row["id"] for row in pl.read_parquet(run.root / "4-select" / "others.parquet").to_dicts()
        if row["barred"] == "answer"))  # fmt: skip
    assert "The set already has the most rows with its answer that the cap allows." in text


def test_an_impossible_cap_is_named_by_its_key_with_the_largest_k(run: Run) -> None:
    traits = pl.read_parquet(run.root / "1-pool" / "traits.parquet")
    openers = traits["opener"].n_unique()
    with pytest.raises(SelectionError) as error:
        run.choose(f"select.k={openers * 3}", "select.answers={max_same: null, max_opener: 0.001}")
    assert str(error.value).startswith(
        f"select.k: {openers * 3} is impossible because of select.answers.max_opener (share 0.001, at most 1 row of "
        f"one label); lower k to at most {openers}, or raise select.answers (null switches a cap off)"
    )
    assert len(run.choose(f"select.k={openers}", "select.answers={max_same: null, max_opener: 0.001}").ids) == openers


def test_random_sets_within_the_caps_are_drawn_anew_at_every_seed_without_the_quotas(run: Run) -> None:
    arms = "verify.arms=[curated, random, random-capped, none]"
    quotas = "select.quotas={max: 3}"
    run.choose("select.answers={max_same: 0.05, max_opener: 0.1}", quotas, arms, "verify.control=random-capped")
    sets = {
        (arm, seed): tuple(part["id"])
        for (arm, seed), part in load_arms(run.root / "4-select").group_by("arm", "seed", maintain_order=True)
    }
    capped = [sets["random-capped", seed] for seed in range(3)]
    category = dict(run.rows.select("id", "category").iter_rows())
    for ids in capped:
        assert len(set(ids)) == 20
        assert most(run, ids) == {"opener": 2, "answer": 1}
    assert len(set(capped)) == 3
    assert set(capped[0]) != set(sets["random", 0])
    assert max(Counter(category[row_id] for ids in capped for row_id in ids).values()) > 9  # three times the quota


def test_what_a_choice_did_is_shown_beside_random_sets_within_the_caps_in_the_order_of_the_arms(run: Run) -> None:
    caps = "select.answers={max_same: 0.05, max_opener: 0.1}"

    def shown() -> list[str]:
        record = json.loads((run.root / "4-select" / "done.json").read_text())["record"]
        return [each["set"] for each in record["composition"]]

    run.choose(caps, "verify.arms=[curated, random, random-capped]")
    assert shown() == ["pool", "curated", "random", "random-capped"]
    run.choose(caps, "verify.arms=[curated, random]")
    assert shown() == ["pool", "curated", "random", "random-capped"]
    assert set(load_arms(run.root / "4-select")["arm"]) == {"curated", "random"}  # shown, and not trained on
    run.choose("select.answers=null", "verify.arms=[curated, random]")
    assert shown() == ["pool", "curated", "random"]


def test_under_a_budget_random_sets_within_the_caps_keep_both(run: Run) -> None:
    arms = "verify.arms=[curated, random, random-capped, none]"
    found = run.choose("select.k=null", "select.budget_tokens=300", "select.answers={max_opener: 0.1}", arms)
    tokens = dict(run.rows.select("id", "tokens").iter_rows())
    rows = rows_wanted(Select(budget_tokens=300), run.rows["tokens"])
    assert most(run, found.ids)["opener"] <= max(1, int(0.1 * rows))
    for (arm, _), part in load_arms(run.root / "4-select").group_by("arm", "seed"):
        if arm == "random-capped":
            assert sum(tokens[row_id] for row_id in part["id"]) <= 300
            assert most(run, tuple(part["id"]))["opener"] <= max(1, int(0.1 * rows))


def test_answers_that_are_equal_word_for_word_count_under_one_opener() -> None:
    traits = pl.DataFrame({"id": list("abcd"), "opener": ["i can t", "i cant do", "no", "no"], "answer": list("xxyz")})
    caps = caps_of(Select(k=2, answers={}).answers, traits, tuple("dcba"))
    assert caps == {"answer": (["z", "y", "x", "x"], 0.02), "opener": (["no", "no", "i can t", "i can t"], 0.05)}
    assert caps_of(None, None, ()) == {}
    rows = pl.DataFrame({"id": list("abcd"), "category": ["c"] * 4, "tokens": [3] * 4})
    scores = Scores(tuple("abcd"), "s", np.arange(4.0), {}, {}, 0, 3)
    given = rows, Vectors(tuple("abcd"), np.eye(4, dtype=np.float32), "made-up"), scores
    section = Select(k=2, answers={})
    found = choose(section, *given, weight=1.0, task_cover=None, seed=0, traits=traits)
    assert found.selection.ids == ("a", "c")


def test_what_the_caps_cannot_go_with_is_refused_in_words() -> None:
    with pytest.raises(RecipeError, match=r"arm 'random-capped' is a random set within the caps of select\.answers"):
        recipe("verify.arms=[curated, random, random-capped]")
    nothing = "select.answers={max_same: null, max_opener: null}"
    with pytest.raises(RecipeError, match=r"does not set; add select\.answers, or remove the arm"):
        recipe("verify.arms=[curated, random, random-capped]", nothing)
    with pytest.raises(ValidationError, match="answers chooses rows, and data gives them"):
        Select(data={"file": "a.jsonl"}, answers={})
    with pytest.raises(ValidationError, match="greater than 0"):
        Select(k=2, answers={"max_same": 0})
    assert json.loads(Select(k=2, answers={}).model_dump_json())["answers"] == {"max_same": 0.02, "max_opener": 0.05}


def test_caps_that_strata_cannot_meet_are_told_in_words_of_within(run: Run) -> None:
    with pytest.raises(SelectionError, match=r"^select\.within: its strata need 20 rows") as refused:
        run.choose("select={k: 20, weight: 0.3, within: [refusal], answers: {max_same: null, max_opener: 0.05}}")
    assert "quotas" not in str(refused.value)
    assert "minima" not in str(refused.value)
