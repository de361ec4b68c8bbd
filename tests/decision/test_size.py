"""How often the experiment is wrong, and how often it sees what is there: whole studies, simulated."""

from pathlib import Path

import numpy as np
import pytest

from curator.decision.beside import stands
from curator.decision.comparisons import compare
from curator.decision.decide import assess, decide, gate
from curator.decision.sequential import detectable, plan, take
from curator.decision.statistics import crossed, interval
from curator.decision.tables import Grid
from curator.recipe.verify import DEFAULT_THRESHOLDS, Looks
from tests.decision import worlds

PROMPTS = 200
SPREAD = 0.15  # of one arm's harm rate between seeds and draws
PRIOR = {name: Looks(max=6).model_dump()[name] for name in ("sd_seed", "sd_prompt", "sd_residual")}


def two_arms(generator, seeds, *, effect=0.0, spread=SPREAD, unscored=0.0, own=0.1):
    """`(s, p)` outcomes of curated and random on shared prompts; each has seed and prompt effects of its own."""
    prompt = generator.normal(0, 0.15, PROMPTS)

    def arm(level):
        rate = level + prompt + generator.normal(0, own, PROMPTS) + generator.normal(0, spread, seeds)[:, None]
        harmful = (generator.random((seeds, PROMPTS)) < rate).astype(float)
        return np.where(generator.random(harmful.shape) < unscored, np.nan, harmful)

    return arm(0.5 - effect / 2), arm(0.5 + effect / 2)


def study(generator, seeds, **world):
    """`(1, s, p)` differences of the two arms."""
    curated, random = two_arms(generator, seeds, **world)
    return (curated - random)[None]


def grids_of(curated, random, seeds):
    """The grids of a whole experiment of which only harmfulness after fine-tuning varies, up to so many seeds."""
    values = np.stack([curated, random])[:, None, :seeds]

    def grid(phase, values):
        probes = tuple(f"p{i}" for i in range(values.shape[3]))
        asked = np.ones(values.shape, dtype=bool)
        tasks = (None,) if phase == "before" else ("list",)
        return Grid("harmfulness", phase, ("curated", "random"), tasks, tuple(range(seeds)), probes, values, asked)

    return {("harmfulness", "after"): grid("after", values), ("harmfulness", "before"): grid("before", 0 * values)}


def decision(curated, random, seeds, **more):
    grids = grids_of(curated, random, seeds)
    return decide(grids, {"list": 1.0}, treatment="curated", control="random", gates={}, others=(), **more)


def sequential(generator, looks, *, futility=0.1, **world):
    """Where a study under looks stops, and what it then decides."""
    arms = two_arms(generator, looks[-1].seeds, **world)

    def observe(look):
        after = grids_of(*arms, look.seeds)["harmfulness", "after"]
        primary = compare(after, "curated", "random", {"list": 1.0}, level=look.level)
        return primary, stands(after, primary, {"list": 1.0}, DEFAULT_THRESHOLDS)

    last = take(looks, observe, futility=futility)[-1]
    return last, decision(*arms, last.seeds, level=last.level)


def clear(seeds, studies, **world):
    """Shares of studies with an interval below and above zero."""
    generator = np.random.default_rng((seeds, studies))
    found = [interval(crossed(study(generator, seeds, **world))) for _ in range(studies)]
    return np.mean([i.high < 0 for i in found]), np.mean([i.low > 0 for i in found])


@pytest.mark.parametrize("seeds", [3, 6])
def test_arms_that_do_not_differ_are_rarely_told_apart(seeds):
    assert max(clear(seeds, 400)) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("unscored", [0.0, 0.05])
@pytest.mark.parametrize("seeds", [3, 6, 8, 12])
def test_false_durables_stay_within_their_limit(seeds, unscored):
    assert max(clear(seeds, 2000, unscored=unscored)) <= 0.035


def test_two_seeds_would_be_no_scandal_but_resampled_prompts_are():
    """Why the interval carries seeds: a bootstrap over prompts alone calls every sixth such study durable."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        by_prompt = study(generator, 2)[0].mean(axis=0)
        draws = generator.choice(by_prompt, size=(400, PROMPTS)).mean(axis=1)
        wrong += np.quantile(draws, 0.975) < 0
    assert wrong / 300 > 0.1
    assert clear(2, 300)[0] < 0.035


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [6, 10, 20])
def test_a_true_difference_is_seen_as_often_as_the_plan_says(seeds):
    spread = 0.15 / np.sqrt(2)  # of one arm, so that the paired difference has .15
    own, generator = 0.1, np.random.default_rng(1)
    rates = 0.5 + generator.normal(0, np.sqrt(0.15**2 + own**2 + spread**2), 100_000)
    cell = np.sqrt(2 * np.mean(np.clip(rates, 0, 1) * (1 - np.clip(rates, 0, 1))))
    plan = {"sd_seed": 0.15, "sd_prompt": own * np.sqrt(2), "sd_residual": cell}
    for power in (0.5, 0.8):
        effect = detectable(seeds, PROMPTS, power=power, **plan)
        assert worlds.chance(effect, seeds, PROMPTS, **plan) == pytest.approx(power)
        assert clear(seeds, 2000, effect=effect, spread=spread, own=own)[0] == pytest.approx(power, abs=0.05)


STUDIES = 600  # the tables of the documentation are of 2,000; this holds that nothing has changed much
LIMIT = 0.035 + 2 * np.sqrt(0.035 * 0.965 / STUDIES)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 6, 8, 12])
def test_decisions_are_seldom_false_with_a_fixed_number_of_seeds(seeds, monkeypatch):
    without_bootstrap(monkeypatch)
    generator = np.random.default_rng(seeds)
    found = [decision(*two_arms(generator, seeds), seeds).outcome for _ in range(STUDIES)]
    assert found.count("durable") / STUDIES <= LIMIT
    assert found.count("worse") / STUDIES <= LIMIT


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "futility"),
    [
        ({"max": 12}, 0.1),
        ({"max": 12, "spending": "obrien-fleming"}, None),
        ({"max": 20, "first": 3}, None),
    ],
)
def test_decisions_are_seldom_false_where_seeds_are_added(settings, futility, monkeypatch):
    """With the levels of the recipe's own prior, which is smaller than this world's spread."""
    without_bootstrap(monkeypatch)
    looks = plan(Looks(**settings, **PRIOR), PROMPTS)
    generator = np.random.default_rng(settings["max"])
    found = [sequential(generator, looks, futility=futility) for _ in range(STUDIES)]
    outcomes = [decided.outcome for _, decided in found]
    assert outcomes.count("durable") / STUDIES <= LIMIT
    assert outcomes.count("worse") / STUDIES <= LIMIT
    assert all((last.action == "clear") == (decided.outcome != "not distinguishable") for last, decided in found)


def without_bootstrap(monkeypatch):
    """Leaves out what is only printed beside the interval: it takes most of the time and decides nothing."""
    monkeypatch.setattr("curator.decision.decide.with_bootstrap", lambda comparison, *rest: comparison)


GATES = {"harmfulness_before": 0.05, "over_refusal": 0.05, "utility": 0.05, "degenerate": 0.05}
STATISTICS = Path(__file__).parents[2] / ".github" / "docs" / "statistics.md"
SIZES = (3, 6, 10, 20)
SIDE = {"durable": -1, "less harmful": -1, "worse": 1, "more harmful": 1, "not distinguishable": 0}


@pytest.mark.parametrize("seeds", [3, 6, 10])
@pytest.mark.parametrize("world", [*worlds.WORLDS, "halved"])
def test_the_worlds_decide_as_the_rule_does_study_by_study(world, seeds):
    curated, control = worlds.draw(np.random.default_rng(seeds), world, 12, seeds)
    said, held = worlds.sides(curated, control)
    for number in range(len(said)):
        grids = worlds.grids_of(curated[number], control[number])
        found = assess(grids, {"list": 1.0}, treatment="curated", control="random", gates=GATES)
        assert SIDE[found.beside.side] == said[number]
        assert SIDE[found.outcome] == held[number]
        assert (found.reason == "one seed decides") == (said[number] != held[number])


def test_the_worlds_add_seeds_as_looks_do():
    looks = worlds.looks_of(10)
    curated, control = worlds.draw(np.random.default_rng(4), "normal", 40, 10, effect=0.2)
    ends, seeds = worlds.sequential(curated, control, looks)
    for number in range(40):
        grids = {
            look.seeds: worlds.grids_of(*(arm[number, : look.seeds] for arm in (curated, control))) for look in looks
        }

        def observe(look, grids=grids):
            after = grids[look.seeds]["harmfulness", "after"]
            primary = compare(after, "curated", "random", {"list": 1.0}, level=look.level)
            return primary, stands(after, primary, {"list": 1.0}, DEFAULT_THRESHOLDS)

        last = take(looks, observe, futility=None)[-1]
        level = next(look.level for look in looks if look.seeds == last.seeds)
        found = assess(
            grids[last.seeds], {"list": 1.0}, treatment="curated", control="random", gates=GATES, level=level
        )
        assert (SIDE[found.outcome], last.seeds) == (ends[number], seeds[number])
        assert (last.action == "clear") == (found.outcome != "not distinguishable")
    assert 0 < np.mean(ends == 0) < 1


def allowed(share, studies):
    """A share that a binomial of this chance exceeds in one of 10,000 simulations."""
    return share + 3.7 * np.sqrt(share * (1 - share) / studies)


@pytest.mark.parametrize("seeds", [3, 6, 10, 20])
@pytest.mark.parametrize("world", worlds.WORLDS)
def test_the_whole_decision_is_false_as_seldom_as_is_stated(world, seeds):
    """Gates on which no pair differs all pass, so that nothing but the comparison keeps a study from `durable`."""
    studies = 2000
    curated, control = worlds.draw(np.random.default_rng(seeds), world, studies, seeds)
    _, found = worlds.sides(curated, control)
    durable, worse = np.mean(found < 0), np.mean(found > 0)
    unseen = allowed((5 / 6) ** seeds, studies)  # studies that see no training fail, and look like a win
    bounds = {"only curated skewed": (unseen, 0.035), "only control skewed": (0.035, unseen)}
    bound = bounds.get(world, (0.035, 0.035))
    assert durable <= bound[0]
    assert worse <= bound[1]
    documented = stated(world)[SIZES.index(seeds)]
    assert [durable, worse] == pytest.approx(documented, abs=0.002)


def stated(world):
    """Shares durable and worse that the documentation's table states of a world, by number of seeds."""
    line = next(line for line in STATISTICS.read_text().splitlines() if line.startswith(f"| {world} |"))
    return [[float(share) / 100 for share in cell.split("/")] for cell in line.split("|")[2:6]]


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_the_whole_decision_is_false_as_seldom_where_seeds_are_added(world):
    studies, looks = 500, worlds.looks_of()
    curated, control = worlds.draw(np.random.default_rng(1), world, studies, looks[-1].seeds)
    found, _ = worlds.sequential(curated, control, looks)
    unseen = allowed((5 / 6) ** looks[0].seeds, studies)  # the first look ends most studies that see none fail
    bounds = {"only curated skewed": (unseen, 0.035), "only control skewed": (0.035, unseen)}
    bound = bounds.get(world, (allowed(0.025, studies),) * 2)
    assert np.mean(found < 0) <= bound[0]
    assert np.mean(found > 0) <= bound[1]


@pytest.mark.parametrize("skewed", [False, True])
def test_the_worlds_pass_gates_as_the_rule_does_study_by_study(skewed):
    curated, control = worlds.draw_cost(np.random.default_rng(0), 0.03, 20, 6, skewed=skewed)
    passed = worlds.passes(curated, control, 0.05)
    for number in range(20):
        grids = worlds.grids_of(curated[number], control[number])
        grids = {("over_refusal", "after"): grids["harmfulness", "after"]}
        found = gate(grids, "over_refusal", 0.05, {"list": 1.0}, treatment="curated", control="random")
        assert (found.outcome == "pass") == passed[number]
    assert 0 < passed.mean() < 1


@pytest.mark.parametrize("seeds", [3, 6, 10, 20])
@pytest.mark.parametrize("cost", [0.051, 0.1])
def test_a_gate_passes_falsely_as_seldom_as_is_stated(cost, seeds):
    """At a margin of 5 points."""
    studies, generator = 2000, np.random.default_rng(seeds)
    even, skewed = (
        worlds.passes(*worlds.draw_cost(generator, cost, studies, seeds, skewed=skewed), 0.05).mean()
        for skewed in (False, True)
    )
    assert even <= (0.035 if cost < 0.1 else 0.001)
    assert skewed <= allowed((1 - cost / 0.6) ** seeds, studies) + 0.01
