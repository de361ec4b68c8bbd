"""Results of a finished run of a suite: rates and contrasts by judge, and the similarity and diversity of its alignment
sets; and the outcomes of all contrasts of a suite together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.conclusions import BeforeAfter
from curator.conclusions.part import MIX
from curator.recipe import Recipe
from curator.recipe.sweep import mix_of
from curator.recipe.verify import CURATED, DEFAULT_THRESHOLDS, HIGH_MATCHED, LOW_MATCHED, Thresholds
from curator.report.model import read_report
from curator.run import STAGES, Run
from curator.run.readers import report_file
from curator.suite.model import Found, Judged, Model, RunDecision, Sets, Trainings
from curator.suite.run import Variant
from curator.wording import these

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from curator.decision.tables import Grid
    from curator.records import Scores, Vectors


HIGH, LOW = "high-similarity", "low-similarity"

PAIRS = ((LOW, HIGH), (LOW_MATCHED, HIGH_MATCHED), (CURATED, "random"), (LOW, "random"), (HIGH, "random"))
"""The comparisons of a suite after fine-tuning: the first of each pair minus the second."""


Arms = Mapping[tuple[str, int], Sequence[str]]


Judgement = tuple[Judged, list[dict[str, Any]]]
"""The rates and comparisons by one judge's verdicts."""


@dataclass(frozen=True)
class Result:
    """The results of a finished run.

    Attributes:
        comparisons: Judge -> the result of `contrast` for each of PAIRS whose arms were run.
        seconds: Duration of all its stages.
    """

    found: Found
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]]
    seconds: float


def result(variant: Variant, root: Path) -> Result:
    """The figures of a finished run, about the anticipated tasks, weighted.

    Args:
        root: The suite's folder.
    """
    assert variant.recipe is not None
    run = Run(variant.recipe, root / variant.name)
    report = read_report(report_file(run.root))
    arms = run.arms()
    judged = _judged(run)
    decision, primary = report.decision, report.decision.primary
    facts = Found(
        model=Model(id=report.model.id, revision=report.model.revision),
        tasks={task.name: task.weight for task in report.tasks},
        pool=report.pool.kept,
        score=report.score.name,
        arms=set_facts(run.vectors("pool", run.representation()), run.selected_by(), arms),
        shared=shared_rows(arms, HIGH, LOW),
        judges={judge: judgement for judge, (judgement, _) in judged.items()},
        utility={
            arm: BeforeAfter(before=tasks[MIX].before.utility, after=tasks[MIX].after.utility)
            for arm, tasks in report.arms.items()
        },
        decision=RunDecision(
            control=primary.control,
            outcome=decision.outcome,
            reason=decision.reason,
            difference=primary.difference,
            low=primary.low,
            high=primary.high,
        ),
        warning=report.regime.warning,
        trainings=trainings(run),
    )
    comparisons = {judge: compared for judge, (_, compared) in judged.items()}
    return Result(facts, comparisons, sum(run.done(stage)["seconds"] for stage in STAGES))


def trainings(run: Run) -> Trainings:
    """Numbers of models trained for a run (including the instruction stage), and of models taken from another run."""
    shared = run.shared_trainings()
    return Trainings(made=shared.count(False), shared=shared.count(True))


def _judged(run: Run) -> dict[str, Judgement]:
    """The results by the panel's rule (under the headline's name, or `panel`), and by every other judge."""
    import polars as pl

    from curator.judge.stage import deciding_verdicts

    judges = run.recipe.judges
    first = judges.headline if judges.rule == "headline" else f"panel ({judges.rule})"
    verdicts = {first: deciding_verdicts(run)}
    for judge in judges.panel:
        if judge.name != first:
            verdicts[judge.name] = run.verdicts(judge.name)
    measured = {name: pl.concat([frame, run.utility()]) for name, frame in verdicts.items()}
    # Levels of looks are fixed beforehand and hold at any stop, so also for arms that did not decide when to stop.
    level, _, _ = run.stop()
    return {name: _figures(name, frame, run.recipe, level, decides=name == first) for name, frame in measured.items()}


def _figures(judge: str, verdicts: pl.DataFrame, recipe: Recipe, level: float, *, decides: bool) -> Judgement:
    import polars as pl

    from curator.decision.comparisons import anticipated, rate
    from curator.decision.tables import lay_out

    grids = lay_out(verdicts.with_columns(pl.lit(judge).alias("judge")))
    mix, after = anticipated(mix_of(recipe)), grids["harmfulness", "after"]
    rates = {
        arm: BeforeAfter.model_validate(
            {phase: rate(grids["harmfulness", phase], arm, mix) for phase in ("before", "after")}
        )
        for arm in after.arms
    }
    pairs = [pair for pair in PAIRS if set(pair) <= set(after.arms)]
    verify, utility = recipe.verify, grids["utility", "after"]
    contrasts = [
        contrast(after, *pair, mix, verify.decision, level=level, utility=utility, margin=verify.gates.utility)
        for pair in pairs
    ]
    return Judged(decides=decides, rates=rates), contrasts


def contrast(
    grid: Grid,
    first: str,
    second: str,
    mix: Mapping[str, float],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    *,
    level: float | None = None,
    utility: Grid | None = None,
    margin: float | None = None,
) -> dict[str, Any]:
    """The comparison's figures, with `alone`: its separate outcome by a run's own rule, and `reason`: why it has none.

    Args:
        grid: Harmfulness after fine-tuning.
        first, second: The arms.
        mix: As in `decide.assess`.
        thresholds: The recipe's `verify.decision`.
        level: Two-sided error of the interval: that of the run's last look if its seeds were added in looks; null for
            LEVEL.
        utility, margin: Utility after fine-tuning, and the largest loss of it with which a setting counts in the worst
            case.
    """
    from curator.conclusions import LEVEL
    from curator.decision.decide import assess

    level = LEVEL if level is None else level
    grids = {("harmfulness", "after"): grid} | ({("utility", "after"): utility} if utility else {})
    assessed = assess(grids, mix, treatment=first, control=second, level=level, thresholds=thresholds, margin=margin)
    return {**vars(assessed.comparison), "alone": assessed.side, "reason": assessed.reason}


def decided(contrasts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons as one Holm family: each with `p_holm`, and an `outcome` that needs a small adjusted p too.

    A p-value that was read at a look counts relative to that look's level, as if the level were 0.05. Intervals stay
    unadjusted.
    """
    from curator.conclusions import LEVEL
    from curator.decision.beside import OPEN
    from curator.decision.statistics import holm

    read = [(contrast["p"], contrast["level"]) for contrast in contrasts]
    adjusted = holm([None if p is None else min(1.0, p * LEVEL / level) for p, level in read])
    family = []
    for contrast, p in zip(contrasts, adjusted, strict=True):
        outcome, reason = contrast["alone"], contrast["reason"]
        if outcome != OPEN and (p is None or p >= LEVEL):
            outcome, reason = OPEN, f"not clear among {these(len(contrasts), 'comparison', 'comparisons')}"
        family.append({**contrast, "p_holm": p, "outcome": outcome, "reason": reason})
    return family


def set_facts(vectors: Vectors, scores: Scores, arms: Arms) -> dict[str, Sets]:
    """Arm -> figures of its sets, means over distinct sets.

    Args:
        vectors: Vectors of the pool.
        scores: Scores of the same rows.
        arms: (arm, seed) -> ids.
    """
    import numpy as np

    from curator.report.facts import draws_of

    position = {name: row for row, name in enumerate(vectors.ids)}
    middle, spread = float(scores.combined.mean()), float(scores.combined.std())
    score = dict(zip(scores.ids, scores.combined.tolist(), strict=True))
    facts = {}
    for arm, sets in draws_of(arms).items():
        rows = float(np.mean([len(ids) for ids in sets]))
        if not all(name in position for ids in sets for name in ids):
            facts[arm] = Sets(
                rows=rows, sets=len(sets), similarity=None, z=None, log_det=None, vendi=None, pairwise=None
            )
            continue
        each = [diversity(vectors.matrix[[position[name] for name in ids]]) for ids in sets]
        mean = float(np.mean([score[name] for ids in sets for name in ids]))
        facts[arm] = Sets(
            rows=rows,
            sets=len(sets),
            similarity=mean,
            z=(mean - middle) / spread if spread > 0 else 0.0,
            **{name: float(np.mean([figures[name] for figures in each])) for name in each[0]},
        )
    return facts


def diversity(rows: NDArray[np.float32]) -> dict[str, float]:
    """The diversity of `(k, d)` unit rows.

    Returns:
        `log_det`: log det(I + X X') in nats, 0 for no rows, k log 2 for orthogonal rows; `vendi`: the Vendi score, from
            1 for equal rows to k for orthogonal rows; `pairwise`: the mean cosine of two different rows (1 for one
            row).
    """
    import numpy as np

    from curator.pool.semantic import redundancy

    wide = np.asarray(rows, dtype=np.float64)
    # X'X has the nonzero eigenvalues of XX', and is smaller for sets larger than the width.
    log_det = float(np.linalg.slogdet(np.eye(wide.shape[1]) + wide.T @ wide)[1])
    count, total = len(wide), float(np.sum(wide.sum(axis=0) ** 2))
    squares = float(np.sum(wide**2))
    pairwise = (total - squares) / (count * (count - 1)) if count > 1 else 1.0
    return {"log_det": log_det, "vendi": redundancy(wide.astype(np.float32)).vendi, "pairwise": pairwise}


def shared_rows(arms: Arms, first_arm: str, second_arm: str) -> int | None:
    """Number of rows in the first sets of both arms; null if one of them was not run."""
    first, second = arms.get((first_arm, 0)), arms.get((second_arm, 0))
    return None if first is None or second is None else len(set(first) & set(second))
