"""Models on the way through fine-tuning: where a training leaves them, and that they change nothing of its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import RecipeError
from curator.experiment.curve import checkpoints, require_curves, together
from curator.experiment.grid import answer_grid, train_grid
from curator.experiment.plan import BASE, Cell, grid
from curator.recipe.training import Training, checkpoint_steps, steps_at
from curator.records import DURING
from curator.run.folder import finished
from curator.train import sft
from curator.train.job import Weights
from tests.experiment.test_grid import GENERATE, data, experiment, here  # noqa: F401 - fixtures
from tests.train.test_sft import same, weights

# Rates that do not fall, so that a shorter training takes the first steps of a longer one.
TASK = {"steps": 8, "batch": 4, "micro_batch": 4, "learning_rate": 1e-2, "schedule": "constant"}
FINETUNE = {"lora": Training(method="lora", rank=2, **TASK), "full": Training(method="full", **TASK)}
SHARES = (0.1, 0.25, 0.5)


def perform(experiment, root, method, shares, *, steps=8):  # noqa: F811
    """Trains and asks one arm at one seed, with a curve where there are shares."""
    finetune = FINETUNE[method].model_copy(update={"steps": steps})
    probe_at = {"list": shares} if shares else {}
    experiment = replace(experiment, root=root, finetune=finetune, probe_at=probe_at)
    silent, wanted = (lambda *_: None), grid({"curated": 1}, ["list"], stage="upstream")
    done = train_grid(experiment, wanted, root / "5-train", execute=here, progress=silent)
    models = {BASE: experiment.base} | {cell: model for cell, (model, _) in done.items()} | checkpoints(done)
    folder = root / "6-answer"
    answers = answer_grid(experiment, wanted, models, folder, section=GENERATE, execute=here, progress=silent)
    return done, answers


@pytest.fixture(scope="module", params=["lora", "full"])
def both(request, experiment, tmp_path_factory):  # noqa: F811
    """The method, the same grid without and with a curve, and where."""
    folder = tmp_path_factory.mktemp(request.param)
    plain, curve = folder / "plain", folder / "curve"
    ran = perform(experiment, plain, request.param, ()), perform(experiment, curve, request.param, SHARES)
    return request.param, *ran, folder


def test_the_last_point_of_a_curve_is_the_end_of_a_run_without_one_bit_for_bit(both):
    _, (plain, answers), (curve, followed), _ = both
    assert plain.keys() == curve.keys()
    for cell in plain:
        assert same(weights(plain[cell][1].path), weights(curve[cell][1].path))
        assert plain[cell][1].losses == curve[cell][1].losses
    assert followed.filter(pl.col("phase") != DURING).equals(answers)
    assert answers.filter(phase="after")["at"].unique().to_list() == [1.0]


def test_checkpoints_answer_the_harmful_probes_alone_and_say_how_much_was_done(both, data):  # noqa: F811
    during = both[2][1].filter(phase=DURING)
    assert during["at"].unique().sort().to_list() == [0.125, 0.25, 0.5]  # one step of eight is the nearest to a tenth
    assert during["kind"].unique().to_list() == ["harmful"]
    for _, part in during.group_by("arm", "seed", "at"):
        assert sorted(part["probe"]) == sorted(data.harmful["id"])
    assert during.select("arm", "seed", "task").unique().height == 1
    assert not both[1][1].filter(phase=DURING).height


def test_a_checkpoint_is_the_model_that_a_training_of_so_many_steps_ends_with(both, experiment, tmp_path):  # noqa: F811
    method, _, (curve, followed), _ = both
    short, answers = perform(experiment, tmp_path, method, (), steps=2)
    cell = Cell("curated", 0, "list")
    (path,) = (path for step, path in curve[cell][1].checkpoints if step == 2)
    assert same(weights(path), weights(short[cell][1].path))
    columns = ["arm", "seed", "probe", "answer", "stop"]
    found, wanted = followed.filter(at=0.25), answers.filter(phase="after", kind="harmful")
    assert found.select(columns).sort(columns).equals(wanted.select(columns).sort(columns))


def test_nothing_is_trained_twice_and_a_training_without_a_curve_keeps_its_key(both):
    *_, folder = both
    trained = {kind: list((folder / kind / "5-train").rglob("done.json")) for kind in ("plain", "curve")}
    assert len(trained["plain"]) == len(trained["curve"]) == 2
    key = lambda kind, cell: finished(folder / kind / "5-train" / cell)["key"]  # noqa: E731
    assert key("plain", "before/curated-0") == key("curve", "before/curated-0")
    assert key("plain", "after/list/curated-0") != key("curve", "after/list/curated-0")


def test_a_finished_curve_is_kept_and_weights_that_were_left_are_found_where_the_folder_was_moved(
    both, experiment, monkeypatch  # noqa: F811
):  # fmt: skip
    method, _, (_, followed), folder = both
    monkeypatch.setattr(sft, "train_here", None)
    moved = (folder / "curve").rename(folder / "moved")
    try:
        done, answers = perform(experiment, moved, method, SHARES)
        assert answers.equals(followed)
        assert all(Path(path).is_dir() for _, trained in done.values() for _, path in trained.checkpoints)
        assert [step for step, _ in done[Cell("curated", 0, "list")][1].checkpoints] == [1, 2, 4]
    finally:
        moved.rename(folder / "curve")


@given(st.lists(st.floats(0.001, 1.0), max_size=6).map(sorted), st.integers(1, 500))
def test_every_share_falls_on_the_nearest_step_and_none_is_lost(shares, steps):
    falls = steps_at(shares, steps)
    assert list(falls) == sorted(falls)
    assert sorted(share for several in falls.values() for share in several) == sorted(
        [*(share for share in shares if share < 1), 1.0]
    )
    for step, several in falls.items():
        assert 1 <= step <= steps
        assert all(step == 1 or abs(step - share * steps) <= 0.5 + 1e-9 for share in several)
    assert checkpoint_steps(shares, steps) == tuple(step for step in falls if step < steps)
    assert len(together(shares, steps)) == sum(len(several) > 1 for several in falls.values())


def test_shares_that_fall_on_one_step_are_said():
    assert together((0.1, 0.25, 0.5), 2) == [
        "the shares 0.1, 0.25, 0.5 fall on the same step (1 of 2) and give one point of the curve"
    ]
    assert together((0.5, 0.99), 40) == [
        "the shares 0.99, 1 fall on the same step (40 of 40) and give one point of the curve"
    ]
    assert together((0.1, 0.25, 0.5), 40) == []


def test_a_curve_that_would_have_no_point_is_refused_before_any_training(experiment):  # noqa: F811
    wanted = grid({"curated": 1}, ["list"], stage="upstream")
    finetune = FINETUNE["full"].model_copy(update={"steps": 2})
    for share, flat in ((0.9, True), (0.5, False)):
        asked = replace(experiment, finetune=finetune, probe_at={"list": (share,)})
        if flat:
            with pytest.raises(RecipeError, match=r"tasks.list.probe_at: found 0.9, which all fall on the last step"):
                require_curves(asked, wanted)
        else:
            require_curves(asked, wanted)


def test_an_adapter_on_the_way_takes_the_place_of_the_last_one():
    from curator.records import Trained

    facts = {"parent": "p", "rows": 1, "tokens": 1, "steps": 4, "losses": (), "seconds": 0.0, "peak_gib": 0.0}
    start = Weights("base", "main", ("first",), "start", "4bit", "bf16")
    lora = Trained("last", "lora", **facts, checkpoints=((1, "early"),))
    found = start.after(lora, "key").on_the_way(lora, 1, "early")
    assert found == Weights("base", "main", ("first", "early"), "key@1", "4bit", "bf16")
    full = replace(lora, method="full")
    assert start.after(full, "key").on_the_way(full, 1, "early") == Weights("early", None, (), "key@1", dtype="bf16")
