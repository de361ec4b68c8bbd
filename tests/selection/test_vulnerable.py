"""`select.vulnerable`: the stated share of rows that are forgotten most, alone and beside every other limit."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import RecipeError, SelectionError
from curator.recipe.limits import Vulnerable
from curator.recipe.select import Select
from curator.records import Scores, Selection, Vectors
from curator.report.markdown import markdown
from curator.report.model import read_report
from curator.run.readers import report_file
from curator.selection.explain import explain, why
from curator.selection.stage import Chosen, capped, choose
from curator.selection.vulnerable import most_forgotten, split
from tests.selection.selection_twins import facility, standard
from tests.selection.test_stage import Run, invoke
from tests.small_run import QUICKSTART, SMALL, recipe

IDS = [f"r{number:02d}" for number in range(12)]
ROWS = pl.DataFrame({"id": IDS, "category": ["a"] * 7 + ["b"] * 5, "source": ["s"] * 12, "tokens": [2] * 12})
TRAITS = pl.DataFrame(
    {
        "id": IDS,
        "refusal": ["refusal", "refusal", "other"] * 4,
        "opener": ["i cannot help"] * 6 + IDS[6:],
        "answer": IDS,
        "length": ["short", "long"] * 6,
    }
)
VULNERABLE = frozenset({"r00", "r03", "r04", "r08", "r10"})
FORGOTTEN = "score={from: forgetting, seeds: 1}"


def chosen(seed: int, **settings: Any) -> tuple[Chosen, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 4)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    score = rng.normal(size=12)
    found = choose(
        Select(weight=0.4, **settings), ROWS, Vectors(tuple(IDS), x, "made-up"),
        Scores(tuple(IDS), "s", score, {}, {}, -9, 9),
        weight=0.4, task_cover=None, seed=0, traits=TRAITS, vulnerable=VULNERABLE,
    )  # fmt: skip
    return found, x, score


def forgotten(selection: Selection) -> int:
    return len(VULNERABLE & set(selection.ids))


BESIDE: dict[str, dict[str, Any]] = {
    "alone": {},
    "answers": {"answers": {"max_same": None, "max_opener": 0.4}},
    "within": {"within": ["category"]},
    "within and answers": {"within": ["category"], "answers": {"max_same": None, "max_opener": 0.4}},
    "quotas": {"quotas": {"groups": {"a": {"max": 2}}}},
    "quotas of minima": {"quotas": {"min": 2}},
    "include": {"include": ["r01", "r04"], "exclude": ["r10"]},
    "within and include": {"within": ["category"], "include": ["r08"]},
}


# Of 3 rows of category a and 2 of b, how many are vulnerable: as near to equal shares as whole rows can be.
CELLS = {0: {}, 1: {"a": 1}, 3: {"a": 2, "b": 1}, 4: {"a": 2, "b": 2}}
WITH_R08 = {**CELLS, 1: {"b": 1}}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.8])
def test_the_share_is_exact_and_no_set_within_the_limits_is_above_the_bound(beside: str, share: float) -> None:
    parts = WITH_R08 if beside == "within and include" else CELLS

    def allowed(rows: tuple[int, ...]) -> bool:
        ids = {IDS[row] for row in rows}
        categories = Counter(ROWS["category"][row] for row in rows)
        openers = Counter(TRAITS["opener"][row] for row in rows)
        cells = Counter(ROWS["category"][row] for row in rows if IDS[row] in VULNERABLE)
        return (
            len(ids & VULNERABLE) == round(share * 5)
            and ("answers" not in beside or max(openers.values()) <= 2)
            and ("within" not in beside or (categories == {"a": 3, "b": 2} and cells == parts[round(share * 5)]))
            and (beside != "quotas" or categories["a"] <= 2)
            and (beside != "quotas of minima" or min(categories["a"], categories["b"]) >= 2)
            and (beside != "include" or ({"r01", "r04"} <= ids and "r10" not in ids))
            and (beside != "within and include" or "r08" in ids)
        )

    sets = [rows for rows in combinations(range(12), 5) if allowed(rows)]
    settings: dict[str, Any] = {"k": 5, "vulnerable": {"share": share}, **BESIDE[beside]}
    if not sets:
        with pytest.raises(SelectionError):
            chosen(0, **settings)
        return
    for seed in range(3):
        found, x, score = chosen(seed, **settings)
        cover, penalty = facility(x, 12), 0.4 / 5 * standard(score)
        values = {rows: cover(rows) - penalty[list(rows)].sum() for rows in sets}
        ours = tuple(sorted(IDS.index(row_id) for row_id in found.selection.ids))
        assert found.selection.value == pytest.approx(values[ours], abs=1e-6)
        if found.selection.bound is not None:
            assert found.selection.bound >= max(values.values()) - 1e-6
        assert sum(found.selection.group_counts.values()) == 5
        assert set(found.selection.group_counts) == {"a", "b"}


def test_alone_it_is_certified_as_quotas_are_and_changes_the_set() -> None:
    free, *_ = chosen(1, k=5)
    found, *_ = chosen(1, k=5, vulnerable={"share": 0.8})
    assert forgotten(free.selection) != 4
    assert forgotten(found.selection) == 4
    assert found.selection.bound is not None
    _, others = explain(*found)
    barred = dict(others.select("id", "barred").iter_rows())
    assert set(barred) == set(IDS) - set(found.selection.ids)  # both kinds are full
    assert all(kind == ("vulnerable" if row in VULNERABLE else "not vulnerable") for row, kind in barred.items())


def test_the_limit_that_keeps_a_row_out_is_told_by_the_recipes_setting() -> None:
    found, *_ = chosen(1, k=5, vulnerable={"share": 0.4}, quotas={"max": 5})
    frames = explain(*found)
    outside = sorted(VULNERABLE - set(found.selection.ids))[0]
    assert "The set already has its share of vulnerable rows." in why(*frames, outside)
    other = sorted(set(IDS) - VULNERABLE - set(found.selection.ids))[0]
    assert "its share of rows that are not vulnerable" in why(*frames, other)
    for settings, words in (
        ({"within": ["category"]}, "Its group already has the rows that within gives it."),
        (
            {"within": ["category"], "vulnerable": {"share": 0.4}},
            "Its group already has the rows that within and vulnerable together give it.",
        ),
        ({"quotas": {"max": 2}}, "Its group already has the most rows that its quota allows."),
    ):
        full, *_ = chosen(1, k=4, **settings)
        frames = explain(*full)
        assert any(why(*frames, row_id).endswith(words) for row_id in frames[1]["id"])
    none, *_ = chosen(1, k=5, vulnerable={"share": 0.0}, quotas={"max": 5}, exclude=["r03"])
    frames = explain(*none)
    assert why(*frames, "r00").endswith("The set already has its share of vulnerable rows.")
    assert why(*frames, "r03").endswith("The recipe excludes it.")


def test_shares_of_vulnerable_rows_are_not_caps_on_answers() -> None:
    found, *_ = chosen(1, k=5, vulnerable={"share": 0.8}, quotas={"max": 4})
    assert [cap.name for cap in found.bounds.caps.given] == ["vulnerable", "not vulnerable"]
    assert capped(found) is None
    found, *_ = chosen(1, k=5, vulnerable={"share": 0.4}, answers={"max_same": None, "max_opener": 0.4})
    within = capped(found)
    assert within is not None
    assert within(tuple(IDS)) == ("r00", "r01", *IDS[6:])  # six rows have one opener


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_largest_size_beside_quotas_is_named_with_the_recipes_key(share: float) -> None:
    quotas = {"groups": {"a": {"max": 4}, "b": {"max": 4}}}
    sizes = {}
    for k in range(1, 13):
        try:
            chosen(0, k=k, vulnerable={"share": share}, quotas=quotas)
            sizes[k] = ""
        except SelectionError as error:
            sizes[k] = str(error)
    possible = [k for k, words in sizes.items() if not words]
    assert 1 < max(possible) < 9
    assert possible == [*range(1, max(possible) + 1)]
    for k, words in sizes.items():
        if words:
            assert re.search(rf"^select\.k: {k} is impossible because of .*select\.vulnerable", words)
            assert f"lower k to at most {max(possible)}" in words
            assert "select.answers" not in words
    with pytest.raises(
        SelectionError, match=r"names 3 rows of .* vulnerable, but select\.vulnerable allows 2; .* change s"
    ):
        chosen(0, k=4, vulnerable={"share": 0.5}, quotas=quotas, include=["r00", "r03", "r04"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"exclude": ["r00", "r03", "r04"]},
            "select.vulnerable: of rows that are vulnerable, min is 4, but only 2 rows",
        ),
        (
            {"include": ["r01", "r02"]},
            r"^select\.include: names 2 rows that are not vulnerable, and vulnerable\.share allows 1; name fewer, or",
        ),
        (
            {"answers": {"max_same": None, "max_opener": 0.2}, "exclude": ["r10"]},
            r"^select\.vulnerable: share and top need 5 rows beside include, but no more than \d fit "
            r"select\.answers\.max_opener \(share 0\.2, at most 1 row of one label\); change share or top, or raise",
        ),
        ({"within": ["category"], "exclude": ["r08"]}, r"select\.vulnerable: share needs 5 .* allow 0 to 4"),
        ({"quotas": {"groups": {"b": {"max": 0}}}}, r"select\.vulnerable"),
    ],
)
def test_an_impossible_share_is_named_by_its_key(settings: dict[str, Any], words: str) -> None:
    share = 1.0 if "within" in settings or "quotas" in settings else 0.8
    with pytest.raises(SelectionError, match=words):
        chosen(0, k=5, vulnerable={"share": share}, **settings)


def test_rows_are_vulnerable_by_the_tasks_weights_and_equal_ones_by_id() -> None:
    scores = pl.DataFrame({"id": ["d", "c", "b", "a"], "f:one": [0.0, 1.0, 1.0, 0.5], "f:two": [9.0, 0.0, 0.0, 0.0]})
    half = Vulnerable(share=0.5, top=0.5)
    assert most_forgotten(half, scores, "f", {"one": 1.0, "two": 0.0}) == {"b", "c"}
    assert most_forgotten(half, scores, "f", {"one": 0.5, "two": 0.5}) == {"d", "b"}
    assert most_forgotten(Vulnerable(share=0.5, top=0.01), scores, "f", {"one": 1.0, "two": 0.0}) == {"b"}


def test_strata_have_about_equal_shares_of_vulnerable_rows() -> None:
    assert split({"a": 10, "b": 6, "c": 4}, {"a": (9, 9), "b": (9, 9), "c": (9, 9)}, 10) == {"a": 5, "b": 3, "c": 2}
    assert split({"a": 10, "b": 6}, {"a": (1, 20), "b": (6, 1)}, 6) == {"a": 1, "b": 5}
    assert split({"a": 0, "b": 2}, {"a": (0, 0), "b": (1, 1)}, 1) == {"a": 0, "b": 1}
    with pytest.raises(SelectionError, match="allow 5 to 7"):
        split({"a": 10, "b": 6}, {"a": (1, 20), "b": (6, 1)}, 4)


def test_strata_leave_room_for_the_rows_that_must_be_in_them() -> None:
    stock = {"a": (4, 4), "b": (4, 4)}
    assert split({"a": 3, "b": 2}, stock, 1) == {"a": 1, "b": 0}
    assert split({"a": 3, "b": 2}, stock, 1, {"a": (0, 0), "b": (1, 0)}) == {"a": 0, "b": 1}
    assert split({"a": 3, "b": 2}, stock, 3, {"a": (0, 2), "b": (0, 0)}) == {"a": 1, "b": 2}
    with pytest.raises(
        SelectionError, match="3 vulnerable rows, but the strata of within and include allow 0 to 2; ch"
    ):
        split({"a": 3, "b": 2}, stock, 3, {"a": (0, 2), "b": (0, 1)})
    with pytest.raises(SelectionError, match="include: names 3 rows of 'b', and within gives it 2; name fewer, or ch"):
        split({"a": 3, "b": 2}, stock, 1, {"a": (0, 0), "b": (1, 2)})


WRONG = [
    (["select.vulnerable={share: 0.2}"], "no score of the recipe says which they are; set score to {from: forgetting}"),
    (
        [FORGOTTEN, "select={budget_tokens: 900, vulnerable: {share: 0.2}}"],
        "select: vulnerable is only valid with k; remove it, or give k",
    ),
    (
        [FORGOTTEN, "select={k: 9, vulnerable: {share: 0.2}, quotas: {max: 3}, answers: {}}"],
        "quotas, answers and vulnerable together limit groups that cross in three ways",
    ),
    ([FORGOTTEN, "select.vulnerable={share: 1.2}"], "select.vulnerable.share"),
    ([FORGOTTEN, "select.vulnerable={share: 0.2, top: 1.0}"], "select.vulnerable.top"),
    (["select={data: {file: x.jsonl}, vulnerable: {share: 0.2}}"], "vulnerable chooses rows, and data gives them"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_a_share_that_cannot_be_read_is_refused(given: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*given)
    assert words in str(caught.value)


def test_check_names_shares_that_the_pool_is_too_small_for(tmp_path: Path) -> None:
    def problems(*settings: str) -> str:
        words = [part for each in (*SMALL, FORGOTTEN, *settings) for part in ("--set", each)]
        result = CliRunner().invoke(cli, ["check", str(QUICKSTART), "--out", str(tmp_path / "run"), *words])
        return f"{result.output} {result.exception}"

    few = problems("select.k=100", "select.vulnerable={share: 0.9, top: 0.1}")
    assert "select.vulnerable: share 0.9 of k (100) is 90 vulnerable rows, and top 0.1 of the pool" in few
    many = problems("select.k=100", "select.vulnerable={share: 0.0, top: 0.9}")
    assert "needs 100 other rows" in many
    assert "select.vulnerable" not in problems("select.k=20", "select.vulnerable={share: 0.5}")


@pytest.mark.slow
def test_a_run_holds_the_share_and_shows_it_beside_the_pools(plain_run: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(plain_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors")), FORGOTTEN)
    plain = run.build("select.weight=0.0")
    assert "vulnerable" not in plain
    assert "50% vulnerable rows (pool 25%)" in run.build("select.weight=0.0", "select.vulnerable={share: 0.5}")
    scores = pl.read_parquet(run.root / "3-scores" / "all.parquet").sort("forgetting/first-16:list", descending=True)
    top = set(scores["id"].head(round(0.25 * scores.height)))
    drawn = pl.read_parquet(run.root / "4-select" / "arms.parquet").filter(arm="curated", seed=0)
    assert len(top & set(drawn["id"])) == 10
    settings = [part for each in (*SMALL, FORGOTTEN, "select.weight=0.0", "select.vulnerable={share: 0.5}",
                                  "verify.seeds=2") for part in ("--set", each)]  # fmt: skip
    invoke("build", str(QUICKSTART), "--out", str(run.root), *settings)
    report = read_report(report_file(run.root))
    sets = {each.set: each for each in report.composition or ()}
    assert sets["curated"].vulnerable == 0.5
    assert sets["pool"].vulnerable == pytest.approx(0.25, abs=0.01)
    (head,) = [line for line in markdown(report).splitlines() if line.endswith("| vulnerable rows |")]
    (row,) = [line for line in markdown(report).splitlines() if line.startswith("| curated | 20 |")]
    assert row.count("|") == head.count("|")
    assert re.search(r"\| 50 ?% \|$", row)
