"""A run whose curated arm repeats rows, by `build` on top of one that does not: what it trains on, says and keeps."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from curator.errors import SelectionError
from curator.experiment.pilot import _trained
from curator.forecast.estimate import estimates
from curator.pipeline import build
from curator.provenance import set_threads
from curator.run import Run
from curator.run.readers import dataset_folder
from tests.small_run import recipe, report_of

EPOCH = ["verify.align={method: full, epochs: 1.0, batch: 8, micro_batch: 8, max_tokens: 48}", "verify.seeds=2",
         "verify.arms=[curated, random]", "probes.harmful.0.rows=10", "probes.benign.0.rows=4"]  # fmt: skip


def settings(**groups: int) -> list[str]:
    listed = ", ".join(f"{name.replace('_', ' ')}: {times}" for name, times in groups.items())
    return [*EPOCH, f"select.repeats={{by: opener, groups: {{{listed}}}}}"]


THRICE = settings(i_cannot_help=3, sorry_that_is=2)


@pytest.fixture(scope="module")
def root(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(plain_run, tmp_path_factory.mktemp("repeats") / "run")
    set_threads(1)
    build(recipe(*THRICE), root)
    return root


@pytest.mark.slow
def test_an_epoch_of_the_curated_arm_reads_each_row_as_often_as_its_group_says(root: Path) -> None:
    run = Run.open(root)
    data, dealt, models = run.data(), run.dealt(), run.models()
    openers = dict(run.traits().select("id", "opener").iter_rows())
    tokens = dict(data.pool.rows.select("id", "tokens").iter_rows())
    times = {"i cannot help": 3, "sorry that is": 2}
    counts = Counter(dealt["curated", 0])
    assert set(counts) == set(run.selection().ids)
    assert counts == {row: times.get(openers[row], 1) for row in run.selection().ids}
    assert {3, 1} <= set(counts.values())
    keep = data.keep["tokens"].sum()
    for seed in (0, 1):
        curated, random = (models[arm, seed, None, None].trained for arm in ("curated", "random"))
        assert curated.rows == sum(counts.values()) + data.keep.height
        assert curated.tokens == sum(tokens[row] * count for row, count in counts.items()) + keep
        # What is equal between arms is the steps of the curated one, which are more for its repeats.
        assert curated.steps == random.steps == -(-curated.rows // 8)
        assert random.rows == 20 + data.keep.height
        assert Counter(dealt["random", seed]) == dict.fromkeys(run.arms()["random", seed], 1)


@pytest.mark.slow
def test_repeats_are_published_as_a_column_and_told_by_report_and_card(root: Path) -> None:
    run, folder = Run.open(root), dataset_folder(root)
    counts = Counter(run.dealt()["curated", 0])
    (file,) = folder.glob("data/curated/*.parquet")
    rows = pl.read_parquet(file)
    assert rows.columns[-1] == "repeats"
    assert dict(rows.select("id", "repeats").iter_rows()) == counts
    repeats = report_of(root)["design"]["repeats"]
    assert (repeats["by"], repeats["rows"]) == ("opener", sum(counts.values()))
    assert {each["group"]: each["times"] for each in repeats["groups"]} == {"i cannot help": 3, "sorry that is": 2}
    thrice = sum(count == 3 for count in counts.values())
    assert next(each["rows"] for each in repeats["groups"] if each["times"] == 3) == thrice
    card = (folder / "README.md").read_text()
    assert "| repeats | how often each pass over the set trained on the row" in card
    assert f"| i cannot help | 3 | {thrice} |" in card
    assert f"i cannot help' 3 times ({thrice} row" in (root / "8-report" / "report.html").read_text()


@pytest.mark.slow
def test_other_groups_train_the_curated_arm_anew_and_the_same_groups_nothing(root: Path) -> None:
    def made() -> dict[tuple[str, int], str]:
        return {(arm, seed): each.key for (arm, seed, task, _), each in Run.open(root).models().items() if not task}

    before = made()
    build(recipe(*THRICE), root)
    assert made() == before
    # As many rows as before, so that steps are the same; others of them.
    steps = "verify.align={method: full, steps: 3, batch: 8, micro_batch: 8, max_tokens: 48}"
    build(recipe(*THRICE, steps), root, until="train")
    fixed = made()
    build(recipe(*settings(i_cannot_help=2), steps), root, until="train")
    other = made()
    for arm, seed in fixed:
        assert (other[arm, seed] == fixed[arm, seed]) == (arm == "random")
    build(recipe(*THRICE), root)
    assert made() == before


@pytest.mark.slow
def test_check_counts_what_an_earlier_run_was_trained_on(root: Path) -> None:
    (planned,), _ = estimates(recipe(*THRICE), root)
    trained = [model.trained for (*_, task, _), model in Run.open(root).models().items() if task is None]
    # An epoch of the curated arm each; of the others some rows are seen again.
    assert planned.align_rows == pytest.approx(sum(each.rows for each in trained[:2]) * 2, abs=4 * 8)
    (unknown,), _ = estimates(recipe(*THRICE), root / "nothing")
    assert unknown.align_rows is not None
    assert planned.align_rows is not None
    assert unknown.align_rows > planned.align_rows  # at most: every row three times


@pytest.mark.slow
def test_candidates_of_a_pilot_are_trained_on_as_the_curated_arm_would_be(root: Path) -> None:
    run = Run.open(root)
    ids = run.selection().ids
    assert _trained(run, run.data(), {"w0": ids, "w1": ids[:5]})["w0"] == run.dealt()["curated", 0]
    plain = Run(recipe(*EPOCH), root)
    assert _trained(plain, run.data(), {"w0": ids}) == {"w0": ids}


@pytest.mark.slow
def test_a_group_that_does_not_exist_stops_the_stage_before_it_chooses(root: Path) -> None:
    with pytest.raises(
        SelectionError, match=r"^select\.repeats\.groups\.i cannot halp: .*did you mean 'i cannot help'"
    ):
        build(recipe(*settings(i_cannot_halp=2)), root, until="select")
    build(recipe(*THRICE), root)
