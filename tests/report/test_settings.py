"""Several settings of a task in the report: a row each, and the worst of them as the headline."""

from __future__ import annotations

import polars as pl
import pytest

from curator.conclusions.part import plain
from curator.decision.findings import conclude
from curator.recipe.verify import Thresholds
from curator.report.html import webpage
from curator.report.markdown import evidence, markdown, summary
from curator.report.material import TaskSetting
from curator.report.tables import tables
from curator.wording import percent
from tests.report.invented import invent
from tests.report.test_figures import of

NAMES = ("list", "list@rows=20", "list@learning_rate=1e-4")
GATES = {"harmfulness_before": 0.05, "over_refusal": 0.05, "utility": 0.05, "degenerate": 0.05}


@pytest.fixture(scope="module")
def invented():
    return invent(tasks=dict.fromkeys(NAMES, 1 / 3), seeds=6)


@pytest.fixture(scope="module")
def swept(invented):
    """A report of three settings, of which one lost its task in one arm."""
    run = invented
    lost = (pl.col("task") == NAMES[2]) & (pl.col("arm") == "random") & (pl.col("kind") == "utility")
    verdicts = run.verdicts.filter(judge="exact").with_columns(
        score=pl.when(~lost).then(pl.col("score")).otherwise(0.0)
    )
    findings = conclude(verdicts, weights=run.weights, gates=GATES, thresholds=Thresholds(over="worst"))
    settings = [
        TaskSetting(
            name=name, task="list", weight=1 / 3, learning_rate=rate, method="full", rows=rows, steps=rows / 4
        )
        for name, rate, rows in zip(NAMES, (2e-4, 2e-4, 1e-4), (40, 20, 40), strict=True)
    ]  # fmt: skip
    return run.report(findings=findings, design={"settings": settings})


def test_the_report_says_which_settings_counted_and_survives_json(swept):
    worst = plain(swept)["decision"]["worst"]["cases"]
    assert {case["task"]: case["lost"] is None for case in worst} == dict(zip(NAMES, (True, True, False), strict=True))
    assert type(swept).model_validate(plain(swept)) == swept
    assert swept.headline == swept.decision.primary.task in NAMES[:2]
    assert swept.tuned == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    means = [
        pair for pair in swept.comparisons if (pair.quantity, pair.phase, pair.task) == ("harmfulness", "after", None)
    ]
    assert ("curated", "random", "secondary") in {(pair.treatment, pair.control, pair.role) for pair in means}
    # Before fine-tuning there is one model for all settings, whose test rows are counted once.
    before = [swept.arms["curated"][name].before.utility for name in (*NAMES, "anticipated")]
    assert len({(rate.value, rate.low, rate.scored) for rate in before}) == 1
    assert before[0].scored == 6 * 30
    assert {gate.name: gate.task is None for gate in swept.gates} == {
        name: name == "harmfulness_before" for name in GATES
    }


def test_without_settings_nothing_is_added_to_a_report(report):
    contents = plain(report)
    assert "settings" not in contents["design"]
    assert "worst" not in contents["decision"]
    assert report.headline == "anticipated"
    assert report.tuned == {task.name: task.weight for task in report.tasks}


def test_both_tables_of_the_page_hold_a_row_for_each_setting(invented, swept):
    made = tables(swept, of(invented))
    assert [row[0].shown for row in made["settings"].rows] == [row[0].shown for row in made["worst"].rows] == [*NAMES]
    assert [row[3].value for row in made["settings"].rows] == [2e-4, 2e-4, 1e-4]
    assert [row[5].value for row in made["settings"].rows] == [40, 20, 40]
    highs = [row[5].value for row, last in zip(made["worst"].rows, (1, 1, 0), strict=True) if last]
    assert max(highs) == swept.decision.primary.high
    assert [row[-1].shown[:3] for row in made["worst"].rows] == ["yes", "yes", "no:"]
    page = webpage(swept, of(invented))
    assert f"curated minus random, at '{swept.headline}', in points." in page
    assert f">{percent(swept.arms['curated'][swept.headline].after.utility.value)}<small>" in page


def test_the_page_and_the_card_name_every_setting_and_which_one_decides(swept):
    for page in (markdown(swept), evidence(swept)):
        text = page.replace("&#64;", "@")
        lines = [line for line in text.splitlines() if line.startswith("| list")]
        design = [line for line in lines if line.endswith("| full | 40 | 10 |") or line.endswith("| full | 20 | 5 |")]
        assert len(design) == 3
        counts = [line for line in lines if line.endswith("| yes |") or "| no: it loses" in line]
        assert [line.split(" | ")[-1].startswith("no") for line in counts] == [False, False, True]
        assert f"(decides, at {swept.headline})" in text


def test_the_summary_gives_the_rates_at_the_setting_that_decides(swept):
    rate = swept.arms["curated"][swept.headline].after.harmfulness.value
    assert percent(rate) in dict(summary(swept))["curated harmful"]
    assert rate != swept.arms["curated"]["anticipated"].after.harmfulness.value
