"""Inputs of a recipe other than data that this machine lacks, and reasons why a run cannot decide; imports nothing
heavy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from curator.errors import DataError, RecipeError
from curator.forecast import panel
from curator.forecast.bank import unseen
from curator.forecast.curve import merged
from curator.forecast.power import paired
from curator.forecast.workload import unrehearsed
from curator.keys.pieces import embedder_of
from curator.model.chat import TEMPLATES
from curator.recipe import Recipe, embedders_of
from curator.recipe.file import Keys
from curator.recipe.inputs import template_text
from curator.recipe.verify import NONE, Looks
from curator.wording import these


def lacking(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """Missing folders of models, templates, judges' files, metrics and interpreters, by their keys."""
    for keys, model_id, _ in _models(recipe):
        if (problem := panel.no_folder(model_id)) is not None:
            yield keys, problem
    templates: list[tuple[Keys, str | None]] = [(("model", "chat_template"), recipe.model.chat_template)]
    several = isinstance(recipe.represent, list)
    for number, section in enumerate(recipe.representations):
        templates.append((("represent", *((number,) if several else ()), "chat_template"), section.chat_template))
    for keys, template in templates:
        if template is None or template in TEMPLATES:
            continue
        if not panel.place(template).is_file():
            yield keys, f"found {template!r}; allowed: {', '.join(TEMPLATES)}, or the path of a file of Jinja text"
            continue
        try:
            template_text(panel.place(template))
        except RecipeError as error:
            yield keys, str(error).partition(": ")[2]
    if recipe.pool.refusals.embedding is not None:
        yield from panel.no_head(("pool", "refusals"), recipe.pool.refusals.embedding)
    yield from panel.lacking(recipe)
    recovery = recipe.augment.recovery
    if recovery is not None and recovery.openers is not None and not panel.place(recovery.openers).is_file():
        yield (
            ("augment", "recovery", "openers"),
            f"no file {recovery.openers}; give the path of a text file with one opener per line",
        )
    python = recipe.verify.generate.python
    if python is not None and shutil.which(python) is None:
        yield ("verify", "generate", "python"), f"cannot run {python}; give a Python interpreter"


def unusual(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """Reasons why a run cannot decide, whatever it measures, by key; empty for a recipe that only chooses rows."""
    if recipe.lacks:
        return
    if not recipe.probes.benign:
        yield (
            ("probes", "benign"),
            "no benign probes, so over-refusal is not measured and the outcome cannot be 'durable'; add benign probes",
        )
    seeds, least = recipe.verify.seeds, recipe.verify.decision.least_seeds
    pairs = paired(recipe)
    if not isinstance(seeds, Looks) and pairs < least:
        yield (
            ("verify", "seeds"),
            f"found {these(pairs, 'paired seed', 'paired seeds')}; a decision needs at least {least} "
            "(verify.decision.least_seeds); raise seeds",
        )
    regime, decision = recipe.verify.regime, recipe.verify.decision
    if regime is not None and (regime.after[0] < decision.floor or regime.after[1] > decision.ceiling):
        yield (
            ("verify", "regime", "after"),
            f"found {regime.after[0]:g} to {regime.after[1]:g}, so the search may choose a setting at which no set can "
            f"be better (verify.decision: floor {decision.floor:g}, ceiling {decision.ceiling:g}); give a range "
            "between these",
        )
    if (
        recipe.pool.categorise is not None
        and recipe.select.quotas is not None
        and recipe.select.quotas.by == "category"
    ):
        yield (
            ("select", "quotas"),
            "rows without a category get that of the nearest hazard (pool.categorise), and the quotas count them as if "
            "it were known; stages pool and select say how many of these categories are unsure",
        )
    yield from _by_heart(recipe)
    yield from _other_steps(recipe)
    yield from unrehearsed(recipe)
    if (sentence := unseen(recipe)) is not None:
        yield ("tasks",), sentence
    yield from merged(recipe)


def _other_steps(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """A warning if the search for the regime aligns the control for fewer steps than a build does."""
    verify = recipe.verify
    if (
        verify.regime is not None
        and recipe.select.repeats is not None
        and verify.align.epochs is not None
        and verify.exposure != "epochs"
        and verify.control != NONE
    ):
        yield (
            ("verify", "regime"),
            "the search aligns the control before the curated set is known, for the epochs of a set without repeats, "
            "while a build aligns every arm for as many steps as the curated set takes with its repeats "
            "(select.repeats), so the control of a build may be less harmful than the search found; give verify.align "
            "its length in steps",
        )


def _by_heart(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """A warning if probes get an opening that the recovery arms are trained on."""
    recovery, probes = recipe.augment.recovery, recipe.probes
    try:
        openers = recovery.texts() if recovery is not None and probes.depths else ()
    except (RecipeError, DataError):  # an error of the file, which is reported where it is read
        return
    begins = probes.opens_with.split()[:2]
    if any(opener.split()[:2] == begins for opener in openers):
        yield (
            ("augment", "recovery", "openers"),
            f"an opener begins with {' '.join(begins)!r}, as probes.opening does, so harmfulness after that opening "
            "would show what the recovery arms memorised; change one of the two",
        )


def looked_at(recipe: Recipe) -> tuple[list[tuple[Keys, str]], list[tuple[Keys, str]]]:
    """Reasons why the recipe's model cannot be used, and notes on how it is used, by key.

    For the sandbox model only openings of answers are checked, and for a model that is not on this machine nothing.
    Loads transformers, but no weights.
    """
    sandbox = recipe.model.id == panel.SANDBOX
    if sandbox and not recipe.probes.depths and recipe.augment.recovery is None:
        return [], []
    from curator.experiment.base import Looked, looked_here, problem_of_opening, trains_adapter

    opening = problem_of_opening(recipe)
    here = Looked([], []) if sandbox else looked_here(recipe.model, lora=trains_adapter(recipe))
    faults = [*map(str, here.problems), *([opening] if opening else [])]
    problems = [problem.partition(": ") for problem in faults]
    return (
        [(tuple(key.split(".")), sentence) for key, _, sentence in problems],
        [(("model", "id"), note) for note in here.notes],
    )


def not_fetched(recipe: Recipe) -> Iterator[str]:
    """A sentence about the models on the Hub of which this machine has nothing, so that they were not checked."""
    from huggingface_hub import try_to_load_from_cache

    fitted = (recipe.pool.refusals.embedding, *(judge.embedding for judge in recipe.judges.panel))
    heads = [head for head in fitted if head is not None and (panel.place(head) / "head.json").is_file()]
    named = [(model_id, revision) for _, model_id, revision in _models(recipe)]
    named += [(judge.model, judge.revision) for judge in recipe.judges.panel if judge.model is not None]
    named += [(embedder, None) for head in heads if (embedder := embedder_of(head)) is not None]
    absent = [
        model_id
        for model_id, revision in dict.fromkeys(named)
        if panel.no_folder(model_id) is None
        and panel.on_hub(model_id)
        and not isinstance(try_to_load_from_cache(model_id, "config.json", revision=revision), str)
    ]
    which, are = ("the model", "it is") if len(set(absent)) == 1 else ("the models", "they are")
    if absent:
        yield (
            f"whether {which} {', '.join(dict.fromkeys(absent))} can be used, because {are} not in the Hub's cache on "
            "this machine, and `curator check` downloads nothing"
        )


def _models(recipe: Recipe) -> Iterator[tuple[Keys, str, str | None]]:
    """Key, id and revision of every model or embedder that the run loads, apart from those of judges."""
    yield ("model", "id"), recipe.model.id, recipe.model.revision
    several = isinstance(recipe.represent, list)
    for number, section in enumerate(recipe.representations):
        if section.id is not None:
            yield ("represent", *((number,) if several else ()), "id"), section.id, section.revision
    for embedder in dict.fromkeys([*([recipe.pool.embedder] if recipe.pool.embeds else []), *embedders_of(recipe)]):
        keys = ("pool" if embedder == recipe.pool.embedder else "score", "embedder", "id")
        yield keys, embedder.id, embedder.revision
