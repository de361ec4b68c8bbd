"""report.md, and the summary that a terminal shows."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from curator.conclusions.part import plain
from curator.conclusions.secondary import Forgetting, Prediction
from curator.report.markdown import evidence, markdown, summary
from curator.report.material import Stability, Timing
from curator.selection.explain import stability
from curator.wording import percent, points, probability, rate
from tests.report.invented import EXACT, changed, invent

HOSTILE = ("<script>alert(1)</script>", "a | b\n| c |", "[x](https://evil.example) ![y](z)", "`*_~\u202e&lt;")


OURS = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "details", "summary"}


def sections(page):
    return dict(part.split("\n", 1) for part in re.split(r"(?m)^## ", page)[1:])


def table(text, *, after=""):
    """Cells of the first table after these words, row by row."""
    lines = text[text.index(after) :].splitlines()
    start = next(place for place, line in enumerate(lines) if re.match(r"\|--[-:]", line))
    body = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        body.append([cell.strip() for cell in line.strip("|").split("|")])
    return body


def test_the_decision_comes_first_with_its_interval_and_gates(report):
    page = markdown(report)
    assert page.splitlines()[0] == "# invented: not distinguishable"
    first = sections(page)["Decision: not distinguishable"]
    assert first.strip().startswith(f"**{report.decision.verdict}**\n\n{report.decision.because}")
    rows = table(first)
    for row, gate in zip(rows, report.gates, strict=True):
        assert row[0] == gate.name.replace("_", " ")
        assert row[1] == f"**{gate.outcome}**"
        assert row[2] == points(gate.cost)
        assert row[3] == f"[{points(gate.low)}, {points(gate.high)}]"
    regime = report.regime
    assert f"takes the control, random, from {rate(*limits(regime.before))} harmful" in first


def test_the_page_tells_what_coverage_is_by_and_what_similarity_where_they_have_names():
    made_up, title = invent(), "How the rows were chosen"
    plain_page = sections(markdown(made_up.report()))[title]
    assert "Similarity is cosine/max. The vectors come from made-up, layer -1, token last-completion." in plain_page
    by_name = replace(made_up.scores, name="cosine/max, opening")
    page = sections(markdown(made_up.report(scores=by_name, covered_by="whole answer")))[title]
    assert "Similarity is cosine/max, opening. Coverage is measured with the vectors 'whole answer', which come" in page


def limits(one):
    return one.value, one.low, one.high


def test_every_arm_has_its_rate_interval_and_count_on_every_task(report):
    harm = sections(markdown(report))["Harmfulness before and after fine-tuning"]
    rows = table(harm)
    assert [row[0] for row in rows] == ["curated", "random", "matched-random"]
    for arm, before, *after in rows:
        tasks = report.arms[arm]
        assert before.startswith(rate(*limits(tasks["anticipated"].before.harmfulness)))
        for cell, task in zip(after, ("anticipated", "list", "story"), strict=True):
            one = tasks[task].after.harmfulness
            assert cell == f"{rate(*limits(one))} of {one.scored}"


def test_unanticipated_tasks_stand_apart(report):
    harm = sections(markdown(report))["Harmfulness before and after fine-tuning"]
    main, apart = harm.split("did not anticipate")
    assert "odd" not in main
    assert [row[0] for row in table(apart)] == ["curated", "random", "matched-random"]
    assert table(apart)[0][1].startswith(percent(report.arms["curated"]["odd"].after.harmfulness.value))


def test_secondary_comparisons_are_marked_as_unadjusted_with_holm_p(report):
    part = sections(markdown(report))["Comparisons"]
    rows = table(part)
    primary = report.decision.primary
    assert rows[0][0] == "**curated - random** (decides)"
    assert rows[0][1] == points(primary.difference)
    assert rows[0][2] == f"95%: [{points(primary.low)}, {points(primary.high)}]"
    assert all(row[2].startswith("unadjusted: ") and row[3].startswith("Holm ") for row in rows[1:])
    for row, one in zip(rows[1:], report.decision.attribution.values(), strict=True):
        assert row[1] == points(one.difference)
        assert row[2] == f"unadjusted: [{points(one.low)}, {points(one.high)}]"
        assert row[3] == f"Holm {probability(one.p_holm)}"
    for row, one in zip(table(part, after="<details>"), report.comparisons[1:], strict=True):
        assert row[:3] == [f"{one.treatment} - {one.control}", one.quantity.replace("_", " "), one.phase]
        assert row[4] == points(one.difference)
        assert row[6:] == [probability(one.p_holm), f"{one.seeds} x {one.prompts}"]
    assert "unadjusted 95% interval | Holm p" in part


def test_probe_categories_are_descriptive(report):
    part = sections(markdown(report))["Comparisons"]
    rows = table(part, after="By category of harmful probe (descriptive)")
    assert [row[:2] for row in rows] == [["dragons", "40"], ["kings", "40"]]
    for row, one in zip(rows, report.probe_categories, strict=True):
        assert row[2] == rate(*limits(one.arms["curated"].after))
        assert row[4] == points(one.comparison.difference)


def test_many_reasons_are_cut_and_still_add_up(report):
    reasons = [{"stage": "too long", "reason": f"{place} tokens", "rows": 100 - place} for place in range(30)]
    part = sections(markdown(changed(report, pool={"reasons": reasons})))["How the rows were chosen"]
    rows = table(part)
    assert len(rows) == 21
    assert sum(int(row[0]) for row in rows) == sum(one["rows"] for one in reasons)


def test_the_certificate_is_told_in_words(report):
    part = sections(markdown(report))["How the rows were chosen"]
    assert "curator chose 12 rows from 60 candidates." in part
    proven = float(re.search(r"at least ([\d.]+)% of the possible gain", part)[1])
    assert proven <= 100 * (1 - report.selection.relative_gap) < proven + 0.1
    assert "The pool holds 60 of the 63 rows that were read. The other 3 rows were dropped:" in part
    assert table(part)[0] == ["2", "duplicate", "equal to an earlier row"]


def test_without_a_certificate_none_is_claimed(run):
    bare = replace(run.selection, bound=None, gap=None, relative_gap=None)
    part = sections(markdown(run.report(selection=bare)))["How the rows were chosen"]
    assert "This objective has no valid bound under these limits" in part
    assert "No set within" not in part


@pytest.mark.parametrize(("weight", "words"), [(0.3, "are penalised"), (-0.3, "are preferred"), (0.0, "plays no part")])
def test_the_sign_of_the_weight_is_told(run, weight, words):
    assert words in evidence(run.report(selection=replace(run.selection, weight=weight)))


def test_a_null_reads_not_measured():
    page = markdown(invent({"curated": 0.3, "random": 0.3}, benign=False).report())
    rows = table(sections(page)["Costs"])
    assert rows[0][1:3] == ["not measured", "not measured"]
    assert "None" not in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_one_anticipated_task_is_not_told_twice():
    harm = sections(markdown(invent(tasks={"list": 1.0}).report()))["Harmfulness before and after fine-tuning"]
    assert "| arm | before | after list |" in harm
    assert "all anticipated" not in harm


@pytest.mark.parametrize(
    ("after", "gates", "outcome", "words"),
    [
        ({"curated": 0.05, "random": 0.5}, {"harmfulness_before": 0.05}, "durable", "no gate found a cost"),
        ({"curated": 0.05, "random": 0.5}, {"harmfulness_after": 0.01}, "trade-off", "above what was allowed"),
        ({"curated": 0.05, "random": 0.5}, {"utility": 0.0}, "not distinguishable", "neither shown nor ruled out"),
        ({"curated": 0.6, "random": 0.2}, {}, "worse", "**more** harmful"),
        ({"curated": 0.3, "random": 0.3}, {}, "not distinguishable", "not evidence that they are equal"),
    ],
)
def test_what_a_decision_means_follows_the_decision(after, gates, outcome, words):
    report = invent(after, seeds=6, gates=gates).report()
    assert report.decision.outcome == outcome
    assert words in sections(markdown(report))["What the decision means, and what it does not mean"]


@pytest.mark.parametrize(
    ("stage", "control", "outcome", "words"),
    [
        ("upstream", "none", "worse", "than models that were not aligned. Without this set the model is safer"),
        ("upstream", "none", "durable", "fewer harmful answers than models that were not aligned. Chance"),
        ("upstream", "none", "not distinguishable", "models aligned on this set from models that were not aligned. T"),
        ("upstream", "random", "worse", "than models aligned on random sets of the same size. The better choice here"),
        ("upstream", "full", "worse", "than models aligned on the whole pool. The better choice here: the whole pool."),
        ("rehearsal", "random", "durable", "models fine-tuned with rows of this set mixed in gave fewer harmful answ"),
        ("rehearsal", "random", "worse", "than models fine-tuned with rows of random sets of the same size mixed in."),
        ("rehearsal", "none", "worse", "than models fine-tuned without such rows. Without this set"),
    ],
)
def test_what_a_decision_means_names_the_models_of_its_control(report, stage, control, outcome, words):
    primary = {**plain(report)["decision"]["primary"], "control": control}
    arms = {**plain(report)["arms"], control: plain(report)["arms"]["random"]}
    decided = {"primary": primary, "outcome": outcome, "reason": None}
    design = {**plain(report)["design"], "stage": stage}
    told = evidence(changed(report, arms=arms, decision=decided, design=design, probe_categories=[]))
    meaning = sections(told)["What the decision means, and what it does not mean"]
    assert words in meaning
    assert f"{control} sets of the same size" not in meaning.replace("random sets of the same size", "")


def test_the_interval_of_a_strict_look_does_not_claim_to_cover_everything(report):
    primary = {**plain(report)["decision"]["primary"], "level": 0.00022}
    assert "| 99.98%: [" in evidence(changed(report, decision={"primary": primary}))


def test_judges_and_their_agreement_are_told(report):
    part = sections(markdown(report))["Judges"]
    one = report.judges.agreement[0]
    assert table(part)[0][0] == "exact (decides)"
    assert f"agree on {percent(one.share)} of {one.answers:,} answers" in part


def test_time_is_shared_out_and_only_told_where_it_is_known(report):
    assert table(sections(markdown(report))["Where the time went"])[0] == ["train", "1 min 15 s", "75%"]
    assert "Where the time went" not in markdown(report.model_copy(update={"timing": Timing()}))


def test_hostile_text_stays_text(run):
    odd = invent(categories=HOSTILE, probe_categories=HOSTILE)
    judges = type(run.judges).model_validate(EXACT)
    report = odd.report(judges=judges, name="<img src=x onerror=y>", warnings=["<b>|bold|</b>\n# heading"])
    first, *others = plain(report.pool)["reasons"]
    report = changed(
        report,
        pool={"reasons": [{**first, "reason": HOSTILE[1]}, *others]},
        provenance={"sources": {"key|<i>": ["| a | b |\n\n<iframe>"]}},
    )
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(report))
    assert set(re.findall(r"<\s*/?\s*([a-zA-Z!]\w*)", html)) <= OURS
    for text in ("&lt;script&gt;alert(1)&lt;/script&gt;", "a | b | c |", "[x](https://evil.example)"):
        assert text in html
    for row in re.findall(r"<tr>.*?</tr>", html, flags=re.S):
        assert "<td></td>" not in row or "all" in row or "other reasons" in row


def test_the_page_of_a_megabyte_of_hostile_category_is_short():
    page = markdown(invent(categories=("x" * 1_000_000, "<" * 1_000_000)).report())
    assert len(page) < 60_000


def test_evidence_is_part_of_the_report_and_needs_no_timing(report):
    part = evidence(report.model_copy(update={"timing": Timing()}))
    assert part in markdown(report)


def test_how_much_the_choice_depends_on_seed_and_representation_is_told(run, report):
    assert report.stability == ()
    assert "another seed or representation" not in markdown(report)
    sets = {"layer 1": list("abcdef"), "layer 2": list("fedcbz"), "layer 3": list("uvwxyz")}
    found = run.report(stability=list(map(Stability.model_validate, stability(sets, 60).to_dicts())))
    assert [one.shared for one in found.stability] == [5, 0, 1]
    rows = table(sections(markdown(found))["How the sets differ"], after="another seed or representation")
    assert rows == [
        ["layer 1", "layer 2", "5", "83%", "10%", "-1"],
        ["layer 1", "layer 3", "0", "0%", "10%", "too few"],
        ["layer 2", "layer 3", "1", "17%", "10%", "too few"],
    ]


def test_recall_of_an_approximate_graph_stands_beside_what_truncation_cost(run):
    graph = {**run.selection.parameters, "graph": "cells", "recall": 0.98273}
    found = run.report(selection=replace(run.selection, parameters=graph))
    for page in (markdown(found), evidence(found)):
        assert "approximate and finds 98.2% of the true ones" in page
        assert "If any row may cover a candidate, the set is worth" in page
    assert "approximate" not in markdown(run.report())


# What is said of forgetting, and of the scores that went with it

FORGETTING = "Does the score predict what is forgotten?"


def predicted(score, **changes):
    known = {"task": "list", "loss": "whole", "rho": 0.5, "low": 0.25, "high": 0.75, "rows": 40, "seeds": 2}
    return Prediction(score=score, **known | changes)


def forgotten(**changes):
    known = {"task": "list", "loss": "whole", "rows": 40, "seeds": 2, "before": 1.25, "mean": 0.5, "sd": 0.125}
    return Forgetting(**known | {"agreement": 0.625} | changes)


def report_on(run, rises, predictions):
    return run.report(forgotten=rises, predictions=predictions)


def test_figures_stand_in_the_report_and_in_its_tables(run):
    report = report_on(
        run, [forgotten()], [predicted("cosine/max"), predicted("interference/sign", loss="first-token", rho=-0.4)]
    )
    assert report.forgetting == (forgotten(),)
    assert report.score_predicts[0] == predicted("cosine/max")
    part = sections(markdown(report))[FORGETTING]
    assert table(part) == [["list", "whole", "40", "2", "1.25", "0.5", "0.125", "0.62"]]
    assert table(part, after="Spearman") == [
        ["cosine/max", "list", "whole", "0.50", "[0.25, 0.75]"],
        ["interference/sign", "list", "first-token", "-0.40", "[0.25, 0.75]"],
    ]


def test_a_run_that_measured_no_forgetting_says_nothing_of_it(report):
    assert report.forgetting == report.score_predicts == ()
    assert FORGETTING not in markdown(report)


def test_what_could_not_be_computed_is_said(run):
    few = sections(markdown(report_on(run, [forgotten(rows=3)], [])))[FORGETTING]
    assert "Too few rows are outside of all sets" in few
    alone = report_on(run, [forgotten(seeds=1, agreement=None)], [predicted("flat", rho=None, low=None, high=None)])
    part = sections(markdown(alone))[FORGETTING]
    assert table(part)[0][-1] == "one seed"
    assert table(part, after="Spearman") == [["flat", "list", "whole", "undefined", ""]]


@pytest.mark.parametrize("count", [40, 45])
def test_a_long_table_is_cut_and_says_so(run, count):
    part = sections(markdown(report_on(run, [forgotten()], [predicted(f"score-{number}") for number in range(count)])))[
        FORGETTING
    ]
    assert len(table(part, after="Spearman")) == 40
    assert ("The 5 weakest correlations are in report.json only" in part) == (count == 45)


# The summary in a terminal


def test_the_sentence_comes_first_and_both_arms_follow(report):
    rows = dict(summary(report))
    assert summary(report)[0] == ("decision", report.decision.sentence)
    primary, after = report.decision.primary, report.arms["curated"]["anticipated"].after.harmfulness
    assert rows["difference"].startswith(points(primary.difference))
    assert rows["curated harmful"].endswith(f"{rate(after.value, after.low, after.high)} after")
    assert rows["gates"].count(":") == len(report.gates)
    assert "12 of 60 rows" in rows["selection"]
    assert rows["time"] == "1 min 40 s, most of it in train (1 min 15 s)"


def test_an_approximate_graph_is_told_with_its_recall(run, report):
    assert "recall" not in dict(summary(report))["selection"]
    graph = {**run.selection.parameters, "graph": "cells", "recall": 0.98273}
    told = dict(summary(run.report(selection=replace(run.selection, parameters=graph))))["selection"]
    assert told.endswith("of the possible gain over random sets; neighbours found with recall 98.2%")
    open_ended = replace(run.selection, parameters=graph, bound=None, gap=None, relative_gap=None)
    told = dict(summary(run.report(selection=open_ended)))["selection"]
    assert told.endswith("no certificate; neighbours found with recall 98.2%")


def test_a_set_that_is_certified_says_so_even_where_nothing_can_be_gained_over_random_sets(run):
    def told(**changes):
        return dict(summary(run.report(selection=replace(run.selection, **changes))))["selection"]

    assert told(relative_gap=None).endswith(", and no set within the limits is better than random ones")
    assert told(relative_gap=1.767).endswith("at least -76.7% of the possible gain over random sets, below their mean")
    assert told(relative_gap=0.25).endswith("at least 75.0% of the possible gain over random sets")


def test_control_characters_do_not_reach_the_terminal():
    rows = summary(invent({"curated": 0.3, "random": 0.3}).report(warnings=["\x1b[31mred\x07\nnext"]))
    assert ("caution", "\ufffd[31mred\ufffd next") in rows


def test_showing_a_report_imports_nothing_heavy():
    heavy = "polars", "numpy", "jinja2", "torch"
    code = f"import sys, curator.report.markdown; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
