"""The report of a run, assembled from what every stage has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from curator import conclusions
from curator.conclusions.log_odds import LogOdds
from curator.conclusions.part import Part
from curator.judge.people import agreement, outcome_counts
from curator.recipe.judge import Judges
from curator.records import Data, Scores, Selection, Vectors
from curator.report import conclusion, material
from curator.report.bank import Bank
from curator.report.composition import made_of
from curator.report.curve import Curves, curve_facts
from curator.report.facts import (
    Arms,
    Models,
    categories,
    caveats,
    design_facts,
    overlap,
    pool_facts,
    similarity,
    task_facts,
    training_facts,
    training_times,
)
from curator.report.model import VERSION, Report
from curator.report.pilot import Pilot
from curator.run.files import finite, plain
from curator.selection.composition import POOL, remarks

if TYPE_CHECKING:
    from curator.conclusions.secondary import Forgetting, Prediction
    from curator.decision.depth import Depth, Flips
    from curator.decision.findings import Findings
    from curator.report.frontier import Frontier
    from curator.selection.composition import Composition


AnyPart = TypeVar("AnyPart", bound=Part)


def assemble(
    *,
    name: str,
    model: material.Model,
    data: Data,
    vectors: Vectors,
    scores: Scores,
    selection: Selection,
    stability: Sequence[material.Stability] = (),
    arms: Arms,
    models: Models,
    findings: Findings,
    judges: Judges,
    verdicts: pl.DataFrame,
    decided: pl.DataFrame | None = None,
    costs: Mapping[str, Mapping[str, int]] | None = None,
    clipped: Mapping[str, int] | None = None,
    judge_error: conclusion.JudgeError | None = None,
    second_opinions: Mapping[str, Findings] | None = None,
    sequential: conclusion.Sequential | None = None,
    forgotten: Sequence[Forgetting] = (),
    predictions: Sequence[Prediction] = (),
    pilot: Pilot | None = None,
    design: Mapping[str, Any] | None = None,
    provenance: material.Provenance | None = None,
    timing: material.Timing | None = None,
    log_odds: LogOdds | None = None,
    bank: Bank | None = None,
    warnings: Sequence[str] = (),
    read: Sequence[Mapping[str, Any]] = (),
    refusals_by: str | None = None,
    depth: Depth | None = None,
    flips: Sequence[Flips] = (),
    covered_by: str | None = None,
    frontier: Frontier | None = None,
    composition: Sequence[Composition] = (),
    composable: bool = False,
) -> Report:
    """The report of a run; every figure that is not a finite number is null.

    Args:
        name: The recipe's.
        vectors: The pool's; only what made them is reported.
        stability: How much sets chosen by other seeds, layers or embedders agree.
        arms: (arm, seed) -> ids of its alignment set.
        models: (arm, seed, task or null) -> what was trained.
        findings: From the headline judge's verdicts.
        judges: The recipe's section.
        verdicts: Of the whole panel, in the columns of VERDICT_SCHEMA.
        decided: The verdicts that decide, where the panel's rule is not `headline`.
        costs, clipped: By judge: requests and tokens, and how many answers were cut to what it has room for.
        judge_error: Null where it was not measured.
        second_opinions: Other judge -> findings from its verdicts; shown, never deciding.
        sequential: Null for a fixed number of seeds.
        forgotten, predictions: Empty if forgetting was not measured.
        pilot: Null where none chose the setting.
        design: Keywords of `facts.design_facts`: what a reader of the design must know beside the data.
        provenance: What ran; free of times, paths and process ids, which go to `timing`.
        timing: What differs between equal runs, but for the seconds of training, which are added.
        log_odds, bank: Null where they were not asked for.
        read: How each of the pool's sources was read.
        refusals_by: What says which of its answers are refusals; null for English phrases.
        warnings: Said first; those that follow from the figures are added.
        covered_by: What the recipe calls the vectors; null where there are no others.
        composition: Of the pool and of every arm's sets; empty where kinds of answers are not known.
        composable: Whether the recipe may compose the chosen set by refusals.
        depth, flips: From the verdicts that decide; null and empty where the recipe asks for neither.
        frontier: Where the recipe asks for a floor under coverage.
    """
    decision = findings.decision
    if pilot is not None and pilot.no_optimising:
        others = {name: each for name, each in decision.attribution.items() if name != "optimising"}
        decision = replace(decision, attribution=others)
    report = Report(
        version=VERSION,
        name=name,
        model=model,
        regime=conclusion.Regime.model_validate(findings.regime),
        gates=decision.gates,
        decision=_leaving_out("worst", conclusion.Decision.model_validate(decision)),
        arms={
            arm: {task: conclusion.Phases.model_validate(phases) for task, phases in tasks.items()}
            for arm, tasks in findings.arms.items()
        },
        comparisons=tuple(_with_role(comparison, decision) for comparison in findings.comparisons),
        probe_categories=tuple(map(conclusion.ProbeCategory.model_validate, findings.categories)),
        within_seeds=findings.within,
        sequential=sequential,
        forgetting=tuple(forgotten),
        score_predicts=tuple(predictions),
        selection=_selection(selection),
        stability=tuple(stability),
        score=material.Score(
            name=scores.name, low=scores.low, high=scores.high, parameters=finite(plain(scores.parameters))
        ),
        represent=_represent(vectors, covered_by),
        similarity=similarity(scores, arms),
        overlap=overlap(selection.ids, arms, candidates=data.candidates["id"].to_list(), treatment="curated"),
        categories=categories(data.pool, arms, data.arms),
        pool=pool_facts(data.pool, read, refusals_by),
        pilot=pilot,
        tasks=task_facts(data),
        design=design_facts(data, models, **(design or {})),
        training=training_facts(models),
        judges=_judges(
            judges,
            verdicts=verdicts,
            decided=decided,
            costs=costs or {},
            clipped=clipped or {},
            second_opinions=second_opinions or {},
        ),
        judge_error=judge_error,
        provenance=provenance or material.Provenance(),
        timing=(timing or material.Timing()).model_copy(update={"training": training_times(models)}),
        warnings=(),
    )
    # Keys that stand only where the recipe asks for what they hold.
    more: dict[str, object] = {"flips": tuple(map(conclusion.Flips.model_validate, flips))} if flips else {}
    more |= _curves(findings, models)
    more |= {"composition": tuple(map(made_of, composition))} if composition else {}
    more |= {} if log_odds is None else {"log_odds": log_odds}
    more |= {} if bank is None else {"bank": bank}
    more |= {"depth": conclusion.Depth.model_validate(depth)} if depth is not None and depth.rates else {}
    more |= {} if frontier is None else {"frontier": frontier}
    of_arms = {POOL, *(arm for arm, _ in arms)}
    kinds = remarks({each.set: each.refusals for each in composition if each.set in of_arms}, composable=composable)
    noted = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in kinds]
    return report.model_copy(update={"warnings": (*warnings, *caveats(report), *noted), **more})


def _leaving_out(name: str, part: AnyPart) -> AnyPart:
    """The part without a key that has nothing to say."""
    if getattr(part, name) is None:
        part.model_fields_set.discard(name)  # what was not set is not written
    return part


def _curves(findings: Findings, models: Models) -> dict[str, Curves]:
    """The section of that name, where there is one."""
    if findings.curves is None:
        return {}
    steps = {task: model.steps for (_, _, task), model in models.items() if task is not None}
    return {"curves": curve_facts(findings.curves, steps)}


def _with_role(comparison: conclusions.Comparison, decision: conclusions.Decision) -> conclusion.RoleComparison:
    role = "attribution" if comparison in decision.attribution.values() else "secondary"
    if comparison == decision.primary:
        role = "primary"
    return conclusion.RoleComparison.model_validate({"role": role, **vars(comparison)})


def _represent(vectors: Vectors, name: str | None) -> material.Represent:
    made = material.Represent.model_validate(vectors)
    return made if name is None else made.model_copy(update={"name": name})


def _selection(selection: Selection) -> material.Selection:
    fields = {
        name: value for name, value in vars(selection).items() if name not in ("ids", "indices", "gains", "frontier")
    }
    return material.Selection.model_validate({"k": len(selection.ids), **finite(plain(fields))})


def _judges(
    judges: Judges,
    *,
    verdicts: pl.DataFrame,
    decided: pl.DataFrame | None,
    costs: Mapping[str, Mapping[str, int]],
    clipped: Mapping[str, int],
    second_opinions: Mapping[str, Findings],
) -> conclusion.Judges:
    def outcomes(frame: pl.DataFrame, judge: str | None) -> conclusion.OutcomeCounts:
        return conclusion.OutcomeCounts(**outcome_counts(frame, judge))

    names = [judge.name for judge in judges.panel]
    return conclusion.Judges(
        headline=judges.headline,
        rule=judges.rule,
        outcomes=outcomes(verdicts, judges.headline) if decided is None else outcomes(decided, None),
        panel=tuple(
            conclusion.PanelJudge(
                name=judge.name,
                kind={"refusal": "phrases", "sandbox": "exact"}.get(judge.kind, judge.kind),
                told=judge.told,
                guard=judge.guard,
                revision=judge.revision,
                settings=finite(plain(judge.comparable())),
                outcomes=outcomes(verdicts, judge.name),
                cost=dict(costs[judge.name]) if judge.name in costs else None,
                clipped=clipped.get(judge.name, 0),
            )
            for judge in judges.panel
        ),
        agreement=agreement(verdicts, names),
        second_opinions=tuple(
            conclusion.SecondOpinion(
                judge=judge,
                outcome=findings.decision.outcome,
                reason=findings.decision.reason,
                primary=findings.decision.primary,
            )
            for judge, findings in second_opinions.items()
        ),
    )
