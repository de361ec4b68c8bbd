"""The verdicts of a study that lie beside its protocol give the figures of its table."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from curator.report.model import read_report
from curator.run.readers import report_file
from curator.wording import points
from tests.benchmarks.verdicts import difference, harmful, written

RECIPES = Path(__file__).parents[2] / "recipes"
VERDICTS = RECIPES / "verdicts"
ROWS = {
    ("phrases", "after"): "| harmful after alpaca (primary) |" + " **{}** (5.05) [{}, {}] |" + " **{}** [{}, {}] |" * 2,
    ("head", "after"): "| the same by the head |" + " {} [{}, {}] |" * 3,
    ("phrases", "before"): "| harmful before fine-tuning |" + " {} [{}, {}] |" * 3,
}


def of(setting: str, arm: str, judge: str, phase: str) -> pl.DataFrame:
    return harmful(f"{VERDICTS / f'smollm2-choice-{setting}.csv'}:{arm}")[judge, phase]


def row_of(words: str) -> str:
    """The rest of the README's row of evidence that holds these words."""
    return (RECIPES.parent / "README.md").read_text(encoding="utf-8").partition(words)[2].partition("\n")[0]


def shown(values: tuple[float | None, ...]) -> list[str]:
    return [points(value) for value in values if value is not None]


def told(first: pl.DataFrame, second: pl.DataFrame) -> list[str]:
    assert (first.height, first.width) == (99, 7)
    return shown(difference(first, second))


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
def test_coverage_alones_table_and_the_readmes_row_are_those_of_its_verdicts(phase: str) -> None:
    file = VERDICTS / "smollm2-confirm.csv"
    curated, random = harmful(f"{file}:curated"), harmful(f"{file}:random")
    figures = [each for judge in ("phrases", "head") for each in told(curated[judge, phase], random[judge, phase])]
    assert ONCE_MORE[phase].format(*figures) in (RECIPES / "README.md").read_text(encoding="utf-8")
    row = row_of("SmolLM2-135M, coverage alone")
    assert phase != "after alpaca" or "{} points [{}, {}]".format(*figures[:3]) in row


SIMILAR = {
    ("phrases", "after alpaca"): "| harmful after alpaca (primary) | **{}** [{}, {}] | **{}** [{}, {}] | {} [{}, {}] |",
    ("phrases", "after gsm8k"): "| harmful after gsm8k, not anticipated |" + " {} [{}, {}] |" * 3,
    ("phrases", "before"): "| harmful before fine-tuning |" + " {} [{}, {}] |" * 3,
    ("head", "after alpaca"): "| the same by the head |" + " {} [{}, {}] |" * 3,
    ("head", "after gsm8k"): "| the same by the head |" + " {} [{}, {}] |" * 3,
    ("head", "before"): "| the same by the head |" + " {} [{}, {}] |" * 3,
}


@pytest.mark.parametrize(("judge", "phase"), SIMILAR)
def test_the_most_similar_rows_table_and_the_readmes_lead_are_those_of_its_verdicts(judge: str, phase: str) -> None:
    arms = {arm: harmful(f"{VERDICTS / 'smollm2-similar.csv'}:{arm}")[judge, phase] for arm in ("S", "H", "random")}
    pairs = (("S", "random"), ("H", "random"), ("S", "H"))
    figures = [shown(difference(arms[first], arms[second])) for first, second in pairs]
    page = (RECIPES / "README.md").read_text(encoding="utf-8").partition("<!-- smollm2 similar: begin -->")[2]
    told = SIMILAR[judge, phase].format(*[value for three in figures for value in three])
    assert told in page.partition("<!-- smollm2 similar: end -->")[0]
    for row, three in zip(("**SmolLM2-135M**", "the most similar rows of each kind"), figures, strict=False):
        if phase != "before":
            words = {"after alpaca": "{} points [{}, {}]", "after gsm8k": "on unseen gsm8k {} [{}, {}]"}[phase]
            words = "second judge: {}" if (judge, phase) == ("head", "after alpaca") else words
            assert (judge, phase) == ("head", "after gsm8k") or words.format(*three) in row_of(row)


FLOOR = {
    ("phrases", "after alpaca"): "| harmful after alpaca (primary: the first two) | **{}** [{}, {}] | **{}** [{}, {}] |"
    " {} [{}, {}] |",
    ("phrases", "before"): "| harmful before fine-tuning |" + " {} [{}, {}] |" * 3,
    ("head", "after alpaca"): "| the same by the head |" + " {} [{}, {}] |" * 3,
    ("head", "before"): "| the same by the head |" + " {} [{}, {}] |" * 3,
}


@pytest.mark.parametrize(("judge", "phase"), FLOOR)
def test_the_floors_table_and_the_readmes_second_measurement_are_those_of_its_verdicts(judge: str, phase: str) -> None:
    arms = {arm: harmful(f"{VERDICTS / 'smollm2-floor.csv'}:{arm}")[judge, phase] for arm in ("F", "S", "random")}
    pairs = (("F", "random"), ("F", "S"), ("S", "random"))
    figures = [shown(difference(arms[first], arms[second])) for first, second in pairs]
    page = (RECIPES / "README.md").read_text(encoding="utf-8").partition("<!-- smollm2 floor: begin -->")[2]
    section = page.partition("<!-- smollm2 floor: end -->")[0]
    assert FLOOR[judge, phase].format(*[value for three in figures for value in three]) in section
    for name, table in arms.items():
        rates = [f"{100 * rate:.0f}" for rate in table.select(sorted(set(table.columns) - {"probe"})).mean().row(0)]
        told = f"{name} {', '.join(rates)}" in section.replace("%", "")
        assert (judge, phase) != ("phrases", "after alpaca") or told
    again = "again](recipes/README.md#how-much-coverage-should-the-most-similar-rows-keep): {} [{}, {}]".format(
        *figures[2]
    )
    assert (judge, phase) != ("phrases", "after alpaca") or again in row_of("**SmolLM2-135M**")


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
    rounded = [f"{100 * rate:.0f}" for rate in rates]
    figures = [
        each for judge in ("phrases", "head") for each in shown(difference(low[judge, phase], high[judge, phase]))
    ]
    page = re.sub(r"% \[\d+, \d+\]", "%", (RECIPES / "README.md").read_text(encoding="utf-8"))
    assert CONTRAST[phase].format(*rounded, *figures) in page
    told = "least similar {}%, most similar {}% | {} points [{}, {}]".format(*rounded, *figures[:3])
    assert phase != "after 24" or told in row_of("least against most similar rows")


UNMATCHED = {
    "before": "| before fine-tuning |",
    "after 08": "| after 8 steps |",
    "after 16": "| after 16 steps |",
    "after 24": "| after 24 steps |",
}


@pytest.mark.parametrize("phase", UNMATCHED)
def test_the_unmatched_sets_tables_and_the_readmes_row_are_those_of_their_verdicts(phase: str) -> None:
    def arm(name: str, file: str = "smollm2-contrast-unmatched") -> dict[tuple[str, str], pl.DataFrame]:
        return harmful(f"{VERDICTS / file}.csv:{name}")

    low, high, random = arm("low"), arm("high"), arm("random")
    four = (low, high, arm("low", "smollm2-contrast"), arm("high", "smollm2-contrast"))
    page = (RECIPES / "README.md").read_text(encoding="utf-8").partition("**Unmatched, as in the paper")[2]
    rates = [each["phrases", phase].select(pl.exclude("probe").mean()).mean_horizontal()[0]
             for each in (low, high, random)]  # fmt: skip
    apart = [shown(difference(low[judge, phase], high[judge, phase])) for judge in ("phrases", "head")]
    cells = [f"{100 * rate:.0f}%" for rate in rates] + ["{} [{}, {}]".format(*three) for three in apart]
    assert f"{UNMATCHED[phase]} {' | '.join(cells)} |" in re.sub(r"% \[\d+, \d+\]", "%", page)
    for judge, start in (("phrases", UNMATCHED[phase]), ("head", "| the same by the head |")):
        told = ["{} [{}, {}]".format(*shown(difference(each[judge, phase], random[judge, phase]))) for each in four]
        assert (judge == "head" and phase != "after 24") or f"{start} {' | '.join(told)} |" in page
    row = row_of("least against most similar rows")
    assert phase != "after 24" or "of any: {} [{}, {}] |".format(*apart[0]) in row
    ends = [shown(difference(each["phrases", phase], matched["phrases", phase])) for each, matched in
            zip(four[:2], four[2:], strict=True)]  # fmt: skip
    words = " ".join(page.split())
    assert phase not in ("before", "after 24") or all("{} [{}, {}]".format(*three) in words for three in ends)


@pytest.mark.parametrize("file", sorted(VERDICTS.glob("*.csv")), ids=lambda file: file.stem)
def test_verdicts_hold_no_text(file: Path) -> None:
    rows = pl.read_csv(file)
    assert set(rows.columns[:4]) == {"judge", "phase", "kind", "probe"}
    assert rows["probe"].str.contains("^[0-9a-f]{16}$").all()
    assert {value for name in rows.columns[4:] for value in rows[name].unique()} <= {"a", "r", "d"}


def test_the_file_of_a_run_gives_the_rates_of_its_report(plain_run: Path, tmp_path: Path) -> None:
    written(plain_run, {"C": "curated", "random": "random"}).write_csv(tmp_path / "run.csv")
    arms = read_report(report_file(plain_run)).arms
    for name, arm in (("C", "curated"), ("random", "random")):
        cells = harmful(f"{tmp_path / 'run.csv'}:{name}")
        assert {judge for judge, _ in cells} == {"exact", "phrases"}
        for at, phase in (("before", "before"), ("after list", "after")):
            rates = cells["exact", at].select(pl.exclude("probe").mean())
            told = getattr(arms[arm]["list"], phase).harmfulness.value
            assert rates.mean_horizontal()[0] == pytest.approx(told, abs=1e-12), (arm, phase)
            assert rates.width == 3


def test_both_measurements_of_the_default_together_are_those_of_their_verdicts() -> None:
    def both(arm: str, *at: str) -> pl.DataFrame:
        first, second = (harmful(f"{VERDICTS / f'smollm2-{study}.csv'}:{arm}")[at] for study in ("similar", "floor"))
        later = {name: f"again {name}" for name in second.columns if name != "probe"}
        return first.join(second.rename(later), on="probe", how="full", coalesce=True)

    figures = {}
    for judge in ("phrases", "head"):
        for phase in ("after alpaca", "before"):
            arms = [both(arm, judge, phase) for arm in ("S", "random")]
            assert [(arm.height, arm.width) for arm in arms] == [(187, 13)] * 2
            figures[judge, phase] = "{} [{}, {}]".format(*shown(difference(*arms)))
    page = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert f"together: {figures['phrases', 'after alpaca'].replace(' [', ' points [')} against random rows" in page
    before, head = figures["phrases", "before"], figures["head", "after alpaca"]
    assert f"(head {head}; before fine-tuning {before})" in page
    assert f"together: {figures['phrases', 'after alpaca']}" in row_of("**SmolLM2-135M**")
