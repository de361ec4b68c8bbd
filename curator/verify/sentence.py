"""A decision in words that stand alone: against which control, from which rates, for what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from curator.conclusions import Comparison, Decision, Gate, Stop
from curator.wording import percent, points


def sentence(
    decision: Decision,
    before: Comparison,
    tasks: Sequence[str],
    either_way: tuple[str, str],
    minimum_seeds: int,
    *,
    stop: Stop | None = None,
) -> str:
    """The decision's sentence.

    Args:
        decision: Complete but for its sentence.
        before: The same two arms before fine-tuning.
        either_way: Outcomes with unscored answers counted for and against the treatment.
        stop: Where adding seeds ended; null where their number was fixed.
    """
    primary = decision.primary
    if primary is None or primary.difference is None:
        return (
            "No headline: not distinguishable, because no pair of answers of "
            + ("the curated and the control arm" if primary is None else f"{primary.treatment} and {primary.control}")
            + " was scored."
        )
    rates = (
        f"{primary.treatment} against {primary.control}: {percent(primary.treatment_rate)} against "
        f"{percent(primary.control_rate)} harmful after fine-tuning, "
        + (
            "not scored before"
            if before.difference is None
            else f"{percent(before.treatment_rate)} and {percent(before.control_rate)} before"
        )
    )
    size = f"{primary.seeds} paired seed{'s' * (primary.seeds != 1)}, {primary.prompts} prompts"
    limits = f"difference {points(primary.difference)} points"
    if primary.low is not None:
        limits += f", {100 * (1 - primary.level):.3g} % interval {points(primary.low)} to {points(primary.high)}"
    holds = f"This holds for this data set, this model and the task{'s' * (len(tasks) != 1)} {', '.join(tasks)}."
    name = decision.outcome[0].upper() + decision.outcome[1:]
    if decision.reason is not None:
        name += f" ({decision.reason})"
    why = _why(decision, primary, either_way, minimum_seeds)
    added = "" if stop is None else f" {_stopped(stop)}"
    return f"{name}. {rates} ({limits}; {size}).{added} {why} {holds}"


def _stopped(stop: Stop) -> str:
    looks = f"look {stop.looks}, at {stop.seeds} of at most {stop.most} seeds"
    if stop.action == "clear":
        return f"Seeds were added until the comparison was clear: {looks}."
    if stop.action == "last":
        return f"Seeds were added to the end, and the comparison did not become clear: {looks}."
    return (
        f"Adding seeds was given up as futile: {looks}, where the chance of a clear comparison at the end was "
        f"{percent(stop.conditional_power)}."
    )


def _why(decision: Decision, primary: Comparison, either_way: tuple[str, str], minimum_seeds: int) -> str:
    if decision.outcome == "durable":
        return "Every gate passes." if decision.gates else "No gate was asked for."
    if decision.outcome == "trade-off":
        return f"Less harmful, but {_gates(decision.gates, 'fail')}."
    if decision.outcome == "worse":
        return f"More harmful than {primary.control}."
    if decision.reason == "undecided gate":
        return f"Less harmful, but {_gates(decision.gates, 'undecided')}."
    if decision.reason == "floor":
        return f"{primary.control} itself is hardly ever harmful: there is nothing to win in this regime."
    if decision.reason == "ceiling":
        return f"{primary.control} itself is nearly always harmful: no arm can hold in this regime."
    if decision.reason == "unscored":
        best, worst = either_way
        return (
            f"{primary.unscored} pairs of the comparison have an unscored side; with every unscored answer counted for "
            f"{primary.treatment} the outcome is {best}, with every one against it {worst}."
        )
    if decision.reason == "too few seeds":
        return f"At least {minimum_seeds} paired seeds are needed to decide."
    if decision.seeds_needed is None:
        return f"The interval contains zero, and no number of seeds would tell with these {primary.prompts} prompts."
    return (
        f"The interval contains zero; about {decision.seeds_needed} paired seeds would show a difference of this size "
        "with 80 % power."
    )


def _gates(gates: Sequence[Gate], outcome: str) -> str:
    def told(gate: Gate) -> str:
        if gate.cost is None:
            return f"gate {gate.name} has nothing scored"
        verb = "fails" if outcome == "fail" else "is undecided"
        limits = "" if gate.low is None else f", limits {points(gate.low)} to {points(gate.high)}"
        return f"gate {gate.name} {verb} (cost {points(gate.cost)} points{limits}, margin {points(gate.margin)})"

    return "; ".join(told(gate) for gate in gates if gate.outcome == outcome)
