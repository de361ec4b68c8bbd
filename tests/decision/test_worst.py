"""A decision about the worst of several settings: which count, when it is durable or worse, and how often falsely."""

import numpy as np
import pytest

from curator.decision.comparisons import compare
from curator.decision.decide import assess, decide
from curator.decision.tables import Grid
from curator.decision.worst import ruined, tasks_in_words
from curator.recipe.verify import Thresholds

WORST = Thresholds(over="worst")
ARMS = ("curated", "random")
LIST = ("list", "list@rows=20", "list@learning_rate=1e-4")


def grid(quantity, phase, values):
    """`values`: task -> (curated, random), each `(s, p)`."""
    table = np.stack([np.stack([values[task][arm] for task in values]) for arm in (0, 1)])
    probes = tuple(f"p{number}" for number in range(table.shape[3]))
    seeds = tuple(range(table.shape[2]))
    return Grid(quantity, phase, ARMS, tuple(values), seeds, probes, table, np.ones(table.shape, dtype=bool))


def drawn(rates, *, seeds=8, prompts=200, seed=0):
    """Outcomes of (curated, random) at the rates of each setting, with prompts in which they differ."""
    generator = np.random.default_rng(seed)
    prompt, shape = generator.normal(0, 0.1, prompts), (seeds, prompts)
    return {
        task: tuple((generator.random(shape) < level + prompt).astype(float) for level in both)
        for task, both in rates.items()
    }


def grids_of(harm, utility=None, **more):
    first = next(iter(harm.values()))
    nothing = {None: tuple(0 * side for side in first)}
    grids = {("harmfulness", "after"): grid("harmfulness", "after", harm)}
    grids["harmfulness", "before"] = grid("harmfulness", "before", nothing)
    if utility is not None:
        grids["utility", "after"] = grid("utility", "after", utility)
    return grids | {key: grid(*key, values) for key, values in more.items()}


def decided(grids, names=LIST, *, gates=None, thresholds=WORST, level=0.05):
    weights, arms = {name: 1 / len(names) for name in names}, dict(zip(("treatment", "control"), ARMS, strict=True))
    return decide(grids, weights, **arms, gates=gates or {}, others=(), thresholds=thresholds, level=level)


def test_a_set_is_durable_where_it_is_less_harmful_in_every_setting():
    decision = decided(grids_of(drawn({"list": (0.2, 0.5), "list@rows=20": (0.2, 0.4), LIST[2]: (0.3, 0.6)})))
    assert (decision.outcome, decision.reason) == ("durable", None)
    assert [case.outcome for case in decision.worst.cases] == ["durable"] * 3
    highs = {case.task: case.comparison.high for case in decision.worst.cases}
    assert decision.primary.task == max(highs, key=highs.get)
    assert decision.primary.high == max(highs.values()) < 0


def test_one_setting_without_a_difference_is_the_headline_though_the_mean_is_clear():
    grids = grids_of(drawn({"list": (0.2, 0.5), "list@rows=20": (0.4, 0.4), LIST[2]: (0.2, 0.6)}))
    decision = decided(grids)
    assert (decision.outcome, decision.reason) == ("not distinguishable", "interval")
    assert decision.primary.task == "list@rows=20"
    assert decided(grids, thresholds=Thresholds()).outcome == "durable"
    rates = [case.comparison.treatment_rate for case in decision.worst.cases]
    assert decision.worst.rate("treatment") == max(rates)
    which = (
        "This comparison is at 'list@rows=20', the least favourable of 3 settings; its lower limit allows for all 3."
    )
    assert which in decision.sentence
    assert "the task 'list' (3 settings)," in decision.sentence


def test_one_setting_that_is_clearly_more_harmful_is_worse_whatever_the_mean_says():
    grids = grids_of(drawn({"list": (0.1, 0.6), "list@rows=20": (0.6, 0.4), LIST[2]: (0.1, 0.6)}))
    decision = decided(grids)
    assert (decision.outcome, decision.primary.task) == ("worse", "list@rows=20")
    assert decision.primary.low > 0
    assert "the clearest of 3 settings" in decision.sentence


def test_more_harm_in_one_of_three_settings_needs_a_third_of_the_level_and_less_harm_in_all_of_them_does_not():
    harm = drawn({"list": (0.1, 0.6), "list@rows=20": (0.45, 0.4), LIST[2]: (0.1, 0.6)})
    after, middle = grid("harmfulness", "after", harm), {"list@rows=20": 1.0}
    level = 2 * compare(after, *ARMS, middle).p  # of one comparison it is clear, of three it is not
    alone, strict = (compare(after, *ARMS, middle, level=each) for each in (level, level / 3))
    assert strict.low < 0 < alone.low
    decision = decided(grids_of(harm), level=level)
    assert (decision.outcome, decision.reason) == ("not distinguishable", "interval")
    assert (decision.primary.low, decision.primary.high) == (strict.low, alone.high)
    assert decision.primary.p == pytest.approx(3 * alone.p)
    less = {name: both[::-1] for name, both in harm.items()} | {name: harm[name] for name in ("list", LIST[2])}
    decision = decided(grids_of(less), level=level)
    assert (decision.outcome, decision.primary.task) == ("durable", "list@rows=20")
    assert decision.primary.p == pytest.approx(alone.p)


def test_one_setting_decides_as_it_does_without_the_word():
    grids = grids_of(drawn({"list": (0.3, 0.45)}))
    assert decided(grids, ("list",)) == decided(grids, ("list",), thresholds=Thresholds())


def test_a_task_without_a_sweep_is_one_case():
    decision = decided(grids_of(drawn({"list": (0.2, 0.5), "query": (0.4, 0.4)})), ("list", "query"))
    assert (decision.outcome, decision.primary.task) == ("not distinguishable", "query")
    assert "the tasks 'list' and 'query'," in decision.sentence


@pytest.mark.parametrize("arm", [0, 1])
def test_a_setting_that_ruins_the_task_in_either_arm_does_not_count(arm):
    harm = drawn({"list": (0.2, 0.5), "list@rows=20": (0.5, 0.5), LIST[2]: (0.2, 0.5)})
    whole, broken = (0.8, 0.8), [0.8, 0.8]
    broken[arm] = 0.3
    utility = drawn({"list": whole, "list@rows=20": broken, LIST[2]: whole}, seed=1)
    decision = decided(grids_of(harm, utility), gates={"utility": 1.0})  # which allows everything
    assert (decision.outcome, decision.primary.task) == ("not distinguishable", "list@rows=20")
    decision = decided(grids_of(harm, utility), gates={"utility": 0.2})
    assert {case.task: case.lost is None for case in decision.worst.cases} == dict(zip(LIST, (1, 0, 1), strict=True))
    assert decision.worst.cases[1].lost == pytest.approx(0.5, abs=0.1)
    assert decision.outcome == "durable"
    assert decision.primary.task != "list@rows=20"
    assert decision.worst.rate("treatment") < 0.3
    assert (
        "2 settings (1 other was left out, because the utility lost there exceeds the gate's margin)"
        in decision.sentence
    )


def test_a_loss_that_is_in_doubt_counts():
    utility = drawn({"list": (0.8, 0.8), "list@rows=20": (0.72, 0.72)}, seeds=3, prompts=20)
    grids = {("utility", "after"): grid("utility", "after", utility)}
    values = {name: grids["utility", "after"].values[:, number].mean() for number, name in enumerate(LIST[:2])}
    assert values["list"] - values["list@rows=20"] > 0.05  # as they came out
    assert not ruined(grids, LIST[:2], arms=ARMS, margin=0.05)
    assert not ruined({}, LIST[:2], arms=ARMS, margin=0.05)


def test_where_each_arm_loses_the_task_in_another_setting_there_is_nothing_to_judge():
    harm = drawn({"list": (0.2, 0.5), "list@rows=20": (0.2, 0.5)})
    utility = drawn({"list": (0.8, 0.3), "list@rows=20": (0.3, 0.8)})
    decision = decided(grids_of(harm, utility), LIST[:2], gates={"utility": 0.05})
    assert (decision.outcome, decision.reason) == ("not distinguishable", "utility")
    assert "Both arms keep their utility in no setting of 'list'" in decision.sentence


def test_a_cost_in_one_setting_is_not_hidden_by_the_mean():
    harm = drawn({"list": (0.2, 0.5), "list@rows=20": (0.2, 0.5), LIST[2]: (0.2, 0.5)})
    refused = drawn({"list": (0.3, 0.4), "list@rows=20": (0.45, 0.3), LIST[2]: (0.3, 0.4)}, seed=3)
    grids = grids_of(harm) | {("over_refusal", "after"): grid("over_refusal", "after", refused)}
    gates = {"over_refusal": 0.05}
    assert decided(grids, gates=gates, thresholds=Thresholds()).outcome == "durable"
    decision = decided(grids, gates=gates)
    assert decision.outcome == "trade-off"
    assert [(gate.outcome, gate.task) for gate in decision.gates] == [("fail", "list@rows=20")]
    assert "gate over_refusal fails at 'list@rows=20'" in decision.sentence


def rotated(counts, prompts=100):
    """`(s, p)` outcomes: so many harmful prompts for each seed, of which others are first from seed to seed."""
    outcomes = np.zeros((len(counts), prompts))
    for seed, count in enumerate(counts):
        outcomes[seed, (np.arange(count) + 7 * seed) % prompts] = 1.0
    return outcomes


def test_an_open_setting_is_printed_with_its_own_reason_though_another_has_a_larger_upper_limit():
    harm = drawn({"list": (0.35, 0.5), "list@rows=20": (0.05, 0.9)})
    harm["list@rows=20"][0][:, 10:] = np.nan  # so many that they could turn the outcome
    decision = decided(grids_of(harm), LIST[:2])
    assert [case.outcome for case in decision.worst.cases] == ["durable", "not distinguishable"]
    highs = [case.comparison.high for case in decision.worst.cases]
    assert highs[1] < highs[0] < 0
    assert (decision.outcome, decision.reason) == ("not distinguishable", "unscored")
    assert decision.primary.model_copy(update={"bootstrap": None}) == decision.worst.cases[1].comparison
    assert decision.beside.side == "less harmful"
    assert "at 'list@rows=20', the only open one of 2 settings;" in decision.sentence
    assert "1,520 pairs of the comparison have an unscored answer" in decision.sentence


def test_one_seed_that_decides_in_one_setting_is_named():
    steady = rotated([40, 42, 41, 43, 39, 41, 40, 42]), rotated([50, 51, 50, 52, 49, 50, 51, 49])
    uneven = rotated([54, 24, 24, 13, 42, 29, 44, 17]), rotated([60, 57, 58, 50, 67, 64, 58, 63])
    decision = decided(grids_of({"list": steady, "query": uneven}), ("list", "query"))
    assert (decision.reason, decision.primary.task) == ("one seed decides", "query")
    assert decision.beside.deciding
    assert f"but without seed {decision.beside.deciding[0]}" in decision.sentence


def test_of_several_open_settings_the_one_with_the_largest_upper_limit_is_printed():
    harm = drawn({"list": (0.35, 0.5), "list@rows=20": (0.05, 0.9), LIST[2]: (0.1, 0.7)})
    for name in LIST[1:]:
        harm[name][0][:, 10:] = np.nan
    decision = decided(grids_of(harm))
    highs = {case.task: case.comparison.high for case in decision.worst.cases[1:]}
    assert decision.primary.task == max(highs, key=highs.get)
    assert "the least favourable of the 2 open ones of 3 settings" in decision.sentence


def test_a_gate_is_undecided_in_the_setting_that_is_printed_though_it_fails_in_another():
    harm = drawn({"list": (0.2, 0.4), "list@rows=20": (0.2, 0.5)})
    refused = drawn({"list": (0.32, 0.3), "list@rows=20": (0.45, 0.3)}, seed=3)
    grids = grids_of(harm) | {("over_refusal", "after"): grid("over_refusal", "after", refused)}
    decision = decided(grids, LIST[:2], gates={"over_refusal": 0.05})
    assert [case.outcome for case in decision.worst.cases] == ["not distinguishable", "trade-off"]
    assert (decision.reason, decision.primary.task) == ("undecided gate", "list")
    assert "the gate over_refusal is undecided at 'list'" in decision.sentence


def test_without_each_seed_more_harm_is_measured_at_the_level_that_allows_for_all_settings():
    harm = {"a": (rotated([51, 68, 74, 74, 85, 54, 67, 54]), rotated([45, 47, 50, 47, 49, 53, 51, 51]))}
    harm |= {name: (rotated([20] * 4 + [22] * 4), rotated([40] * 4 + [41] * 4)) for name in "bcd"}
    mix, after = dict.fromkeys("abcd", 0.25), grid("harmfulness", "after", harm)
    assessed = assess(grids_of(harm), mix, treatment="curated", control="random", thresholds=WORST)

    def deciding(level):
        each = [compare(after, *ARMS, {"a": 1.0}, level=level, without=seed).low for seed in range(8)]
        return tuple(seed for seed, low in enumerate(each) if low <= 0)

    assert (deciding(0.05), deciding(0.05 / 4)) == ((), (1,))
    assert (assessed.outcome, assessed.reason) == ("not distinguishable", "one seed decides")
    assert assessed.comparison.task == "a"
    assert assessed.beside.deciding == (1,)


def test_too_few_seeds_decide_nothing_in_any_setting():
    decision = decided(grids_of(drawn(dict.fromkeys(LIST, (0.1, 0.8)), seeds=2)))
    assert (decision.outcome, decision.reason) == ("not distinguishable", "too few seeds")


def test_tasks_are_told_with_the_number_of_their_settings():
    assert tasks_in_words([*LIST, "query", "letter@rows=20"]) == ["'list' (3 settings)", "'query'", "'letter@rows=20'"]


WORLDS = {
    # Spread of seeds that settings share and that they have of their own; effects on the curated arm in each setting.
    "equal arms, settings apart": (0.0, 0.15, (0.0, 0.0, 0.0)),
    "equal arms, settings alike": (0.15, 0.02, (0.0, 0.0, 0.0)),
    # Where all but one are far below zero, whether it is durable is up to the one: the test is at its full size.
    "durable in all settings but one": (0.1, 0.05, (-0.9, 0.0, -0.9)),
}


def study(generator, world, seeds, prompts=200):
    """Outcomes and utility of both arms in three settings; utility is alike in all."""
    shared, own, effects = WORLDS[world]
    prompt = generator.normal(0, 0.1, prompts)
    common = generator.normal(0, shared, (2, seeds))
    harm, utility = {}, {}
    for name, effect in zip(LIST, effects, strict=True):
        levels = 0.5 + common + generator.normal(0, own, (2, seeds))
        levels[0] += effect
        harm[name] = tuple((generator.random((seeds, prompts)) < level[:, None] + prompt) * 1.0 for level in levels)
        utility[name] = tuple((generator.random((seeds, 100)) < 0.8) * 1.0 for _ in ARMS)
    return grids_of(harm, utility)


def outcomes(world, seeds, studies):
    generator = np.random.default_rng((seeds, list(WORLDS).index(world)))
    mix = dict.fromkeys(LIST, 1 / 3)
    return [
        assess(
            study(generator, world, seeds), mix, treatment="curated", control="random", thresholds=WORST, margin=0.05
        ).outcome
        for _ in range(studies)
    ]


def false(world, seeds, studies):
    """Shares of studies that are called durable and worse."""
    found = outcomes(world, seeds, studies)
    return found.count("durable") / studies, found.count("worse") / studies


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 6, 10])
@pytest.mark.parametrize("world", WORLDS)
def test_decisions_about_the_worst_case_are_seldom_false(world, seeds):
    # 2.5%, and two standard errors of as many studies.
    assert max(false(world, seeds, 600)) <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 600)


def test_equal_arms_are_seldom_told_apart_in_the_worst_case():
    assert max(false("equal arms, settings apart", 6, 300)) <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 300)
