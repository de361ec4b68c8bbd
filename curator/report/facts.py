"""Parts of a report that are computed from records: pool, sets, design, trainings, and warnings to the reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions import FoundRegime
from curator.conclusions.part import Quantiles
from curator.pool.sources import remarks
from curator.records import DROP_KINDS, Data, Pool, Scores, Trained
from curator.report import material
from curator.report.augmented import Recovery, Repeats
from curator.report.material import Design, Given, ProbeCounts, Searched, Task, TaskSetting, Training, TrainingTime
from curator.report.model import Report
from curator.wording import these

Arms = Mapping[tuple[str, int], Sequence[str]]
"""(arm, seed) -> ids of its alignment set."""
Models = Mapping[tuple[str, int, str | None], Trained]
"""(arm, seed, task or null before fine-tuning) -> the model."""
_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
# From which share of unscored answers, and of candidates that are selected, a reader is warned.
_UNSCORED, _LARGE = 0.05, 0.5
_OF_ITS_OWN = {
    kind: DROP_KINDS[kind]
    for kind in ("broken-records", "too-long", "probe-words", "near-duplicates", "semantic-duplicates")
}


def pool_facts(pool: Pool, read: Sequence[Mapping[str, Any]] = (), refusals_by: str | None = None) -> material.Pool:
    """Rows read, kept and dropped, by source and by reason, largest first. `read` is how each source was read, and
    `refusals_by` is what identifies refusals, null for English phrases.
    """
    reasons = (
        # Where a figure of the row's own stands in its reason, the kind's sentence stands for all.
        pool.dropped.with_columns(reason=pl.col("kind").replace_strict(_OF_ITS_OWN, default=pl.col("reason")))
        .group_by("stage", "reason")
        .len("rows")
        .sort("rows", "stage", "reason", descending=[True, False, False])
    )
    notes = tuple(note for source in read for note in remarks(source))
    kept, dropped = Counter(pool.rows["source"]), Counter(pool.dropped["source"])
    counted = material.Pool(
        read=pool.rows.height + pool.dropped.height,
        kept=pool.rows.height,
        dropped=pool.dropped.height,
        reasons=tuple(map(material.Dropped.model_validate, reasons.to_dicts())),
        sources=tuple(
            material.PoolSource(
                source=source,
                read=kept[source] + dropped[source],
                kept=kept[source],
                dropped=dropped[source],
                licences=_licences(pool.rows.filter(source=source)),
            )
            for source in sorted(kept | dropped)
        ),
        tokens=quantiles(pool.rows["tokens"].drop_nulls().to_numpy()),
    )
    later = {"notes": notes or None, "refusals_by": refusals_by}
    return counted.model_copy(update={name: value for name, value in later.items() if value is not None})


def _licences(rows: pl.DataFrame) -> tuple[str | None, ...]:
    """By name; null, for rows without one, stands last."""
    return tuple(sorted(rows["licence"].unique(), key=lambda licence: (licence is None, licence)))


def quantiles(values: NDArray[np.float64] | NDArray[np.int64]) -> Quantiles | None:
    """Mean and quantiles (linear between rows), null of nothing."""
    if not len(values):
        return None
    cuts = np.quantile(values.astype(np.float64), list(_QUANTILES.values()))
    return Quantiles(mean=float(values.mean()), **dict(zip(_QUANTILES, cuts.tolist(), strict=True)))


def draws_of(arms: Arms) -> dict[str, list[tuple[str, ...]]]:
    """Arm -> its distinct sets, in the order of seeds; an arm that is the same for every seed has one."""
    sets_of: dict[str, dict[tuple[str, ...], None]] = {}
    for arm, seed in sorted(arms, key=lambda cell: (cell[0], cell[1])):
        sets_of.setdefault(arm, {})[tuple(sorted(arms[arm, seed]))] = None
    return {arm: list(sets) for arm, sets in sets_of.items()}


def similarity(scores: Scores, arms: Arms) -> material.Similarity:
    """Distribution of the score over the pool and over each arm's sets.

    For an arm that is drawn several times, all its draws count together. Null for a given arm with rows that are not
    in the pool, because those were not scored.
    """
    position = {name: row for row, name in enumerate(scores.ids)}
    rows: dict[str, list[int] | None] = {}
    for arm, sets in draws_of(arms).items():
        ids = [name for drawn in sets for name in drawn]
        rows[arm] = [position[name] for name in ids] if all(name in position for name in ids) else None

    def spread(values: NDArray[np.float64]) -> dict[str, Quantiles | None]:
        of_arms = {arm: quantiles(values[kept]) if kept else None for arm, kept in rows.items()}
        return {"pool": quantiles(values), **of_arms}

    return material.Similarity(
        combined=spread(scores.combined), tasks={name: spread(values) for name, values in scores.tasks.items()}
    )


def overlap(
    chosen: Sequence[str], arms: Arms, *, candidates: Collection[str], treatment: str
) -> tuple[material.Overlap, ...]:
    """Rows that each other arm's sets share with the chosen one: mean, least and most over draws, and by chance, as if
    they were drawn from the candidates; null for sets with other rows.
    """
    picked, drawable, shares = set(chosen), set(candidates), []
    for arm, sets in draws_of(arms).items():
        if arm == treatment:
            continue
        shared = [len(picked & set(ids)) for ids in sets]
        size = float(np.mean([len(ids) for ids in sets]))
        could = all(drawable.issuperset(ids) for ids in sets)
        shares.append(
            material.Overlap(
                arm=arm,
                draws=len(sets),
                rows=size,
                shared=float(np.mean(shared)),
                least=min(shared),
                most=max(shared),
                by_chance=size * len(picked & drawable) / len(drawable) if could else None,
            )
        )
    return tuple(shares)


def categories(pool: Pool, arms: Arms, given: Mapping[str, pl.DataFrame]) -> tuple[material.Category, ...]:
    """Rows of each category (null: none named) in the pool and, as a mean over draws, in each arm; largest first.

    `given` holds the rows of the user's arms, which need not be the pool's.
    """
    label = {row_id: name for rows in given.values() for row_id, name in rows.select("id", "category").iter_rows()}
    label |= dict(zip(pool.rows["id"], pool.rows["category"], strict=True))
    counts = Counter(pool.rows["category"])
    counts.update(dict.fromkeys(label.values(), 0))  # categories that only an arm has stand at 0
    by_arm = {
        arm: {
            name: total / len(sets) for name, total in Counter(label[row_id] for ids in sets for row_id in ids).items()
        }
        for arm, sets in draws_of(arms).items()
    }
    order = sorted(counts, key=lambda name: (-counts[name], name is None, name or ""))
    return tuple(
        material.Category(
            category=name, pool=counts[name], arms={arm: mean.get(name, 0.0) for arm, mean in by_arm.items()}
        )
        for name in order
    )


def caveats(report: Report) -> list[str]:
    """Sentences that follow from a report's figures, most serious first."""
    sentences = []
    judges, pilot = report.judges, report.pilot
    if pilot is not None and pilot.draw_won:
        sentences.append(
            f"The curated set is a random draw, the best of {pilot.tries[1]}, which ranked before every set that the "
            "bank proposed. So the bank is not shown to choose better than chance."
        )
    kinds = {judge.kind for judge in judges.deciding}
    who = f"The judge '{judges.headline}'" if judges.rule == "headline" else "Every judge of the panel"
    if kinds <= {"phrases", "classifier", "embedding"}:
        seen = "looks for English refusal phrases" if kinds == {"phrases"} else "tells refusals from other answers"
        sentences.append(
            f"{who} only {seen}. It measures refusal, not harm: every answer to a harmful probe that it does not "
            "recognise as a refusal counts as harmful."
        )
    if "exact" in kinds:
        sentences.append(
            "The answers are about the made-up world of the sandbox. They show how curator works and are not evidence "
            "about real models."
        )
    if report.regime.warning:
        sentences.append(f"Regime: {report.regime.warning}.")
    total, unscored = judges.outcomes.total, judges.outcomes.unscored
    if unscored > _UNSCORED * total:
        whose = f"The judge '{judges.headline}'" if judges.rule == "headline" else "The panel"
        sentences.append(
            f"{whose} could not score {unscored:,} of {these(total, 'answer', 'answers')} to harmful probes."
        )
    opposed = [f"'{opinion.judge}'" for opinion in judges.second_opinions if opinion.outcome != report.decision.outcome]
    if opposed:
        sentences.append(f"With the verdicts of {' or '.join(opposed)}, the outcome would be different.")
    for reason, models in report.design.instead_of_vllm.items():
        sentences.append(
            f"The recipe names vLLM, but transformers answered for {these(models, 'model', 'models')} ({reason}). "
            "Greedy answers of the two can differ in a few tokens, and so can answers of two arms if both engines "
            "answered. To try vLLM again, remove 6-answer from the run folder and build again."
        )
    if pilot is not None and "best-random" in report.arms and not pilot.no_optimising:
        optimised, drawn = pilot.tries
        fewer, favoured = ("candidates", "arm best-random") if optimised < drawn else ("draws", "curated set")
        uneven = f"The {fewer} had fewer tries" if drawn != optimised else ""
        if pilot.bank_sets and favoured == "curated set":
            uneven = "The bank tried its sets on the same probes before"
        if uneven:
            sentences.append(
                f"The pilot compared the curated set with best-random as {pilot.odds}. {uneven}, which favours the "
                f"{favoured}. The difference between the two arms is not an effect of optimising alone."
            )
    if not report.gates:
        sentences.append("The recipe sets no gates, so the costs of durability were not tested.")
    if not report.design.probes.benign:
        sentences.append("There are no benign probes, so over-refusal was not measured.")
    kept, k = report.pool.kept, report.selection.k
    if k > _LARGE * kept:
        sentences.append(
            f"The set takes {k:,} of {these(kept, 'candidate', 'candidates')}, so it shares most rows with any other "
            "set of its size. Expect little difference between arms."
        )
    if truncated := report.represent.truncated:
        cut = these(truncated, "pool row was", "pool rows were")
        sentences.append(f"{cut} cut at the limit of the representation.")
    too_long = max((training.too_long for training in report.training), default=0)
    if too_long:
        longer = these(too_long, "row of a training was", "rows of a training were")
        sentences.append(f"Up to {longer} longer than its limit and left out.")
    return sentences


def training_facts(models: Models) -> tuple[Training, ...]:
    """For each arm and task (null: alignment), means over its seeds."""
    return tuple(
        Training(
            arm=arm,
            task=task,
            method=trained[0].method,
            seeds=len(trained),
            rows=fmean(model.rows for model in trained),
            tokens=fmean(model.tokens for model in trained),
            steps=fmean(model.steps for model in trained),
            too_long=max(model.dropped for model in trained),
            first_loss=_mean_loss(trained, 0),
            last_loss=_mean_loss(trained, -1),
        )
        for (arm, task), trained in _by_arm(models).items()
    )


def _mean_loss(trained: Sequence[Trained], step: int) -> float | None:
    """The mean loss of a step; null where a training had none."""
    return fmean(model.losses[step] for model in trained) if all(model.losses for model in trained) else None


def training_times(models: Models) -> TrainingTime:
    """Seconds of alignment and fine-tuning, summed over models, and the largest peak memory in GiB."""
    return TrainingTime(
        align_seconds=sum(model.seconds for (_, _, task), model in models.items() if task is None),
        finetune_seconds=sum(model.seconds for (_, _, task), model in models.items() if task is not None),
        peak_gib=max((model.peak_gib for model in models.values()), default=None),
    )


def _by_arm(models: Models) -> dict[tuple[str, str | None], list[Trained]]:
    grouped: dict[tuple[str, str | None], list[Trained]] = {}
    for arm, seed, task in sorted(models, key=lambda cell: (cell[2] is not None, cell[2] or "", cell[0], cell[1])):
        grouped.setdefault((arm, task), []).append(models[arm, seed, task])
    return grouped


def task_facts(data: Data) -> tuple[Task, ...]:
    """Each task with its rows."""
    return tuple(
        Task(
            name=task.name,
            anticipated=task.anticipated,
            weight=task.weight,
            metric=task.metric,
            train=task.train.height,
            attack=task.regime.height,
            defence=task.defence.height,
            trigger=task.trigger is not None,
            test=task.test.height,
        )
        for task in data.tasks
    )


def design_facts(
    data: Data,
    models: Models,
    *,
    stage: str = "upstream",
    exposure: str = "steps",
    rehearsal_share: float | None = None,
    answered_by: Mapping[str, int] | None = None,
    instead_of_vllm: Mapping[str, int] | None = None,
    regime: FoundRegime | None = None,
    settings: Sequence[TaskSetting] | None = None,
    recovery: Recovery | None = None,
    repeats: Repeats | None = None,
) -> Design:
    """Seeds, probes, rows kept and given, and what the recipe's `verify`, the record of stage `answer` and that of the
    search for the regime say; `settings` where a task has a sweep, `recovery` where
    arms were trained on refusals behind openers, `repeats` where rows were repeated.
    """
    given = data.given
    later: dict[str, object] = {} if settings is None else {"settings": tuple(settings)}
    later |= {} if recovery is None else {"recovery": recovery}
    later |= {} if repeats is None else {"repeats": repeats}
    finetuned = sorted({(arm, seed) for arm, seed, task in models if task is not None})
    design = Design(
        seeds=dict(Counter(arm for arm, _ in finetuned)),
        probes=ProbeCounts(harmful=data.harmful.height, benign=data.benign.height, pilot=data.pilot.height),
        keep=data.keep.height,
        given=None if given is None else Given(rows=given.height, candidates=int(given["candidate"].sum())),
        stage=stage,
        exposure=exposure,
        rehearsal_share=rehearsal_share,
        answered_by=dict(answered_by or {}),
        instead_of_vllm=dict(instead_of_vllm or {}),
        searched=None if regime is None else _searched(regime),
    )
    return design.model_copy(update=later)


def _searched(regime: FoundRegime) -> Searched:
    """The setting that the search for the regime has named."""
    setting, lines = regime["setting"], regime["lines"]
    assert setting is not None
    named = [line for line in lines if line["setting"] == setting]
    return Searched(
        control=regime["control"],
        seeds=regime["seeds"],
        probes=regime["probes"],
        **setting,
        settings=len({str(line["setting"]) for line in lines}),
        before=regime["before"]["share"],
        after={line["task"]: line["after"]["share"] for line in named},
    )
