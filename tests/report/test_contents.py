import json
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from curator.conclusions.part import plain
from curator.decision.findings import conclude
from curator.report.facts import overlap
from curator.report.figures import Figures
from curator.report.html import webpage
from curator.report.markdown import markdown
from curator.report.material import Dropped, Timing, TrainingTime
from curator.report.model import Report
from curator.report.pilot import Pilot
from tests.report.invented import EXACT, invent, verdicts_of


def test_the_report_survives_json_unchanged(report):
    assert Report.model_validate_json(json.dumps(plain(report), allow_nan=False)) == report


def test_every_arm_has_every_rate(report):
    assert set(report.arms) == {"curated", "random", "matched-random"}
    for tasks in report.arms.values():
        assert set(tasks) == {"anticipated", "list", "story", "odd"}


def test_figures_are_those_of_the_findings(run, report):
    found = run.findings
    assert report.decision.sentence == found.decision.sentence
    # No setting is named in a decision about the mean.
    assert report.gates == found.decision.gates
    assert not any("task" in plain(gate) for gate in report.gates)
    assert "worst" not in plain(report.decision)
    for arm, tasks in found.arms.items():
        for task, phases in tasks.items():
            for phase, rates in phases.items():
                for quantity, rate in rates.items():
                    assert getattr(report.arms[arm][task], phase).of(quantity) == rate
    assert len(report.comparisons) == len(found.comparisons)
    roles = Counter(one.role for one in report.comparisons)
    assert roles["primary"] == 1
    assert roles["attribution"] == len(found.decision.attribution) == 2
    assert report.comparisons[0].difference == found.decision.primary.difference


def test_what_is_not_a_number_is_null(run):
    odd = replace(run.selection, parameters={"recall": float("nan"), "far": [np.float64("inf"), np.int64(3)]})
    found = run.report(selection=odd, timing=Timing(stages={"train": float("nan")}))
    assert found.selection.parameters == {"recall": None, "far": [None, 3]}
    assert found.timing.stages == {"train": None}
    json.dumps(plain(found), allow_nan=False)


def test_two_builds_differ_in_nothing_but_timing(run, report):
    slower = {cell: replace(model, seconds=99.0, peak_gib=3.0, path="/tmp/x") for cell, model in run.models.items()}
    again = run.report(models=slower, timing=Timing(stages={"train": 1.0}, run_folder="/tmp/y"))
    assert again.timing != report.timing
    untimed = {name: value for name, value in plain(report).items() if name != "timing"}
    assert {name: value for name, value in plain(again).items() if name != "timing"} == untimed
    assert "/somewhere" not in json.dumps(untimed)


def test_pool_counts_add_up(run, report):
    pool = report.pool
    assert pool.read == pool.kept + pool.dropped == 63
    assert pool.reasons[0] == Dropped(stage="duplicate", reason="equal to an earlier row", rows=2)
    assert sum(one.rows for one in pool.reasons) == pool.dropped
    for field in ("read", "kept", "dropped"):
        assert sum(getattr(source, field) for source in pool.sources) == getattr(pool, field)


def test_similarity_of_an_arm_is_that_of_its_rows_one_by_one(run, report):
    by_id = dict(zip(run.scores.ids, run.scores.tasks["list"], strict=True))
    found = report.similarity.tasks["list"]
    assert np.isclose(found["curated"].median, np.median([by_id[one] for one in run.selection.ids]))
    drawn = [by_id[one] for (arm, _), ids in run.arms.items() if arm == "random" for one in ids]
    assert np.isclose(found["random"].p95, np.quantile(drawn, 0.95))
    assert np.isclose(found["pool"].mean, np.mean(list(by_id.values())))
    assert set(report.similarity.tasks) == {"list", "story", "odd"}


def test_overlap_is_counted_draw_by_draw(run, report):
    shared = [len(set(run.selection.ids) & set(run.arms["random", seed])) for seed in range(4)]
    found = next(one for one in report.overlap if one.arm == "random")
    assert (found.shared, found.least, found.most) == (np.mean(shared), min(shared), max(shared))
    assert found.by_chance == 12 * 12 / 60
    assert "curated" not in {one.arm for one in report.overlap}


def test_chance_is_that_of_draws_from_the_candidates():
    """A given set need not be among them, nor a user's own arm."""
    arms = {("random", 0): ("c", "d"), ("mine", 0): ("c", "x"), ("curated", 0): ("a", "b")}
    candidates = ["b", "c", "d", "e"]
    found = {one.arm: one for one in overlap(("a", "b"), arms, candidates=candidates, treatment="curated")}
    assert (found["random"].shared, found["random"].by_chance) == (0, 2 * 1 / 4)
    assert found["mine"].by_chance is None


def test_categories_count_every_row_once(run, report):
    rows = report.categories
    assert {one.category for one in rows} == {"theft", "poison", None}
    assert sum(one.pool for one in rows) == 60
    for arm in ("curated", "random"):
        assert np.isclose(sum(one.arms[arm] for one in rows), 12)
    label = dict(zip(run.data.pool.rows["id"], run.data.pool.rows["category"], strict=True))
    theft = next(one for one in rows if one.category == "theft")
    assert theft.arms["curated"] == sum(label[one] == "theft" for one in run.selection.ids)


def test_training_is_told_once_for_all_seeds(report):
    found = {(one.arm, one.task): one for one in report.training}
    assert len(found) == 12
    assert found["curated", None].seeds == 4
    assert found["curated", "list"].last_loss == 2.5
    assert report.design.seeds == {"curated": 4, "matched-random": 4, "random": 4}
    assert report.timing.training == TrainingTime(align_seconds=18.0, finetune_seconds=54.0, peak_gib=0.7)


def test_a_phrase_judge_that_decides_is_called_a_proxy(run, report):
    assert not any("proxy" in warning for warning in report.warnings)
    judges = type(run.judges).model_validate({**EXACT, "headline": "words"})
    assert any("It measures refusal, not harm" in warning for warning in run.report(judges=judges).warnings)


def test_a_second_opinion_that_differs_is_said(run):
    alike = verdicts_of({"curated": 0.4, "random": 0.4}, list(run.weights), seeds=4)
    other = conclude(alike.filter(judge="words"), weights=run.weights, gates={})
    clear = conclude(run.verdicts.filter(judge="exact"), weights=run.weights, gates={})
    found = run.report(findings=clear, second_opinions={"words": other})
    assert found.decision.outcome == "durable"
    assert found.judges.second_opinions[0].outcome == "not distinguishable"
    assert any("verdicts of 'words'" in warning for warning in found.warnings)
    assert any("sets no gates" in warning for warning in found.warnings)


def test_what_was_not_asked_is_said():
    found = invent({"curated": 0.3, "random": 0.3}, benign=False, k=40).report()
    assert any("over-refusal was not measured" in warning for warning in found.warnings)
    assert any("40 of 60 candidates" in warning for warning in found.warnings)
    assert found.arms["curated"]["list"].after.over_refusal.value is None


def test_many_unscored_answers_are_said(run):
    torn = run.verdicts.with_columns(
        outcome=pl.when(pl.col("probe").str.ends_with("7")).then(pl.lit("unscored")).otherwise("outcome")
    )
    assert any("could not score" in warning for warning in run.report(verdicts=torn).warnings)


def test_the_regime_is_said_where_no_arm_can_win():
    found = invent({"curated": 0.0, "random": 0.01}).report()
    assert found.regime.control == "random"
    assert any(warning.startswith("Regime: floor") for warning in found.warnings)


def piloted(optimised, drawn):
    """A pilot of so many candidates and draws, of which the first of each won."""
    made = [{"name": f"w{number}", "weight": 0.1 * number, "rounds": []} for number in range(optimised)]
    made += [{"name": f"draw-{number}", "rounds": []} for number in range(drawn)]
    return Pilot.model_validate({"probes": 9, "chosen": "w0", "best_draw": "draw-0", "candidates": made})


def banked(chosen, after=0.2, draw=0.3, of_draw=None, **of_best):
    """A confirmation of two sets that a bank proposed and of two draws, of which `chosen` won. The best set has `after`
    in the last round and the best draw `draw`, and the others more.
    """
    last = {"number": 0, "seeds": 3, "before": 0.0, "degenerate": 0.0, "costly": False}
    better, worse = {"place": 1, "kept": True}, {"place": 2, "kept": False}
    rounds = [
        {**better, "after": after, **of_best}, {**worse, "after": 0.6}, {**better, "after": draw, **(of_draw or {})},
        {**worse, "after": 0.7},
    ]  # fmt: skip
    made = [
        {"name": "score-0", "kind": "score", "what": LESS},
        {"name": "observed-0", "kind": "observed", "what": "mix-3 of the bank, random over opener"},
        {"name": "draw-0", "kind": "draw", "what": "a random set"},
        {"name": "draw-1", "kind": "draw", "what": "a random set"},
    ]
    made = [{**each, "rounds": [{**last, **of}]} for each, of in zip(made, rounds, strict=True)]
    return Pilot.model_validate(
        {"probes": 9, "chosen": chosen, "best_draw": "draw-0", "candidates": made, "bank_sets": 24}
    )


LESS = "less words, p 0.031 and Holm-adjusted 0.60, with at least half of the coverage"
SCORED = f"score-0 ({LESS}), the best of the sets that the bank proposed."


@pytest.mark.parametrize(
    ("pilot", "words"),
    [
        (banked("score-0"), "In the last round, 20% of the answers of its models were harmful after fine-tuning, "
         "against 30% for the best of the random draws."),
        (banked("draw-0", draw=0.1), "In the last round, 10% of the answers of its models were harmful after "
         f"fine-tuning, against 20% for {SCORED}"),
        (banked("draw-0", costly=True), "In the last round, 30% of the answers of its models were harmful after "
         f"fine-tuning, against 20% for {SCORED} That set is costly, so the draw ranks before it."),
        (banked("draw-0", after=None), "In the last round, 30% of the answers of its models were harmful after "
         f"fine-tuning. No answer was scored for {SCORED}"),
        (banked("draw-0", draw=None, costly=True), f"No answer of the draw was scored. It ranks before {SCORED[:-1]}, "
         "because that set is costly."),
        (banked("score-0", costly=True, of_draw={"costly": True}), "In the last round, 20% of the answers of its "
         "models were harmful after fine-tuning, against 30% for the best of the random draws. Both are costly."),
    ],
)  # fmt: skip
def test_what_a_winner_did_in_the_last_round_is_told_with_both_rates_and_why_it_won(pilot, words):
    arms = {"curated": 0.1, "random": 0.4, "best-random": 0.3}
    report = invent(arms).report(pilot=pilot)
    text, page, won = markdown(report), webpage(report, Figures()), pilot.chosen == "draw-0"
    assert pilot.last_round == words
    for shown in (text, page):
        assert ("A random draw won." in shown) == won
        assert words in shown
        assert ("are the same set, so their difference is not an effect of optimising" in shown) == won
    # One set is compared with itself, which says nothing about optimising.
    assert ("optimising" in report.decision.attribution) != won
    assert (
        "effect of optimising: best of 2 candidates proposed by a bank of 24 sets against best of 2 draws" in text
    ) != won
    assert any("The curated set is a random draw, the best of 2" in warning for warning in report.warnings) == won
    favoured = "The bank tried its sets on the same probes before, which favours the curated set."
    assert any(favoured in warning for warning in report.warnings) != won
    assert ("The effect of optimising is the difference" in page) != won
    assert ("| **best draw, chosen** |" in text) == won
    row = next(line for line in text.splitlines() if line.startswith("| score-0 "))
    assert row.endswith(("| **best set** |", "| costly, **best set** |"))
    without = invent({name: arms[name] for name in ("curated", "random")}).report(pilot=pilot)
    assert "are the same set" not in markdown(without) + webpage(without, Figures())


def test_a_set_of_the_bank_that_came_out_best_is_not_called_optimised():
    first, *others = banked("score-0").candidates
    pilot = banked("score-0").model_copy(
        update={"candidates": (first.model_copy(update={"kind": "observed"}), *others)}
    )
    report = invent({"curated": 0.1, "random": 0.4, "best-random": 0.3}).report(pilot=pilot)
    text, page = markdown(report), webpage(report, Figures())
    assert "optimising" not in report.decision.attribution
    for shown in (text, page):
        assert "the best of many that the bank tried, so its difference to best-random is an effect of more" in shown
        assert "effect of optimising" not in shown
        assert "which favours the candidates, above all those of the kind observed" in shown
    assert any((pair.treatment, pair.control) == ("curated", "best-random") for pair in report.comparisons)
    assert "optimising" not in markdown(invent({"curated": 0.1, "random": 0.4}).report(pilot=pilot))


@pytest.mark.parametrize("chosen", ["score-0", "draw-0"])
def test_a_set_that_a_bank_chose_is_told_with_its_candidates_and_a_random_one_as_such(chosen):
    run = invent({"curated": 0.1, "random": 0.4, "best-random": 0.3})
    even = replace(run.selection, weight=0.0)
    report = run.report(pilot=banked(chosen, draw=0.1 if chosen == "draw-0" else 0.3), selection=even)
    plain_report = run.report(selection=even)
    text, page = markdown(report), webpage(report, Figures())
    assert report.pilot.tries == (2, 2)
    assert "A bank of trials proposed 2 sets, and a pilot compared them with 2 random draws" in text
    assert "Trials of many sets, not an objective, chose 12 rows" in text
    assert ("**A random draw won.**" in text) == (chosen == "draw-0")
    assert "| observed-0 | observed | mix-3 of the bank, random over opener | 1 | 3 |" in text
    assert "How the sets that the bank proposed were confirmed" in page
    assert LESS in page
    # A score or a mixture may prefer similar rows, whatever the weight of the objective, which is 0.
    assert report.selection.weight == 0
    assert "plays no part" not in text
    assert "does not enter the objective" not in page
    assert "plays no part" in markdown(plain_report)
    assert "does not enter the objective" in webpage(plain_report, Figures())
    assert "The bank used the same probes, though: its results on them picked the candidates" in text
    assert "A pilot chose the setting" not in text
    assert not any("fewer tries" in warning for warning in report.warnings)


def test_a_metagradient_that_a_pilot_tries_on_its_own_probes_is_said_to_be_favoured():
    alike = piloted(2, 2)
    tried = [one if one.drawn else one.model_copy(update={"score": "metagradient"}) for one in alike.candidates]
    run = invent()
    for pilot, favoured in ((alike, False), (alike.model_copy(update={"candidates": tuple(tried)}), True)):
        assert ("A metagradient is computed for the same probes" in markdown(run.report(pilot=pilot))) == favoured
    bank = banked("score-0")
    named = [
        one.model_copy(update={"what": "less metagradient, p 0.031 and Holm-adjusted 0.60"}) for one in bank.candidates
    ]
    assert "A metagradient is computed for the same probes" not in markdown(run.report(pilot=bank))
    assert "A metagradient is computed for the same probes" in markdown(
        run.report(pilot=bank.model_copy(update={"candidates": tuple(named)}))
    )


@pytest.mark.parametrize(("optimised", "drawn", "unfair"), [(6, 6, None), (6, 2, "draws"), (1, 3, "candidates")])
def test_what_optimising_adds_says_how_many_tries_either_side_had(optimised, drawn, unfair):
    run = invent({"curated": 0.1, "random": 0.4, "best-random": 0.3})
    report = run.report(pilot=piloted(optimised, drawn))
    words = f"best of {optimised} candidate{'s' * (optimised > 1)} against best of {drawn} draws"
    assert f"curated - best-random (effect of optimising: {words})" in markdown(report)
    assert words in webpage(report, Figures())
    found = [warning for warning in report.warnings if "fewer tries" in warning]
    assert len(found) == (unfair is not None)
    if unfair is not None:
        assert words in found[0]
        assert f"The {unfair} had fewer tries" in found[0]
    without = invent().report(pilot=piloted(6, 2))  # an arm that did not run is not compared
    assert not any("fewer tries" in warning for warning in without.warnings)
