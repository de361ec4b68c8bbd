"""Composition of the sets in the report of a real run, against its rows counted again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curator.conclusions.part import plain
from curator.report.composition import TABLES
from curator.report.markdown import markdown
from curator.report.model import Report, read_report
from curator.run import Run
from curator.run.readers import report_file, webpage_file
from curator.selection.composition import Composition
from tests.report.invented import invent


@pytest.fixture(scope="module")
def report(plain_run: Path) -> Report:
    return read_report(report_file(plain_run))


def test_the_report_counts_every_set_beside_the_pool(report: Report, plain_run: Path) -> None:
    run = Run.open(plain_run, "report")
    traits, drawn = run.traits(), run.drawn()
    sets = {each.set: each for each in report.composition or ()}
    assert list(sets) == ["pool", "curated", "random", "matched-random"]  # none holds no rows
    for arm in ("curated", "random", "matched-random"):
        draws = [part.join(traits, on="id") for _, part in drawn.filter(arm=arm).group_by("seed", maintain_order=True)]
        assert sets[arm].rows == 20
        assert sets[arm].refusals == pytest.approx(np.mean([(draw["refusal"] == "refusal").mean() for draw in draws]))
        assert sets[arm].openers == pytest.approx(np.mean([draw["opener"].n_unique() for draw in draws]))
        assert sets[arm].words == pytest.approx(np.mean([draw["words"].median() for draw in draws]))
        top = [draw["answer"].value_counts()["count"].max() / 20 for draw in draws]
        assert sets[arm].top_answer == pytest.approx(np.mean(top))
        assert 0 < sets[arm].coverage < sets["pool"].coverage == 1
        assert sets[arm].openers_by_chance == sets["random"].openers_by_chance
    assert sets["pool"].refusals == (traits["refusal"] == "refusal").mean()
    assert sets["matched-random"].refusals == pytest.approx(sets["curated"].refusals)
    scores = dict(zip(run.selected_by().ids, run.selected_by().combined, strict=True))
    mean = np.mean([scores[row_id] for row_id in drawn.filter(arm="curated", seed=0)["id"]])
    assert sets["curated"].similarity == pytest.approx(mean)


def test_page_markdown_and_card_show_it_and_say_what_is_matched(report: Report, plain_run: Path) -> None:
    page = webpage_file(plain_run).read_text()
    card = next(plain_run.glob("9-publish/**/README.md")).read_text()
    curated = next(each for each in report.composition or () if each.set == "curated")
    for text in (markdown(report), card):
        assert "## What the sets are made of" in text
        (row,) = [line for line in text.splitlines() if line.startswith("| curated | 20 | ")]
        assert f"{curated.refusals:.0%}" in row
        assert "effect of the mix of refusals, categories and lengths" in text
    assert "What the sets are made of" in page
    assert "distinct openers in as many random rows" in page
    early = report.model_copy(update={"composition": None})
    early.model_fields_set.discard("composition")
    assert "composition" not in plain(early)
    assert "What the sets are made of" not in markdown(early)
    assert "effect of the mix of categories and lengths" in markdown(early)


def test_a_report_warns_of_ends_of_another_kind(report: Report) -> None:
    pool = dict(plain(report)["composition"][0])
    kinds = {"pool": 0.8, "low-similarity": 0.99, "high-similarity": 0.29}
    sets = [Composition(**{**pool, "set": name, "refusals": share}) for name, share in kinds.items()]
    made = invent({"curated": 0.1, "random": 0.4, "low-similarity": 0.3, "high-similarity": 0.3})
    warnings = made.report(composition=sets).warnings
    (few, apart) = [warning for warning in warnings if "refusals" in warning and "judge" not in warning]
    assert few.startswith("The arm `high-similarity` has a smaller share of refusals than the pool (29%, the pool 80%)")
    assert apart.startswith("The arms `low-similarity` (99% of refusals) and `high-similarity` (29% of refusals)")
    assert apart.endswith("to see the effect of similarity alone.")


def test_random_sets_within_the_caps_are_shown_without_being_an_arm(report: Report) -> None:
    pool = dict(plain(report)["composition"][0])
    kinds = {"pool": 0.8, "curated": 0.8, "random": 0.8, "random-capped": 0.1}
    sets = [Composition(**{**pool, "set": name, "refusals": share}) for name, share in kinds.items()]
    made = invent().report(composition=sets)
    assert not any("random-capped" in warning for warning in made.warnings)
    sentence = "stands for random sets within the caps on answers; other random sets obey no caps."
    assert f"`random-capped` {sentence}" in markdown(made)
    caption, heads, _ = TABLES["composition"](made, None)  # type: ignore[arg-type]
    assert caption.endswith(f"'random-capped' {sentence}")
    assert [*heads][-1] == "random-capped"
    assert sentence not in markdown(report)
