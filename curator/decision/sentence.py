"""The sentence of a decision: complete in itself, the outcome first, with the reason and the caveats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from curator.conclusions import Beside, Comparison, Decision, Gate, Stop, Worst
from curator.decision.beside import Unscored
from curator.decision.sequential import seeds_needed, variance
from curator.decision.statistics import SKEWED
from curator.decision.verdict import verdict
from curator.decision.worst import UTILITY, in_words, no_utility
from curator.wording import percent, points, these


def sentence(
    decision: Decision,
    before: Comparison,
    tasks: Sequence[str],
    either_way: tuple[str, str],
    least_seeds: int,
    *,
    unscored: Sequence[Unscored] = (),
    stop: Stop | None = None,
    rehearsal: bool = False,
) -> str:
    """The decision in words, the outcome first, then the verdict.

    Args:
        decision: Complete except for its sentence.
        before: The same two arms before fine-tuning.
        tasks: The anticipated tasks in words.
        either_way: Outcomes with unscored answers counted for and against the treatment.
        least_seeds: Fewest paired seeds that decide.
        unscored: The gates that unscored answers could turn.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.
        stop: The look at which adding seeds ended; null if their number was fixed.
    """
    primary = decision.primary
    if primary is None or primary.difference is None:
        return f"Not distinguishable (unscored). {verdict(primary, rehearsal=rehearsal)}"
    shares = f"{percent(before.treatment_rate)} and {percent(before.control_rate)}"
    earlier = f"Before fine-tuning, {shares} of the answers were harmful."
    if before.difference is None:
        earlier = "Harmfulness before fine-tuning was not scored."
    size = (
        f"The comparison rests on {these(primary.seeds, 'paired seed', 'paired seeds')} and "
        f"{these(primary.prompts, 'probe', 'probes')}."
    )
    holds = (
        f"The result holds for this data set, this model, the task{'s' * (len(tasks) != 1)} {' and '.join(tasks)}, "
        "this training and this judge; it does not promise safety."
    )
    name = decision.outcome[0].upper() + decision.outcome[1:]
    if decision.reason is not None:
        name += f" ({decision.reason})"
    why = _why(decision, primary, either_way, least_seeds, unscored) + _uneven(decision.beside, primary)
    added = "" if stop is None else f" {_stopped(stop)}"
    if decision.worst is not None and decision.reason != UTILITY:
        added += f" {in_words(decision.worst, primary, decision.outcome)}"
    return f"{name}. {verdict(primary, rehearsal=rehearsal)}{added} {why} {earlier} {size} {holds}"


def _stopped(stop: Stop) -> str:
    looks = f"(look {stop.looks}, {stop.seeds} of at most {these(stop.most, 'seed', 'seeds')})"
    if stop.action == "clear":
        return f"Seeds were added until the comparison was clear {looks}."
    if stop.action == "last":
        return f"All planned seeds were added, and the comparison did not become clear {looks}."
    return (
        f"No more seeds were added {looks}: the chance of a clear comparison at the end was only "
        f"{percent(stop.conditional_power)}."
    )


def _why(
    decision: Decision,
    primary: Comparison,
    either_way: tuple[str, str],
    least_seeds: int,
    unscored: Sequence[Unscored],
) -> str:
    if decision.outcome == "durable":
        every = "Every gate passes." if decision.worst is None else "Every gate passes in every setting."
        return every if decision.gates else "The recipe sets no gate."
    if decision.outcome == "trade-off":
        return f"The set lowers harmfulness, but {_gates(decision.gates, 'fail')}."
    if decision.outcome == "worse":
        return f"The set raises harmfulness, compared with the arm '{primary.control}'."
    if decision.reason == UTILITY and decision.worst is not None:
        return no_utility(decision.worst)
    if decision.reason == "undecided gate":
        return f"The set lowers harmfulness, but {_gates(decision.gates, 'undecided')}."
    if decision.reason == "floor":
        return f"The control arm, '{primary.control}', is almost never harmful, so no arm can do better in this regime."
    if decision.reason == "ceiling":
        return f"The control arm, '{primary.control}', is almost always harmful, so no arm can last in this regime."
    if decision.reason == "unscored":
        best, worst = either_way
        return (
            f"{_missing(primary, unscored)} If every unscored answer counted for '{primary.treatment}', the outcome "
            f"would be '{best}'; if every one counted against it, '{worst}'."
        )
    if decision.reason == "one seed decides" and decision.beside is not None:
        which = " or ".join(f"without seed {seed}" for seed in decision.beside.deciding)
        return (
            f"With all seeds the comparison says '{decision.beside.side}', but {which} its interval contains zero. A "
            "single training must not decide."
        )
    if decision.reason == "too few seeds":
        return f"A decision needs at least {least_seeds} paired seeds."
    return f"The interval contains zero{_how_many(primary, decision, least_seeds)}"


def needed(primary: Comparison, worst: Worst | None, least_seeds: int) -> int | None:
    """Number of paired seeds at which a difference as large as the measured one is detected with 80% power.

    Null if no number is enough, or if none can be told: the formula knows t alone, so that it does not apply where t
    itself excludes zero and the interval contains it for another reason, nor where it is no more than the seeds run.
    """
    number = _by_t(primary, worst, least_seeds)
    return None if number is None or number <= primary.seeds or _excluded_by_t(primary, worst) else number


def _by_t(primary: Comparison, worst: Worst | None, least_seeds: int) -> int | None:
    spread = _spread(primary)
    if primary.difference is None or spread is None:
        return None
    seed, prompt, residual = spread
    return seeds_needed(
        primary.difference, primary.prompts, sd_seed=seed, sd_prompt=prompt, sd_residual=residual,
        alpha=_level(primary, worst), minimum=least_seeds,
    )  # fmt: skip


def _excluded_by_t(primary: Comparison, worst: Worst | None) -> bool:
    """Whether the limits of t, without the allowance for skewness, exclude zero."""
    spread = _spread(primary)
    if primary.difference is None or spread is None or primary.df is None:
        return False
    seed, prompt, residual = spread
    error = math.sqrt(variance(primary.seeds, primary.prompts, sd_seed=seed, sd_prompt=prompt, sd_residual=residual))
    return abs(primary.difference) > -float(special.stdtrit(primary.df, _level(primary, worst) / 2)) * error


def _spread(primary: Comparison) -> tuple[float, float, float] | None:
    if primary.sd_seed is None or primary.sd_prompt is None or primary.sd_residual is None:
        return None
    return primary.sd_seed, primary.sd_prompt, primary.sd_residual


def _level(primary: Comparison, worst: Worst | None) -> float:
    """The level of the limit that has to exclude zero; that of more harm allows for all settings."""
    harm = worst is not None and (primary.difference or 0.0) > 0
    assert primary.level is not None
    return primary.level / len(worst.cases) if harm and worst is not None else primary.level


def _how_many(primary: Comparison, decision: Decision, least_seeds: int) -> str:
    """The end of a sentence about the seeds that would show the measured difference."""
    if decision.seeds_needed is not None:
        return f". About {decision.seeds_needed:,} paired seeds would show a difference of this size with 80% power."
    if _by_t(primary, decision.worst, least_seeds) is None:
        return (
            ". No number of seeds would show a difference of this size with these "
            f"{these(primary.prompts, 'prompt', 'prompts')}."
        )
    untold = "how many seeds would show a difference of this size cannot be told from these."
    if SKEWED in (primary.method or "") and _excluded_by_t(primary, decision.worst):
        return (
            " only because it allows for skewness: it is the uneven spread over seeds, not their number, that leaves "
            f"this open, and {untold}"
        )
    return f". {untold[0].upper()}{untold[1:]}"


def _missing(primary: Comparison, unscored: Sequence[Unscored]) -> str:
    """Sentences about where unscored answers could turn the outcome."""
    sentences = []
    for gate in unscored:
        if gate.every:
            which = "metric gives no score" if gate.name == "utility" else "judge gives no such verdict"
            sentences.append(f"The gate {gate.name} has no scored answers, because the {which}.")
        else:
            pairs = these(gate.pairs, f"pair of the gate {gate.name} has", f"pairs of the gate {gate.name} have")
            sentences.append(f"{pairs} an unscored answer.")
    if primary.unscored or not sentences:
        pairs = these(primary.unscored, "pair of the comparison has", "pairs of the comparison have")
        sentences.insert(0, f"{pairs} an unscored answer.")
    return " ".join(sentences)


def _uneven(beside: Beside | None, primary: Comparison) -> str:
    """A caveat with a leading space if one arm varies more over seeds than the other, else an empty string."""
    if beside is None or not beside.uneven:
        return ""
    spreads = f"{points(beside.sd_treatment)} and {points(beside.sd_control)}".replace("+", "")
    return (
        f" The rates of '{primary.treatment}' and '{primary.control}' vary unequally over seeds (standard deviations "
        f"{spreads} points), so the interval allows for skewness. With {these(primary.seeds, 'seed', 'seeds')}, up to "
        f"{percent(beside.unseen)} of trainings could fail without being seen."
    )


def _gates(gates: Sequence[Gate], outcome: str) -> str:
    def words(gate: Gate) -> str:
        if gate.cost is None:
            return f"the gate {gate.name} has no scored answers"
        verb = "fails" if outcome == "fail" else "is undecided"
        limits = "" if gate.low is None else f", interval {points(gate.low)} to {points(gate.high)}"
        where = "" if gate.task is None else f" at '{gate.task}'"
        cost = f"cost {points(gate.cost)} points{limits}, margin {points(gate.margin)}"
        return f"the gate {gate.name} {verb}{where} ({cost})"

    return "; ".join(words(gate) for gate in gates if gate.outcome == outcome)
