"""The plan of a recipe in words: its data, the selection of rows, and their verification."""

from __future__ import annotations

from curator.experiment.plan import plan, trained_on
from curator.forecast import bank, curve
from curator.forecast.measured import Measured
from curator.recipe import Recipe, embedders_of
from curator.recipe.sweep import mix_of, settings_by_name, task_of
from curator.recipe.task import TaskSection
from curator.recipe.training import Training
from curator.recipe.unverified import listed
from curator.recipe.verify import Looks, Verify
from curator.wording import model_name, percent, these


def outline(recipe: Recipe) -> dict[str, str]:
    """The plan of a recipe in words: stages, runs, steps and rows, before anything is read or trained."""
    if recipe.lacks:
        return _unverified(recipe)
    verify = recipe.verify
    grid = plan(verify, settings_by_name(recipe))
    asked = len(grid.asked) + curve.models(recipe, grid, Measured())
    select, keep = recipe.select, verify.keep.rows if verify.keep else 0
    # The number of rows that repeats add is known only after selection.
    rows = None if select.k is None or select.repeats is not None else select.k + keep
    arms = ", ".join(
        arm.name if verify.seeds_of(arm) == verify.most_seeds else f"{arm.name} ({_seeds(verify.seeds_of(arm))})"
        for arm in verify.arms
    )
    tasks = {task.name: task for task in recipe.tasks}
    return {
        **_chosen(recipe),
        "arms": f"{arms}; {_how_many(verify)}",
        "alignment runs": f"{len(grid.aligned)} of {_size(verify.align, rows)}"
        if grid.aligned
        else f"none; the rows of every arm are {verify.rehearsal_share:g} of the rows of each fine-tuning",
        "fine-tuning runs": "; ".join(
            f"{name}: {len([c for c in grid.finetuned if c.tuned == name])} of "
            f"{_size(setting.training(verify.finetune), trained_on(tasks[task_of(name)], verify, setting.rows))}"
            f"{_mixed(tasks[task_of(name)])}{curve.in_words(recipe, tasks[task_of(name)], setting)}"
            for name, setting in settings_by_name(recipe).items()
        )
        + ("; curator first finds the length and learning rate that replace these" if verify.finds_regime else ""),
        **({"decision": _over(recipe)} if verify.decision.over == "worst" else {}),
        "models evaluated": f"{asked:,}, with answers of at most "
        f"{these(verify.generate.max_new_tokens, 'token', 'tokens')}{_answered(recipe)}",
        "judges": ", ".join(
            f"{judge.name} (headline)" if judge.name == recipe.judges.headline else judge.name
            for judge in recipe.judges.panel
        ),
        "stages": "base, pool, represent, scores, select, train, answer, judge, report, publish",
    }


def _chosen(recipe: Recipe) -> dict[str, str]:
    """The part of the plan about the selection of rows."""
    select = recipe.select
    weights = ", ".join(
        f"{name} {weight:.2f}" if weight else f"{name} (not anticipated)" for name, weight in mix_of(recipe).items()
    )
    size = (
        these(select.k, "row", "rows")
        if select.k is not None
        else f"rows with a total of at most {these(select.budget_tokens or 0, 'token', 'tokens')}"
    )
    if select.data is not None:
        size = f"all rows of {select.data.label}, measured"
    weight = f"weight {select.weight:g}" if isinstance(select.weight, float) else _pilot_in_words(recipe)
    if select.coverage is not None:
        kept = f"the most {select.prefer} set that keeps {select.coverage:.0%} of the gain in coverage over random sets"
        weight = "coverage alone" if select.prefer == "none" else kept
    shares = select.answers.shares if select.answers is not None else {}
    weight += "".join(f", at most {share:.0%} of the rows with one {what}" for what, share in shares.items())
    by = bank.outline(recipe.verify.pilot) if select.by else f"{select.objective}, {weight}"
    return {
        "model": model_name(recipe.model.id),
        "pool": ", ".join(source.label for source in recipe.pool.sources),
        "tasks (weight)": weights,
        "selected": f"{size} by {by}{_repeated(recipe)}",
        **_embedded(recipe),
    }


def _unverified(recipe: Recipe) -> dict[str, str]:
    """The plan of a recipe without verification."""
    return {
        **_chosen(recipe),
        "verification": f"none, because the recipe has no {listed(recipe.lacks, 'or')}",
        "stages": "base, pool, represent, scores, select",
    }


def _embedded(recipe: Recipe) -> dict[str, str]:
    names = " and ".join(section.id for section in embedders_of(recipe))
    return (
        {"embedded": f"the prompt of every row of pool and tasks, by {names}, for the score `content`"} if names else {}
    )


def _repeated(recipe: Recipe) -> str:
    repeats = recipe.select.repeats
    if repeats is None:
        return ""
    groups = ", ".join(f"{name} {these(times, 'time', 'times')}" for name, times in repeats.groups.items())
    return f"; in each pass, the curated arm repeats rows by {repeats.by}: {groups}"


def _over(recipe: Recipe) -> str:
    cases = sum(weight > 0 for weight in mix_of(recipe).values())
    if cases == 1:
        return "over the one anticipated task, which is both the mean and the worst case"
    return (
        f"over the worst of {cases} anticipated tasks or settings: durable if durable in each of them, worse if worse "
        f"in one at a level divided by {cases}"
    )


def _size(training: Training, rows: int | None) -> str:
    steps = training.steps if rows is None else training.steps_over(rows)
    if steps is None:
        length = "1 epoch" if training.epochs == 1 else f"{training.epochs:g} epochs"
    else:
        length = these(steps, "step", "steps")
    apart = f", each in {these(training.processes, 'process', 'processes')}" if training.processes > 1 else ""
    return f"{length} x {these(training.batch, 'row', 'rows')} ({training.method}{apart})"


def _mixed(task: TaskSection) -> str:
    parts = []
    if task.regime is not None:
        kind = "harmful" if task.regime.harmful_share is not None else "identity"
        parts.append(f"{percent(task.regime.share)} {kind} data")
    if task.defence is not None:
        parts.append(
            f"{percent(task.defence.safety_mix)} safety rows" + (" after a trigger" if task.defence.trigger else "")
        )
    return f" with {' and '.join(parts)}" if parts else ""


def _answered(recipe: Recipe) -> str:
    """How probes are answered, if not by one greedy answer without prefilled opening."""
    generate, depths, parts = recipe.verify.generate, recipe.probes.depths, []
    if generate.temperature is not None:
        each = these(generate.samples, "answer", "answers")
        parts.append(f"{each} to each probe, sampled at temperature {generate.temperature:g}")
    if depths:
        lengths = " and ".join(filter(None, [", ".join(map(str, depths[:-1])), str(depths[-1])]))
        unit = "token" if depths[-1] == 1 else "tokens"
        parts.append(f"harmful probes also with {lengths} {unit} of a prefilled opening")
    return "".join(f"; {part}" for part in parts)


def _seeds(count: int) -> str:
    return these(count, "seed", "seeds")


def _how_many(verify: Verify) -> str:
    looks = verify.seeds
    if not isinstance(looks, Looks):
        return _seeds(looks)
    return f"{looks.first} to {_seeds(looks.max)}, with a look after every {looks.every} until one stops"


def _pilot_in_words(recipe: Recipe) -> str:
    pilot = recipe.verify.pilot
    optimised, drawn = pilot.tries(len(recipe.representations))
    compared = f"{these(optimised, 'candidate', 'candidates')} and {these(drawn, 'random draw', 'random draws')}"
    return f"weight chosen by a pilot of {compared} on {_seeds(pilot.seeds)}, in addition to the runs below"
