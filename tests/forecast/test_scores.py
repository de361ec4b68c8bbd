"""What scores of models add to a plan: counted by hand."""

from __future__ import annotations

from pathlib import Path

from curator.experiment.plan import Tally
from curator.forecast.estimate import estimates
from curator.forecast.measured import Measured
from curator.forecast.scores import extra
from curator.model.size import model_size
from curator.recipe import steps_taken
from tests.small_run import recipe

ODDS = ["verify.regime={}", "verify.log_odds={refuse: [i cannot], comply: [sure]}"]


def test_trainings_are_two_a_seed_and_a_fine_tuning_of_each_on_every_anticipated_task():
    planned = recipe(
        "score={from: rank-sum, of: [{from: forgetting, seeds: 2}, {from: depth, rows: 30}]}",
        "tasks.list.probe_at=[0.5]",
        "verify.align={method: full, epochs: 2, batch: 10, micro_batch: 10, max_tokens: 48}",
    )
    more = extra(planned, Measured(), model_size("sandbox:", None))
    # 2 x 2 on 20 rows and 20 keep rows, 2 on 30 and 20, all of them twice.
    assert [load.rows for load in more.aligned] == [80] * 4 + [100] * 2
    assert [load.tokens for load in more.aligned] == [80 * 48] * 4 + [100 * 48] * 2
    assert len(more.finetuned) == 4
    assert {load.cell.task for load in more.finetuned} == {"list"}
    # Aligned, at a checkpoint and at the end, twice; and depth's two models.
    assert more.passes == 2 * 3 + 2
    assert more.seconds > 0
    counted = extra(planned, Measured(tallies={"pool": Tally(300, 300, 3000.0)}), model_size("sandbox:", None))
    assert counted.aligned[0].tokens == round(80 * (20 * 10 + 20 * 48) / 40)


def test_a_metagradient_is_whole_epochs_of_the_pool_back_and_forth():
    planned = recipe("score={from: metagradient}", "verify.align.steps=11", *ODDS)
    pool = Measured(tallies={"pool": Tally(300, 300, 3000.0)})
    more = extra(planned, pool, model_size("sandbox:", None))
    assert (more.aligned, more.finetuned) == ([], [])
    assert more.passes == 15 * 2  # 10 steps of 32 hold 320 rows once
    two = "tasks=[{name: list, train: {sandbox: list}}, {name: sums, train: {sandbox: dialogue}}]"
    planned = recipe("score={from: metagradient}", "verify.align.steps=11", *ODDS, two)
    assert extra(planned, pool, model_size("sandbox:", None)).passes == 2 * 15 * 2  # a job of its own for each task


def test_interference_reads_the_pool_before_all_steps_and_after_each_on_each_task(tmp_path: Path):
    two = "tasks=[{name: list, train: {sandbox: list}}, {name: sums, anticipated: false, train: {sandbox: dialogue}}]"
    planned = recipe("verify.forgetting={}", two)
    assert len(steps_taken(planned)) == 2
    assert extra(planned, Measured(), model_size("sandbox:", None)).passes == 1 + 2 * 2
    assert estimates(planned, tmp_path)[1]["scores of models"].startswith("interference; in addition")


def test_a_plan_has_a_line_of_them_only_where_there_are_some(tmp_path: Path):
    name = "scores of models"
    assert name not in estimates(recipe(), tmp_path)[1]
    words = estimates(recipe("score={from: own-distribution}"), tmp_path)[1][name]
    assert words.startswith("own-distribution; in addition to the figures above: 1 pass over the pool; time about")
    assert "alignment 2 runs" in estimates(recipe("score={from: geometry}"), tmp_path)[1][name]
