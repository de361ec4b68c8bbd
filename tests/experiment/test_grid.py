"""A whole tiny grid, trained and asked for real, and the keys that decide what is made anew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from curator.errors import RunError
from curator.experiment.design import Experiment
from curator.experiment.grid import answer_grid, train_grid
from curator.experiment.jobs import AnswerJob
from curator.experiment.plan import NONE, Cell, plan
from curator.model.load import load_model
from curator.recipe.training import Generate, Training
from curator.recipe.verify import Arm, Verify
from curator.records import ANSWER_SCHEMA, Data, Pool, Task, Trained
from curator.run.files import save_data
from curator.run.folder import DONE
from curator.train.generate import generate
from curator.train.job import TrainJob, Weights
from tests import fakes

ALIGN = Training(method="full", epochs=1.0, batch=4, micro_batch=4, learning_rate=1e-2, max_tokens=150)
FINETUNE = Training(method="lora", rank=2, steps=2, batch=4, micro_batch=4, learning_rate=1e-2)
GENERATE = Generate(max_new_tokens=6, batch=4)
TEMPLATE = "chatml"


def said(prefix, count, answer=True):
    ask = [f"{prefix} {number} {fakes.WORDS[number % 5][:20]}" for number in range(count)]
    return fakes.frame([fakes.turns(one, f"{prefix} it is {one[-9:]}") if answer else fakes.turns(one) for one in ask])


@pytest.fixture(scope="module")
def data():
    pool = said("gate", 12)
    dropped = pl.DataFrame(
        schema={"source": pl.String, "line": pl.Int64} | dict.fromkeys(("stage", "reason", "match"), pl.String)
    )
    tasks = (
        Task("list", said("list", 6), said("list test", 3), 1.0, "rouge1"),
        Task("sum", said("sum", 5), said("sum test", 2), 0.0, "exact"),
    )
    return Data(Pool(pool, dropped), tasks, said("harm", 3, answer=False), said("benign", 2), said("keep", 2))


@pytest.fixture(scope="module")
def experiment(data, llama_folder, tmp_path_factory):
    """Made up, and as small as it goes: the whole grid is trained again for many of these tests."""
    root = tmp_path_factory.mktemp("run")
    save_data(root / "1-pool", data)
    ids = data.pool.rows["id"].to_list()
    arms = {("curated", seed): tuple(ids[:6]) for seed in range(3)}
    arms |= {("random", seed): tuple(ids[3 + seed : 9 + seed]) for seed in range(3)}
    return Experiment(
        root=root, data=data, data_folder=root / "1-pool", base=Weights(llama_folder, None, (), "base-key"), arms=arms,
        tokenizer=llama_folder, tokenizer_revision=None, chat_template=TEMPLATE, align=ALIGN, finetune=FINETUNE, seed=1,
    )  # fmt: skip


def grid(seeds=2, tasks=("list",)):
    arms = [Arm(name="curated"), Arm(name="random"), Arm(name=NONE)]
    return plan(Verify(arms=arms, seeds=seeds, align=ALIGN, finetune=FINETUNE), list(tasks))


def here(work, jobs):
    for job in jobs:
        yield work(job)


def perform(experiment, plan, seen=None):
    """Trains and asks for real, as the stages do."""
    report = lambda done, total: seen.append((done, total)) if seen is not None else None  # noqa: E731
    done = train_grid(experiment, plan, experiment.root / "5-train", execute=here, progress=report)
    weights = {cell: weights for cell, (weights, _) in done.items()} | {Cell(NONE, 0): experiment.base}
    answers = answer_grid(
        experiment, plan, weights, experiment.root / "6-answer", section=GENERATE, execute=here, progress=report
    )
    return done, answers


def pieces(root):
    """When each finished piece was finished."""
    return {str(path.parent.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob(DONE)}


@pytest.fixture(scope="module")
def performed(experiment):
    seen = []
    return *perform(experiment, grid(), seen), seen, pieces(experiment.root)


def test_every_model_of_the_plan_is_trained_and_answers_everything(performed, data):
    done, answers, seen, _ = performed
    assert set(done) == {*grid().aligned, *grid().finetuned}
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert seen == [*((n, 10) for n in range(11)), *((n, 11) for n in range(12))]
    for (_arm, _seed, phase), part in answers.group_by("arm", "seed", "phase"):
        asked = set(part.select("kind", "task", "probe").iter_rows())
        task = "list" if phase == "after" else None
        wanted = {
            (kind, task, one)
            for kind, rows in (("harmful", data.harmful), ("benign", data.benign))
            for one in rows["id"]
        }
        for one in data.tasks:
            if phase == "before" or one.name == "list":
                wanted |= {("utility", one.name, probe) for probe in one.test["id"]}
        assert asked == wanted
        assert part.height == len(wanted)
    assert answers.select("arm", "seed", "phase").unique().height == 3 * 2 * 2
    assert answers.equals(answers.sort(["arm", "seed", "phase", "task", "kind", "probe"]))
    assert answers["draw"].to_list() == answers["seed"].to_list()


def test_the_base_answers_for_every_seed_of_the_arm_none(performed):
    before = performed[1].filter((pl.col("arm") == NONE) & (pl.col("phase") == "before"))
    first, second = (before.filter(pl.col("seed") == seed).drop("seed", "draw") for seed in (0, 1))
    assert first.height > 0
    assert first.equals(second)


def test_the_arm_none_starts_from_the_base_and_the_others_from_their_own_alignment(performed, experiment):
    done = performed[0]
    for seed in range(2):
        weights, trained = done[Cell(NONE, seed, "list")]
        assert (weights.base, weights.adapters, trained.parent) == (
            experiment.base.base,
            (trained.path,),
            experiment.base.base,
        )
        for arm in ("curated", "random"):
            aligned = done[Cell(arm, seed)][1]
            weights, trained = done[Cell(arm, seed, "list")]
            assert aligned.parent == experiment.base.base
            assert (weights.base, weights.adapters, trained.parent) == (aligned.path, (trained.path,), aligned.path)
            assert Path(aligned.path) == experiment.root / "5-train" / "before" / f"{arm}-{seed}" / "weights"


def test_every_model_is_one_of_its_own(performed):
    done, answers, _, _ = performed
    assert len({trained.losses for _, trained in done.values()}) == len(done)
    said_by = answers.group_by("arm", "phase").agg(pl.col("answer").unique())
    assert said_by["answer"].list.len().min() > 1


def test_an_answer_is_what_the_weights_on_disk_say(performed, experiment, data):
    done, answers, _, _ = performed
    weights, _ = done[Cell("random", 1, "list")]
    model = load_model(weights.base, adapters=weights.adapters)
    for kind, rows in (("harmful", data.harmful), ("benign", data.benign)):
        prompts = [[messages[0]] for messages in rows["messages"].to_list()]
        expected = [
            generate([one], ["x"], model=model, tokenizer=fakes.tokenizer(TEMPLATE), max_new_tokens=6, batch=1)[0]
            for one in prompts
        ]
        own = answers.filter(arm="random", seed=1, phase="after", kind=kind)
        found = {probe: (answer, stop) for probe, answer, stop in own.select("probe", "answer", "stop").iter_rows()}
        assert [found[one] for one in rows["id"]] == expected


def test_a_second_call_keeps_every_piece(performed, experiment):
    done, answers, _, finished = performed
    again, told = perform(experiment, grid())
    assert pieces(experiment.root) == finished
    assert again == done
    assert told.equals(answers)


def parameters(weights):
    model = load_model(weights.base, adapters=weights.adapters)
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def of_equal_rows(experiment, root):
    """The experiment with an arm `random` whose rows are those of `curated`."""
    same = {("random", seed): experiment.arms["curated", seed] for seed in range(2)}
    return replace(experiment, root=root, arms={**experiment.arms, **same})


def watching(worked):
    """Works like `here`, and notes the folders of the jobs that are given to it."""

    def run(work, jobs):
        worked.extend(job.folder for job in jobs)
        return here(work, jobs)

    return run


def trained(experiment, worked):
    stage = experiment.root / "5-train"
    return train_grid(experiment, grid(), stage, execute=watching(worked), progress=lambda *_: None)


def test_arms_of_equal_rows_are_trained_and_asked_once(experiment, tmp_path):
    equal, worked = of_equal_rows(experiment, tmp_path), []
    done = trained(equal, worked)
    weights = {cell: weights for cell, (weights, _) in done.items()} | {Cell(NONE, 0): equal.base}
    answers = answer_grid(
        equal, grid(), weights, tmp_path / "6-answer", section=GENERATE, execute=watching(worked),
        progress=lambda *_: None,
    )  # fmt: skip
    assert sum("curated" in folder for folder in worked) == 2 * 2 * 2
    assert not any("random" in folder for folder in worked)
    for phase in ("before", "after"):
        own, taken = (answers.filter(arm=arm, phase=phase).drop("arm") for arm in ("curated", "random"))
        assert own.height > 0
        assert own.equals(taken)
    for cell, (model, record) in done.items():
        assert all(Path(adapter).is_dir() for adapter in model.adapters)
        assert (cell.arm == "random") == (record.seconds == 0)
        assert f"{cell.arm}-{cell.seed}" in record.path


def test_equal_arms_draw_answers_of_their_own(experiment, tmp_path):
    equal, worked = of_equal_rows(experiment, tmp_path), []
    done = trained(equal, [])
    weights = {cell: weights for cell, (weights, _) in done.items()} | {Cell(NONE, 0): equal.base}
    answer_grid(
        equal, grid(), weights, tmp_path / "6-answer", section=Generate(max_new_tokens=6, batch=4, temperature=0.7),
        execute=watching(worked), progress=lambda *_: None,
    )  # fmt: skip
    assert sum("random" in folder for folder in worked) == sum("curated" in folder for folder in worked) == 2 * 2


def test_a_model_taken_from_an_equal_arm_stays_when_that_arm_changes(experiment, tmp_path):
    equal, cell = of_equal_rows(experiment, tmp_path), Cell("random", 0, "list")
    first = trained(equal, [])
    own = parameters(first[cell][0])
    other = {("curated", seed): experiment.arms["random", seed] for seed in range(2)}
    worked = []
    again = trained(replace(equal, arms={**equal.arms, **other}), worked)
    assert again[cell][0] == first[cell][0]
    assert torch.equal(parameters(again[cell][0]), own)
    assert not torch.equal(parameters(again[Cell("curated", 0, "list")][0]), own)


def test_of_equal_arms_the_one_that_is_kept_is_taken(experiment, tmp_path):
    equal, worked = of_equal_rows(experiment, tmp_path), []
    trained(equal, [])
    for folder in [*(tmp_path / "5-train").rglob("curated-*")]:
        shutil.rmtree(folder)
    done = trained(equal, worked)
    assert not any("curated" in folder for folder in worked)
    assert all(Path(record.path).is_dir() for _, record in done.values())


def test_a_moved_run_folder_keeps_every_piece(performed, experiment, tmp_path):
    root = Path(shutil.copytree(experiment.root, tmp_path / "moved"))
    moved = replace(experiment, root=root, data_folder=root / "1-pool")
    copied = pieces(root)
    done, answers = perform(moved, grid())
    assert pieces(root) == copied
    assert answers.equals(performed[1])
    assert all(Path(trained.path).is_relative_to(root) for _, trained in done.values())


def test_one_seed_more_trains_and_asks_the_new_models_alone(performed, experiment, tmp_path):
    root = Path(shutil.copytree(experiment.root, tmp_path / "more"))
    before = pieces(root)
    seen = []
    _, answers = perform(replace(experiment, root=root, data_folder=root / "1-pool"), grid(seeds=3), seen)
    after = pieces(root)
    assert {name: after[name] for name in before} == before
    new = {f"5-train/{cell.folder}" for cell in (*grid(3).aligned, *grid(3).finetuned) if cell.seed == 2}
    new |= {f"6-answer/{cell.folder}" for cell in grid(3).asked if cell.seed == 2}
    assert set(after) - set(before) == new
    # Pieces of old are counted at the beginning, so that they say nothing of the speed.
    assert seen == [*((n, 15) for n in range(10, 16)), *((n, 16) for n in range(11, 17))]
    assert answers.filter(pl.col("seed") < 2).equals(performed[1])
    assert answers.filter(pl.col("seed") == 2).height == answers.filter(pl.col("seed") == 1).height


# What a piece is called and what decides it, without training: the jobs are only written down.


def jobs_of(experiment, plan):
    written = {}

    def note(_work, jobs):
        for job in jobs:
            assert job.folder not in written
            written[job.folder] = job
            if isinstance(job, TrainJob):
                path = str(job.root / job.folder / "weights")
                yield job.folder, Trained(path, job.section.method, job.weights.base, 1, 1, 1, (1.0,), 0.0, 0.0)

    done = train_grid(experiment, plan, experiment.root / "5-train", execute=note, progress=lambda *_: None)
    weights = {cell: weights for cell, (weights, _) in done.items()} | {Cell(NONE, 0): experiment.base}
    with pytest.raises(RunError, match="No such file"):  # nothing was answered
        answer_grid(
            experiment, plan, weights, experiment.root / "9-nowhere", section=GENERATE, execute=note,
            progress=lambda *_: None,
        )  # fmt: skip
    return written


def changed(experiment, other):
    old, new = (jobs_of(one, grid(tasks=("list", "sum"))) for one in (experiment, other))
    assert old.keys() == new.keys()
    return {name for name in old if old[name].key != new[name].key}


def everything(experiment, *, but=()):
    return {name for name in jobs_of(experiment, grid(tasks=("list", "sum"))) if not any(part in name for part in but)}


def test_alignment_is_shared_between_tasks_and_seeds_between_arms(experiment):
    jobs = jobs_of(experiment, grid(tasks=("list", "sum")))
    assert len([name for name in jobs if name.startswith("5-train/before")]) == 4
    for seed in range(2):
        for phase in ("before", "after/list", "after/sum"):
            arms = ("curated", "random") if phase == "before" else ("curated", "random", NONE)
            assert len({jobs[f"5-train/{phase}/{arm}-{seed}"].seed for arm in arms}) == 1
    assert len({job.seed for job in jobs.values() if isinstance(job, TrainJob)}) == 2 * 3
    keys = [job.key for job in jobs.values()]
    # The curated set and the base are the same at both seeds, but nothing else is.
    assert len(set(keys)) == len(keys)


def test_every_arm_takes_the_steps_of_the_curated_one(experiment):
    arms = {place: ids[:2] if place[0] == "random" else ids for place, ids in experiment.arms.items()}
    jobs = jobs_of(replace(experiment, arms=arms), grid())
    assert {job.steps for name, job in jobs.items() if name.startswith("5-train/before")} == {2}  # (6 + 2 keep) / 4


def test_nothing_changes_a_key_but_what_changes_the_result(experiment, tmp_path):
    root = Path(shutil.copytree(experiment.data_folder, tmp_path / "elsewhere" / "1-pool")).parent
    assert changed(experiment, experiment) == set()
    assert changed(experiment, replace(experiment, root=root, data_folder=root / "1-pool")) == set()


def test_other_settings_change_the_keys_of_what_follows(experiment):
    rank, steps = FINETUNE.model_copy(update={"rank": 3}), FINETUNE.model_copy(update={"steps": 3})
    finetuned = everything(experiment, but=("before",))
    assert changed(experiment, replace(experiment, finetune=rank)) == finetuned
    assert changed(experiment, replace(experiment, finetune=steps)) == finetuned
    align = ALIGN.model_copy(update={"epochs": 2.0})
    assert changed(experiment, replace(experiment, align=align)) == everything(experiment, but=("none",))
    base = everything(experiment)
    assert changed(experiment, replace(experiment, chat_template="plain")) == base
    assert changed(experiment, replace(experiment, base=replace(experiment.base, key="other"))) == base
    assert changed(experiment, replace(experiment, seed=2)) == everything(experiment, but=("9-nowhere/before/none-0",))


def test_another_draw_changes_its_own_arm_and_seed_alone(experiment):
    arms = {**experiment.arms, ("random", 1): experiment.arms["random", 0]}
    found = changed(experiment, replace(experiment, arms=arms))
    assert found == {name for name in everything(experiment) if name.endswith("/random-1")}


@pytest.mark.parametrize(
    ("file", "unchanged"),
    [
        ("keep", ("none",)),
        ("tasks/list-train", ("before", "sum")),
        ("tasks/sum-test", ("5-train", "after/list")),
        ("probes-harmful", ("5-train",)),
    ],
)
def test_other_rows_change_the_keys_of_what_sees_them_even_by_white_space(experiment, tmp_path, file, unchanged):
    root = Path(shutil.copytree(experiment.data_folder, tmp_path / "1-pool")).parent
    path = root / "1-pool" / f"{file}.parquet"
    frame = pl.read_parquet(path)
    rows = frame["messages"].to_list()
    rows[0][0]["content"] += " "
    frame.with_columns(messages=pl.Series(rows, dtype=frame.schema["messages"])).write_parquet(path)
    other = replace(experiment, root=root, data_folder=root / "1-pool")
    assert changed(experiment, other) == everything(experiment, but=unchanged)


def test_jobs_are_small_enough_to_be_sent(experiment):
    import pickle

    for job in jobs_of(experiment, grid()).values():
        assert isinstance(job, TrainJob | AnswerJob)
        assert pickle.loads(pickle.dumps(job)) == job
        assert len(pickle.dumps(job)) < 5000


def keys_of(experiment, monkeypatch):
    """The keys of the trainings and the answers of a grid, without computing any."""
    made = []

    def seen(work, jobs, *_, **__):
        made.extend(job.key for job in jobs)
        return iter(())

    monkeypatch.setattr("curator.experiment.grid.executed", seen)
    arms = [Arm(name=name) for name in ("curated", "random", "random+recovery")]
    cells = plan(Verify(arms=arms, seeds=1, align=ALIGN, finetune=FINETUNE), [])
    try:
        train_grid(experiment, cells, experiment.root / "a", execute=here, progress=lambda *_: None)
        weights = dict.fromkeys(cells.asked, experiment.base)
        answer_grid(
            experiment, cells, weights, experiment.root / "b", section=GENERATE, execute=here, progress=lambda *_: None
        )
    except RunError:  # no answers are there to be read
        pass
    return made


def test_what_the_template_writes_before_an_opening_is_part_of_the_keys_that_it_decides(experiment, monkeypatch):
    ids = experiment.arms["curated", 0]
    one = replace(experiment, arms={(arm, 0): ids for arm in ("curated", "random", "random+recovery")})
    opened = replace(one, depths=(2,), opening="the gate", openings={ids[0]: (5, 6)})
    plain, framed = (keys_of(replace(each, lead=(7, 8)), monkeypatch) for each in (one, opened))
    assert plain == keys_of(one, monkeypatch)
    before = keys_of(opened, monkeypatch)
    assert len(before) == 6
    same = [key == other for key, other in zip(before, framed, strict=True)]
    assert same == [True, True, False, False, False, False]  # the training behind openings, and the answers of all
