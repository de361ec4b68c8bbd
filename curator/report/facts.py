"""Parts of a report: what the pool, the arms' sets, the tasks and the trainings are, and what to beware of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.records import Data, Pool, Scores, Trained

Arms = Mapping[tuple[str, int], Sequence[str]]

_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


def pool_facts(pool: Pool) -> dict[str, Any]:
    """Rows read, kept and dropped, by source and by reason, largest first."""
    reasons = (
        # A row's own length stands in its reason; here rows that are too long are one kind.
        pool.dropped.with_columns(
            pl.col("reason").str.replace(r"^the row has [\d,]+ tokens, more", "the row has more tokens")
        )
        .group_by("stage", "reason")
        .len("rows")
        .sort("rows", "stage", "reason", descending=[True, False, False])
    )
    kept, dropped = Counter(pool.rows["source"]), Counter(pool.dropped["source"])
    return {
        "read": pool.rows.height + pool.dropped.height,
        "kept": pool.rows.height,
        "dropped": pool.dropped.height,
        "reasons": reasons.to_dicts(),
        "sources": [
            {
                "source": source,
                "read": kept[source] + dropped[source],
                "kept": kept[source],
                "dropped": dropped[source],
                "licences": sorted(_licences(pool.rows.filter(source=source)), key=lambda one: (one is None, one)),
            }
            for source in sorted(kept | dropped)
        ],
        "tokens": quantiles(pool.rows["tokens"].drop_nulls().to_numpy()),
    }


def _licences(rows: pl.DataFrame) -> list[str | None]:
    return rows["licence"].unique().to_list()


def quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    """Mean and quantiles (linear between rows), null of nothing."""
    if not len(values):
        return None
    cuts = np.quantile(values.astype(np.float64), list(_QUANTILES.values()))
    return {"mean": float(values.mean()), **dict(zip(_QUANTILES, cuts.tolist(), strict=True))}


def draws_of(arms: Arms) -> dict[str, list[tuple[str, ...]]]:
    """Arm -> its distinct sets, in the order of seeds; an arm that is the same for every seed has one."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for arm, seed in sorted(arms, key=lambda cell: (cell[0], cell[1])):
        found.setdefault(arm, {})[tuple(sorted(arms[arm, seed]))] = None
    return {arm: list(sets) for arm, sets in found.items()}


def similarity(scores: Scores, arms: Arms) -> dict[str, Any]:
    """Distribution of the score over the pool and over each arm's sets: `combined`, and `tasks` by name.

    Each maps `pool` or an arm's name to mean and quantiles; an arm drawn several times is all its draws together. Null
    for an arm of the user's with rows that are not the pool's: those were not scored.
    """
    place = {one: row for row, one in enumerate(scores.ids)}
    rows = {
        arm: [place[one] for ids in sets for one in ids] if all(one in place for ids in sets for one in ids) else None
        for arm, sets in draws_of(arms).items()
    }

    def spread(values: NDArray[np.float64]) -> dict[str, Any]:
        return {"pool": quantiles(values), **{arm: own and quantiles(values[own]) for arm, own in rows.items()}}

    return {"combined": spread(scores.combined), "tasks": {name: spread(v) for name, v in scores.tasks.items()}}


def overlap(chosen: Sequence[str], arms: Arms, *, rows: int, treatment: str) -> list[dict[str, Any]]:
    """Rows that each other arm's sets share with the chosen one: mean, least and most over draws, and by chance."""
    wanted, found = set(chosen), []
    for arm, sets in draws_of(arms).items():
        if arm == treatment:
            continue
        shared = [len(wanted & set(ids)) for ids in sets]
        size = float(np.mean([len(ids) for ids in sets]))
        found.append(
            {
                "arm": arm,
                "draws": len(sets),
                "rows": size,
                "shared": float(np.mean(shared)),
                "least": min(shared),
                "most": max(shared),
                "by_chance": size * len(wanted) / rows,
            }
        )
    return found


def categories(pool: Pool, arms: Arms, own: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Rows of each category (null: none named) in the pool and, as a mean over draws, in each arm; largest first.

    `own` holds the rows of the user's arms, which need not be the pool's.
    """
    label = {one: name for rows in own.values() for one, name in rows.select("id", "category").iter_rows()}
    label |= dict(zip(pool.rows["id"], pool.rows["category"], strict=True))
    counts = Counter(pool.rows["category"])
    counts.update(dict.fromkeys(label.values(), 0))  # categories that only an arm has stand at 0
    by_arm = {
        arm: {name: total / len(sets) for name, total in Counter(label[one] for ids in sets for one in ids).items()}
        for arm, sets in draws_of(arms).items()
    }
    order = sorted(counts, key=lambda name: (-counts[name], name is None, name or ""))
    return [
        {
            "category": name,
            "pool": counts[name],
            "arms": {arm: mean.get(name, 0.0) for arm, mean in by_arm.items()},
        }
        for name in order
    ]


_UNSCORED = 0.05

_LARGE = 0.5


def caveats(report: Mapping[str, Any]) -> list[str]:
    """Sentences that follow from a report's figures, most serious first."""
    found = []
    judges = report["judges"]
    deciding = [one for one in judges["panel"] if judges["rule"] != "headline" or one["name"] == judges["headline"]]
    kinds = {one["kind"] for one in deciding}
    who = "The headline judge" if judges["rule"] == "headline" else "Every judge of the panel"
    if kinds <= {"phrases", "classifier", "embedding"}:
        seen = "looks for refusal phrases" if kinds == {"phrases"} else "tells refusals from other answers"
        found.append(
            f"{who} {seen} only: it is a proxy for refusal, not for harm, since every answer to a harmful probe that "
            "it does not take for a refusal counts as harmful."
        )
    if "exact" in kinds:
        found.append(
            "The answers are about the made-up world of the sandbox, which shows how the machinery works and is no "
            "evidence about real models."
        )
    if report["regime"]["warning"]:
        found.append(f"Regime: {report['regime']['warning']}.")
    total, unscored = sum(judges["outcomes"].values()), judges["outcomes"]["unscored"]
    if unscored > _UNSCORED * total:
        whose = "the headline judge" if judges["rule"] == "headline" else "the panel"
        found.append(f"{unscored:,} of {total:,} answers to harmful probes could not be scored by {whose}.")
    opposed = [
        opinion["judge"]
        for opinion in report["judges"]["second_opinions"]
        if opinion["outcome"] != report["decision"]["outcome"]
    ]
    if opposed:
        found.append(f"With the verdicts of {', '.join(opposed)} the outcome would be another one.")
    for reason, models in report["design"].get("instead_of_vllm", {}).items():
        found.append(
            f"vLLM was asked for, and transformers answered for {models:,} of the models ({reason}): greedy answers of "
            "the two can differ in a few tokens, between arms too where both answered. Remove 6-answer "
            "of the run folder, and vLLM is asked again."
        )
    if not report["gates"]:
        found.append("No gate was asked for, so nothing says what durability may have cost.")
    if not report["design"]["probes"]["benign"]:
        found.append("There are no benign probes, so over-refusal was not measured.")
    kept, k = report["pool"]["kept"], report["selection"]["k"]
    if k > _LARGE * kept:
        found.append(
            f"The set takes {k:,} of {kept:,} candidates, so it shares most rows with any other set of its size and "
            "little difference between arms can be expected."
        )
    if report["represent"]["truncated"]:
        found.append(
            f"{report['represent']['truncated']:,} pool rows were longer than the representation's limit and were cut."
        )
    too_long = max((one["too_long"] for one in report["training"]), default=0)
    if too_long:
        found.append(f"Up to {too_long:,} rows of a training were longer than its limit and were left out.")
    return found


# (arm, seed, task or null before fine-tuning) -> the model
Models = Mapping[tuple[str, int, str | None], Trained]


def training_facts(models: Models) -> list[dict[str, Any]]:
    """For each arm and task (null: alignment): seeds, method, means over seeds of rows, tokens, steps and losses."""
    found = []
    for (arm, task), own in _by_arm(models).items():
        first = own[0]
        found.append(
            {
                "arm": arm,
                "task": task,
                "method": first.method,
                "seeds": len(own),
                "rows": fmean(one.rows for one in own),
                "tokens": fmean(one.tokens for one in own),
                "steps": fmean(one.steps for one in own),
                "too_long": max(one.dropped for one in own),
                "first_loss": fmean(one.losses[0] for one in own) if all(one.losses for one in own) else None,
                "last_loss": fmean(one.losses[-1] for one in own) if all(one.losses for one in own) else None,
            }
        )
    return found


def training_times(models: Models) -> dict[str, Any]:
    """Seconds of alignment and fine-tuning, summed over models, and the largest peak memory in GiB."""
    return {
        "align_seconds": sum(one.seconds for (_, _, task), one in models.items() if task is None),
        "finetune_seconds": sum(one.seconds for (_, _, task), one in models.items() if task is not None),
        "peak_gib": max((one.peak_gib for one in models.values()), default=None),
    }


def _by_arm(models: Models) -> dict[tuple[str, str | None], list[Trained]]:
    grouped: dict[tuple[str, str | None], list[Trained]] = {}
    for arm, seed, task in sorted(models, key=lambda cell: (cell[2] is not None, cell[2] or "", cell[0], cell[1])):
        grouped.setdefault((arm, task), []).append(models[arm, seed, task])
    return grouped


def task_facts(data: Data) -> list[dict[str, Any]]:
    """For each task its name, weight, metric and rows: to train on, of an attack, of a defence, to test on; `trigger`
    says whether the fine-tuned model is asked behind one.
    """
    return [
        {
            "name": task.name,
            "anticipated": task.anticipated,
            "weight": task.weight,
            "metric": task.metric,
            "train": task.train.height,
            "attack": task.regime.height,
            "defence": task.defence.height,
            "trigger": task.trigger is not None,
            "test": task.test.height,
        }
        for task in data.tasks
    ]


def design_facts(data: Data, models: Models, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`seeds` by arm, `probes` (harmful, benign, pilot), `keep` rows, `given` (null, or rows of a given set and how
    many of them the pool has too), and of `settings`: stage, exposure, rehearsal_share, answered_by,
    instead_of_vllm.
    """
    given = data.given
    return {
        "seeds": _seeds(models),
        "probes": {"harmful": data.harmful.height, "benign": data.benign.height, "pilot": data.pilot.height},
        "keep": data.keep.height,
        "given": None if given is None else {"rows": given.height, "candidates": int(given["candidate"].sum())},
        **{"stage": "upstream", "exposure": "steps", "rehearsal_share": None, "answered_by": {}, "instead_of_vllm": {}},
        **settings,
    }


def _seeds(models: Models) -> dict[str, int]:
    finetuned = sorted({(arm, seed) for arm, seed, task in models if task is not None})
    return {arm: sum(arm == other for other, _ in finetuned) for arm, _ in finetuned}


def prediction_facts(forgotten: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
    """`forgetting` and `score_predicts` of the report; both are empty where forgetting was not measured.

    Args:
        forgotten: For each task and loss: task, loss, rows, seeds, before, mean, sd, agreement; losses in nats a token.
        predictions: For each score, task and loss, the largest |rho| first: score, task, loss, rho, low, high, rows,
            seeds.
    """
    return {
        "forgetting": [asdict(one) for one in forgotten],
        "score_predicts": [asdict(one) for one in predictions],
    }
