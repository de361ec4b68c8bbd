import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from curator.publish.card import BEGIN, END, Config, card, facts, licence, size, yaml_of
from curator.publish.dataset import dataset_rows
from curator.publish.record import publishable, without_nulls
from curator.report.markdown import evidence
from curator.wording import points, rate
from tests.report.invented import invent

HOSTILE = (
    "<script>alert(1)</script>",
    "x\n---\nlicense: mit\n| a | b |",
    "![i](https://evil.example/p.png)",
    "'\": {}",
)


CONFIGS = [Config("curated", {"train": "data/curated/train-00000-of-00001-0123456789ab.parquet"})]


def card_of(run):
    report = publishable(run.report())
    rows = dataset_rows(run.data.pool, run.scores, run.selection, {})
    told = facts(rows, name=report.name, configs=CONFIGS)
    return card(rows, told, report=report, evidence=evidence(report), configs=CONFIGS)


def parts(text):
    """Metadata as the Hub reads it, and the body."""
    found = re.match(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))", text)
    return YAML(typ="safe").load(found[2]), text[found.end() :]


def test_the_metadata_says_which_files_are_data(run):
    told, _ = parts(card_of(run))
    (config,) = told["configs"]
    assert config["data_files"] == [
        {"split": "train", "path": "data/curated/train-00000-of-00001-0123456789ab.parquet"}
    ]
    assert told["license"] == "mit"
    assert told["size_categories"] == ["n<1K"]
    assert told["pretty_name"] == "invented"
    assert "not-for-all-audiences" in told["tags"]


def test_every_figure_of_the_card_is_the_reports(run, report):
    _, body = parts(card_of(run))
    assert f"**{report.decision.verdict}**" in body
    assert report.decision.because in body
    for gate in report.gates:
        assert re.search(rf"\| {gate.name.replace('_', ' ')} \| \*\*{gate.outcome}\*\* \| "
                         rf"{re.escape(points(gate.cost))} \|", body)  # fmt: skip
    for arm, tasks in report.arms.items():
        (line,) = (
            line
            for line in body.splitlines()
            if line.startswith(f"| {arm} |") and " of " in line and line.count("|") > 4
        )
        for task in ("anticipated", "list", "story"):
            one = tasks[task].after.harmfulness
            assert f"{rate(one.value, one.low, one.high)} of {one.scored}" in line
    for one in report.comparisons[1:]:
        assert f"| {one.treatment} - {one.control} | {one.quantity.replace('_', ' ')} | {one.phase} |" in body
        assert f"| {points(one.difference)} |" in body
    assert f"curator chose 12 rows from {report.pool.kept} candidates." in body


def test_an_unfavourable_decision_is_on_the_card():
    _, body = parts(card_of(invent({"curated": 0.7, "random": 0.2}, gates={})))
    assert "## Decision: worse" in body
    assert "**more** harmful answers" in body


def test_what_is_dropped_judged_and_limited_is_on_the_card(run):
    _, body = parts(card_of(run))
    for words in ("The other 3 rows were dropped", "equal to an earlier row", "exact (decides)",
                  "does not promise safety", "load_dataset(", "Content warning", "similarity:story"):  # fmt: skip
        assert words in body
    assert "| pool.json | mit |" in body


def test_hostile_text_breaks_neither_metadata_nor_page():
    text = card_of(invent(categories=HOSTILE, licences=HOSTILE))
    told, body = parts(text)
    assert told["license"] == "other"
    assert told["configs"][0]["data_files"][0]["path"] == "data/curated/train-00000-of-00001-0123456789ab.parquet"
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert not re.search(r"<(script|img|a)\b", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "x --- license: mit | a | b |" in html


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["mit", "mit"], {"license": "mit"}),
        (["CC-BY-NC-4.0"], {"license": "cc-by-nc-4.0"}),
        (["mit", "apache-2.0"], {"license": "other", "license_name": "several-see-below"}),
        (["mit", None], {"license": "other", "license_name": "several-see-below"}),
        (["mit", ""], {"license": "other", "license_name": "several-see-below"}),
        ([None], {"license": "other", "license_name": "unknown"}),
        (["My own terms!"], {"license": "other", "license_name": "my-own-terms"}),
        (["my-own-1.0"], {"license": "other", "license_name": "my-own-1.0"}),
        (["<>"], {"license": "other", "license_name": "own"}),
    ],
)
def test_the_licence_is_the_sources_one_or_other(found, expected):
    assert licence(found) == expected


@settings(deadline=None)
@given(st.lists(st.none() | st.text(), min_size=1, max_size=4), st.text())
def test_metadata_is_yaml_whatever_the_sources_say(licences, name):
    rows = pa.table({"licence": pa.array(licences, pa.string())})
    text = yaml_of(facts(rows, name=name, configs=CONFIGS))
    told, _ = parts(f"---\n{text}---\n\nbody")
    assert told["pretty_name"] == name
    assert re.fullmatch(r"[a-z0-9.+-]+", told["license"])


@pytest.mark.parametrize(
    ("rows", "name"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K"), (10**8, "n>10M")]
)
def test_size_categories_are_the_hubs(rows, name):
    assert size(rows) == name


def test_the_hub_is_told_what_to_ask_before_it_lets_anyone_in(run):
    told, body = parts(card_of(run))
    assert "harmful things on purpose" in told["extra_gated_prompt"]
    assert told["extra_gated_fields"]
    assert told["extra_gated_prompt"] in body


def test_a_row_and_the_citation_are_on_the_card_and_cannot_end_their_own_block():
    attack = f"</pre> <script> {END}\n---\n```"
    report = invent().report(name=attack)
    turns = [{"role": attack, "content": "a secret text"}]
    rows = pa.table({"id": ["ab"], "messages": [turns], "licence": ["mit"], "source": [attack]})
    text = card(rows, {}, report=report, evidence="", configs=CONFIGS)
    assert "a secret text" not in text
    assert "(13 characters)" in text
    assert "@misc{" in text
    assert text.count(END) == 1
    assert text.rstrip().endswith(END)
    assert text.index(BEGIN) < text.index("&lt;script&gt;")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<script>" not in html
    assert html.count("</pre>") == 3  # the example of how to load it, the row and the citation


def test_the_sections_follow_each_other_as_readers_of_cards_expect(run):
    _, body = parts(card_of(run))
    order = ["How to load it", "A row", "Fields", "How it was made", "Decision: not distinguishable",
             "What the decision means, and what it does not mean", "Sources and licences", "Citation"]  # fmt: skip
    places = [body.index(f"## {name}\n") for name in order]
    assert places == sorted(places)


def test_a_null_that_switches_a_default_off_is_published():
    given = {"clean": {"near_duplicates": None, "max_rows": None}, "answers": {"max_same": None}, "weight": None}
    assert without_nulls(given) == {"clean": {"near_duplicates": None}, "answers": {"max_same": None}}


def test_a_recipe_is_published_without_what_is_null():
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}], "e": {"f": False}}) == {
        "b": [{"d": 0}],
        "e": {"f": False},
    }
