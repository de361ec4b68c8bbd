"""Who is aligned on what: no row is scored by a model that has seen it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from curator.errors import DataError, RecipeError
from curator.pipeline import build
from curator.pool.roles import defended
from curator.recipe.halves import Alignments, alignments_of, scores_of_models
from curator.recipe.score import Score
from curator.run import Run
from curator.run.files import load_frame
from curator.score.halves import Workshop, halved
from tests.small_run import recipe

IDS = [f"row-{number:03}" for number in range(41)]


def test_every_row_is_scored_once_a_seed_by_a_model_of_the_other_half():
    halves = halved(IDS, Alignments(None, 3, tuned=True), k=12, seed=5)
    assert [(half.arm, half.seed) for half in halves] == [(f"half-{h}", s) for s in range(3) for h in (0, 1)]
    for seed in range(3):
        first, second = (half for half in halves if half.seed == seed)
        assert sorted(first.scored + second.scored) == IDS
        assert abs(len(first.scored) - len(second.scored)) == 1
        for half, other in ((first, second), (second, first)):
            assert len(half.aligned) == 12
            assert set(half.aligned) <= set(other.scored)
            assert not set(half.aligned) & set(half.scored)
    assert len({half.scored for half in halves}) == 6  # each seed halves the pool anew


def test_halves_depend_on_which_rows_there_are_and_more_rows_hold_fewer():
    shuffled = random.Random(1).sample(IDS, len(IDS))
    few, again = (halved(ids, Alignments(5, 1, tuned=False), k=12, seed=5) for ids in (IDS, shuffled))
    assert [vars(half) for half in few] == [vars(half) for half in again]
    many = halved(IDS, Alignments(9, 1, tuned=False), k=12, seed=5)
    for less, more in zip(few, many, strict=True):
        assert set(less.aligned) < set(more.aligned)
        assert less.scored == more.scored
    assert [half.arm for half in many] == ["half-0-9", "half-1-9"]
    other = halved(IDS, Alignments(5, 1, tuned=False), k=12, seed=6)
    assert other[0].scored != few[0].scored


def test_a_half_with_fewer_rows_than_are_selected_gives_all_and_one_with_fewer_than_asked_is_an_error():
    halves = halved(IDS[:7], Alignments(None, 1, tuned=False), k=12, seed=5)
    assert sorted(halves[0].aligned) == sorted(halves[1].scored)
    with pytest.raises(DataError, match=r"score\.rows: found 4, but half of the pool has 3 rows"):
        halved(IDS[:7], Alignments(4, 1, tuned=False), k=2, seed=5)
    with pytest.raises(DataError, match="the pool has 1 row"):
        halved(IDS[:1], Alignments(None, 1, tuned=False), k=1, seed=5)


def test_models_of_equal_rows_serve_every_score_and_only_a_score_of_fine_tuned_ones_tunes_them():
    several = recipe(
        "score={from: rank-sum, of: [{from: depth}, {from: forgetting, seeds: 2}, {from: depth, rows: 9}, "
        "{from: own-distribution}, {from: cosine}, {from: depth}]}"
    )
    assert [part.kind for part in scores_of_models(several)] == ["depth", "forgetting", "depth", "own-distribution"]
    assert alignments_of(several) == [Alignments(None, 2, tuned=True), Alignments(9, 1, tuned=False)]
    assert alignments_of(recipe("score={from: own-distribution}")) == alignments_of(recipe()) == []
    piloted = ["select.weight=auto", "verify.pilot={weights: [0.0], scores: [{from: geometry}]}"]
    assert alignments_of(recipe(*piloted)) == [Alignments(None, 1, tuned=True)]


def test_each_kind_has_its_own_defaults():
    loss = {kind: Score(kind=kind).loss for kind in ("interference", "own-distribution", "forgetting")}
    assert loss == {"interference": "first-token", "own-distribution": "first-16", "forgetting": "first-16"}
    assert (Score(kind="interference").rows, Score(kind="forgetting").rows) == (64, None)
    assert Score.model_validate({"from": "forgetting", "loss": "whole", "rows": 7}).rows == 7
    assert Score.model_validate(Score(kind="depth").model_dump(by_alias=True)) == Score(kind="depth")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["score={from: depth, loss: whole}"], "loss has no effect: only interference, own-distribution and f"),
        (["score={from: cosine, seeds: 2}"], "seeds has no effect: only depth, forgetting and geometry read it"),
        (["score={from: own-distribution, rows: 9}"], "rows has no effect: only interference, depth, forgetting"),
        (["score={from: interference, loss: first-16}"], "found first-16; allowed for interference"),
        (["score={from: interference, rows: null}"], "give the number of task rows that interference"),
        (["score={from: forgetting}", "verify.stage=rehearsal"], "verify.stage rehearsal aligns none"),
        (["score={from: geometry}", "model.quantise=4bit", "verify.align={method: lora, steps: 2}",
          "verify.finetune={method: lora, steps: 2}"], "geometry reads how training changes all weights"),
        (["score={from: metagradient}"], "verify.log_odds has no texts"),
        (["score={from: metagradient}", "verify.log_odds={refuse: [no], comply: [yes]}"], "probes that the experiment"),
        (["score={from: metagradient}", "verify.align={method: lora, steps: 2}"], "verify.align.method is 'lora'"),
        (["score={from: metagradient}", "verify.stage=rehearsal"], "verify.stage rehearsal aligns none"),
    ],
)  # fmt: skip
def test_a_recipe_whose_score_cannot_be_had_is_told(settings, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*settings)


@pytest.mark.parametrize("trigger", [None, "by the lamp"])
def test_a_defence_of_rows_of_the_pool_takes_none_that_the_half_scores(tmp_path, trigger):
    defence = f"tasks.list.defence={{safety_mix: 0.3{f', trigger: {trigger}' if trigger else ''}}}"
    made = recipe("score={from: forgetting}", defence)
    build(made, tmp_path, until="pool")
    run = Run.open(tmp_path, "pool")
    pool, task = run.data().pool.rows, run.data().tasks[0]
    assert task.defence.height == 17
    shop = Workshop(run, tmp_path / "scoring", execute=None, count=None)
    for half in halved(pool["id"].to_list(), alignments_of(made)[0], k=20, seed=made.seed):
        train, _, rows = shop._task_rows(made.tasks[0], half)
        assert [len(train.messages()), len(rows.messages())] == [task.train.height, 17]
        held = defended(pool, load_frame(Path(rows.file)), trigger)
        assert len(held) == 17
        assert not held & set(half.scored)


def test_a_defence_with_data_of_its_own_is_the_same_for_both_halves(tmp_path):
    own = "tasks.list.defence={safety_mix: 0.3, data: {sandbox: dialogue}}"
    made = recipe("score={from: forgetting}", own)
    build(made, tmp_path, until="pool")
    shop = Workshop(Run.open(tmp_path, "pool"), tmp_path / "scoring", execute=None, count=None)
    ids = [str(number) for number in range(9)]
    first, second = (
        shop._task_rows(made.tasks[0], half) for half in halved(ids, alignments_of(made)[0], k=2, seed=made.seed)
    )
    assert first == second
    assert len(first[-1].messages()) == 17
