"""From answers to verdicts: every judge of the panel, each asked once for every answer that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import RecipeError
from curator.provenance import folder_identity
from curator.recipe import Recipe
from curator.recipe_verify import Judge
from curator.run import key_of
from curator.steps.site import Site

if TYPE_CHECKING:
    import polars as pl

    from curator.judge import Answering
    from curator.records import Data, Messages, Verdict

JUDGE_VERSION = 1


def settings(site: Site) -> Any:
    """What of the recipe decides the verdicts, for a stage's key: the panel, the files of guards' folders, and the text
    of the user's own metrics.
    """
    judges = site.recipe.judges
    guards = [folder_identity(judge.guard) if judge.guard else None for judge in judges.panel]
    problems = missing_metrics(site.recipe, site.base)
    if problems:
        raise RecipeError(problems)
    return (
        judges.model_dump(),
        guards,
        [file.read_text(encoding="utf-8") for file in metric_files(site.recipe, site.base)],
    )


def missing_metrics(recipe: Recipe, base: Path) -> list[str]:
    """Which of the user's own metrics are no file, one sentence each."""
    gone = [file for file in metric_files(recipe, base) if not file.is_file()]
    return [f"tasks.metric.python: {file} is no file; give the path of a Python file" for file in gone]


def metric_files(recipe: Recipe, base: Path) -> list[Path]:
    """The files of the user's own metrics."""
    own = [task.metric.python for task in recipe.tasks if not isinstance(task.metric, str)]
    return [base / one.rpartition(":")[0] for one in own]


def judge(site: Site, folder: Path) -> Mapping[str, Any]:
    """Gives every judge of the panel every answer to a probe, and every metric its task's own test rows."""
    import polars as pl

    from curator.judge.asking import asked_of, verdict_frame
    from curator.judge.metrics import measure
    from curator.store import load_data, load_frame, save_frame

    data = load_data(site.folder("pool"))
    answers = load_frame(site.folder("answer") / "answers.parquet")
    panel, told = site.recipe.judges.panel, site.progress("judge")
    revisions = {}
    for number, section in enumerate(panel):

        def progress(done: int, total: int, before: int = number) -> None:
            told(before * total + done, len(panel) * total)

        verdicts, revisions[section.name] = verdicts_of(section, answers, data, folder, progress)
        save_frame(folder / "panel" / section.name / "verdicts.parquet", verdicts)
    parts = []
    for task in data.tasks:
        own = answers.filter((answers["kind"] == "utility") & (answers["task"] == task.name))
        parts.append(verdict_frame(own, task.metric, measure(task.metric, asked_of(own, data), base=site.base)))
    save_frame(folder / "utility.parquet", pl.concat(parts))
    headline = site.recipe.judges.headline
    found = load_frame(folder / "panel" / headline / "verdicts.parquet")
    counts = dict(found.group_by("outcome").len().sort("outcome").iter_rows())
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return {"outcomes": counts, "revisions": revisions, "summary": f"{headline}: {summary}"}


def verdicts_of(
    section: Judge, answers: pl.DataFrame, data: Data, stage: Path, progress: Callable[[int, int], None]
) -> tuple[pl.DataFrame, str | None]:
    """One judge's verdicts on every answer to a probe, in the columns of VERDICT_SCHEMA, and the guard's exact
    revision. What it says is kept below `stage`, under a key of its own settings.
    """
    from curator.judge.asking import asked_of, verdict_frame

    exact = None
    if section.guard is not None:
        from curator.model import resolve_revision

        exact = resolve_revision(section.guard, section.revision, GUARD)
        section = section.model_copy(update={"revision": exact})
    identity = folder_identity(section.guard) if section.guard else None
    known = stage / "panel" / section.name / key_of("judge", JUDGE_VERSION, section.model_dump(), identity)
    probes = answers.filter(answers["kind"] != "utility")
    verdicts = _asked(section, asked_of(probes, data), known, progress)
    if section.guard is not None:
        import torch

        torch.cuda.empty_cache()  # the next models may be those of other processes
    return verdict_frame(probes, section.name, verdicts), exact


def _asked(section: Judge, asked: Any, known: Path, progress: Callable[[int, int], None]) -> list[Verdict]:
    from curator.judge import judging
    from curator.judge.known import judged

    return judged(asked, judging(section, answer=_answering()), known, progress=progress)


GUARD = "judges.panel.guard"


def _answering() -> Answering:
    """How a guard model is asked: greedy, with the tokenizer's own chat template. It is loaded once, when needed."""
    loaded: list[Any] = []

    def answer(
        prompts: Sequence[Messages], ids: Sequence[str], model_id: str, revision: str | None, max_new_tokens: int
    ) -> list[tuple[str, str]]:
        from curator.model import load_model, load_tokenizer
        from curator.train.generate import generate

        if not loaded:
            loaded.append(load_model(model_id, revision=revision, key=GUARD))
            loaded.append(load_tokenizer(model_id, revision=revision, key=GUARD))
        model, tokenizer = loaded
        return generate(prompts, ids, model=model, tokenizer=tokenizer, max_new_tokens=max_new_tokens, batch=32)

    return answer
