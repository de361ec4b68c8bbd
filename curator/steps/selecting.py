"""From a recipe to a chosen subset: base, pool, represent, scores, select."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError, SelectionError
from curator.recipe.verify import BEST_RANDOM, CURATED, NONE
from curator.run import Site
from curator.run.folder import write_json
from curator.steps.choosing import Chosen, choose, label, rows_wanted, told
from curator.steps.piloting import Setting, pilot, scores_of, share
from curator.steps.reading import reader
from curator.steps.representing import below, represented
from curator.steps.scoring import Compared, every_score, interference_of, names_of, scored, scores_folder

if TYPE_CHECKING:
    from curator.records import Pool, Scores, Selection


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
    from curator.pool.sources import read
    from curator.run.files import save_frame
    from curator.steps.outlining import missing
    from curator.verify.instruction import tune

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


def pool(site: Site, folder: Path) -> Mapping[str, Any]:
    """Reads, cleans and keeps apart the candidates, tasks, probes and keep rows."""
    from curator.model.chat import token_counter
    from curator.model.load import load_tokenizer
    from curator.pool.gather import gather
    from curator.pool.screen.answers import canned
    from curator.run.files import save_data, save_frame
    from curator.steps.embedding import categorised, embedder, near_probes
    from curator.steps.representing import shared_cache

    r, start, cache = site.recipe, site.record("base"), shared_cache(site)
    tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template)
    places: list[dict[str, Any]] = []
    found = gather(
        pool=r.pool, tasks=r.tasks, weights=r.weights(), probes=r.probes, keep=r.verify.keep,
        arms={arm.name: arm.data for arm in r.verify.arms if arm.data is not None}, given=r.select.data,
        drawn=any(arm.data is None and arm.name not in (CURATED, NONE) for arm in r.verify.arms),
        pilot_share=share(site),
        count_tokens=token_counter(tokenizer), embed=embedder(r.pool.embedder, cache), base=site.base, seed=r.seed,
        scratch=folder, read_all=reader(site, folder, places),
    )  # fmt: skip
    _refuse_few(site, found.data.pool)
    rows, dropped = found.data.pool.rows.height, found.data.pool.dropped.height
    data, hazards = categorised(found.data, r.pool, cache)
    save_data(folder, data)
    if hazards is not None:
        save_frame(folder / "categories.parquet", hazards)
    save_frame(folder / "dropped-everywhere.parquet", found.dropped)
    findings = canned(data.pool.rows, r.pool.findings)
    write_json(folder / "findings.json", {"findings": [asdict(one) for one in findings]})
    if (listed := near_probes(found.data, r.pool, cache)) is not None:
        save_frame(folder / "near-probes.parquet", listed)
    tasks = ", ".join(f"{task.name} {task.train.height}+{task.test.height}" for task in found.data.tasks)
    probes = f"{found.data.harmful.height} harmful and {found.data.benign.height} benign probes"
    if found.data.pilot.height:
        probes += f", {found.data.pilot.height} more for the pilot"
    summary = f"{rows} candidates ({dropped} dropped), tasks {tasks} train+test rows, {probes}"
    summary = "; ".join([summary, *(one.what.rstrip(".") for one in findings)])
    kinds = [one.kind for one in findings]
    return {"resolved": found.resolved, "findings": kinds, "places": places, "summary": summary}


def _refuse_few(site: Site, pool: Pool) -> None:
    rows, dropped, k = pool.rows.height, pool.dropped.height, site.recipe.select.k
    if k is not None and k > rows:
        raise SelectionError(
            f"select.k: found {k}; the pool has {rows} rows ({dropped} of {rows + dropped} were dropped, "
            f"see {site.folder('pool') / 'dropped.parquet'}); lower k to {rows} at most, or add sources"
        )


def represent(site: Site, folder: Path) -> Mapping[str, Any]:
    """Turns candidates and task rows into unit vectors, once for each representation of the recipe."""
    from curator.provenance import set_threads, threads_alone

    r = site.recipe
    set_threads(threads_alone(r.engine))
    places: list[dict[str, Any]] = []
    made = represented(site, folder, places)
    told = "; ".join(
        f"{one['width']} numbers ({label(section)})" + (f", {one['truncated']} rows cut" if one["truncated"] else "")
        for one, section in zip(made, r.representations, strict=True)
    )
    cached = ", ".join(f"{one['cached']}" for one in made)
    summary = f"{made[0]['rows']} vectors of {told}"
    if any(one["cached"] for one in made):
        summary += f"; {cached} of them from the cache"
    return {**made[0], "representations": made, "places": places, "summary": summary}


def scores(site: Site, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task, by each representation of the recipe."""
    from curator.run.files import load_data, load_vectors, save_array, save_frame, save_scores
    from curator.score.cosine import mean_cosine, task_cover

    r = site.recipe
    data = load_data(site.folder("pool"))
    _refuse_few(site, data.pool)  # where another run has read the pool, this one has not looked yet
    wanted = rows_wanted(r.select, data.pool.rows["tokens"]) if data.given is None else data.given.height
    taken = interference_of(site)
    names, compared = [], []
    sources = [below(site.folder("represent"), number) for number in range(len(r.representations))]
    every = [
        (load_vectors(one, "pool"), {task.name: load_vectors(one, f"task-{task.name}") for task in r.tasks})
        for one in sources
    ]
    for number, (pool, tasks) in enumerate(every):
        own = below(folder, number)
        compared.append(Compared(pool, tasks, r.weights(), wanted, taken, every))
        found = scored(r.score, compared[-1])
        save_scores(own, found)
        for place, section in enumerate(scores_of(site)):
            save_scores(scores_folder(site, Setting(0.0, place, number)), scored(section, compared[-1]))
        save_array(own / "mean-cosine.npy", mean_cosine(pool, tasks, r.weights()))
        if r.select.objective == "conditional-gain":
            anticipated = {name: vectors for name, vectors in tasks.items() if r.weights()[name] > 0}
            save_array(own / "task-cover.npy", task_cover(pool, anticipated))
        middle = ((name, float(sorted(values)[len(values) // 2])) for name, values in found.tasks.items())
        names.append(f"{found.name}; median similarity to {', '.join(f'{name} {value:.3f}' for name, value in middle)}")
    save_frame(folder / "all.parquet", every_score(r, compared))
    return {"summary": names[0]}


def select(site: Site, folder: Path) -> Mapping[str, Any]:
    """Chooses the curated set (or takes the given one), says why, and draws the sets of all other arms."""
    import numpy as np

    from curator.run.files import load_data, load_scores, load_vectors, save_frame, save_scores, save_selection
    from curator.select.draws import draw_arms
    from curator.select.explain import explain
    from curator.select.stability import stability

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
    own = {name: tuple(frame["id"]) for name, frame in data.arms.items()}
    if best_draw is not None:
        own[BEST_RANDOM] = best_draw
    drawn = draw_arms(
        rows, own_scores, selection, seeds={arm.name: r.verify.seeds_of(arm) for arm in r.verify.arms},
        mean_cosine=np.load(below(site.folder("scores"), setting.representation) / "mean-cosine.npy"),
        budget=r.select.budget_tokens, own=own,
        drawable=None if data.given is None else frozenset(data.candidates["id"]), seed=r.seed,
    )  # fmt: skip
    save_frame(folder / "arms.parquet", drawn)
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
    return f"{size}, {told(selection, overlaps)}"
