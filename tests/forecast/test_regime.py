"""`curator check --measure` and what `check` says beforehand of its cost, against what was then trained."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.cli.build import to_type
from curator.conclusions import FoundRegime
from curator.errors import RecipeError
from curator.forecast.estimate import estimates
from curator.forecast.measured import measured
from curator.forecast.problems import examine
from curator.forecast.workload import regime_plan, regime_trainings
from curator.recipe.file import open_file, read
from curator.suite import plan as suite_plan
from tests.small_run import QUICKSTART, SMALL, recipe

TINY = [*SMALL, "verify.align.steps=2", "verify.finetune.steps=1", "tasks.list.rows=20"]
ASKED = "verify.regime={seeds: 2}"
NOTHING = Path("no run here")


def check(root: Path, *settings: str, flags: tuple[str, ...] = ("--measure",)) -> str:
    typed = [word for setting in (*TINY, *settings) for word in ("--set", setting)]
    result = CliRunner().invoke(cli, ["check", str(QUICKSTART), "--out", str(root), *flags, *typed])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run folder in which `check --measure` was called for a recipe that says nothing of the regime; its output."""
    root = tmp_path_factory.mktemp("check") / "run"
    return root, check(root)


def pieces(root: Path, part: str, phase: str = "*") -> Iterator[dict[str, Any]]:
    yield from (json.loads(path.read_text()) for path in (root / "regime" / part).glob(f"{phase}/**/done.json"))


def found_in(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "regime" / "done.json").read_text())["record"])


def test_the_plan_says_first_what_measuring_costs_and_then_the_table_is_printed(checked: tuple[Path, str]) -> None:
    root, text = checked
    plan, _, table = text.partition("What fine-tuning does to the control (random)")
    assert "finding the regime" in plan
    assert "time about" in plan
    found = found_in(root)
    assert table.count("│ list") == len(found["lines"]) == 4
    assert table.count("│ yes") == sum(line["in_range"] for line in found["lines"])
    assert found["advice"] in table
    assert f"Measured with {found['probes']} probes and 2 seeds that the experiment does not use" in table
    assert "(measured in" in table


def test_a_recipe_without_verification_is_told_what_measuring_needs(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: a\nmodel: {id: 'sandbox:'}\npool: {sources: [{sandbox: pool}]}\nselect: {k: 10}\n"
        "tasks: [{name: list, train: {sandbox: list}, rows: 20}]\n"
    )
    result = CliRunner().invoke(cli, ["check", str(tmp_path / "a.yaml"), "--measure"])
    assert isinstance(result.exception, RecipeError)
    needs = "missing; --measure needs probes, verify (align, finetune) and judges; add it, or leave out --measure"
    assert sorted(result.exception.problems) == [
        f"{tmp_path / 'a.yaml'}: {section}: {needs}" for section in ("judges", "probes", "verify")
    ]


def test_a_mistake_of_the_section_that_measuring_adds_blames_no_setting(tmp_path: Path) -> None:
    written = open_file(QUICKSTART, ["verify.regime={after: [1, 0]}"])
    (problem,) = examine(written.for_option("--measure", ["verify.regime={after: [1, 0]}"])).problems
    assert problem.startswith("--measure: verify.regime: after: found 1 to 0")


@pytest.fixture
def copied(checked: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checked[0], tmp_path / "copy"))


def test_a_recipe_without_the_section_is_measured_as_if_it_had_it(checked: tuple[Path, str]) -> None:
    assert read(checked[0] / "recipe.yaml").verify.regime is not None
    # The words to type hold the section, so that the build leaves the probes apart that were measured on.
    regime: FoundRegime = {**found_in(checked[0]), "setting": {"steps": 2, "epochs": None, "learning_rate": 0.0006}}  # type: ignore[typeddict-item]
    words = to_type(regime, recipe(*TINY), ("verify.regime={}",))
    assert words == ["verify.regime={}", "verify.finetune.steps=2"]
    assert to_type({**regime, "setting": None}, recipe(*TINY), ("verify.regime={}",)) == []


WIDE = "before: 1.0, after: [0.0, 1.0], steps: [1, 2]"


def test_the_words_to_type_give_the_recipe_of_the_setting_that_was_named(copied: Path) -> None:
    wide = f"verify.regime={{{WIDE}, learning_rates: [0.0003]}}"
    typed = check(copied, wide).partition("To build there, add: ")[2].partition("\n")[0]
    words = shlex.split(typed)[1::2]
    finetune = read(QUICKSTART, [*TINY, wide, *words]).verify.finetune.model_dump()
    assert found_in(copied)["setting"].items() <= finetune.items()
    assert finetune["learning_rate"] == 0.0003


def test_as_json_it_gives_the_same_and_what_to_type(copied: Path) -> None:
    wide = f"verify.regime={{{WIDE}, learning_rates: [0.0003]}}"
    printed = json.loads(check(copied, wide, flags=("--measure", "--json")))
    assert printed["regime"] == found_in(copied)
    assert "verify.finetune.learning_rate=0.0003" in printed["set"]
    assert printed["estimates"][0]["regime"]["finetuned"] == 4


def test_what_was_said_to_be_trained_and_answered_was(checked: tuple[Path, str]) -> None:
    root, _ = checked
    tried = recipe(*TINY, ASKED)
    ((said, *_), words) = estimates(tried, root)
    assert said.regime is not None
    ran = [done["record"] for done in pieces(root, "train")]
    assert (
        said.regime.aligned + said.regime.finetuned == len(regime_trainings(tried, measured(tried, root))) == len(ran)
    )
    assert said.regime.align_tokens is not None
    assert said.regime.finetune_tokens is not None
    tokens = said.regime.align_tokens + said.regime.finetune_tokens
    assert tokens == pytest.approx(sum(record["tokens"] for record in ran), rel=0.1)
    assert said.regime.answers == sum(done["record"]["answers"] for done in pieces(root, "answer"))
    assert said.regime.answers == found_in(root)["probes"] * len(regime_plan(tried).asked)
    assert "only with `curator check --measure`" in words["finding the regime"]


def test_speeds_are_those_that_measuring_took(checked: tuple[Path, str]) -> None:
    known = measured(recipe(*TINY, ASKED), checked[0])
    for phase, speed in (("before", known.align), ("after", known.finetune)):
        ran = [done["record"] for done in pieces(checked[0], "train", phase)]
        assert speed == pytest.approx(sum(each["tokens"] for each in ran) / sum(each["seconds"] for each in ran))
    answered = list(pieces(checked[0], "answer"))
    spent = sum(done["seconds"] for done in answered)
    assert known.answers == pytest.approx(sum(done["record"]["answers"] for done in answered) / spent)


def test_without_the_flag_nothing_is_trained_and_without_the_section_nothing_is_said(tmp_path: Path) -> None:
    said = check(tmp_path / "run", flags=())
    assert "finding the regime" not in said
    assert "in addition to the figures above" in " ".join(
        check(tmp_path / "run", "verify.regime=auto", flags=()).split()
    )
    assert not (tmp_path / "run").exists()


def test_before_the_data_is_read_the_cost_is_that_of_the_grid_at_most() -> None:
    tried = recipe("verify.regime={auto: true, steps: [3, 5], learning_rates: [0.1, 0.2], seeds: 3}")
    (said,), words = estimates(tried, NOTHING)
    assert said.regime is not None
    assert (said.regime.aligned, said.regime.finetuned, said.regime.asked) == (3, 3 * 4, 3 * 5)
    assert said.regime.align_rows == 3 * 2 * 40  # 4 steps are two epochs of 20 + 20 rows
    # 40 rows are a batch of 32 and one of 8: 3 steps are 72 rows, and 5 steps 112
    assert said.regime.finetune_rows == 3 * 2 * (72 + 112)
    assert said.regime.answers == 3 * 5 * 9  # 30% of 30 probes
    assert "4 settings of length and learning rate on 3 seeds" in words["finding the regime"]


def test_the_plan_of_a_suite_counts_the_search_and_shares_no_fine_tuning_after_it() -> None:
    from curator.forecast.measured import Measured
    from curator.suite.run import Variant

    def plan(setting: str) -> list[Any]:
        return list(suite_plan.pieces(Variant("a", "a.yaml", recipe(setting), Path("a"), None), Measured(), None))

    without, searched = plan("verify.regime={}"), plan("verify.regime={auto: true, steps: [3], seeds: 2}")
    trained = [sum(piece.kind == "trained" for piece in each) for each in (without, searched)]
    assert trained[1] - trained[0] == 2 + 2 * 2
    shared = {piece.what for piece in without} & {piece.what for piece in searched}
    assert sum(piece.what in shared and piece.kind == "trained" for piece in searched) == 8  # the alignments
