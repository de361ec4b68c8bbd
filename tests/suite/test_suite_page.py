"""suite.html: tables in the paper's layout with its numbers beside ours, and nothing that runs or asks a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from curator.conclusions.part import plain
from curator.errors import RecipeError
from curator.report import drawing
from curator.suite.contents import assemble
from curator.suite.model import Found, Suite
from curator.suite.page import html, primary
from curator.suite.recovered import FILE, Recovered, recovered
from curator.suite.results import Result
from curator.suite.run import Outcome, Variant

ARMS = ("curated", "random", "high-similarity", "low-similarity", "full", "none")
JUDGES = ("qwen3guard", "beaver-dam")
HOSTILE = "<script>alert(1)</script>\u202e"


def rate(value: float | None) -> dict[str, Any]:
    limits = {"low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1)} if value is not None else {}
    return {"value": value, "low": None, "high": None, "scored": 300, "unscored": 0, "method": "t", **limits}


def result(high: float, low: float, p: float) -> Result:
    values = {"high-similarity": high, "low-similarity": low, "random": 0.5, "curated": 0.45, "full": 0.4, "none": 0.9}
    rates = {arm: {"before": rate(0.02), "after": rate(values[arm])} for arm in ARMS}
    facts = {"rows": 100.0, "sets": 1, "similarity": 0.5, "log_det": 9.0, "vendi": 3.0, "pairwise": 0.4}
    sets = {arm: {**facts, "z": place - 2.0} for place, arm in enumerate(ARMS) if arm != "none"}
    difference = low - high
    compared = {
        "treatment": "low-similarity", "control": "high-similarity", "quantity": "harmfulness", "phase": "after",
        "task": None, "difference": difference, "low": difference - 0.05, "high": difference + 0.05, "p": p,
        "p_holm": None, "treatment_rate": low, "control_rate": high, "seeds": 6, "prompts": 300, "pairs": 1800,
        "unscored": 0, "method": "t", "df": 5, "level": 0.05, "sd_seed": 0.1, "sd_prompt": 0.1, "sd_residual": 0.3,
        "bootstrap": None, "category": None, "alone": "less harmful" if difference < 0 else "more harmful",
        "reason": None,
    }  # fmt: skip
    found = {
        "model": {"id": "meta-llama/Llama-2-7b-hf", "revision": None}, "tasks": {"alpaca": 1.0}, "pool": 7700,
        "score": "cosine/mean", "arms": sets, "shared": 12,
        "judges": {name: {"decides": name == "qwen3guard", "rates": rates} for name in JUDGES},
        "utility": {arm: {"before": rate(0.3), "after": rate(0.6)} for arm in ARMS},
        "decision": {
            "control": "matched-random", "outcome": "not distinguishable", "reason": "interval", "difference": 0.0,
            "low": -1, "high": 1,
        },
        "warning": None, "trainings": {"made": 10, "shared": 4},
    }  # fmt: skip
    return Result(Found.model_validate(found), {name: [compared] for name in JUDGES}, 61.0)


NUMBERS = Recovered.model_validate({
    "source": "a paper",
    "caution": "one run each",
    "numbers": [
        {
            "model": "meta-llama/Llama-2-7b-hf",
            "k": 5000,
            "task": "alpaca",
            "arm": arm,
            "harmful": value,
            "certainty": "S",
        }
        for arm, value in (("high-similarity", 0.62), ("low-similarity", 0.5167))
    ],
})  # fmt: skip


def suite(numbers: Recovered | None = NUMBERS, reason: str = HOSTILE) -> Suite:
    outcomes = [
        Outcome(Variant("l-5000-alpaca", "l", None, "alpaca", 5000), "done"),
        Outcome(Variant("l-1000-alpaca", "l", None, "alpaca", 1000), "done"),
        Outcome(Variant(f"l-{HOSTILE}", "l", None, HOSTILE, 1000), "failed", reason),
        Outcome(Variant("l-1000-list", "l", None, "list", 1000), "waiting"),
    ]
    found = {"l-5000-alpaca": result(0.6, 0.4, 0.001), "l-1000-alpaca": result(0.5, 0.58, 0.03)}
    return assemble("paper", outcomes, found, numbers)


class Tables(HTMLParser):
    """Name of each table -> its rows of texts, the head first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.rows = self.found.setdefault(dict(attrs)["data-name"], [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


def test_the_papers_table_has_its_layout_and_its_numbers_beside_ours() -> None:
    tables = Tables(html(suite())).found
    head, row = tables["grid-qwen3guard-5000"]
    assert head == [
        "model", "task", "High", "Low", "Random", "Full", "None", "Ours", "paper: High", "paper: Low",
    ]  # fmt: skip
    assert row[:4] == ["meta-llama/Llama-2-7b-hf", "alpaca", "60% [50, 70]", "40% [30, 50]"]
    assert row[8:] == ["62.00% (S)", "51.67% (S)"]
    assert tables["grid-qwen3guard-1000"][1][8:] == ["not recovered", "not recovered"]
    assert tables["grid-beaver-dam-5000"][1][2] == "60% [50, 70]"


def test_what_was_harmful_before_fine_tuning_stands_apart() -> None:
    head, *rows = Tables(html(suite())).found["before"]
    assert head[:4] == ["run", "judge", "High", "Low"]
    assert [row[:3] for row in rows[:2]] == [
        ["l-5000-alpaca", "qwen3guard", "2% [0, 12]"],
        ["l-5000-alpaca", "beaver-dam", "2% [0, 12]"],
    ]


def test_a_number_for_an_arm_that_the_paper_lacks_has_a_column_of_its_name() -> None:
    found = plain(suite())
    known = {"model": "m", "k": 8, "task": "t", "arm": "matched-random", "harmful": 0.6, "certainty": "S"}
    for run in found["runs"]:
        if run["found"]:
            run["found"]["utility"]["matched-random"] = run["found"]["utility"]["random"]
            run["paper"]["matched-random"] = known
            for judged in run["found"]["judges"].values():
                judged["rates"]["matched-random"] = judged["rates"]["random"]
    head, row = Tables(html(Suite.model_validate(found))).found["grid-qwen3guard-5000"]
    assert row[head.index("paper: matched-random")] == "60.00% (S)"


def test_without_a_paper_there_is_no_column_of_it() -> None:
    head, _ = Tables(html(suite(None))).found["grid-qwen3guard-5000"]
    assert head[-1] == "Ours"
    assert "one run each" not in html(suite(None))
    assert "one run each" in html(suite())


def test_every_comparison_is_said_with_its_decision() -> None:
    found = suite()
    rows = Tables(html(found)).found["contrasts"][1:]
    assert len(rows) == 4
    assert rows[0][0] == "l-5000-alpaca"
    assert rows[0][3:7] == ["-20.0", "[-25.0, -15.0]", "0.002", "less harmful"]
    # Holm over the two runs, the deciding judge's apart from the other's.
    assert [one.p_holm for one in primary(found)] == [pytest.approx(0.002), pytest.approx(0.03)]
    assert "less harmful than models aligned on the most similar rows in 1 of 2 comparisons, more harmful in 1" in html(
        found
    )


def test_without_both_ends_the_page_leads_with_what_was_decided_of_the_curated_set() -> None:
    found = suite()
    alone = found.model_copy(update={"contrasts": ()})
    text = html(alone)
    assert "The decisions about the curated set in 2 finished runs: 2 not distinguishable." in text
    assert text.index("The decisions about") < text.index("<section")


def test_how_every_run_stands_is_said_with_its_reason() -> None:
    rows = {row[0]: row for row in Tables(html(suite(reason="no such file: x"))).found["runs"][1:]}
    assert rows["l-5000-alpaca"][1:6] == ["done", "", "10", "4", "1 min 1 s"]
    assert rows["l-1000-list"][1:3] == ["waiting", ""]
    assert any(row[1:3] == ["failed", "no such file: x"] for row in rows.values())


def test_nothing_foreign_acts_and_nothing_is_asked_of_a_network() -> None:
    text = html(suite())
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text)
    assert text.count("<script>") == 1


def test_a_suite_of_which_nothing_is_done_has_a_page_too() -> None:
    waiting = [Outcome(Variant("a", "a", None), "waiting"), Outcome(Variant("b", "b", None), "failed", "why")]
    text = html(assemble("empty", waiting, {}))
    assert "0 of 2 runs" in text
    assert "No run has finished yet" in text


def test_figures_hold_a_mark_for_every_arm_and_run() -> None:
    text = html(suite())
    cloud = text[text.index('id="similarity"') : text.index('id="utility"')]
    assert cloud.count("<circle") == 2 * 5
    diversity = text[text.index('id="diversity"') : text.index('id="similarity"')]
    assert diversity.count("<circle") == 3 * 2 * 5


def test_a_cloud_puts_what_is_larger_further_right_and_up() -> None:
    marks = [(-1.0, drawing.Mark(0.1, None, None, "a0")), (1.0, drawing.Mark(0.9, 0.8, 1.0, "a0"))]
    scale = drawing.around_zero([1.0], factor=1.0)
    drawn = str(drawing.cloud({"x": (marks, "a0")}, scale, drawing.shares(), label="<l>", axes=("up", "less", "more")))
    places = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)%"', drawn)
    assert places == [("0.00", "90.00"), ("100.00", "10.00")]
    assert 'y1="20.00%" y2="0.00%" class="reach"' in drawn
    assert "&lt;l&gt;" in drawn


def test_the_decision_of_a_run_stands_beside_its_control() -> None:
    text = html(suite())
    assert "curated against random" not in text.lower()
    assert text.count("<td>matched-random</td>") == 2


@pytest.mark.parametrize("content", ["{", '{"source": "a paper"}'])
def test_numbers_of_a_paper_that_are_damaged_are_to_be_fixed_and_not_removed(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RecipeError, match=r"recovered\.json: .*; fix it$"):
        recovered(tmp_path)
