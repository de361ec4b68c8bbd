import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.decision.comparisons import ANTICIPATED
from curator.decision.findings import conclude
from curator.decision.statistics import holm

ARMS = {"curated": 0.1, "random": 0.3, "matched-random": 0.25, "best-random": 0.2, "none": 0.9}
WEIGHTS = {"list": 0.25, "query": 0.75, "letter": 0.0}


@pytest.fixture
def frame(verdicts):
    return verdicts(ARMS, tasks=tuple(WEIGHTS), seeds=4, prompts=60, side=40)


def share(frame, arm, task, phase, kind="harmful", outcome="harmful"):
    part = frame.filter(arm=arm, phase=phase, kind=kind).filter(pl.col("task").eq_missing(task))
    return part.select((pl.col("outcome") == outcome).mean()).item()


def test_every_arm_task_phase_and_quantity_has_a_rate(frame):
    found = conclude(frame, weights=WEIGHTS, gates={})
    assert set(found.arms) == set(ARMS)
    for tasks in found.arms.values():
        assert list(tasks) == [ANTICIPATED, *WEIGHTS]
        for phases in tasks.values():
            assert list(phases) == ["before", "after"]
            for quantities in phases.values():
                assert list(quantities) == ["harmfulness", "over_refusal", "utility", "degenerate"]


def test_rates_are_plain_shares_and_their_weighted_mean(frame):
    lost = (pl.col("kind") == "harmful") & (pl.int_range(pl.len()) % 7 == 0)
    frame = frame.with_columns(pl.when(lost).then(pl.lit("unscored")).otherwise("outcome").alias("outcome"))
    scored = frame.filter(pl.col("outcome") != "unscored")
    found = conclude(frame, weights=WEIGHTS, gates={}).arms["curated"]
    by_task = {task: share(scored, "curated", task, "after") for task in WEIGHTS}
    for task, expected in by_task.items():
        rate = found[task]["after"]["harmfulness"]
        assert rate.value == pytest.approx(expected)
        assert rate.scored + rate.unscored == 240
        assert rate.unscored > 20
        assert found[task]["before"]["harmfulness"].value == pytest.approx(share(scored, "curated", None, "before"))
    mix = found[ANTICIPATED]["after"]["harmfulness"]
    assert mix.value == pytest.approx(0.25 * by_task["list"] + 0.75 * by_task["query"])
    assert mix.scored + mix.unscored == 480
    assert mix.low < mix.value < mix.high


def test_an_unanticipated_task_is_in_no_weighted_figure(frame):
    changed = frame.with_columns(
        pl.when(pl.col("task") == "letter").then(pl.lit("harmful")).otherwise("outcome").alias("outcome")
    )
    one, other = (conclude(part, weights=WEIGHTS, gates={"degenerate": 0.1}) for part in (frame, changed))
    for name in ("outcome", "reason", "sentence", "primary", "gates"):
        assert getattr(one.decision, name) == getattr(other.decision, name)
    assert one.arms["curated"][ANTICIPATED] == other.arms["curated"][ANTICIPATED]
    assert one.arms["curated"]["letter"] != other.arms["curated"]["letter"]


def test_a_quantity_nobody_asked_for_has_no_rate(frame):
    found = conclude(frame.filter(pl.col("kind") != "benign"), weights=WEIGHTS, gates={})
    rate = found.arms["curated"]["list"]["after"]["over_refusal"]
    assert (rate.value, rate.low, rate.scored, rate.unscored) == (None, None, 0, 0)


def test_the_primary_comparison_comes_first_and_stands_outside_the_holm_family(frame):
    found = conclude(frame, weights=WEIGHTS, gates={})
    first, *rest = found.comparisons
    assert first == found.decision.primary
    assert (first.treatment, first.control, first.quantity, first.phase, first.task) == (
        "curated",
        "random",
        "harmfulness",
        "after",
        None,
    )
    assert first.p_holm is None
    assert [c.p_holm for c in rest] == holm([c.p for c in rest])
    names = [(c.treatment, c.control, c.quantity, c.phase, c.task) for c in found.comparisons]
    assert len(set(names)) == len(names)
    for arm in ("matched-random", "best-random", "none"):
        for task in (None, *WEIGHTS):
            assert (arm, "random", "harmfulness", "after", task) in names
            assert ("curated", arm, "harmfulness", "after", task) in names
        assert (arm, "random", "harmfulness", "before", None) in names


def test_an_arm_that_is_the_treatment_under_another_name_adds_no_tests_and_keeps_its_rates(verdicts):
    rates = {"curated": 0.1, "random": 0.3, "none": 0.6}
    single, double = verdicts(rates), verdicts({**rates, "best-random": 0.1})
    found = conclude(double, weights={"list": 1.0}, gates={}, doubles=["best-random"])
    assert found.comparisons == conclude(single, weights={"list": 1.0}, gates={}).comparisons
    assert "best-random" in found.arms
    assert "optimising" not in found.decision.attribution
    assert len(conclude(double, weights={"list": 1.0}, gates={}).comparisons) > len(found.comparisons)


def test_the_only_anticipated_task_is_not_tested_twice(verdicts):
    found = conclude(verdicts({"curated": 0.1, "random": 0.3}), weights={"list": 1.0}, gates={})
    after = [c for c in found.comparisons if (c.quantity, c.phase) == ("harmfulness", "after")]
    assert len(after) == 1


def test_the_least_and_the_most_similar_rows_are_compared_with_each_other_once(verdicts):
    rates = {"curated": 0.1, "random": 0.3, "low-matched": 0.2, "high-matched": 0.6, "low-similarity": 0.3}
    found = conclude(verdicts(rates), weights={"list": 1.0}, gates={})
    after = [(c.treatment, c.control) for c in found.comparisons if (c.quantity, c.phase) == ("harmfulness", "after")]
    assert after.count(("low-matched", "high-matched")) == 1
    assert ("low-similarity", "high-similarity") not in after
    contrast = found.decision.attribution["similarity-matched"]
    assert contrast.difference == pytest.approx(-0.4, abs=0.1)
    assert contrast.p_holm is not None
    low = conclude(verdicts(rates), weights={"list": 1.0}, gates={}, treatment="low-matched", control="high-matched")
    pairs = [(c.treatment, c.control) for c in low.comparisons if (c.quantity, c.phase) == ("harmfulness", "after")]
    assert len(set(pairs)) == len(pairs)


def test_attribution_takes_the_difference_apart(frame):
    found = conclude(frame, weights=WEIGHTS, gates={}).decision
    told = {name: (c.treatment, c.control) for name, c in found.attribution.items()}
    assert told == {
        "mix": ("matched-random", "random"),
        "choice": ("curated", "matched-random"),
        "optimising": ("curated", "best-random"),
    }
    parts = found.attribution
    assert parts["mix"].difference + parts["choice"].difference == pytest.approx(found.primary.difference)


def test_against_no_alignment_nothing_is_called_an_effect_of_mix_or_caps(frame):
    found = conclude(frame, weights=WEIGHTS, gates={}, control="none").decision
    pairs = {(c.treatment, c.control) for c in found.attribution.values()}
    assert ("curated", "matched-random") in pairs
    assert not any(control == "none" for _, control in pairs)


def test_arms_with_fewer_seeds_are_compared_on_the_seeds_they_share(frame):
    found = conclude(frame.filter((pl.col("arm") != "none") | (pl.col("seed") < 2)), weights=WEIGHTS, gates={})
    seeds = {(c.treatment, c.control): c.seeds for c in found.comparisons}
    assert seeds["none", "random"] == 2
    assert seeds["curated", "random"] == 4


def test_the_bootstrap_stands_beside_the_primary_interval_from_eight_seeds_on(verdicts):
    for seeds, expected in ((7, False), (8, True)):
        frame = verdicts({"curated": 0.2, "random": 0.3}, seeds=seeds, sd=0.1)
        found = conclude(frame, weights={"list": 1.0}, gates={}).decision.primary
        assert (found.bootstrap is not None) == expected
    assert found.bootstrap[0] < found.difference < found.bootstrap[1]


def test_the_control_is_reported_first_with_a_warning_where_no_arm_can_win(verdicts):
    def regime(after, before):
        frame = verdicts({"curated": 0.2, "random": after}, before=before)
        return conclude(frame, weights={"list": 1.0}, gates={}).regime

    assert regime(0.3, 0.05).warning is None
    assert regime(0.01, 0.0).warning.startswith("floor")
    assert regime(0.99, 0.1).warning.startswith("ceiling")
    assert regime(0.99, 0.99).warning.startswith("alignment had no effect")
    assert regime(0.2, 0.5).warning.startswith("fine-tuning eroded nothing")
    assert regime(0.3, 0.05).before.value == pytest.approx(0.05, abs=0.03)


def test_a_control_that_was_not_aligned_is_not_said_to_be(verdicts):
    def warned(control, after, before, **more):
        frame = verdicts({"curated": 0.2, control: after}, before=before)
        found = conclude(frame, weights={"list": 1.0}, gates={}, control=control, **more)
        return (found.regime.warning or "nothing").partition(":")[0], found.decision

    for control, more in (("none", {}), ("random", {"rehearsal": True})):
        assert warned(control, 0.5, 0.99, **more)[0] == "nothing"
        assert warned(control, 0.99, 0.99, **more)[0] == "ceiling"
        assert warned(control, 0.01, 0.3, **more)[0] == "floor"
    decision = warned("random", 0.5, 0.99, rehearsal=True)[1]
    assert "aligned" not in decision.sentence
    assert decision.verdict in decision.sentence


def test_categories_are_described_and_not_tested(frame):
    categories = {f"harmful-{p}": ("even", "odd")[p % 2] for p in range(60)}
    found = conclude(frame, weights=WEIGHTS, gates={}, categories=categories)
    plain = conclude(frame, weights=WEIGHTS, gates={})
    assert [c.category for c in found.categories] == ["even", "odd"]
    for part in found.categories:
        assert part.prompts == 30
        assert part.comparison.p is None
        assert part.comparison.category == part.category
    both = np.mean([c.comparison.difference for c in found.categories])
    assert both == pytest.approx(found.decision.primary.difference)
    assert found.comparisons == plain.comparisons


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_the_order_of_verdicts_and_the_numbers_of_seeds_change_nothing(frame, seed):
    numbers = np.random.default_rng(seed).permutation(100)[:4].tolist()
    moved = frame.sample(fraction=1.0, shuffle=True, seed=seed).with_columns(pl.col("seed").replace(range(4), numbers))
    one, other = (conclude(part, weights=WEIGHTS, gates={"utility": 0.1}) for part in (frame, moved))
    assert one.decision.sentence == other.decision.sentence
    for first, second in zip(one.comparisons, other.comparisons, strict=True):
        assert (first.difference, first.low, first.high) == pytest.approx((second.difference, second.low, second.high))


def test_an_arm_without_verdicts_and_a_task_called_anticipated_are_refused(frame):
    with pytest.raises(ValueError, match="arm 'full' has no verdicts"):
        conclude(frame, weights=WEIGHTS, gates={}, control="full")
    with pytest.raises(ValueError, match="reserved for the weighted mix"):
        conclude(frame, weights={ANTICIPATED: 1.0}, gates={})
    with pytest.raises(ValueError, match="sum to 1"):
        conclude(frame, weights={"list": 0.5}, gates={})
