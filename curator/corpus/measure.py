"""Whether a corpus's safety lasts: the verification grid with the corpus as its curated arm."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from curator.conclusions import BeforeAfter
from curator.corpus.model import Measured
from curator.corpus.request import Request, own_probes
from curator.judge.stage import deciding_verdicts
from curator.pipeline import build, make_way
from curator.recipe import Recipe
from curator.recipe.file import dump, parse, read, refusal
from curator.recipe.select import unchosen
from curator.recipe.sweep import mix_of
from curator.recipe.verify import CURATED, MATCHED_RANDOM, NONE, RANDOM, Looks
from curator.report.model import read_report
from curator.run import Progress, Run
from curator.run.folder import write_text
from curator.run.readers import report_file


def recipe_of(recipe: Recipe, request: Request) -> Recipe:
    """The recipe with the corpus given as its curated arm.

    With a pool the control is a random subset of it, matched in size, refusals, categories and lengths; without one the
    corpus is compared only with no alignment. Tasks are those of the audit, with the settings of the recipe's task of
    the same name, or else of its first task. Probes that the audit names itself replace the recipe's harmful ones.

    Raises:
        RecipeError: The recipe does not fit the corpus.
    """
    contents = recipe.model_dump(by_alias=True)
    contents["name"] = f"{recipe.name}-audit"
    contents["select"] |= {**unchosen(), "data": request.corpus.model_dump(by_alias=True)}
    contents["pool"]["sources"] = [(request.pool or request.corpus).model_dump(by_alias=True)]
    own_seeds = next((arm.seeds for arm in recipe.verify.arms if arm.name == NONE), None)
    names = [CURATED, MATCHED_RANDOM, RANDOM, NONE] if request.pool is not None else [CURATED, NONE]
    contents["verify"]["arms"] = [{"name": name, "seeds": own_seeds if name == NONE else None} for name in names]
    contents["verify"]["control"] = MATCHED_RANDOM if request.pool is not None else NONE
    contents["verify"]["forgetting"] = None
    contents["verify"]["pilot"] = {}  # the pilot chooses a weight, which is not needed here
    contents["augment"] = {}  # its arms are left out
    if recipe.verify.log_odds is not None and recipe.verify.log_odds.kind == "pilot":
        contents["verify"]["log_odds"] = None  # it learns from the pilot
    if request.pool is None and isinstance(recipe.verify.seeds, Looks):
        contents["verify"]["seeds"] = recipe.verify.seeds.max  # looks serve a decision, which is not made here
    if request.pool is None and own_seeds is not None:
        contents["verify"]["arms"][-1]["seeds"] = None  # the seeds of both arms are paired
    if request.probes != own_probes(recipe):
        contents["probes"]["harmful"] = [source.model_dump(by_alias=True) for source in request.probes.values()]
    template = contents["tasks"][0]
    known = {task.name: section for task, section in zip(recipe.tasks, contents["tasks"], strict=True)}
    contents["tasks"] = [
        {**known.get(name, template), "name": name, "train": source.model_dump(by_alias=True), "anticipated": True}
        for name, source in request.tasks.items()
    ]
    for task in contents["tasks"]:
        if task["train"]["hub"] is None:  # only data sets on the Hub have splits
            task["test"] = {**task["test"], "split": None}
    name = "the recipe of the audit"
    try:
        return parse(dump(Recipe.model_validate(contents, by_alias=True, by_name=False)), name=name)
    except ValidationError as error:
        raise refusal(error, name) from None


def measured(path: Path, request: Request, root: Path, *, progress: Progress) -> Measured:
    """Runs the grid, and returns its figures; pieces that an earlier run finished under the same settings are kept.

    Raises:
        CuratorError: See `pipeline.build`.
    """
    from curator.decision.comparisons import anticipated, rate
    from curator.decision.retained import retained
    from curator.decision.tables import lay_out

    recipe = recipe_of(read(path), request)
    write_text(root / "audit-recipe.yaml", dump(recipe))
    make_way(recipe, root)  # audits of one corpus by other recipes share its folder
    build(recipe, root, until="report" if request.pool is not None else "judge", progress=progress)
    grids = lay_out(deciding_verdicts(Run(recipe, root)))
    mix = anticipated(mix_of(recipe))
    rates = {
        arm.name: BeforeAfter.model_validate(
            {phase: rate(grids["harmfulness", phase], arm.name, mix) for phase in ("before", "after")}
        )
        for arm in recipe.verify.arms
    }
    decision = None if request.pool is None else read_report(report_file(root)).decision
    return Measured(
        run=str(root),
        arms=rates,
        retained=retained(grids, mix, thresholds=recipe.verify.decision),
        outcome=decision.outcome if decision else None,
        reason=decision.reason if decision else None,
        sentence=decision.sentence if decision else None,
    )
