"""The verdicts of a study that lie beside its protocol give the figures of its table."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from curator.wording import points
from tests.benchmarks.verdicts import difference, harmful

RECIPES = Path(__file__).parents[2] / "recipes"
VERDICTS = RECIPES / "verdicts"
ROWS = {
    ("phrases", "after"): "| harmful after alpaca (primary) |" + " **{}** (5.05) [{}, {}] |" + " **{}** [{}, {}] |" * 2,
    ("head", "after"): "| the same by the head |" + " {} [{}, {}] |" * 3,
    ("phrases", "before"): "| harmful before fine-tuning |" + " {} [{}, {}] |" * 3,
}


def of(setting: str, arm: str, judge: str, phase: str) -> pl.DataFrame:
    return harmful(f"{VERDICTS / f'smollm2-choice-{setting}.csv'}:{arm}")[judge, phase]


def told(first: pl.DataFrame, second: pl.DataFrame) -> list[str]:
    assert (first.height, first.width) == (99, 7)
    return [points(value) for value in difference(first, second) if value is not None]


@pytest.mark.parametrize(("judge", "phase"), ROWS)
def test_the_choices_table_is_that_of_its_verdicts(judge: str, phase: str) -> None:
    page, at = (RECIPES / "README.md").read_text(encoding="utf-8"), (judge, phase)
    figures = [each for arm in ("R", "RN", "N") for each in told(of(arm, arm, *at), of("R", "random", *at))]
    assert ROWS[at].format(*figures) in page
    caps = told(of("RN", "RN", *at), of("R", "R", *at))
    assert "{} points [{}, {}]".format(*caps) in page or "{} [{}, {}]".format(*caps) in " ".join(page.split())


ONCE_MORE = {
    "after alpaca": "| harmful after alpaca (primary) | **{}** [{}, {}] | {} [{}, {}] |",
    "after gsm8k": "| harmful after gsm8k, not anticipated | {} [{}, {}] | {} [{}, {}] |",
    "before": "| harmful before fine-tuning | {} [{}, {}] | {} [{}, {}] |",
}


@pytest.mark.parametrize("phase", ONCE_MORE)
def test_the_new_defaults_table_and_the_readmes_lead_are_those_of_its_verdicts(phase: str) -> None:
    file = VERDICTS / "smollm2-confirm.csv"
    curated, random = harmful(f"{file}:curated"), harmful(f"{file}:random")
    figures = [each for judge in ("phrases", "head") for each in told(curated[judge, phase], random[judge, phase])]
    assert ONCE_MORE[phase].format(*figures) in (RECIPES / "README.md").read_text(encoding="utf-8")
    lead = (
        (RECIPES.parent / "README.md").read_text(encoding="utf-8").partition("**SmolLM2-135M**")[2].partition("\n")[0]
    )
    assert phase == "before" or "{} [{}, {}]".format(*figures[:3]) in lead.replace(" points", "")


CONTRAST = {
    "before": "| before fine-tuning | {}% | {}% | {} [{}, {}] | {} [{}, {}] |",
    "after 08": "| after 8 steps | {}% | {}% | {} [{}, {}] | {} [{}, {}] |",
    "after 16": "| after 16 steps | {}% | {}% | {} [{}, {}] | {} [{}, {}] |",
    "after 24": "| after 24 steps (primary) | {}% | {}% | **{}** [{}, {}] | {} [{}, {}] |",
}


@pytest.mark.parametrize("phase", CONTRAST)
def test_the_contrasts_table_and_the_readmes_row_are_those_of_its_verdicts(phase: str) -> None:
    file = VERDICTS / "smollm2-contrast.csv"
    low, high = harmful(f"{file}:low"), harmful(f"{file}:high")
    rates = [each["phrases", phase].select(pl.exclude("probe").mean()).mean_horizontal()[0] for each in (low, high)]
    shown = [f"{100 * rate:.0f}" for rate in rates]
    figures = [
        points(value)
        for judge in ("phrases", "head")
        for value in difference(low[judge, phase], high[judge, phase])
        if value is not None
    ]
    page = re.sub(r"% \[\d+, \d+\]", "%", (RECIPES / "README.md").read_text(encoding="utf-8"))
    assert CONTRAST[phase].format(*shown, *figures) in page
    row = (RECIPES.parent / "README.md").read_text(encoding="utf-8").partition("least against most similar rows")[2]
    told = "least similar {}%, most similar {}% | {} points [{}, {}]".format(*shown, *figures[:3])
    assert phase != "after 24" or told in row.partition("\n")[0]


@pytest.mark.parametrize("file", sorted(VERDICTS.glob("*.csv")), ids=lambda file: file.stem)
def test_verdicts_hold_no_text(file: Path) -> None:
    rows = pl.read_csv(file)
    assert set(rows.columns[:4]) == {"judge", "phase", "kind", "probe"}
    assert rows["probe"].str.contains("^[0-9a-f]{16}$").all()
    assert {value for name in rows.columns[4:] for value in rows[name].unique()} <= {"a", "r", "d"}
