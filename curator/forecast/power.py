"""The power of a recipe's experiment, before anything is trained: the smallest detectable difference, and the
probability that each gate passes if there is no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curator.forecast.measured import Measured
from curator.forecast.workload import prompts
from curator.recipe import Recipe
from curator.recipe.verify import Looks
from curator.wording import percent, points, these

PRIOR = {name: float(Looks.model_fields[name].default) for name in ("sd_seed", "sd_prompt", "sd_residual")}

MOST_SEEDS = 1000
LARGE, WANTED = 0.3, 0.1
"""Differences in harmfulness: one that few sets exceed where fine-tuning leaves 30% to 70% harmful answers, and one
that is worth seeing."""

GATE_PRIOR = {"sd_seed": 0.03, "sd_prompt": 0.08, "sd_residual": 0.3}
"""Prior spread of the paired difference of a cost, until a run has measured it: that of rates of about 5% in both
arms."""


@dataclass(frozen=True)
class GateChance:
    """The power of a gate.

    Attributes:
        chance: Probability that it passes if there is no cost, in [0, 1]; null if the number of prompts is unknown.
        needed: The fewest paired seeds at which that is 80%; null if no number is enough, or if it is unknown.
        spread: Spread of the paired difference. `measured`: whether an earlier run measured it; otherwise it is a
            prior.
    """

    name: str
    margin: float
    chance: float | None
    needed: int | None
    spread: Mapping[str, float]
    measured: bool


def smallest(recipe: Recipe, seeds: int, known: Measured) -> float | None:
    """The smallest true difference in harmfulness detected with 80% power; null for fewer than two seeds."""
    from curator.decision.sequential import detectable

    probes = prompts(recipe, "harmful", known)
    pairs = min(seeds, paired(recipe))
    return detectable(pairs, probes, alpha=_level(recipe, seeds, probes), **(known.spread or PRIOR))


def seeds_to_see(recipe: Recipe, difference: float, known: Measured) -> int | None:
    """The fewest paired seeds at which a true difference in harmfulness is detected with 80% power at a fixed number of
    seeds; null if no number up to MOST_SEEDS is enough.
    """
    from curator.decision.sequential import seeds_needed

    probes, spread = prompts(recipe, "harmful", known), known.spread or PRIOR
    return seeds_needed(difference, probes, minimum=2, most=MOST_SEEDS, **spread)


def few_seeds(recipe: Recipe, known: Measured) -> str | None:
    """A sentence about a recipe whose seeds show only differences above LARGE; null if they show smaller ones, if that
    is unknown, or if they are too few to decide at all, which another sentence says.
    """
    seeds = paired(recipe)
    least = smallest(recipe, seeds, known)
    if least is None or least <= LARGE or seeds < recipe.verify.decision.least_seeds:
        return None
    needed = seeds_to_see(recipe, LARGE, known)
    more = "more probes" if needed is None else f"{these(needed, 'seed', 'seeds')} or more"
    shown = f"{points(least).lstrip('+')} points" if least <= 1 else "100 points"
    return (
        f"verify.seeds: {these(seeds, 'paired seed', 'paired seeds')} can show, with 80% power, a difference in "
        f"harmfulness of {shown} or more, and few sets differ by more than {LARGE:.0%}; give {more}"
    )


def gate_chances(recipe: Recipe, seeds: int, known: Measured) -> tuple[GateChance, ...]:
    """One entry for each gate that compares the two arms; an absolute cap depends on the rate itself, which is unknown
    beforehand.
    """
    from curator.decision.power import passing, seeds_to_pass

    gates = recipe.verify.gates_checked
    harmful, benign = (prompts(recipe, kind, known) for kind in ("harmful", "benign"))
    weights = recipe.weights()
    tests = sum(task.test.rows for task in recipe.tasks if weights[task.name] > 0)
    asked = {"harmfulness_before": harmful, "over_refusal": benign, "utility": tests, "degenerate": harmful}
    chances = []
    for name, count in asked.items():
        if name not in gates:
            continue
        margin, spread = gates[name], dict(known.gates.get(name, GATE_PRIOR))
        chance = None if count is None else passing(margin, min(seeds, paired(recipe)), count, **spread)
        needed = None if count is None else seeds_to_pass(margin, count, spread)
        chances.append(GateChance(name, margin, chance, needed, spread, name in known.gates))
    return tuple(chances)


def paired(recipe: Recipe) -> int:
    """The number of seeds that both arms of the decision have."""
    compared = [arm for arm in recipe.verify.arms if arm.name in ("curated", recipe.verify.control)]
    return min(recipe.verify.seeds_of(arm) for arm in compared)


def _level(recipe: Recipe, seeds: int, probes: int | None) -> float:
    section = recipe.verify.seeds
    if not isinstance(section, Looks):
        from curator.conclusions import LEVEL

        return LEVEL
    from curator.decision.sequential import plan

    return next(look.level for look in plan(section, probes) if look.seeds == seeds)


def seeds_in_words(recipe: Recipe, known: Measured) -> str:
    """Words for the seeds at which a difference of WANTED is seen; empty with sequential looks."""
    if isinstance(recipe.verify.seeds, Looks):
        return ""
    needed = seeds_to_see(recipe, WANTED, known)
    reached = "are out of reach" if needed is None else f"take {these(needed, 'seed', 'seeds')}"
    return f"{100 * WANTED:g} points {reached}; "


def spread_in_words(recipe: Recipe, root: Path, known: Measured) -> str:
    """Words for the basis of the smallest detectable difference."""
    count = prompts(recipe, "harmful", known)
    probes = "leaves out the number of probes, not known yet" if count is None else these(count, "probe", "probes")
    spread = known.spread or PRIOR
    parts = ", ".join(f"{name.removeprefix('sd_')} {value:.2f}" for name, value in spread.items())
    origin = f"measured in {root}" if known.spread else "a prior, because nothing is measured yet"
    return f"{probes}; standard deviations of the paired difference: {parts}, {origin}"


def gates_in_words(chances: Mapping[int, tuple[GateChance, ...]], root: Path) -> str:
    """Words for the power of each gate by number of seeds, and its basis."""
    last = max(chances)
    each = "; ".join(
        (f"with {these(seeds, 'seed', 'seeds')}: " if len(chances) > 1 else "")
        + ", ".join(_gates_in_words(gates, needed=seeds == last))
        for seeds, gates in chances.items()
    )
    measured = [gate for gate in chances[last] if gate.measured]
    rest = f"standard deviation of the paired difference between seeds: {GATE_PRIOR['sd_seed']:.2f}, a prior"
    if measured:
        spreads = ", ".join(f"{_name(gate)} {gate.spread['sd_seed']:.2f}" for gate in measured)
        rest += f"; measured in {root}: {spreads}"
    return f"if the set costs nothing: {each} ({rest})"


def _gates_in_words(gates: Sequence[GateChance], *, needed: bool) -> Iterator[str]:
    for gate in gates:
        if gate.chance is not None:
            reached = "out of reach" if gate.needed is None else f"with {these(gate.needed, 'seed', 'seeds')}"
            yield f"{_name(gate)} {percent(gate.chance)}" + (f" (80% {reached})" if needed else "")
    if unknown := [_name(gate) for gate in gates if gate.chance is None]:
        yield f"not known before the probes are read: {' and '.join(unknown)}"


def _name(gate: GateChance) -> str:
    return gate.name.replace("_", " ")
