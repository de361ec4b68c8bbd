"""Figures by the length of a prefilled opening, and prompts that flip, against sums done the long way."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curator.decision.comparisons import compare, rate, within_seeds
from curator.decision.depth import depth, flips
from curator.decision.findings import conclude
from curator.decision.tables import QUANTITIES, lay_out
from tests.decision.conftest import rows

MIX = {"list": 0.75, "query": 0.25}
ARMS = ("curated", "random")
HARM = {"curated": {0: 0.1, 3: 0.2, 8: 0.6}, "random": {0: 0.4, 3: 0.5, 8: 0.6}}
SEEDS, PROMPTS = 4, 40


def opened(refusals=True):
    """Verdicts of two arms at three depths on two tasks, some of them unscored and degenerate."""
    generator, parts = np.random.default_rng(7), []
    for arm in ARMS:
        for tokens, share in HARM[arm].items():
            for phase, task in (("before", None), ("after", "list"), ("after", "query")):
                drawn = generator.random((SEEDS, PROMPTS))
                found = np.where(drawn < share, "harmful", np.where(drawn > 0.97, "unscored", "safe"))
                found = np.where((drawn > 0.9) & (drawn < 0.94), "degenerate", found)
                refused = (found == "safe") & (drawn < 0.8) if refusals else None
                part = rows(arm, "harmful", phase, task, SEEDS, PROMPTS, found, refused)
                kind = pl.lit("prefilled" if tokens else "harmful").alias("kind")
                parts.append(part.with_columns(kind, pl.lit(tokens, pl.Int64).alias("prefill")))
    return pl.concat(parts)


def share(frame, arm, phase, tokens, counts):
    """The weighted share of scored answers that `counts`."""
    total = 0.0
    for task, weight in MIX.items() if phase == "after" else [(None, 1.0)]:
        part = frame.filter(arm=arm, phase=phase, prefill=tokens).filter(pl.col("task").eq_missing(task))
        scored = part.filter(pl.col("outcome") != "unscored")
        total += weight * scored.filter(counts).height / scored.height
    return total


def test_rates_at_every_depth_are_shares_of_scored_answers():
    frame = opened()
    found = depth(frame, MIX, *ARMS)
    assert [(each.phase, each.prefill, each.arm) for each in found.rates] == [
        (phase, tokens, arm) for phase in ("before", "after") for tokens in (0, 3, 8) for arm in ARMS
    ]
    for each in found.rates:
        asked = frame, each.arm, each.phase, each.prefill
        assert each.harmful.value == pytest.approx(share(*asked, pl.col("outcome") == "harmful"))
        assert each.degenerate.value == pytest.approx(share(*asked, pl.col("outcome") == "degenerate"))
        assert each.refused.value == pytest.approx(share(*asked, pl.col("refused")))
        assert each.harmful.low < each.harmful.value < each.harmful.high
        part = frame.filter(arm=each.arm, phase=each.phase, prefill=each.prefill)
        assert (each.harmful.scored + each.harmful.unscored, each.harmful.unscored) == (
            part.height, part.filter(outcome="unscored").height,
        )  # fmt: skip


def test_depth_zero_is_the_usual_answer():
    frame = opened()
    found = depth(frame, MIX, *ARMS)
    grids = lay_out(frame)
    for phase in ("before", "after"):
        of = {each.arm: each.harmful for each in found.rates if (each.phase, each.prefill) == (phase, 0)}
        assert of == {arm: rate(grids["harmfulness", phase], arm, MIX) for arm in ARMS}


def test_differences_are_paired_and_stand_outside_of_every_test():
    frame = opened()
    found = depth(frame, MIX, *ARMS)
    assert len(found.differences) == 6
    for each in found.differences:
        part = frame.filter(prefill=each.prefill).with_columns(kind=pl.lit("harmful"), prefill=pl.lit(0, pl.Int64))
        paired = compare(lay_out(part)["harmfulness", each.comparison.phase], *ARMS, MIX)
        assert (each.comparison.difference, each.comparison.low) == (paired.difference, paired.low)
        assert each.comparison.p is each.comparison.p_holm is None


def test_opened_answers_change_nothing_that_decides(verdicts):
    plain = verdicts({"curated": 0.2, "random": 0.4})
    harmful = plain.filter(kind="harmful")
    more = harmful.with_columns(kind=pl.lit("prefilled"), prefill=pl.lit(5, pl.Int64), outcome=pl.lit("harmful"))
    given = {"weights": {"list": 1.0}, "gates": {"degenerate": 0.05}}
    assert conclude(pl.concat([plain, more]), **given) == conclude(plain, **given)


def test_a_judge_that_knows_no_refusals_has_no_rate_of_them():
    found = depth(opened(refusals=False), MIX, *ARMS)
    assert all(each.refused.value is None and each.refused.scored == 0 for each in found.rates)
    assert all(each.harmful.value is not None for each in found.rates)


def test_without_openings_and_with_one_answer_each_there_is_nothing(verdicts):
    plain = verdicts({"curated": 0.2, "random": 0.4})
    assert depth(plain, {"list": 1.0}, *ARMS).rates == ()
    assert flips(plain, {"list": 1.0}) == ()


def sampled(outcomes):
    """`(s, p, n)` outcomes of one arm after fine-tuning: n answers to each prompt."""
    seeds, prompts, count = outcomes.shape
    return pl.concat(
        [
            rows("curated", "harmful", "after", "list", seeds, prompts, outcomes[..., n]).with_columns(
                pl.lit(n, pl.Int64).alias("sample")
            )
            for n in range(count)
        ]
    )


def test_prompts_that_flip_are_those_with_answers_of_both_kinds():
    generator = np.random.default_rng(2)
    outcomes = generator.choice(["harmful", "safe", "degenerate", "unscored"], (3, 30, 3), p=[0.3, 0.4, 0.1, 0.2])
    [after] = [each for each in flips(sampled(outcomes), {"list": 1.0}) if each.phase == "after"]
    flipped, told = [], 0
    for cell in outcomes.reshape(-1, 3):
        scored = [outcome == "harmful" for outcome in cell if outcome != "unscored"]
        told += len(scored) > 1
        flipped.append(len(set(scored)) == 2)
    assert 0 < sum(flipped) < told < 90
    assert after.share.value == pytest.approx(sum(flipped) / told)
    assert (after.share.scored, after.share.unscored) == (told, 90 - told)


def test_a_cell_is_the_mean_of_its_scored_answers_in_every_quantity():
    generator = np.random.default_rng(3)
    parts, outcomes = [], generator.choice(["harmful", "safe", "degenerate", "unscored"], (2, 20, 4))
    for kind in ("harmful", "benign"):
        for n in range(4):
            refused = generator.random((2, 20)) < 0.5
            part = rows("curated", kind, "after", "list", 2, 20, outcomes[..., n], refused)
            parts.append(part.with_columns(pl.lit(n, pl.Int64).alias("sample")))
    grids = lay_out(pl.concat(parts))
    frame = pl.concat(parts)
    harmful = grids["harmfulness", "after"]
    for seed in range(2):
        for p, probe in enumerate(harmful.probes):
            cell = frame.filter(seed=seed, probe=probe)["outcome"].to_list()
            scored = [outcome for outcome in cell if outcome != "unscored"]
            value = harmful.values[0, 0, seed, p]
            assert np.isnan(value) if not scored else value == scored.count("harmful") / len(scored)
            broken = grids["degenerate", "after"].values[0, 0, seed, p]
            assert np.isnan(broken) if not scored else broken == scored.count("degenerate") / len(scored)
    unscored = int((outcomes == "unscored").sum())
    assert unscored > 20
    for quantity in ("harmfulness", "degenerate", "over_refusal"):
        found = rate(grids[quantity, "after"], "curated", {"list": 1.0})
        assert (found.scored, found.unscored) == (160 - unscored, unscored)
        cells = grids[quantity, "after"].values
        assert found.value == pytest.approx(np.nanmean(cells))


def test_as_many_answers_again_that_say_the_same_change_no_rate_and_no_interval(verdicts):
    plain = verdicts({"curated": 0.2, "random": 0.4})
    again = [plain.filter(pl.col("kind") != "utility").with_columns(sample=pl.lit(n, pl.Int64)) for n in (1, 2)]
    one, three = lay_out(plain), lay_out(pl.concat([plain, *again]))
    for quantity in QUANTITIES:
        pairs = [compare(grids[quantity, "after"], *ARMS, {"list": 1.0}) for grids in (one, three)]
        assert pairs[0] == pairs[1]
    rates = [rate(grids["harmfulness", "after"], "curated", {"list": 1.0}) for grids in (one, three)]
    assert (rates[1].low, rates[1].high, rates[1].scored) == (rates[0].low, rates[0].high, 3 * rates[0].scored)
    assert within_seeds(one["harmfulness", "after"], *ARMS, "list") == within_seeds(
        three["harmfulness", "after"], *ARMS, "list"
    )


@pytest.mark.parametrize(("fill", "treated", "untreated"), [("best", 1 / 3, 2 / 3), ("worst", 2 / 3, 1 / 3)])
def test_every_unscored_answer_is_counted_for_or_against(fill, treated, untreated):
    cell = np.array([[["harmful", "safe", "unscored"]] * 12] * 3)
    both = pl.concat([sampled(cell), sampled(cell).with_columns(arm=pl.lit("random"))])
    grid = lay_out(both)["harmfulness", "after"]
    found = compare(grid, *ARMS, {"list": 1.0}, fill=fill)
    assert (found.treatment_rate, found.control_rate) == (pytest.approx(treated), pytest.approx(untreated))
    plain = compare(grid, *ARMS, {"list": 1.0})
    assert (plain.treatment_rate, plain.pairs, plain.unscored) == (pytest.approx(0.5), 36, 36)


def test_within_a_seed_several_answers_are_compared_prompt_by_prompt():
    binomtest = pytest.importorskip("scipy.stats").binomtest
    generator = np.random.default_rng(5)
    ours, theirs = (generator.choice(["harmful", "safe"], (2, 50, 3), p=[share, 1 - share]) for share in (0.3, 0.5))
    both = pl.concat([sampled(ours), sampled(theirs).with_columns(arm=pl.lit("random"))])
    found = within_seeds(lay_out(both)["harmfulness", "after"], *ARMS, "list")
    for entry in found:
        counts = [(cells[entry.seed] == "harmful").sum(axis=1) for cells in (ours, theirs)]
        more, less = int((counts[0] > counts[1]).sum()), int((counts[0] < counts[1]).sum())
        assert (entry.only_treatment, entry.only_control, entry.pairs) == (more, less, 50)
        assert entry.p == pytest.approx(binomtest(more, more + less).pvalue)
