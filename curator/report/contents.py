"""report.json: everything a run found, in plain values. `report_dict` names every key, report.schema.json its type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import polars as pl

from curator.conclusions import Comparison, Decision, Rate
from curator.judge.people import agreement, outcome_counts
from curator.recipe.judge import Judge, Judges
from curator.records import Data, Scores, Selection, Vectors
from curator.report.facts import (
    Arms,
    Models,
    categories,
    caveats,
    design_facts,
    overlap,
    pool_facts,
    prediction_facts,
    similarity,
    task_facts,
    training_facts,
    training_times,
)
from curator.run.files import plain

VERSION = 1


class Findings(Protocol):
    """What an experiment concludes. Verification stands above this stage and makes it; here is what is read of it."""

    @property
    def regime(self) -> Any: ...
    @property
    def decision(self) -> Decision: ...
    @property
    def comparisons(self) -> tuple[Comparison, ...]: ...
    @property
    def arms(self) -> Mapping[str, Mapping[str, Mapping[str, Mapping[str, Rate]]]]: ...
    @property
    def categories(self) -> Sequence[Any]: ...
    @property
    def within(self) -> Sequence[Any]: ...


def report_dict(
    *,
    name: str,
    model: Mapping[str, Any],
    data: Data,
    vectors: Vectors,
    scores: Scores,
    selection: Selection,
    stability: Sequence[Mapping[str, Any]] = (),
    arms: Arms,
    models: Models,
    findings: Findings,
    judges: Judges,
    verdicts: pl.DataFrame,
    decided: pl.DataFrame | None = None,
    judged: Mapping[str, Any] | None = None,
    judge_error: Mapping[str, Any] | None = None,
    second_opinions: Mapping[str, Findings] | None = None,
    sequential: Mapping[str, Any] | None = None,
    forgotten: Sequence[Any] = (),
    predictions: Sequence[Any] = (),
    pilot: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    timing: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The report as JSON-serialisable values; what is not a finite number is null.

    Args:
        name: The recipe's.
        model: `id`, `revision` and whatever else identifies the model that was aligned.
        vectors: The pool's; only what made them is told.
        stability: How much sets chosen by other seeds, layers or embedders agree, in the columns of STABILITY_SCHEMA.
        arms: (arm, seed) -> ids of its alignment set.
        models: (arm, seed, task or null) -> what was trained.
        findings: From the headline judge's verdicts.
        judges: The recipe's section.
        verdicts: Of the whole panel, in the columns of VERDICT_SCHEMA.
        decided: The verdicts that decide, where the panel's rule is not `headline`.
        judged: What judging wrote down: `costs` and `clipped` by judge.
        judge_error: See `steps.judge_errors`; null where it was not asked for.
        second_opinions: Other judge -> findings from its verdicts; shown, never deciding.
        sequential: Where seeds were added until a look stopped: the recipe's settings, `stopped` (the last look's
            action) and `looks`.
        forgotten, predictions: See `prediction`.
        pilot: Where a pilot chose the setting: `probes`, `chosen`, `best_draw`, and `candidates` with their rounds (the
            fields of `pilot.Round`).
        settings: What of the recipe's `verify` a reader of the design must know.
        provenance: What ran; free of times, paths and process ids, which go to `timing`.
        timing: `stages` (name -> seconds) and whatever else differs between equal runs.
        warnings: Said first; those that follow from the figures are added.

    Returns:
        `version` (1), `name`, `model`;
        `regime`: control, before, after, warning;
        `decision`: outcome, reason, sentence, seeds_needed, primary, attribution (name -> comparison);
        `gates`: name, outcome, margin, cost, low, high, phase;
        `arms.<arm>.<task>.<before|after>.<harmfulness|over_refusal|utility|degenerate>`: value, low, high, scored,
        unscored, method; the task `anticipated` is the weighted mix;
        `comparisons`: the fields of `records.Comparison`, the primary one first, each with its `role`;
        `sequential`: null for a number of seeds, else max, first, every, spending, futility, sd_seed, sd_prompt,
        sd_residual, stopped, and looks: the fields of `sequential.Taken`;
        `within_seeds`: task, seed, pairs, only_treatment, only_control, p;
        `forgetting`, `score_predicts`: see `prediction`;
        `probe_categories`: category, prompts, arms, comparison;
        `selection`: the fields of `records.Selection` but ids, and `k`;
        `stability`: one, other, shared, overlap, chance, rank_correlation of each pair of sets;
        `score`: name, low, high, parameters; `represent`: what made the vectors;
        `similarity`, `overlap`, `categories`, `pool`: see `rows`;
        `pilot`: null, or as given; `tasks`, `design`: see `design`; `training`: see `training`;
        `judges`: headline, rule, outcomes of the verdicts that decide, panel (name, kind, told, revision, settings,
        outcomes, cost, clipped), agreement, second_opinions;
        `judge_error`: judge, labels, corrects, why, sensitivity, specificity, difference, low, high, assumed, tipping;
        `provenance`, `warnings`;
        `timing`: all that may differ between two runs of the same recipe on the same machine.
        Shares are in [0, 1], differences in [-1, 1], losses in nats per completion token.
    """
    report = {
        "version": VERSION,
        "name": name,
        "model": model,
        **_found(findings),
        "sequential": sequential,
        **prediction_facts(forgotten, predictions),
        "selection": {"k": len(selection.ids), **_selection(selection)},
        "stability": list(stability),
        "score": {
            "name": scores.name,
            "low": scores.low,
            "high": scores.high,
            "parameters": scores.parameters,
        },
        "represent": {field: getattr(vectors, field) for field in ("model", "revision", "layer", "token", "truncated")},
        "similarity": similarity(scores, arms),
        "overlap": overlap(selection.ids, arms, rows=data.pool.rows.height, treatment="curated"),
        "categories": categories(data.pool, arms, data.arms),
        "pool": pool_facts(data.pool),
        "pilot": pilot,
        "tasks": task_facts(data),
        "design": design_facts(data, models, settings or {}),
        "training": training_facts(models),
        "judges": _judges(judges, verdicts, decided, judged or {}, second_opinions or {}),
        "judge_error": judge_error,
        "provenance": provenance or {},
        "timing": {**(timing or {}), "training": training_times(models)},
    }
    clean: dict[str, Any] = _finite(plain(report))
    clean["warnings"] = [*warnings, *caveats(clean)]
    return clean


def _found(findings: Findings) -> dict[str, Any]:
    decision = asdict(findings.decision)
    return {
        "regime": asdict(findings.regime),
        "gates": decision.pop("gates"),
        "decision": decision,
        "arms": {
            arm: {
                task: {
                    phase: {quantity: asdict(rate) for quantity, rate in rates.items()}
                    for phase, rates in phases.items()
                }
                for task, phases in tasks.items()
            }
            for arm, tasks in findings.arms.items()
        },
        "comparisons": [
            {"role": _role(comparison, findings.decision), **asdict(comparison)} for comparison in findings.comparisons
        ],
        "probe_categories": [asdict(breakdown) for breakdown in findings.categories],
        "within_seeds": [asdict(entry) for entry in findings.within],
    }


def _role(comparison: Comparison, decision: Decision) -> str:
    if comparison == decision.primary:
        return "primary"
    return "attribution" if comparison in decision.attribution.values() else "secondary"


def _selection(selection: Selection) -> dict[str, Any]:
    return {name: value for name, value in vars(selection).items() if name not in ("ids", "indices", "gains")}


def _judges(
    judges: Judges,
    verdicts: pl.DataFrame,
    decided: pl.DataFrame | None,
    judged: Mapping[str, Any],
    second_opinions: Mapping[str, Findings],
) -> dict[str, Any]:
    outcomes = {judge.name: outcome_counts(verdicts, judge.name) for judge in judges.panel}
    return {
        "headline": judges.headline,
        "rule": judges.rule,
        "outcomes": outcomes[judges.headline] if decided is None else outcome_counts(decided, None),
        "panel": [
            {
                "name": judge.name,
                "kind": _kind(judge),
                "told": judge.told,
                "guard": judge.guard,
                "revision": judge.revision,
                "settings": judge.comparable(),
                "outcomes": outcomes[judge.name],
                "cost": judged.get("costs", {}).get(judge.name),
                "clipped": judged.get("clipped", {}).get(judge.name, 0),
            }
            for judge in judges.panel
        ],
        "agreement": agreement(verdicts, [judge.name for judge in judges.panel]),
        "second_opinions": [
            {
                "judge": judge,
                "outcome": findings.decision.outcome,
                "reason": findings.decision.reason,
                "primary": asdict(findings.decision.primary) if findings.decision.primary else None,
            }
            for judge, findings in second_opinions.items()
        ],
    }


def _kind(judge: Judge) -> str:
    return {"refusal": "phrases", "sandbox": "exact"}.get(judge.kind, judge.kind)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
