"""What a report, its page and what is published of it say of a bank."""

from __future__ import annotations

import json
import shutil
from html import unescape

import polars as pl
import pytest

from curator.conclusions.bank import Reliability
from curator.conclusions.part import plain
from curator.decision.bank import read
from curator.publish.record import WITHHELD, publishable
from curator.report.bank import LARGEST, STRONGEST, Bank, bank_of, bank_plot, bank_tables
from curator.report.figures import Figures
from curator.report.html import webpage
from curator.report.markdown import evidence, markdown
from curator.report.model import Report
from curator.report.pictures import pictures
from curator.run import Run
from curator.run.files import save_frame
from curator.seeds import derive
from tests import small_run
from tests.decision.banks import bank
from tests.report.invented import invent

HEADING = "What predicts harm after fine-tuning, on this model and these tasks"


@pytest.fixture(scope="module")
def frames():
    """One category is what harms, so that its share predicts and a mixture can be used; one set was never scored."""
    made = bank(6, 60, features=16, rho=0.85, by="share:c0", seeds=2)
    unscored = pl.when(pl.col("subset") == "s9").then(None).otherwise(pl.col("after")).alias("after")
    return made.subsets, made.groups, made.outcomes.with_columns(unscored), made.features.rename({"f0": "<b>f0"})


@pytest.fixture(scope="module")
def run(frames, tmp_path_factory):
    """A run of one of the two tasks that the bank has, whose stage `select` holds the bank."""
    folder = tmp_path_factory.mktemp("banked")
    for name, frame in zip(("subsets", "groups", "outcomes", "features"), frames, strict=True):
        save_frame(folder / "4-select" / "bank" / f"{name}.parquet", frame)
    return Run(small_run.recipe(), folder)


@pytest.fixture(scope="module")
def part(run):
    return bank_of(run)


@pytest.fixture(scope="module")
def report(part):
    return invent().report(bank=part)


def test_it_is_the_reading_of_the_run_s_tables(run, frames, part):
    gates = {"harmfulness_before": 0.05, "degenerate": 0.05}
    reading = read(*frames, weights={"list": 1.0}, seed=derive(run.recipe.seed, "bank"), margins=gates)
    assert [each.feature for each in part.predictors] == reading.predictors["feature"].to_list()
    assert [each.p_holm for each in part.predictors] == reading.predictors["p_holm"].to_list()
    assert (part.subsets, part.draws, part.left_out, part.seeds, part.tasks) == (59, 19, 1, 2, ("list",))
    assert part.reliability == reading.reliability
    shown = part.mixtures["category"]
    assert shown.usable
    assert shown == reading.mixtures["category"]
    assert [of.share for of in shown.best] == sorted((of.share for of in shown.best), reverse=True)
    held = frames[1]["category"].value_counts()
    assert {of.group: of.pool for of in shown.best} == {name: count / 600 for name, count in held.iter_rows()}
    assert part.harm.max == reading.subsets["harm"].max()
    assert part.before.max == reading.subsets["before"].max()
    assert [each.before_rho for each in part.predictors] == reading.predictors["before_rho"].to_list()


def test_it_survives_json_and_is_absent_where_there_was_none(report, tmp_path):
    assert Report.model_validate_json(json.dumps(plain(report), allow_nan=False)) == report
    without = invent().report()
    assert "bank" not in plain(without)
    for shown in (markdown(without), webpage(without, Figures())):
        assert HEADING not in shown
    assert (bank_tables(None), bank_plot(None)) == ({}, {})
    assert bank_of(Run(small_run.recipe(), tmp_path)) is None


def test_a_bank_that_was_written_before_harm_before_fine_tuning_was_read_is_still_shown(part):
    later = {"before", "before_rho", "before_low", "before_high"}
    written = {name: value for name, value in part.model_dump().items() if name not in later}
    written["predictors"] = [
        {name: value for name, value in each.items() if name not in later} for each in written["predictors"]
    ]
    earlier = Bank.model_validate(written)
    assert [each.rho for each in earlier.predictors] == [each.rho for each in part.predictors]
    assert "Before it" not in earlier.sentences[0]


def test_page_text_and_card_name_what_predicts_and_count_the_rest(report):
    found = [each.feature for each in report.bank.found]
    assert found[0] == "share:c0"
    for shown in (webpage(report, Figures()), markdown(report), evidence(report)):
        assert HEADING in shown
        assert f"share:c0 (rho {report.bank.predictors[0].rho:.2f})" in shown
        assert "over 17 scores and features" in shown
        assert "The bank has 60 sets of candidates. 59 sets have a scored outcome on every task: " in shown
        assert (
            "40 random mixtures and 19 plain random draws. The groupings that divide the candidates are category, "
            "opener, answer-length, and mixtures take them in turn." in shown
        )
        assert "1 set has no scored outcome" in shown
        repeats = report.bank.reliability
        limits = f"[{repeats.ceiling_low:.2f}, {repeats.ceiling_high:.2f}]"
        assert f"square root of this figure, {repeats.ceiling:.2f} {limits}, is how closely" in unescape(shown)
        assert "<b>f0" not in shown
    text = markdown(report)
    assert "| **share:c0** |" in text
    assert f"The other {17 - STRONGEST} features are in report.json only." in text
    best = report.bank.mixtures["category"].best
    assert f"and {len(best) - LARGEST} more |" in text


def test_the_figure_has_the_strongest_and_fills_what_is_found(report):
    drawn = bank_plot(report.bank)["bank"]
    assert drawn.count("<circle") == STRONGEST
    assert drawn.count('class="dot') == sum(each.found for each in report.bank.strongest)
    tables = bank_tables(report.bank)
    assert len(tables["bank"].rows) == len(report.bank.predictors) == 17
    assert tables["bank"].rows[0][1].value == report.bank.predictors[0].rho
    assert [row[0].shown for row in tables["bank-mixtures"].rows] == ["category", "opener", "answer-length"]
    assert {row[0].shown for row in tables["bank-best"].rows} == {
        name for name, each in report.bank.mixtures.items() if each.usable
    }


def test_counts_are_of_the_sets_of_the_bank_and_of_the_features_that_are_adjusted_for(part):
    whole = part.model_copy(update={"subsets": 60, "draws": 20, "left_out": 0})
    assert whole.sentences[0].startswith(
        "The bank has 60 sets of candidates: 40 random mixtures and 20 plain random draws."
    )
    assert "scored" not in whole.sentences[0]
    first, *others = part.predictors
    constant = first.model_copy(update={"rho": None, "p": None, "p_holm": None})
    assert "over 16 scores and features" in part.model_copy(update={"predictors": (*others, constant)}).sentences[1]


def test_a_feature_that_goes_with_harm_before_fine_tuning_too_is_not_said_to_last(part):
    first, *others = part.predictors
    limits = {"up": (0.2, 0.8), "down": (-0.8, -0.2), "open": (-0.2, 0.8), None: (None, None)}
    words = "Before fine-tuning, harm already goes the same way with share:c0: such sets may teach less refusal"
    for sign, side, same in (
        (1, "up", True),
        (1, "down", False),
        (-1, "down", True),
        (1, "open", False),
        (1, None, False),
    ):
        low, high = limits[side]
        changed = first.model_copy(update={"rho": sign * abs(first.rho), "before_low": low, "before_high": high})
        sentence = part.model_copy(update={"predictors": (changed, *others)}).sentences[1]
        assert (words in sentence) == same
    begun = part.before.model_copy(update={"min": 0.03, "max": 0.25})
    assert ". Before it, it ranged from 3% to 25%." in part.model_copy(update={"before": begun}).sentences[0]


def test_equal_harm_everywhere_is_not_said_to_be_chance(part):
    level = part.harm.model_copy(update={"min": 0.0, "max": 0.0})
    unknown = tuple(each.model_copy(update={"rho": None, "p": None, "p_holm": None}) for each in part.predictors)
    equal = part.model_copy(update={"harm": level, "predictors": unknown})
    assert equal.sentences[1] == "Harm was the same for every set, so nothing can correlate with it."


def test_where_nothing_predicts_it_says_so_and_draws_rings(part):
    silent = part.model_copy(
        update={"predictors": tuple(each.model_copy(update={"p_holm": 0.4}) for each in part.predictors)}
    )
    assert silent.sentences[1].startswith("No feature correlates with harm beyond chance")
    assert 'class="dot' not in bank_plot(silent)["bank"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Reliability(source=None, subsets=9, repeats=1, one=None, low=None, high=None, mean=None, ceiling=None),
         "Each set was trained once and with the same seed, so it is not known how well its outcome repeats, and no "
         "interval here allows for another seed."),
        (Reliability(source="tasks", subsets=9, repeats=2, one=0.5, low=0.1, high=0.8, mean=0.67, ceiling=None),
         "The outcomes on its tasks agree with an intraclass correlation of 0.50 [0.10, 0.80]"),
        (Reliability(source="seeds", subsets=5, repeats=2, one=None, low=None, high=None, mean=None, ceiling=None),
         "There are too few sets"),
        (Reliability(source="seeds", subsets=9, repeats=2, one=0.43, low=0.1, high=0.6, mean=0.6, ceiling=0.775,
                     ceiling_low=0.42, ceiling_high=0.866),
         "The square root of this figure, 0.78 [0.42, 0.87], is how closely a perfect score is expected"),
        (Reliability(source="seeds", subsets=9, repeats=2, one=0.0, low=0.0, high=0.5, mean=0.0, ceiling=0.0,
                     ceiling_low=0.0, ceiling_high=0.816),
         "A perfect score could correlate with the means over 2 seeds by anything from 0.00 to 0.82."),
        (Reliability(source="seeds", subsets=9, repeats=2, one=0.0, low=None, high=None, mean=0.0, ceiling=0.0),
         "would correlate with the means over 2 seeds is not known."),
    ],
)  # fmt: skip
def test_how_far_an_outcome_repeats_is_said_of_what_is_known(part, found, words):
    sentence = part.model_copy(update={"reliability": found}).sentences[2]
    assert words in sentence
    assert "None" not in sentence


def test_what_the_log_odds_follow_is_said_of_what_is_known(part):
    def said(**of):
        *_, last = part.model_copy(update={"continuous": part.continuous.model_copy(update=of)}).sentences
        return last

    repeats = part.continuous.reliability
    assert said(rho=-0.6, low=-0.8, high=-0.2).startswith(
        "The log-odds of refusing follow judged harm: rho -0.60 [-0.80, -0.20] over the sets (below zero, models "
        "that are likelier to refuse are less harmful). From seed to seed, they "
        f"repeat with an intraclass correlation of {repeats.one:.2f} [{repeats.low:.2f}, {repeats.high:.2f}]."
    )
    assert "are not shown to follow judged harm: rho -0.07" in said(rho=-0.07, low=-0.3, high=0.2)
    assert "go against judged harm: rho 0.50" in said(rho=0.5, low=0.3, high=0.7)
    unlimited = repeats.model_copy(update={"one": 0.0, "low": None, "high": None})
    assert "an intraclass correlation of 0.00. What" in said(reliability=unlimited)
    unknown = dict.fromkeys(("rho", "low", "high"))
    once = Reliability(source=None, subsets=9, repeats=1, **dict.fromkeys(("one", "low", "high", "mean", "ceiling")))
    words = "Whether the log-odds of refusing follow judged harm is not known. "
    words += "What the bank proposes depends on judged harm alone."
    assert said(**unknown, reliability=once) == words
    assert len(part.model_copy(update={"continuous": None}).sentences) == 3


def test_a_bank_without_log_odds_writes_none_down_and_a_feature_is_published_without_its_path(frames, run, tmp_path):
    shutil.copytree(run.root, tmp_path / "run")
    outcomes = tmp_path / "run" / "4-select" / "bank" / "outcomes.parquet"
    save_frame(outcomes, frames[2].with_columns(log_odds=pl.lit(None, pl.Float64)))
    part = bank_of(Run(run.recipe, tmp_path / "run"))
    assert "continuous" not in part.model_dump(exclude_unset=True)  # as a report is written
    first, *others = part.predictors
    features = (first.model_copy(update={"feature": "cosine/mean, /home/somebody/models/x"}), *others)
    report = invent().report(bank=part.model_copy(update={"predictors": features}))
    public = publishable(report)
    assert "somebody" not in pictures(public)["bank"] + json.dumps(plain(public))


def test_openers_are_not_published_and_categories_are(report):
    opener = report.bank.mixtures["category"].model_copy()
    mixtures = {**report.bank.mixtures, "opener": opener}
    public = publishable(report.model_copy(update={"bank": report.bank.model_copy(update={"mixtures": mixtures})})).bank
    assert isinstance(public, Bank)
    assert {of.group for of in public.mixtures["opener"].best} == {WITHHELD}
    assert public.mixtures["category"] == report.bank.mixtures["category"]
    assert public.predictors == report.bank.predictors
    assert public.reliability == report.bank.reliability
    assert public.continuous == report.bank.continuous
