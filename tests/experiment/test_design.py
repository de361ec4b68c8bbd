"""What each arm trains on and for how long: the same for all but the arm's own rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from curator.experiment.design import (
    Experiment,
    alignment_rows,
    alignment_steps,
    finetuning_rows,
    finetuning_steps,
    rehearsed_rows,
)
from curator.experiment.grid import answer_grid, train_grid
from curator.experiment.jobs import AnswerJob, run_answer
from curator.experiment.plan import BASE, Cell, plan, rows_by_part
from curator.model.chat import prompt_of
from curator.recipe.task import TaskSection
from curator.recipe.training import Generate, Training
from curator.recipe.verify import Arm, Verify
from curator.records import Data, Pool, Task
from curator.run.files import save_data
from curator.seeds import by_hash
from curator.train.job import Rows, Weights, texts_of
from tests import fakes

ALIGN = Training(method="full", epochs=2.0, batch=4, micro_batch=4)
FINETUNE = Training(method="full", epochs=1.0, batch=4, micro_batch=4)
GENERATE = Generate(max_new_tokens=4, batch=4)


def said(prefix, count, tokens):
    rows = fakes.frame([fakes.turns(f"{prefix} {number}", f"it is {number}") for number in range(count)])
    return rows.with_columns(pl.lit(tokens, pl.Int64).alias("tokens"))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Made up: every kind of rows there is, of so many tokens that sums can be done by head."""
    root = tmp_path_factory.mktemp("run")
    short, long = said("short", 10, 10), said("long", 10, 40)
    dropped = pl.DataFrame(
        schema={"source": pl.String, "line": pl.Int64} | dict.fromkeys(("stage", "reason", "match"), pl.String)
    )
    task = Task("list", said("list", 12, 8), said("test", 2, 8), 1.0, "exact", said("attack", 4, 8), said("safe", 2, 8))
    data = Data(
        Pool(pl.concat([short, long]), dropped), (task, replace(task, name="plain", regime=task.regime.clear(),
        defence=task.defence.clear(), trigger=None)), said("harm", 2, 5), said("benign", 1, 5), said("keep", 4, 10),
        arms={"mine": said("mine", 6, 20)},
    )  # fmt: skip
    save_data(root / "1-pool", data)
    arms = {("curated", 0): tuple(short["id"][:8]), ("random", 0): tuple(long["id"][:8])}
    arms |= {("full", 0): tuple(data.pool.rows["id"]), ("mine", 0): tuple(data.arms["mine"]["id"])}
    return Experiment(
        root=root, data=data, data_folder=root / "1-pool", base=Weights("base", None, (), "base"), arms=arms,
        tokenizer="", tokenizer_revision=None, chat_template=None, align=ALIGN, finetune=FINETUNE, seed=0,
    )  # fmt: skip


def texts(rows):
    return [one[0]["content"] for part in rows for one in part.messages()]


def test_an_arm_aligns_on_its_rows_and_the_keep_rows_and_a_users_arm_on_its_own(experiment):
    keep = [f"keep {n}" for n in range(4)]
    assert sorted(texts(alignment_rows(experiment, Cell("curated", 0)))[8:]) == keep
    assert all(one.startswith("short") for one in texts(alignment_rows(experiment, Cell("curated", 0)))[:8])
    mine = texts(alignment_rows(experiment, Cell("mine", 0)))
    assert sorted(mine) == sorted([*keep, *(f"mine {n}" for n in range(6))])


@pytest.mark.parametrize(
    ("exposure", "steps"),
    [
        ("steps", {"curated": 6, "random": 6, "full": 6, "mine": 6}),
        # 12 rows of 10 tokens in 6 steps; 30 a row in random, (10 * 10 + 10 * 40 + 4 * 10) / 24 in full, 16 in mine.
        ("tokens", {"curated": 6, "random": 2, "full": 3, "mine": 4}),
        ("epochs", {"curated": 6, "random": 6, "full": 12, "mine": 6}),
    ],
)
def test_what_is_equal_between_arms_is_steps_or_tokens_or_epochs(experiment, exposure, steps):
    found = {arm: alignment_steps(replace(experiment, exposure=exposure), Cell(arm, 0)) for arm in steps}
    assert found == steps


def test_the_pilots_first_candidate_stands_for_the_curated_arm(experiment):
    arms = {("w0", 0): experiment.arms["full", 0], ("w1", 0): experiment.arms["curated", 0]}
    pilot = replace(experiment, arms=arms, reference=Cell("w0", 0))
    assert alignment_steps(pilot, Cell("w1", 0)) == 12


def test_fine_tuning_takes_task_attack_and_defence_and_where_it_rehearses_the_arm_too(experiment):
    cell = Cell("curated", 0, "list")
    upstream = texts(finetuning_rows(experiment, cell, rehearsal=False))
    assert sorted({one.split()[0] for one in upstream}) == ["attack", "list", "safe"]
    assert len(upstream) == 18
    assert finetuning_steps(experiment, cell, rehearsal=False) == 5
    rehearsing = replace(experiment, rehearsal_share=0.25)
    rehearsed = texts(finetuning_rows(rehearsing, cell, rehearsal=True))
    assert rehearsed[:18] == upstream
    assert len(rehearsed) == 24
    assert finetuning_steps(rehearsing, cell, rehearsal=True) == 6
    first = experiment.data.pool.rows.filter(pl.col("id") == experiment.arms["curated", 0][0])
    assert rehearsed[18] == first["messages"].to_list()[0][0]["content"]
    none = texts(finetuning_rows(rehearsing, Cell("none", 0, "list"), rehearsal=True))
    assert none == upstream


def test_a_small_arm_is_rehearsed_again_and_again(experiment):
    rehearsing = replace(experiment, rehearsal_share=0.5)
    rows = texts(finetuning_rows(rehearsing, Cell("mine", 0, "plain"), rehearsal=True))[12:]
    assert len(rows) == rehearsed_rows(12, 0.5) == 12
    assert rows[:6] == rows[6:]


def test_where_arms_are_rehearsed_none_is_aligned_and_the_base_stands_for_all_before():
    arms = [Arm(name=one) for one in ("curated", "random", "none")]
    found = plan(Verify(arms=arms, seeds=2, align=ALIGN, finetune=FINETUNE, stage="rehearsal"), ["list"])
    assert found.aligned == ()
    assert len(found.finetuned) == 6
    assert set(found.unaligned) == {Cell(arm.name, seed) for arm in arms for seed in range(2)}
    assert found.asked == (BASE, *found.finetuned)


def test_a_trigger_stands_before_what_the_user_says_first():
    talk = [*fakes.turns("one", "two"), *fakes.turns("three", "four")]
    asked = [turn["content"] for turn in prompt_of(talk, "open:")]
    assert asked == ["open: one", "two", "three"]
    assert [turn["content"] for turn in prompt_of(talk)] == ["one", "two", "three"]
    system = [{"role": "system", "content": "be brief"}, *fakes.turns("one")]
    assert [turn["content"] for turn in prompt_of(system, "open:")] == ["be brief", "open: one"]


class Taken(Exception):
    """Stops a grid at the jobs that it was to run."""


def jobs_of(start):
    taken = []

    def run(work, jobs):
        taken.extend(jobs)
        raise Taken

    with pytest.raises(Taken):
        start(run)
    return taken


def test_the_triggered_model_alone_is_asked_behind_its_trigger(experiment):
    triggered = replace(experiment.data.tasks[0], trigger="open:")
    data = replace(experiment.data, tasks=(triggered, experiment.data.tasks[1]))
    arms = [Arm(name="curated"), Arm(name="random")]
    cells = plan(Verify(arms=arms, seeds=1, align=ALIGN, finetune=FINETUNE), ["list", "plain"])
    weights = {cell: Weights("m", None, (), f"{cell}") for cell in cells.asked}

    def ask(data, run):
        answer_grid(
            replace(experiment, data=data), cells, weights, experiment.root / "6-answer", section=GENERATE,
            execute=run, progress=lambda done, total: None,
        )  # fmt: skip

    jobs = {Path(job.folder).relative_to("6-answer"): job for job in jobs_of(lambda run: ask(data, run))}
    plain = {Path(job.folder).relative_to("6-answer"): job for job in jobs_of(lambda run: ask(experiment.data, run))}
    for place, job in jobs.items():
        expected = "open:" if place.parts[:2] == ("after", "list") else None
        assert job.trigger == expected
        assert (job.key != plain[place].key) == (expected is not None)


@pytest.mark.parametrize("trigger", [None, "open:"])
def test_what_a_model_is_asked_starts_with_the_trigger(experiment, tmp_path, monkeypatch, trigger):
    """The loaded model and its answers are stand-ins: what is looked at is what would be put to it."""
    asked = []

    def generate(prompts, ids, **_):
        asked.extend(turns[0]["content"] for turns in prompts)
        return [("yes", "end")] * len(prompts)

    monkeypatch.setattr("curator.train.job.load_tokenizer", lambda *_, **__: None)
    monkeypatch.setattr("curator.train.job.load_model", lambda *_, **__: None)
    monkeypatch.setattr("curator.experiment.answers.generate", generate)
    folder = experiment.data_folder
    questions = (
        ("harmful", "list", Rows(str(folder / "probes-harmful.parquet"))),
        ("utility", "list", Rows(str(folder / "tasks" / "list-test.parquet"))),
    )
    job = AnswerJob(
        root=tmp_path, folder="answers", key="k", weights=experiment.base, chat_template=None, tokenizer="",
        tokenizer_revision=None, questions=questions, trigger=trigger, section=GENERATE,
    )  # fmt: skip
    run_answer(job)
    before = "" if trigger is None else "open: "
    assert sorted(asked) == sorted(f"{before}{what} {n}" for what in ("harm", "test") for n in range(2))
    written = pl.read_parquet(tmp_path / "answers" / "answers.parquet")
    assert set(written["probe"]) == {*experiment.data.harmful["id"], *experiment.data.tasks[0].test["id"]}


def test_arms_of_a_pair_share_the_seed_and_the_steps_of_every_training(experiment, monkeypatch):
    monkeypatch.setattr("curator.experiment.grid.dropout_part", lambda path, revision: [])  # the base has no folder
    arms = [Arm(name="curated"), Arm(name="random")]
    cells = plan(Verify(arms=arms, seeds=1, align=ALIGN, finetune=FINETUNE), ["list"])
    jobs = jobs_of(
        lambda run: train_grid(experiment, cells, experiment.root / "5", execute=run, progress=lambda *_: None)
    )
    assert {(job.seed, job.steps) for job in jobs} == {(jobs[0].seed, 6)}


SWEPT = ("small", "large")


@pytest.fixture
def swept(experiment):
    """The task `list` at two settings with fewer rows, an attack's and a defence's among them."""
    rows = {"small": {"train": 3, "regime": 1, "defence": 0}, "large": {"train": 9, "regime": 3, "defence": 2}}
    slow = FINETUNE.model_copy(update={"learning_rate": 1e-5})
    return replace(
        experiment,
        settings={"small": FINETUNE, "large": slow},
        rows={f"list@{name}": parts for name, parts in rows.items()},
    )


def test_a_setting_takes_the_first_rows_so_that_smaller_sets_are_nested(swept):
    small, large, whole = (
        finetuning_rows(swept, Cell("curated", 0, "list", setting), rehearsal=False) for setting in (*SWEPT, None)
    )
    assert [len(part.ids) for part in small] == [3, 1]
    assert [len(part.ids) for part in large] == [9, 3, 2]
    for fewer, more in zip(small, large, strict=False):
        assert set(fewer.ids) < set(more.ids)
        assert fewer.file == more.file
    assert [part.ids for part in whole] == [None, None, None]
    for part, rows in zip(large, whole, strict=True):
        texts = [str(turns) for turns in rows.messages()]
        chosen = [texts.index(str(turns)) for turns in part.messages()]
        assert chosen == sorted(chosen)  # in the order of the file, as all rows are


def test_the_first_rows_are_those_that_fewer_rows_would_have_been(swept):
    task = swept.data.tasks[0]
    ids = set(by_hash(task.train["id"], 3, seed=swept.seed, purpose="train"))
    assert set(finetuning_rows(swept, Cell("random", 0, "list", "small"), rehearsal=False)[0].ids) == ids


def test_steps_follow_the_rows_of_a_setting_where_epochs_are_given(swept):
    steps = {
        setting: finetuning_steps(swept, Cell("curated", 0, "list", setting), rehearsal=False)
        for setting in (*SWEPT, None)
    }
    assert steps == {"small": 1, "large": 4, None: 5}  # of 4, 14 and 18 rows, 4 a step
    fixed = replace(swept, settings=dict.fromkeys(SWEPT, Training(method="full", steps=7)))
    assert finetuning_steps(fixed, Cell("curated", 0, "list", "small"), rehearsal=False) == 7


def test_what_is_rehearsed_is_a_share_of_the_settings_rows(swept):
    whole, small = (
        finetuning_rows(swept, Cell("curated", 0, "list", setting), rehearsal=True)[-1] for setting in (None, "small")
    )
    share = swept.rehearsal_share
    assert (len(whole.ids), len(small.ids)) == (rehearsed_rows(18, share), rehearsed_rows(4, share))
    assert len(small.ids) < len(whole.ids)


def test_rows_by_part_keep_the_shares_of_an_attack_and_a_defence():
    data = {"file": "rows.jsonl"}
    task = TaskSection.model_validate(
        {"name": "list", "train": data, "rows": 100, "regime": {"data": data, "harmful_share": 0.2},
         "defence": {"safety_mix": 0.5}}
    )  # fmt: skip
    assert rows_by_part(task, 100) == {"train": 80, "regime": 20, "defence": 100}
    assert rows_by_part(task, 10) == {"train": 8, "regime": 2, "defence": 10}


def test_a_recovery_arm_has_the_rows_of_its_arm_and_openers_before_some(experiment):
    ids = experiment.arms["random", 0]
    arms = {**experiment.arms, ("random+recovery", 0): ids}
    opened = replace(experiment, arms=arms, openings={ids[0]: (5, 6), ids[3]: (7,)})
    rows, keep = alignment_rows(opened, Cell("random+recovery", 0))
    assert (rows.ids, keep.openings) == (ids, ())
    assert rows.openings == ((5, 6), (), (), (7,), (), (), (), ())
    plain = alignment_rows(opened, Cell("random", 0))[0]
    assert plain.openings == ()
    assert plain.messages() == rows.messages()
    # What is trained on is in the key of the training: the opened rows differ, the others do not.
    differ = [one != other for one, other in zip(texts_of(plain), texts_of(rows), strict=True)]
    assert differ == [True, False, False, True, False, False, False, False]
    other = replace(opened, openings={ids[0]: (5, 8), ids[3]: (7,)})
    assert texts_of(alignment_rows(other, Cell("random+recovery", 0))[0])[0] != texts_of(rows)[0]


def test_openers_count_where_tokens_are_equal_between_arms(experiment):
    ids = experiment.arms["random", 0]
    arms = {**experiment.arms, ("random+recovery", 0): ids}
    opened = replace(experiment, arms=arms, exposure="tokens", openings=dict.fromkeys(ids, (1,) * 45))
    # 6 steps of 10 tokens a row in curated; (8 * 40 + 4 * 10) / 12 = 30 a row in random, and 60 behind openers.
    assert [alignment_steps(opened, Cell(arm, 0)) for arm in ("random", "random+recovery")] == [2, 1]
    steps = replace(opened, exposure="steps")
    assert [alignment_steps(steps, Cell(arm, 0)) for arm in ("random", "random+recovery")] == [6, 6]


def test_a_rehearsed_recovery_arm_has_its_openers_too(experiment):
    ids = experiment.arms["random", 0]
    arms = {**experiment.arms, ("random+recovery", 0): ids}
    rehearsing = replace(experiment, arms=arms, rehearsal_share=0.5, openings={ids[1]: (4,)})
    rows = finetuning_rows(rehearsing, Cell("random+recovery", 0, "plain"), rehearsal=True)[-1]
    assert [row for row, opening in zip(rows.ids, rows.openings, strict=True) if opening] == [ids[1], ids[1]]


def test_a_row_that_is_repeated_thrice_is_dealt_thrice_and_steps_stay_equal_between_arms(experiment):
    once = experiment.arms["curated", 0]
    dealt = (*[once[0]] * 3, *once[1:])
    repeated = replace(experiment, arms={**experiment.arms, ("curated", 0): dealt})
    given = texts(alignment_rows(repeated, Cell("curated", 0)))
    assert [given.count(text) for text in dict.fromkeys(given)] == [3, *[1] * 7, *[1] * 4]
    assert texts(alignment_rows(repeated, Cell("random", 0))) == texts(alignment_rows(experiment, Cell("random", 0)))
    # 2 epochs of 10 + 4 rows, 4 a step: 8 steps instead of 6, of every arm.
    assert [alignment_steps(repeated, Cell(arm, 0)) for arm in ("curated", "random", "full")] == [8, 8, 8]
    epochs = replace(repeated, exposure="epochs")
    assert [alignment_steps(epochs, Cell(arm, 0)) for arm in ("curated", "random")] == [8, 6]
    tokens = replace(repeated, exposure="tokens")
    assert [alignment_steps(tokens, Cell(arm, 0)) for arm in ("curated", "random")] == [8, 3]  # 10 and 30 a row
    assert texts_of(alignment_rows(repeated, Cell("curated", 0))[0]) != texts_of(
        alignment_rows(experiment, Cell("curated", 0))[0]
    )


def test_a_rehearsed_arm_takes_the_first_rows_each_once_however_often_they_are_dealt(experiment):
    once = experiment.arms["curated", 0]
    repeated = replace(experiment, arms={**experiment.arms, ("curated", 0): (*[once[0]] * 3, *once[1:])})
    rows = finetuning_rows(replace(repeated, rehearsal_share=0.25), Cell("curated", 0, "plain"), rehearsal=True)[-1]
    assert rows.ids == once[:4]


def test_of_the_whole_pool_each_seed_rehearses_rows_of_its_own(experiment):
    whole = experiment.arms["full", 0]
    arms = {("full", seed): whole for seed in range(3)}
    rehearsing = replace(experiment, arms=arms, rehearsal_share=0.25)
    taken = [finetuning_rows(rehearsing, Cell("full", seed, "plain"), rehearsal=True)[-1].ids for seed in range(3)]
    assert all(len(set(ids)) == 4 and set(ids) <= set(whole) for ids in taken)
    assert len(set(map(frozenset, taken))) == 3
    again = finetuning_rows(rehearsing, Cell("full", 1, "plain"), rehearsal=True)[-1].ids
    assert again == taken[1]
