"""report.html as a file: self-contained, complete, and inert whatever stands in it."""

import json
import re
from html.parser import HTMLParser

import pytest

from curator.conclusions.part import plain
from curator.records import ANSWER_COLUMNS
from curator.report.figures import Figures
from curator.report.html import LONGEST_TEXT, Example, Sample, examples, prose, samples, webpage
from curator.report.model import read_report
from curator.report.tables import tables
from curator.wording import percent, points
from tests.report.invented import EXACT, changed, invent
from tests.report.test_figures import of

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "</style></script></svg></table>",
    "\u202egnorts\u2066 {{ 7 * 7 }} {% raw %}",
)


class Seen(HTMLParser):
    """Tags with their attributes, the text outside script and style, and the cells of each table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.cells, self.inside, self.cell = [], "", {}, [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(tag)
        if tag == "table":
            self.table = self.cells.setdefault(dict(attrs)["data-name"], [])
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")
        self.cell = self.cell or tag in ("td", "th")

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if not self.inside:
            self.text += data
            if self.cell:
                self.table[-1][-1] += data


@pytest.fixture(scope="module")
def page(run, report):
    return webpage(report, of(run))


@pytest.fixture(scope="module")
def seen(page):
    return Seen(page)


def test_nothing_on_the_page_asks_the_network(page, seen):
    assert not re.search(r"https?:|//[a-z]", page.replace("http-equiv", ""))
    for tag, attributes in seen.tags:
        assert tag not in ("iframe", "object", "embed", "img", "base", "form")
        for name in ("src", "href", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))


def test_the_decision_stands_first_with_interval_and_gates(seen, report):
    text = " ".join(seen.text.split())
    primary = report.decision.primary
    assert text.count(report.decision.verdict) == 1, "the verdict is said once"
    start = text.index(report.decision.verdict)
    assert start < text.index("Harmfulness before and after fine-tuning")
    top = text[start : text.index("Harmfulness before and after fine-tuning")]
    assert f"difference {points(primary.difference)} points, 95% CI {points(primary.low)} to" in top
    assert report.decision.because in top
    for gate in report.gates:
        assert f"{gate.name.replace('_', ' ')}: {gate.outcome}" in top


def test_every_figure_is_there_with_words_for_those_who_do_not_see_it(seen):
    said = [attributes["aria-label"] for _, attributes in seen.tags if attributes.get("role") == "img"]
    assert len(said) == len(set(said)) >= 11
    assert all(len(one) > 10 for one in said)


def test_every_rate_of_the_report_is_in_its_table(seen, report):
    rows = {tuple(row[:4]): row[4:] for row in seen.cells["rates"]}
    count = 0
    for arm, tasks in report.arms.items():
        for task, phases in tasks.items():
            for phase, rates in phases:
                for name, one in rates:
                    if one.value is None:
                        continue
                    key = (arm, "all anticipated" if task == "anticipated" else task, phase, name.replace("_", " "))
                    assert rows[key][:3] == [percent(one.value), percent(one.low), percent(one.high)]
                    count += 1
    assert count == len(rows) - 1


def test_tables_carry_the_numbers_themselves(page, report):
    assert f'data-value="{report.gates[0].cost}"' in page
    assert f'data-value="{report.comparisons[0].difference}"' in page


def test_every_table_can_be_sorted_and_taken_away(seen, run, report):
    names = set(tables(report, of(run)))
    assert names >= {"rates", "gates", "comparisons", "seeds", "similarity", "overlap", "categories", "gains", "judges",
                     "agreement", "sources", "dropped", "training", "tasks", "time", "where"}  # fmt: skip
    assert set(seen.cells) == names
    buttons = [attributes.get("data-csv") for tag, attributes in seen.tags if tag == "button"]
    assert names == {one for one in buttons if one}
    heads = [attributes for tag, attributes in seen.tags if tag == "th"]
    assert all(one["aria-sort"] == "none" and one["scope"] == "col" for one in heads)


@pytest.fixture(scope="module")
def rich(report):
    """With what only some runs have."""
    of_list = {"task": "list", "loss": "whole", "rows": 40, "seeds": 2}
    look = {"seeds": 6, "information": 0.3, "level": 0.01, "difference": -0.1, "low": -0.2, "high": 0.0, "p": 0.02,
            "action": "go on", "conditional_power": 0.4}  # fmt: skip
    pair = {"one": "a", "other": "b", "shared": 3, "overlap": 0.1, "chance": 0.05, "rank_correlation": None}
    turn = {"number": 0, "seeds": 2, "before": 0.1, "after": 0.4, "degenerate": 0.0, "costly": False, "place": 1,
            "kept": True}  # fmt: skip
    parts = {
        "stability": [pair],
        "pilot": {
            "probes": 20, "chosen": "weight 1", "best_draw": "draw 0",
            "candidates": [
                {"name": "weight 1", "weight": 1.0, "score": "cosine", "representation": "layer -1",
                 "rounds": [turn, {**turn, "number": 1, "seeds": 4, "after": 0.3}]},
                {"name": "draw 0", "weight": None, "score": None, "representation": None, "rounds": [turn]},
                {"name": "alone", "weight": 0.0, "score": None, "representation": None, "rounds": []},
            ],
        },
        "sequential": {"max": 20, "looks": [look, {**look, "seeds": 8, "action": "difference"}]},
        "forgetting": [{"task": "list", "loss": "whole", "rows": 40, "seeds": 2, "before": 0.5, "mean": 0.2, "sd": 0.1,
                        "agreement": None}],
        "score_predicts": [
            {"score": "cosine", **of_list, "rho": 0.3, "low": 0.1, "high": 0.5},
            {"score": "flat", **of_list, "rho": None, "low": None, "high": None},
        ],
    }  # fmt: skip
    return changed(report, **parts)


def test_prediction_pilot_and_looks_are_shown_where_they_were_measured(rich, run, seen):
    found = Seen(webpage(rich, of(run)))
    assert [row[3] for row in found.cells["predicts"][1:]] == ["0.3", "not measured"]
    assert [row[-1] for row in found.cells["looks"][1:]] == ["go on", "difference"]
    assert [row[-1] for row in found.cells["pilot"][1:]] == ["continued", "chosen", "continued"]
    assert found.cells["stability"][1] == ["a", "b", "3", "10%", "5%", "not measured"]
    labels = [attributes.get("aria-label", "") for _, attributes in found.tags]
    assert sum("pilot candidate" in one for one in labels) == 1
    assert "Does the score predict" in found.text
    assert "Does the score predict" not in seen.text


def test_a_page_without_the_figures_values_still_has_the_rest(report):
    found = Seen(webpage(report, Figures()))
    assert "gates" in found.cells
    assert "gains" not in found.cells


def test_keys_of_another_version_do_not_matter(report, run, tmp_path):
    other = {**plain(report), "unheard": {"rows": [1]}, "timing": {"clock": 1}}
    other["decision"] = {**other["decision"], "unheard": 1}
    del other["pilot"], other["stability"], other["judge_error"]
    (tmp_path / "report.json").write_text(json.dumps(other))
    found = read_report(tmp_path / "report.json")
    assert found.decision == report.decision
    assert "gates" in Seen(webpage(found, of(run))).cells


def sample(text):
    return Sample(0, "ab", text, text, 0.5, 0.1, (("user", text), ("assistant", text)))


def hostile(text):
    odd = invent(categories=(text, "plain"), probe_categories=(text, "kings"))
    report = odd.report(judges=type(odd.judges).model_validate(EXACT), name=text, warnings=[text])
    first, *others = plain(report.pool)["reasons"]
    report = changed(
        report,
        pool={"reasons": [{**first, "reason": text}, *others]},
        model={"id": text},
        provenance={"versions": {text: text}, "recipe": {text: [text]}},
    )
    probe = Example("p", text, text, 0, (("user", text),), (("curated", "after", text, "harmful"),))
    return webpage(report, of(odd), chosen=[sample(text)], answers=[probe])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text, seen):
    found = Seen(hostile(text))
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in seen.tags} | {"div", "h4", "b"}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    shown = text.replace("\u202e", "\ufffd").replace("\u2066", "\ufffd")
    assert found.text.count(shown) >= 8
    assert "\u202e" not in found.text


def test_direction_marks_of_text_with_several_lines_stay_off_the_page():
    page = hostile("the\nft \u202eevil <b>")
    assert "\u202e" not in page
    assert "evil <b>" not in page
    assert "the\nft \ufffdevil &lt;b&gt;" in page  # a text that is shown in full keeps its lines


def test_a_megabyte_of_anything_is_cut():
    assert len(hostile("x" * 1_000_000)) < 400_000
    assert len(hostile("<" * 1_000_000)) < 400_000
    assert len(prose("a\n" * 1_000_000)) == LONGEST_TEXT
    assert prose("a\u202eb\n\x00c") == "a\ufffdb\n\ufffdc"


def test_harmful_text_is_closed_until_it_is_opened(run, report):
    page = webpage(report, of(run), chosen=[sample("the prompt")], answers=[])
    before = page[: page.index("the prompt")]
    assert before.count("<details") - before.count("</details") == 1
    assert "<details open" not in before[before.rindex("<details") :]


def test_the_script_that_may_run_is_the_one_on_the_page(page):
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{policy}'" in page


def test_samples_are_the_rows_picked_first(run):
    found = samples(run.data.pool, run.scores, run.selection)
    assert [one.id for one in found] == list(run.selection.ids[:6])
    assert found[0].turns[0][0] == "user"


def test_probes_on_which_the_arms_differ_come_first(run):
    import polars as pl

    verdicts = run.verdicts.filter(judge="exact")
    answers = verdicts.select(ANSWER_COLUMNS).with_columns(answer=pl.lit("said"), stop=pl.lit("end"))
    found = examples(answers, verdicts, run.data.harmful, treatment="curated", control="random", task="list")
    assert len(found) == 6
    assert {one.seed for one in found} == {0}
    for one in found:
        told = {(arm, phase): outcome for arm, phase, _, outcome in one.answers}
        assert set(told) == {(arm, phase) for arm in ("curated", "random") for phase in ("before", "after")}
        assert told["curated", "after"] != told["random", "after"]
        assert [arm for arm, *_ in one.answers] == ["curated", "curated", "random", "random"]
    assert examples(answers.clear(), verdicts, run.data.harmful, treatment="a", control="b", task="list") == []


def test_the_recipe_is_on_the_page(report, run):
    page = webpage(changed(report, provenance={"recipe": {"select": {"k": 12}}}), of(run))
    text = Seen(page).text
    assert json.dumps({"select": {"k": 12}}, indent=1) in text
