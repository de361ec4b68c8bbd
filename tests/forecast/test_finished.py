"""What `check` says of the models that a run folder holds already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from curator.forecast.estimate import estimates
from curator.recipe.file import read
from curator.run.folder import write_json
from curator.run.names import DONE
from curator.run.readers import pieces, recipe_file
from tests.small_run import recipe

ROW = "models made before"


def told(root: Path, *changes: str) -> str:
    return estimates(read(recipe_file(root), changes), root)[1].get(ROW, "")


def test_check_counts_the_models_that_a_run_has_made(copy_of_run: Path) -> None:
    whole = told(copy_of_run)
    assert whole
    trained = len([*(copy_of_run / "5-train").rglob(DONE)]) - 1  # and the stage's own
    assert f"experiment {trained} of {trained} trained" in whole
    first = sorted((copy_of_run / "5-train" / "before").iterdir())[0]
    first.rename(first.with_name(f"{first.name}.0123abcd"))  # set aside, as of other settings
    assert f"experiment {trained - 1} of {trained} trained" in told(copy_of_run)
    answered = len([*(copy_of_run / "6-answer").rglob(DONE)]) - 1
    assert f"and {answered} of {answered} evaluated" in told(copy_of_run)
    shutil.rmtree(copy_of_run / "6-answer")
    assert f"and 0 of {answered} evaluated" in told(copy_of_run)


def test_speeds_are_of_pieces_that_this_recipe_made_itself(copy_of_run: Path) -> None:
    whole = pieces(copy_of_run, "train", "*")
    first, second = sorted((copy_of_run / "5-train" / "before").iterdir())[:2]
    first.rename(first.with_name(f"{first.name}.0123abcd"))
    assert len(pieces(copy_of_run, "train", "*")) == len(whole) - 1
    done = json.loads((second / DONE).read_text())
    write_json(second / DONE, {**done, "seconds": 0.0})  # taken from an equal piece
    assert len(pieces(copy_of_run, "train", "*")) == len(whole) - 2


def test_more_seeds_are_planned_beside_those_that_are_there(copy_of_run: Path) -> None:
    trained = len([*(copy_of_run / "5-train").rglob(DONE)]) - 1
    more = told(copy_of_run, "verify.seeds=9")
    assert f"experiment {trained} of " in more
    assert f"experiment {trained} of {trained} " not in more


def test_fewer_seeds_are_counted_among_those_that_are_planned(copy_of_run: Path) -> None:
    fewer = told(copy_of_run, "verify.seeds=2", "verify.arms=[curated, random]")
    assert fewer.startswith("experiment 8 of 8 trained and 8 of 8 evaluated")


def test_the_bank_and_its_confirmation_are_counted_too(copy_of_run: Path) -> None:
    for folder in ("bank/train/before/mix-0-0", "bank/train/before/mix-99-0", "pilot/train/after/list/score-0-1"):
        shutil.copytree(copy_of_run / "5-train" / "before" / "curated-0", copy_of_run / folder)
    bank = "verify.pilot={bank: {mixtures: 20, draws: 4, seeds: 1, candidates: 4}, seeds: 3}"
    shown = told(copy_of_run, "select.by=bank", "select.weight=null", bank)
    assert shown.startswith("bank 1 of 48 trained and 0 of 48 evaluated; confirmation 1 of 72 trained and 0 of 72 ")


def test_models_that_were_trained_in_another_way_are_not_counted(copy_of_run: Path) -> None:
    assert not told(copy_of_run, "verify.align.learning_rate=0.5")
    assert not told(copy_of_run, "seed=99")
    assert not estimates(recipe(), Path("no run here"))[1].get(ROW)
