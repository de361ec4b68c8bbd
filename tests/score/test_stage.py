"""Which scores a recipe asks for, and the table that holds all of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curator.errors import DataError, ModelError, RecipeError
from curator.model.losses import answer_losses
from curator.pipeline import build
from curator.recipe import steps_taken
from curator.recipe.represent import names_of
from curator.recipe.score import AGGREGATES, KINDS, Score
from curator.records import Scores, Vectors
from curator.run import Run
from curator.score.cosine import cosine, rank_sum
from curator.score.halves import Workshop
from curator.score.models import QUESTIONS, Passes
from curator.score.stage import SCORERS, Compared, every_score, scored
from curator.train.job import Count
from tests.small_run import recipe

BOTH = "represent=[{from: hidden-states}, {from: hidden-states, token: end-of-prompt}]"
FORGETTING = "verify.forgetting={}"
SUM = "score={from: rank-sum, of: [{from: cosine, aggregate: mean}, {from: interference, size: 0.01}]}"


def unit(prefix, n, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    return Vectors(tuple(f"{prefix}{i}" for i in range(n)), matrix / np.linalg.norm(matrix, axis=1)[:, None], "made-up")


def taken(names, ids, tasks):
    """Interference of made-up values, rows in another order than the pool."""
    found = {}
    for number, name in enumerate(names):
        values = np.random.default_rng(number).normal(size=len(ids))
        found[name] = Scores(ids[::-1], name, values, dict.fromkeys(tasks, values), {}, -np.inf, np.inf)
    return found


def compared(names=(), seed=0):
    pool, tasks = unit("p", 30, seed), {"list": unit("l", 12, seed + 1), "odd": unit("o", 7, seed + 2)}
    return Compared(pool, tasks, {"list": 1.0, "odd": 0.0}, 6, taken(names, pool.ids, tasks))


def names_taken(r):
    return [f"interference/{one.step}-{one.size:g}-{one.rows}/{loss}" for one in steps_taken(r)
            for loss in ("whole", "first-token")]  # fmt: skip


def test_a_step_is_taken_once_and_only_where_somebody_asks():
    assert steps_taken(recipe()) == []
    assert [one.step for one in steps_taken(recipe(FORGETTING))] == ["sign", "gradient"]
    assert steps_taken(recipe("verify.forgetting={interference: false}")) == []
    assert [one.size for one in steps_taken(recipe(SUM))] == [0.01]
    both = steps_taken(recipe("score={from: interference, loss: whole}", FORGETTING))
    assert [(one.step, one.loss) for one in both] == [("sign", "whole"), ("gradient", "first-token")]


def test_every_kind_of_score_is_computed_and_reads_settings_that_there_are():
    assert KINDS.keys() == SCORERS.keys()
    settings = set(Score.model_fields) - {"kind"}
    assert {name for kind in KINDS.values() for name in kind.reads} == settings


def test_a_section_gives_the_score_it_names():
    r = recipe(SUM)
    given = compared(names_taken(r))
    found = scored(r.score, given)
    mean = cosine(given.pool, given.tasks, given.weights, aggregate="mean")
    expected = rank_sum([mean, given.interference["interference/sign-0.01-64/first-token"]])
    assert found.combined.tolist() == expected.combined.tolist()
    assert found.nearest == mean.nearest
    alone = recipe("score={from: interference, size: 0.01, loss: whole}").score
    assert scored(alone, given) is given.interference["interference/sign-0.01-64/whole"]


def test_every_score_stands_in_the_table_in_the_order_of_the_pool():
    r = recipe(BOTH, FORGETTING, "score.n=3")
    given = [compared(names_taken(r)), compared(names_taken(r), seed=5)]
    table = every_score(r, given)
    assert tuple(table["id"]) == given[0].pool.ids
    names = {column.rpartition(":")[0] for column in table.columns if column != "id"}
    size = {None: "", "n": "-3", "k": "-6"}
    per_representation = {f"cosine/{name}{size[aggregate.size]}" for name, aggregate in AGGREGATES.items()}
    assert {"cosine/max", "cosine/top-mean-3", "cosine/per-example-6"} <= per_representation
    per_representation.add("rank-sum(cosine/top-mean-3, interference/sign-0.001-64/first-token)")
    places = ("layer -1, last-completion", "layer -1, end-of-prompt")
    assert names == {f"{name}, {place}" for name in per_representation for place in places} | set(names_taken(r))
    assert table.width == 1 + 2 * len(names)
    for number, place in enumerate(places):
        one = given[number]
        expected = cosine(one.pool, one.tasks, one.weights, aggregate="max").tasks["odd"]
        assert table[f"cosine/max, {place}:odd"].to_list() == expected.tolist()
    interference = given[0].interference["interference/gradient-0.001-64/whole"]
    assert table["interference/gradient-0.001-64/whole:list"].to_list() == interference.tasks["list"][::-1].tolist()


def test_the_table_holds_what_the_recipe_selects_by():
    for setting in (SUM, "score={from: cosine, aggregate: per-example}", "score={from: interference, step: gradient}"):
        r = recipe(setting)
        given = compared(names_taken(r))
        found = scored(r.score, given)
        columns = [column for column in every_score(r, [given]).columns if column.startswith(found.name)]
        assert len(columns) == 2, setting
        order = [found.ids.index(one) for one in given.pool.ids]
        assert every_score(r, [given])[columns[0]].to_list() == found.tasks["list"][order].tolist()


def test_the_table_holds_what_a_bank_is_asked_about():
    asked = "{from: cosine, n: 4}, {from: rank-sum, of: [{from: cosine, n: 2}, {from: cosine, aggregate: mean}]}"
    by = ("score.n=3", f"verify.pilot.scores=[{asked}]")
    names = {}
    for way in ("select.by=bank", "select.weight=auto"):
        r = recipe("select.weight=null", way, *by)
        columns = every_score(r, [compared(names_taken(r))]).columns
        names[way] = {column.partition(", layer")[0] for column in columns}
    only = {"cosine/top-mean-4", "cosine/top-mean-2", "rank-sum(cosine/top-mean-2, cosine/mean)"}
    assert names["select.by=bank"] - names["select.weight=auto"] == only


def test_a_task_of_few_rows_is_no_hindrance_to_scores_that_nobody_selects_by():
    r = recipe("score={from: interference}")
    assert any(column.startswith("cosine/top-mean-7") for column in every_score(r, [compared(names_taken(r))]).columns)


def test_representations_that_are_called_alike_are_numbered():
    r = recipe(
        "represent=[{from: hidden-states}, {from: hidden-states, centre: false}, {from: hidden-states, layer: 1}]"
    )
    assert names_of(r.representations) == [
        "layer -1, last-completion (1)",
        "layer -1, last-completion (2)",
        "layer 1, last-completion",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["verify.forgetting={seeds: 4}"],
            r"forgetting\.seeds \(4\) is above the seeds of arm 'random' \(3\); lower it",
        ),
        ([FORGETTING, "verify.stage=rehearsal"], "stage rehearsal aligns none; set forgetting to null"),
        (["verify.forgetting={rows: 9}"], "found 9; allowed: 10 or more"),
    ],
)
def test_a_recipe_that_cannot_measure_forgetting_is_told(settings, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*settings)


def test_the_consensus_is_the_mean_rank_by_the_cosine_of_every_representation():
    parts = [compared(seed=0), compared(seed=7), compared(seed=21)]
    every = [(one.pool, one.tasks) for one in parts]
    section = Score(kind="consensus", aggregate="top-mean", n=3)
    found = scored(section, parts[0]._replace(representations=every))
    ranks = []
    for one in parts:
        values = cosine(one.pool, one.tasks, one.weights, aggregate="top-mean", n=3).tasks["list"]
        ranks.append([sum(other < value for other in values) / (len(values) - 1) for value in values])
    np.testing.assert_allclose(found.tasks["list"], np.mean(ranks, axis=0), atol=1e-12)
    assert (found.name, found.low, found.high) == ("consensus/top-mean-3", 0.0, 1.0)
    assert found.parameters["representations"] == 3
    assert set(found.nearest["list"]) <= set(parts[0].tasks["list"].ids)
    np.testing.assert_allclose(found.combined, found.tasks["list"])


def test_the_table_of_scores_holds_the_consensus_of_several_representations_once():
    parts = [compared(seed=0), compared(seed=7)]
    every = [(one.pool, one.tasks) for one in parts]
    table = every_score(recipe(BOTH, "score.n=3"), [one._replace(representations=every) for one in parts])
    agreed = [name for name in table.columns if name.startswith("consensus")]
    assert agreed == ["consensus/top-mean-3:list", "consensus/top-mean-3:odd"]
    one = every_score(recipe("score.n=3"), [parts[0]._replace(representations=every[:1])])
    assert not any(name.startswith("consensus") for name in one.columns)


@pytest.mark.parametrize("score", [
    "score={from: consensus}", "score={from: rank-sum, of: [{from: consensus}, {from: interference}]}",
])  # fmt: skip
def test_a_consensus_needs_several_representations(score):
    with pytest.raises(RecipeError, match="consensus needs several representations, and represent has one"):
        recipe(score)
    assert recipe(score, BOTH)


def several(*seeds):
    """What is compared by each of several representations, `layer -1, last-completion` the first."""
    parts = [compared(seed=seed) for seed in seeds]
    every = [(part.pool, part.tasks) for part in parts]
    names = names_of(recipe(BOTH).representations)
    return [part._replace(representations=every, names=names) for part in parts]


def test_a_score_is_of_the_representation_that_it_names_whichever_coverage_is_by():
    parts, name = several(0, 7), "layer -1, end-of-prompt"
    expected = scored(Score(n=3), parts[1])
    for part in parts:
        by_name = scored(Score(n=3, by=name), part)
        assert by_name.combined.tolist() == expected.combined.tolist()
        assert (by_name.name, by_name.parameters["by"]) == (f"cosine/top-mean-3, {name}", name)
    assert scored(Score(n=3), parts[0]).combined.tolist() != expected.combined.tolist()
    both = scored(Score(kind="rank-sum", of=[Score(n=3), Score(n=3, by=name)]), parts[0])
    assert both.combined.tolist() == rank_sum([scored(Score(n=3), part) for part in parts]).combined.tolist()


def test_the_table_of_scores_keeps_the_score_of_each_representation_where_one_is_named():
    parts, name = several(0, 7), "layer -1, end-of-prompt"
    r = recipe(BOTH, f"score={{n: 3, by: '{name}'}}")
    table = every_score(r, parts)
    assert table.columns == every_score(recipe(BOTH, "score.n=3"), parts).columns
    assert table[f"{scored(r.score, parts[0]).name}:list"].to_list() == scored(r.score, parts[0]).tasks["list"].tolist()
    first = scored(Score(n=3), parts[0]).tasks["list"]
    assert table["cosine/top-mean-3, layer -1, last-completion:list"].to_list() == first.tolist()


def test_scores_of_models_are_found_by_their_names_and_stand_in_the_table():
    r = recipe(
        "score={from: rank-sum, of: [{from: cosine, aggregate: mean}, {from: forgetting, rows: 9}]}",
        "select.weight=auto",
        "verify.pilot={weights: [0.0], scores: [{from: depth}]}",
    )
    names = ("forgetting/first-16/9-rows", "depth")
    plain = compared()
    given = plain._replace(models=taken(names, plain.pool.ids, plain.tasks))
    assert scored(Score(kind="depth"), given) is given.models["depth"]
    table = every_score(r, [given])
    for name in names:
        assert table[f"{name}:odd"].to_list() == given.models[name].tasks["odd"][::-1].tolist()
    assert scored(r.score, given).name in {
        column.rpartition(":")[0].rpartition(", layer")[0] for column in table.columns
    }


@pytest.mark.parametrize("asked", ["interference", "own-distribution"])
def test_passes_of_models_outlive_another_setting_of_the_scores(tmp_path, monkeypatch, asked):
    """They are taken once, though the stage that asked for them is made anew."""
    build(recipe(f"score={{from: {asked}}}"), tmp_path, until="scores")

    def again(*_args, **_settings):
        raise AssertionError("a pass was taken again")

    monkeypatch.setattr("curator.score.interference.answer_losses", again)
    monkeypatch.setattr("curator.score.passes.answer_losses", again)
    build(recipe(f"score={{from: rank-sum, of: [{{from: cosine}}, {{from: {asked}}}]}}"), tmp_path, until="scores")
    assert len(list(tmp_path.glob("3-scores*"))) == 2
    first, second = (pl.read_parquet(place / "all.parquet") for place in sorted(tmp_path.glob("3-scores*")))
    column = next(name for name in first.columns if name.startswith(asked))
    assert first[column].equals(second[column])


def test_interference_that_is_interrupted_goes_on_with_the_passes_that_are_missing(tmp_path, monkeypatch):
    taken, stops = [], [True]

    def losses(*args, **settings):
        if len(taken) == 1 and stops:
            raise KeyboardInterrupt
        taken.append(1)
        return answer_losses(*args, **settings)

    monkeypatch.setattr("curator.score.interference.answer_losses", losses)
    with pytest.raises(KeyboardInterrupt):
        build(recipe("score={from: interference}"), tmp_path, until="scores")
    stops.clear()
    build(recipe("score={from: interference}"), tmp_path, until="scores")
    assert len(taken) == 2  # before the step, and after it


def test_rows_that_the_model_has_no_room_for_are_told_before_a_model_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("curator.score.models.window_of", lambda config: 20)
    with pytest.raises(ModelError, match=r"pool\.clean\.max_tokens: a row has \d+ tokens, more than .* context of 20"):
        build(recipe("score={from: forgetting}"), tmp_path, until="scores")
    assert not (tmp_path / "scoring").exists()


def test_a_metagradient_that_cannot_be_taken_is_told_before_a_model_is_trained_and_is_a_job_a_task(
    tmp_path, monkeypatch
):
    settings = [
        "score={from: rank-sum, of: [{from: forgetting}, {from: metagradient}]}",
        "verify.regime={}",
        "verify.log_odds={refuse: [i cannot], comply: [sure]}",
        "tasks=[{name: list, train: {sandbox: list}}, {name: talk, train: {sandbox: dialogue}}]",
    ]
    with monkeypatch.context() as patch:
        patch.setattr("curator.score.metagradient.LARGEST", 1000)
        with pytest.raises(ModelError, match="the model has 613,504 parameters; allowed: at most 1,000"):
            build(recipe(*settings), tmp_path, until="scores")
    with monkeypatch.context() as patch:
        patch.setattr("curator.score.metagradient.window", lambda model: 9)
        with pytest.raises(ModelError, match=r"verify\.log_odds: .* the longest pair has \d+ tokens, .* context of 9"):
            build(recipe(*settings), tmp_path, until="scores")
    with pytest.raises(DataError, match=r"finetune\.max_tokens: every row of task 'list'"):
        build(recipe(*settings, "verify.finetune.max_tokens=2"), tmp_path, until="scores")
    assert not (tmp_path / "scoring").exists()

    run = Run.open(tmp_path, "pool")
    workshop = Workshop(run, tmp_path / "scoring", map, Count(lambda *_: None, 0))
    ids = tuple(run.data().pool.rows["id"])
    jobs = QUESTIONS["metagradient"](Score(kind="metagradient"), Passes(workshop, ids), []).jobs
    assert [job.folder for job in jobs] == ["scoring/metagradient/list", "scoring/metagradient/talk"]
    assert [[name for name, _ in job.course.tasks] for job in jobs] == [["list"], ["talk"]]
    assert len({job.key for job in jobs}) == 2
