"""A suite runs every recipe of a folder, trains once what runs share, and writes down how all of them stand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from curator import cli
from curator.conclusions.part import schema
from curator.pipeline import build
from curator.run import Run, Silent
from curator.run.folder import opened
from curator.suite.model import VERSION, Suite
from curator.suite.plan import planned
from curator.suite.results import trainings
from curator.suite.run import SHELF, TRACE, Variant, _tried, variants
from curator.train import job
from tests.small_run import recipe
from tests.suite.small_suite import RUNS, SMALL, folder, told, untimed

SCHEMA = schema(Suite, "suite.json")
GOLDEN = Path(__file__).parents[1] / "golden" / "reports" / "suite.json"
BROKEN = SMALL.replace("name: small", "name: broken").replace("weight: 0.3", "wieght: 0.3")
GONE = SMALL.replace("name: small", "name: vanished").replace("{sandbox: list}", "{file: nowhere.jsonl}")


class Odd(Exception):
    """What no library of ours is known to raise."""


class Counted:
    """Stands in front of the trainer, and counts; it can be told to fail at a task."""

    def __init__(self, real: Any) -> None:
        self.real, self.times, self.fails = real, 0, None

    def __call__(self, *args: Any, **settings: Any) -> Any:
        self.times += 1
        if self.fails is not None and self.fails in str(settings["folder"]):
            raise Odd("a gradient of nothing")
        return self.real(*args, **settings)


def run(*args: str) -> int:
    """The exit code of `curator suite`."""
    return cli._run(lambda: cli.cli.main(["suite", *args], standalone_mode=False))


@pytest.fixture(scope="module")
def trainer() -> Iterator[Counted]:
    counted = Counted(job.train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "train", counted)
        yield counted


@pytest.fixture(scope="module")
def ran(trainer: Counted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small suite beside two recipes that are no good."""
    place = tmp_path_factory.mktemp("suite")
    recipes, root = folder(place / "recipes", broken=BROKEN, vanished=GONE), place / "out"
    plan = planned(variants(folder(place / "good")), root)
    code = run(str(recipes), "--out", str(root))
    return {"recipes": recipes, "root": root, "plan": plan, "code": code, "trained": trainer.times, "place": place}


def small(suite: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in suite["runs"] if one["source"] == "small"]


def test_every_size_and_task_is_a_run_with_a_report_of_its_own(ran: dict[str, Any]) -> None:
    assert tuple(one["name"] for one in small(told(ran["root"]))) == RUNS
    for name in RUNS:
        report = json.loads((ran["root"] / name / "8-report" / "report.json").read_text())
        _, k, task = name.split("-")
        assert [(one["name"], one["weight"]) for one in report["tasks"]] == [(task, 1.0)]
        assert report["selection"]["k"] == int(k)


def test_what_runs_share_is_trained_once_and_the_plan_said_so(ran: dict[str, Any]) -> None:
    # Alone, each of the four trains 5 aligned and 6 fine-tuned models. Shared are: random of a size by its tasks
    # (2 sizes), full by all (3 times), and full and none fine-tuned, by sizes (2 tasks).
    assert ran["trained"] == 4 * 11 - 2 - 3 - 2 * 2
    assert ran["plan"]["total"]["trainings"] == ran["trained"]
    assert ran["plan"]["total"]["shared"] == 9
    made = [one["found"]["trainings"] for one in small(told(ran["root"]))]
    assert sum(one["shared"] for one in made) == 9
    assert [(one["trainings"], one["shared"]) for one in ran["plan"]["runs"]] == [
        (one["made"], one["shared"]) for one in made
    ]


def test_trainings_set_aside_are_none_of_the_run(ran: dict[str, Any], tmp_path: Path) -> None:
    own = next(one for one in variants(ran["recipes"]) if one.name == RUNS[0])
    assert own.recipe is not None
    shutil.copytree(ran["root"] / RUNS[0], tmp_path / "run")
    run = Run(own.recipe, tmp_path / "run", Silent())
    before = trainings(run)
    piece = tmp_path / "run" / "5-train" / "before" / "curated-0"
    shutil.copytree(piece, piece.with_name("curated-0.0123abcd"))
    shutil.copytree(piece, piece.with_name("curated-77"))
    assert trainings(run) == before


def test_recipes_that_agree_share_whatever_they_are_called(ran: dict[str, Any]) -> None:
    stand = {one["name"]: one for one in told(ran["root"])["runs"]}
    assert stand["vanished-8-misdeeds"]["found"]["trainings"] == {"made": 0, "shared": 11}
    assert told(ran["root"])["trainings"] == {"made": ran["trained"], "shared": 9 + 2 * 11}


def test_a_run_of_a_suite_is_the_run_it_would_be_alone(ran: dict[str, Any]) -> None:
    alone = ran["place"] / "alone"
    own = next(one for one in variants(ran["recipes"]) if one.name == RUNS[-1])
    assert own.recipe is not None
    build(own.recipe, alone)

    def report(root: Path) -> Any:
        found = json.loads((root / "8-report" / "report.json").read_text())
        del found["timing"]
        return found

    assert report(alone) == report(ran["root"] / RUNS[-1])


def test_a_recipe_that_fails_stops_no_other_and_says_why(ran: dict[str, Any]) -> None:
    assert ran["code"] == 2
    stand = {one["name"]: one for one in told(ran["root"])["runs"]}
    assert stand["broken"]["status"] == "failed"
    assert "wieght" in stand["broken"]["reason"]
    assert stand["vanished-8-list"]["status"] == "failed"
    assert "nowhere.jsonl" in stand["vanished-8-list"]["reason"]
    # Its other task has its data, and runs.
    assert stand["vanished-8-misdeeds"]["status"] == "done"
    assert all(stand[name]["status"] == "done" for name in RUNS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA error: unspecified launch failure"), "the GPU or its driver failed; run the same command"),
    ],
)
def test_what_the_machine_lacks_is_no_mistake_of_ours(error: Exception, reason: str, tmp_path: Path) -> None:
    def work(variant: Variant) -> None:
        raise error

    outcome = _tried(Variant("small", "small", recipe()), tmp_path, work)
    assert (outcome.status, outcome.bug) == ("failed", False)
    assert reason in (outcome.reason or "")


def test_a_mistake_of_ours_in_training_is_told_apart_and_stops_no_other(
    trainer: Counted, ran: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root = ran["place"] / "fails"
    recipes = folder(ran["place"] / "two", small=SMALL.replace("[8, 16]", "[8]"))
    short = ["--set", "verify.arms=[curated, random]"]
    trainer.fails = "after/list"
    try:
        assert run(str(recipes), "--out", str(root), *short) == 1
    finally:
        trainer.fails = None
    stand = {one["name"]: one for one in told(root)["runs"]}
    assert (stand["small-8-list"]["status"], stand["small-8-list"]["bug"]) == ("failed", True)
    assert "a gradient of nothing" in stand["small-8-list"]["reason"]
    assert "Odd: a gradient of nothing" in (root / "small-8-list" / TRACE).read_text()
    assert stand["small-8-misdeeds"]["status"] == "done"
    assert "a gradient of nothing" in capsys.readouterr().err
    # Mended, it goes on where it was.
    before = trainer.times
    assert run(str(recipes), "--out", str(root), *short) == 0
    assert trainer.times - before == 2
    assert not (root / "small-8-list" / TRACE).exists()


def test_a_second_call_trains_nothing_and_says_the_same(trainer: Counted, ran: dict[str, Any]) -> None:
    before, first = trainer.times, told(ran["root"])
    assert run(str(ran["recipes"]), "--out", str(ran["root"])) == 2
    assert trainer.times == before
    assert untimed(told(ran["root"])) == untimed(first)


def test_only_some_are_run_and_what_else_is_finished_stays_on_the_page(trainer: Counted, ran: dict[str, Any]) -> None:
    before = trainer.times
    assert run(str(ran["recipes"]), "--out", str(ran["root"]), "--only", RUNS[0]) == 0
    assert trainer.times == before
    names = [one["name"] for one in told(ran["root"])["runs"]]
    assert set(RUNS) <= set(names)
    assert "broken" not in names


def test_what_another_recipe_left_in_a_folder_is_not_taken_for_done(ran: dict[str, Any]) -> None:
    changed = planned(variants(ran["recipes"], ["verify.seeds=2"]), ran["root"])
    assert {one["status"] for one in changed["runs"] if one["name"] in RUNS} == {"waiting"}
    same = planned(variants(ran["recipes"]), ran["root"])
    assert {one["status"] for one in same["runs"] if one["name"] in RUNS} == {"done"}


def test_a_run_from_before_a_key_existed_is_done(ran: dict[str, Any]) -> None:
    file = ran["root"] / RUNS[0] / "recipe.yaml"
    written = file.read_text()
    key = "  decision:\n    floor: 0.05\n    ceiling: 0.95\n    least_seeds: 3\n    one_seed: false\n    over: mean\n"
    assert key in written
    try:
        file.write_text(written.replace(key, ""))
        plan = planned(variants(ran["recipes"]), ran["root"])
    finally:
        file.write_text(written)
    assert next(one["status"] for one in plan["runs"] if one["name"] == RUNS[0]) == "done"


def test_two_commands_do_not_run_one_suite(ran: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with opened(ran["root"]):
        assert run(str(ran["recipes"]), "--out", str(ran["root"])) == 2
    assert "in use by another curator" in capsys.readouterr().err


def test_a_piece_that_was_taken_is_no_second_copy_on_disk(ran: dict[str, Any]) -> None:
    first, second = (
        ran["root"] / name / "5-train" / "before" / "full-0" / "weights" / "model.safetensors" for name in RUNS[:2]
    )
    assert first.stat().st_ino == second.stat().st_ino
    assert (ran["root"] / SHELF / "5-train" / "before" / "full-0").is_dir()


def test_the_file_is_what_its_schema_says(ran: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["version"]["const"] == VERSION
    assert _mistakes(json.loads(GOLDEN.read_text(encoding="utf-8"))) == []
    assert [f"{list(one.absolute_path)}: {one.message}" for one in _mistakes(told(ran["root"]))] == []


def _mistakes(suite: Any) -> Any:
    return list(Draft202012Validator(SCHEMA).iter_errors(suite))


@pytest.mark.parametrize(
    "damage",
    [
        lambda suite: suite.update(version=2),
        lambda suite: suite.pop("contrasts"),
        lambda suite: suite["runs"][0].update(status="perhaps"),
        lambda suite: suite["contrasts"][0].update(outcome="better"),
        lambda suite: suite["contrasts"][0].pop("p_holm"),
        lambda suite: suite["trainings"].update(made=-1),
        lambda suite: suite["runs"][-1]["found"]["arms"]["full"].pop("vendi"),
        lambda suite: suite["runs"][-1]["found"]["judges"]["exact"]["rates"]["full"]["after"].update(value=2),
        lambda suite: suite["runs"][-1].update(more=1),
    ],
)
def test_a_file_that_is_not_is_found(ran: dict[str, Any], damage: Any) -> None:
    suite = told(ran["root"])
    damage(suite)
    assert _mistakes(suite)
