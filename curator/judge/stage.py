"""Stage `judge`: every judge of the panel judges each answer that it has not seen, and the panel's rule decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.judge.resources import read_cost, resolved, resources, total_cost, version_of, write_cost
from curator.keys.pieces import embedder_of, verdicts_key
from curator.provenance import packages
from curator.recipe.judge import Judge, Marks
from curator.recipe.sweep import AT
from curator.run import Run
from curator.run.names import BANK, PANEL, PILOT, REGIME, UTILITY, panel_file

if TYPE_CHECKING:
    import polars as pl

    from curator.records import Data


def judge(run: Run, folder: Path) -> Mapping[str, Any]:
    """Runs every judge of the panel on every answer to a probe, and every metric on its task's own test rows."""
    import polars as pl

    from curator.records import PHASES, PREFILLED
    from curator.run.files import save_frame

    data, answers, judges = run.data(), run.answers(), run.recipe.judges
    total, say = len(judges.panel), run.progress_of("judge")
    revisions, clipped = {}, {}
    costs: dict[str, Mapping[str, int]] = {}
    for number, section in enumerate(judges.panel):

        def progress(done: int, of_judge: int, before: int = number) -> None:
            say(before * of_judge + done, total * of_judge)

        verdicts, revisions[section.name], cost = verdicts_of(
            section, answers, data, folder, progress, marks=judges.reasoning
        )
        clipped[section.name] = verdicts.filter(pl.col("reason").str.contains("clipped to")).height
        cost = total_cost([cost, *_of_trials(run, section)])
        costs |= {section.name: cost} if cost["requests"] else {}
        save_frame(folder / panel_file(section.name), verdicts)
    save_frame(folder / UTILITY, utility_of(run, answers, data))
    usual = deciding_verdicts(run).filter(pl.col("phase").is_in(PHASES), pl.col("kind") != PREFILLED)
    counts = dict(usual.group_by("outcome").len().sort("outcome").iter_rows())
    summary = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    name = judges.headline if judges.rule == "headline" else f"panel ({judges.rule})"
    metrics = [task.metric for task in run.recipe.tasks if not isinstance(task.metric, str)]
    shipped = packages(
        *(text for section in judges.panel for text in (section.folder, embedder_of(section.embedding), section.error)),
        *(metric.python.rpartition(":")[0] for metric in metrics),
    )
    return {
        "outcomes": counts,
        "revisions": revisions,
        "clipped": clipped,
        "costs": costs,
        **shipped,
        "summary": f"{name}: {summary}",
    }


def _of_trials(run: Run, section: Judge) -> Iterator[Mapping[str, int]]:
    """What an endpoint has cost in the searches before the experiment: for the regime, in a pilot and in a bank."""
    if section.rubric is not None:
        for beside in (REGIME, PILOT, BANK):
            yield read_cost(run.root / beside / "judge" / PANEL / section.name / verdicts_key(section)).counts()


def utility_of(run: Run, answers: pl.DataFrame, data: Data) -> pl.DataFrame:
    """The metrics of answers to the tasks' own test rows, in the columns of VERDICT_SCHEMA."""
    import polars as pl

    from curator.judge.metrics import measure
    from curator.judge.questions import questions_of, verdict_frame

    parts = []
    for task in data.tasks:
        of_task = pl.col("task").str.split(AT).list.first() == task.name  # at any setting
        rows = answers.filter(pl.col("kind") == "utility", of_task)
        scores = measure(task.metric, questions_of(rows, data, run.recipe.judges.reasoning))
        parts.append(verdict_frame(rows, task.metric, scores))
    return pl.concat(parts)


def deciding_verdicts(run: Run) -> pl.DataFrame:
    """The verdicts that decide, by the panel's rule, in the columns of VERDICT_SCHEMA."""
    from curator.judge.kinds import decide

    judges = run.recipe.judges
    return decide(judges.rule, judges.headline, run.panel())


def judge_answers(
    run: Run, answers: pl.DataFrame, data: Data, stage: Path, progress: Callable[[int, int], None]
) -> pl.DataFrame:
    """The verdicts that decide on some answers; each judge involved judges those that it has not judged yet."""
    from curator.judge.kinds import decide

    judges = run.recipe.judges
    verdicts = {
        judge.name: verdicts_of(judge, answers, data, stage, progress, marks=judges.reasoning)[0]
        for judge in judges.voters
    }
    return decide(judges.rule, judges.headline, verdicts)


def has_verdicts(run: Run, section: Judge) -> bool:
    """Whether a run holds verdicts of a judge with these settings."""
    return (run.folder("judge") / PANEL / section.name / verdicts_key(section)).exists()


def verdicts_of(
    section: Judge,
    answers: pl.DataFrame,
    data: Data,
    stage: Path,
    progress: Callable[[int, int], None],
    *,
    marks: Marks,
) -> tuple[pl.DataFrame, str | None, Mapping[str, int]]:
    """One judge's verdicts on every answer to a probe, in the columns of VERDICT_SCHEMA, its model's version (see
    `version_of`), and what it has cost. Its verdicts are stored below `stage`, under a key of its own settings.

    Args:
        marks: Marks of reasoning, which the judge does not read.
    """
    from curator.judge.kinds import make_judge
    from curator.judge.questions import judged, questions_of, verdict_frame

    section = resolved(section)
    store = stage / PANEL / section.name / verdicts_key(section)
    probes = answers.filter(answers["kind"] != "utility")
    cost = read_cost(store)
    try:
        function = make_judge(section, resources(cost))
        verdicts = judged(
            questions_of(probes, data, marks),
            function,
            store,
            progress=progress,
            # Paid replies of an endpoint are saved more often.
            chunk=8 * section.rubric.concurrency if section.rubric else None,
            unanswered=section.rubric.unanswered if section.rubric else "stop",
        )
    finally:
        write_cost(store, cost)  # the cost counts whether or not judging was completed
    if section.model is not None or section.embedding is not None:
        import torch

        torch.cuda.empty_cache()  # the next models may belong to other processes
    return verdict_frame(probes, section.name, verdicts), version_of(section), cost.counts()
