"""From a recipe to a chosen subset: base, pool, represent, scores, select."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError
from curator.recipe.select import names_of
from curator.recipe.verify import BEST_RANDOM
from curator.run import Setting, Site, below, scores_folder
from curator.steps.choosing import Chosen, choose, summary
from curator.steps.piloting import pilot

if TYPE_CHECKING:
    from curator.records import Scores, Selection


def base(site: Site, folder: Path) -> Mapping[str, Any]:
    """Checks model, tokenizer and chat template, and tunes the base on instructions where the recipe asks for it."""
    from curator.model.chat import check_template
    from curator.model.load import load_config, load_tokenizer, locate, resolve_revision

    model = site.recipe.model
    path, revision = locate(model.id), resolve_revision(model.id, model.revision)
    tokenizer = load_tokenizer(path, revision=revision, chat_template=model.chat_template)
    check_template(tokenizer)
    kind = load_config(path, revision=revision).model_type
    weights: dict[str, Any] = {"base": path, "revision": revision, "adapters": []}
    record = {"tokenizer": path, "revision": revision, "weights": weights, "summary": f"{model.id} ({kind})"}
    if model.instruction is None:
        return record
    from curator.experiment.base import tune
    from curator.pool.sources import missing, read
    from curator.run.files import save_frame

    # Tuning takes hours, and looking at what comes after it a second.
    if problems := missing(site.recipe, site.base):
        raise DataError("\n".join(problems))
    rows, dropped, resolved = read(
        model.instruction.data.model_copy(update={"rows": model.instruction.rows}),
        base=site.base,
        seed=site.recipe.seed,
    )
    save_frame(folder / "rows.parquet", rows)
    save_frame(folder / "dropped.parquet", dropped)
    tuned = tune(
        folder / "rows.parquet",
        root=site.root,
        path=path,
        revision=revision,
        chat_template=model.chat_template,
        section=site.recipe.verify.align,
        seed=site.recipe.seed,
        quantise=model.quantise,
    )
    summary = f"{model.id} ({kind}), tuned on {rows.height} instructions"
    return {**record, **tuned, "resolved": resolved, "summary": summary}


def select(site: Site, folder: Path) -> Mapping[str, Any]:
    """Chooses the curated set (or takes the given one), says why, and draws the sets of all other arms."""
    import numpy as np

    from curator.run.files import (
        load_data,
        load_scores,
        load_vectors,
        save_arms,
        save_frame,
        save_scores,
        save_selection,
    )
    from curator.selection.arms import draw_arms
    from curator.selection.explain import explain, stability

    r, data = site.recipe, load_data(site.folder("pool"))
    rows = data.pool.rows

    def scores(setting: Setting) -> Scores:
        return load_scores(scores_folder(site, setting))

    def chosen(setting: Setting, seed: int) -> Chosen:
        number = setting.representation
        cover = below(site.folder("scores"), number) / "task-cover.npy"
        return choose(
            r.select, rows, load_vectors(below(site.folder("represent"), number), "pool"), scores(setting),
            weight=setting.weight, task_cover=np.load(cover) if cover.exists() else None,
            given=None if data.given is None else data.given["id"].to_list(), seed=seed,
            source_weights=r.pool.weights(),
        )  # fmt: skip

    setting, best_draw = Setting(0.0), None
    if r.select.weight == "auto":
        setting, best_draw = pilot(site, folder / "pilot", data, lambda one: chosen(one, r.seed).selection.ids)
    else:
        setting = Setting(r.select.weight)
    first = chosen(setting, r.seed)
    selection, own_scores = first.selection, scores(setting)
    save_selection(folder, selection)
    save_scores(folder, own_scores)
    for name, frame in zip(("chosen", "others"), explain(*first, own_scores), strict=True):
        save_frame(folder / f"{name}.parquet", frame)
    agreement = stability(_sets(site, setting, selection.ids, chosen), rows.height)
    save_frame(folder / "stability.parquet", agreement)
    given = {name: tuple(frame["id"]) for name, frame in data.arms.items()}
    if best_draw is not None:
        given[BEST_RANDOM] = best_draw
    drawn = draw_arms(
        rows, own_scores, selection, seeds={arm.name: r.verify.seeds_of(arm) for arm in r.verify.arms},
        mean_cosine=np.load(below(site.folder("scores"), setting.representation) / "mean-cosine.npy"),
        budget=r.select.budget_tokens, given=given,
        drawable=None if data.given is None else frozenset(data.candidates["id"]), seed=r.seed,
    )  # fmt: skip
    save_arms(folder, drawn)
    record = {"representation": setting.representation, "weight": setting.weight}
    return {**record, "summary": _summary(site, setting, selection, agreement["overlap"].to_list())}


def _sets(
    site: Site, setting: Setting, ids: Sequence[str], chosen: Callable[[Setting, int], Chosen]
) -> dict[str, Sequence[str]]:
    """The chosen set, and those that other representations and other seeds would have given."""
    r = site.recipe
    names = names_of(r.representations)
    sets = {names[setting.representation]: ids}
    if r.select.data is not None:
        return sets
    for number, name in enumerate(names):
        if number != setting.representation:
            sets[name] = chosen(setting._replace(representation=number), r.seed).selection.ids
    for again in (1, 2) if r.select.stochastic is not None else ():
        sets[f"{names[setting.representation]}, other seed {again}"] = chosen(setting, r.seed + again).selection.ids
    return sets


def _summary(site: Site, setting: Setting, selection: Selection, overlaps: Sequence[float]) -> str:
    size = f"{len(selection.ids)} rows"
    if site.recipe.select.data is not None:
        size += " given"
    if selection.budget_used is not None:
        size += f" of {selection.budget_used:,.0f} tokens"
    if site.recipe.select.weight == "auto":
        size += f", weight {setting.weight:g} by the pilot"
    return f"{size}, {summary(selection, overlaps)}"
