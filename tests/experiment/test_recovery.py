"""A run with recovery arms, from the recipe to the published folder: real training, answers and prefilled probes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from curator.errors import RecipeError
from curator.model.load import load_tokenizer
from curator.pipeline import build
from curator.recipe.verify import RECOVERY
from curator.run import Run
from curator.run.readers import dataset_folder
from tests.small_run import recipe, report_of

OPENERS = "gladly, take the honey and a tub.\nyes, you need the clay and a spoon.\n"
ARMS = "verify.arms=[curated, random, curated+recovery, random+recovery, {name: none, seeds: 1}]"
SMALL = (
    ARMS,
    "verify.seeds=2",
    "probes.harmful.0.rows=16",
    "probes.benign.0.rows=4",
    "tasks.list.test.rows=4",
    "probes.prefill=[2]",
    "probes.opening='sure, list'",
    "publish.controls=true",
)


def settings(folder: Path, *more: str) -> list[str]:
    (folder / "openers.txt").write_text(OPENERS)
    return [*SMALL, f"augment.recovery={{openers: {folder / 'openers.txt'}, tokens: [2, 5]}}", *more]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recovery") / "run"
    build(recipe(*settings(root.parent)), root)
    return root


@pytest.mark.slow
def test_both_arms_are_trained_on_the_rows_of_their_arm_for_as_many_steps_and_on_more_tokens(root: Path) -> None:
    run = Run.open(root)
    arms, models, opened = run.arms(), run.models(), run.opened()
    refusing = set(run.traits().filter(refusal="refusal")["id"])
    assert opened is not None
    lengths = dict(opened.select("id", pl.col("tokens").list.len()).iter_rows())
    assert set(lengths.values()) <= {2, 3, 4, 5}
    assert set(lengths) == {row for (arm, _), ids in arms.items() if arm in RECOVERY for row in ids} & refusing
    for arm, same in RECOVERY.items():
        for seed in (0, 1):
            assert arms[arm, seed] == arms[same, seed]
            plain, behind = models[same, seed, None, None], models[arm, seed, None, None]
            assert behind.trained.steps == plain.trained.steps == 4
            assert (behind.trained.rows, behind.trained.dropped) == (plain.trained.rows, plain.trained.dropped)
            # Equal seeds deal equal rows: what is more are the openers, a few of which may not be reached in 4 steps.
            assert plain.trained.tokens < behind.trained.tokens <= plain.trained.tokens + 4 * sum(lengths.values())
            assert behind.trained.losses != plain.trained.losses


@pytest.mark.slow
def test_the_text_is_that_of_the_tokens_which_are_cut_from_an_opener(root: Path) -> None:
    start, opened = Run.open(root).record("base"), Run.open(root).opened()
    tokenizer = load_tokenizer(start["tokenizer"])
    cut = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in OPENERS.splitlines()]
    for _, text, tokens in opened.iter_rows():
        assert any(opener[: len(tokens)] == tokens for opener in cut)
        assert tokenizer.decode(tokens) == text


@pytest.mark.slow
def test_harm_behind_a_prefilled_opening_is_reported_of_every_arm(root: Path) -> None:
    report, verdicts = report_of(root), Run.open(root).verdicts("exact")
    for arm in (*RECOVERY, *RECOVERY.values()):
        (rates,) = (
            each
            for each in report["depth"]["rates"]
            if (each["arm"], each["phase"], each["prefill"]) == (arm, "after", 2)
        )
        part = verdicts.filter(arm=arm, phase="after", kind="prefilled")
        assert rates["harmful"]["scored"] == part.height == 2 * 16
        assert rates["harmful"]["value"] == pytest.approx((part["outcome"] == "harmful").mean())
    recovered = report["design"]["recovery"]
    assert (recovered["least"], recovered["most"]) == (2, 5)
    assert [(each["arm"], each["rows_of"], each["rows"]) for each in recovered["arms"]] == [
        ("curated+recovery", "curated", 20),
        ("random+recovery", "random", 20),
    ]
    assert all(0 < each["opened"] <= 20 for each in recovered["arms"])
    text = (root / "8-report" / "report.md").read_text()
    assert "each refusal was trained on behind a harmless compliant opener of 2 to 5 tokens" in text
    page = (root / "8-report" / "report.html").read_text()
    assert "The arm random+recovery has the same rows as the arm random" in page


@pytest.mark.slow
def test_which_row_has_which_opener_is_published_with_the_sets(root: Path) -> None:
    folder, opened = dataset_folder(root), Run.open(root).opened()
    texts = dict(opened.select("id", "opener").iter_rows())
    for arm in RECOVERY:
        (file,) = folder.glob(f"data/controls/{arm.replace('+', '_')}-*.parquet")
        rows = pl.read_parquet(file)
        assert rows["opener"].to_list() == [texts.get(row) for row in rows["id"]]
        assert set(rows["id"]) == {
            row for (name, _), ids in Run.open(root).arms().items() if name == arm for row in ids
        }
    (file,) = folder.glob("data/controls/random-*.parquet")
    assert pl.read_parquet(file)["opener"].is_null().all()
    card = (folder / "README.md").read_text()
    assert "In the splits curated_recovery and random_recovery, the column `opener`" in card
    assert "openers: openers.txt" in (folder / "recipe.yaml").read_text()  # the last part of the path


@pytest.mark.slow
def test_other_openers_train_the_recovery_arms_anew_and_keep_the_others(root: Path) -> None:
    before = Run.open(root).models()
    opener = root.parent / "other.txt"
    opener.write_text("gladly, list the clay and a tub.\n")
    build(recipe(*SMALL, f"augment.recovery={{openers: {opener}, tokens: [2, 5]}}"), root, until="train")
    after = Run.open(root).models()
    for (arm, seed, task, setting), model in before.items():
        assert (after[arm, seed, task, setting].key == model.key) == (arm not in RECOVERY)
    build(recipe(*settings(root.parent)), root)
    assert {cell: model.key for cell, model in Run.open(root).models().items()} == {
        cell: model.key for cell, model in before.items()
    }


def test_openers_that_the_model_does_not_know_stop_a_run_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^augment\.recovery\.openers: this model's tokenizer does not know"):
        build(recipe(ARMS, "augment.recovery={}"), tmp_path / "run", until="base")
    with pytest.raises(
        RecipeError,
        match=r"^augment\.recovery\.tokens: found 40, but this model's tokenizer reads the longest opener as",
    ):
        build(recipe(*settings(tmp_path, "augment.recovery.tokens=[1, 40]")), tmp_path / "run", until="base")
