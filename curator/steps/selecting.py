"""From a recipe to a chosen subset: base, pool, represent, scores, select."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator.errors import SelectionError
from curator.steps.choosing import Chosen, choose, label, rows_wanted
from curator.steps.representing import below, vectors_of
from curator.steps.scoring import Compared, every_score, interference_of, scored
from curator.steps.site import Site


def base(site: Site, folder: Path) -> Mapping[str, Any]:
    """Checks model, tokenizer and chat template, and tunes the base on instructions where the recipe asks for it."""
    from curator.chat import check_template
    from curator.model import load_config, load_tokenizer, locate, resolve_revision

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
    from curator.store import save_frame
    from curator.verify.instruction import tune

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
    )
    summary = f"{model.id} ({kind}), tuned on {rows.height} instructions"
    return {**record, **tuned, "resolved": resolved, "summary": summary}


def pool(site: Site, folder: Path) -> Mapping[str, Any]:
    """Reads, cleans and keeps apart the candidates, tasks, probes and keep rows."""
    from curator.chat import token_counter
    from curator.model import load_tokenizer
    from curator.pool.gather import gather
    from curator.store import save_data, save_frame

    r, start = site.recipe, site.record("base")
    tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template)
    found = gather(
        pool=r.pool, tasks=r.tasks, weights=r.weights(), probes=r.probes, keep=r.verify.keep,
        count_tokens=token_counter(tokenizer), base=site.base, seed=r.seed,
    )  # fmt: skip
    rows, dropped = found.data.pool.rows.height, found.data.pool.dropped.height
    if r.select.k is not None and r.select.k > rows:
        raise SelectionError(
            f"select.k: found {r.select.k}; the pool has {rows} rows ({dropped} of {rows + dropped} were dropped, "
            f"see {folder / 'dropped.parquet'}); lower k to {rows} at most, or add sources"
        )
    save_data(folder, found.data)
    save_frame(folder / "dropped-everywhere.parquet", found.dropped)
    tasks = ", ".join(f"{task.name} {task.train.height}+{task.test.height}" for task in found.data.tasks)
    probes = f"{found.data.harmful.height} harmful and {found.data.benign.height} benign probes"
    summary = f"{rows} candidates ({dropped} dropped), tasks {tasks} train+test rows, {probes}"
    return {"resolved": found.resolved, "summary": summary}


def represent(site: Site, folder: Path) -> Mapping[str, Any]:
    """Turns candidates and task rows into unit vectors, once for each representation of the recipe."""
    from curator.engine.threads import resolved_threads
    from curator.model import load_model, load_tokenizer
    from curator.provenance import set_threads
    from curator.store import absolute, load_data

    r, start, data = site.recipe, site.record("base"), load_data(site.folder("pool"))
    set_threads(resolved_threads(r.engine) * r.engine.workers)
    model = tokenizer = None
    if any(section.kind == "hidden-states" for section in r.representations):
        weights = start["weights"]
        tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template)
        adapters = [absolute(adapter, site.root) for adapter in weights["adapters"]]
        model = load_model(absolute(weights["base"], site.root), revision=weights["revision"], adapters=adapters)
    frames = {"pool": data.pool.rows, **{f"task-{task.name}": task.train for task in data.tasks}}
    rows = sum(frame.height for frame in frames.values())
    made = []
    for number, section in enumerate(r.representations):
        made.append(
            vectors_of(
                section, frames, below(folder, number), model=model, tokenizer=tokenizer, name=r.model.id,
                revision=start["revision"],
                progress=lambda done, seen=number * rows: site.tell.progress(  # type: ignore[misc]
                    "represent", seen + done, rows * len(r.representations)
                ),
            )
        )  # fmt: skip
    told = "; ".join(
        f"{one['width']} numbers ({label(section)})" + (f", {one['truncated']} rows cut" if one["truncated"] else "")
        for one, section in zip(made, r.representations, strict=True)
    )
    return {**made[0], "representations": made, "summary": f"{rows} vectors of {told}"}


def scores(site: Site, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task, by each representation of the recipe."""
    from curator.scores import mean_cosine, task_cover
    from curator.store import load_data, load_vectors, save_array, save_frame, save_scores

    r = site.recipe
    wanted = rows_wanted(r.select, load_data(site.folder("pool")).pool.rows["tokens"])
    taken = interference_of(site)
    names, compared = [], []
    for number in range(len(r.representations)):
        source, own = below(site.folder("represent"), number), below(folder, number)
        pool = load_vectors(source, "pool")
        tasks = {task.name: load_vectors(source, f"task-{task.name}") for task in r.tasks}
        compared.append(Compared(pool, tasks, r.weights(), wanted, taken))
        found = scored(r.score, compared[-1])
        save_scores(own, found)
        save_array(own / "mean-cosine.npy", mean_cosine(pool, tasks, r.weights()))
        if r.select.objective == "conditional-gain":
            anticipated = {name: vectors for name, vectors in tasks.items() if r.weights()[name] > 0}
            save_array(own / "task-cover.npy", task_cover(pool, anticipated))
        middle = ((name, float(sorted(values)[len(values) // 2])) for name, values in found.tasks.items())
        names.append(f"{found.name}; median similarity to {', '.join(f'{name} {value:.3f}' for name, value in middle)}")
    save_frame(folder / "all.parquet", every_score(r, compared))
    return {"summary": names[0]}


def select(site: Site, folder: Path) -> Mapping[str, Any]:
    """Chooses the curated set, says why, and draws the sets of all other arms."""
    import numpy as np

    from curator.select.draws import draw_arms
    from curator.select.explain import explain
    from curator.select.stability import stability
    from curator.store import load_data, load_scores, load_vectors, save_frame, save_selection
    from curator.verify.pilot import Candidate
    from curator.verify.pilot import choose as choose_candidate

    r, rows = site.recipe, load_data(site.folder("pool")).pool.rows
    candidate = choose_candidate([Candidate(float(r.select.weight))], folder / "pilot")

    def chosen(number: int, seed: int) -> Chosen:
        source = below(site.folder("scores"), number)
        cover = source / "task-cover.npy"
        return choose(
            r.select, rows, load_vectors(below(site.folder("represent"), number), "pool"), load_scores(source),
            weight=candidate.weight, task_cover=np.load(cover) if cover.exists() else None, seed=seed,
        )  # fmt: skip

    first = chosen(0, r.seed)
    selection = first.selection
    save_selection(folder, selection)
    scores = load_scores(site.folder("scores"))
    for name, frame in zip(("chosen", "others"), explain(*first, scores), strict=True):
        save_frame(folder / f"{name}.parquet", frame)
    sets = {label(r.representations[0]): selection.ids}
    for number, section in enumerate(r.representations[1:], start=1):
        sets[label(section)] = chosen(number, r.seed).selection.ids
    for again in (1, 2) if r.select.stochastic is not None else ():
        sets[f"{label(r.representations[0])}, other seed {again}"] = chosen(0, r.seed + again).selection.ids
    save_frame(folder / "stability.parquet", stability(sets, rows.height))
    seeds = {arm.name: r.verify.seeds_of(arm) for arm in r.verify.arms}
    mean = np.load(site.folder("scores") / "mean-cosine.npy")
    drawn = draw_arms(
        rows, scores, selection, seeds=seeds, mean_cosine=mean, budget=r.select.budget_tokens, seed=r.seed
    )
    save_frame(folder / "arms.parquet", drawn)
    gap = (
        "no certificate"
        if selection.relative_gap is None
        else f"at most {selection.relative_gap:.1%} short of the best"
    )
    size = f"{len(selection.ids)} rows"
    if selection.budget_used is not None:
        size += f" of {selection.budget_used:,.0f} tokens"
    return {"summary": f"{size}, value {selection.value:.4f}, {gap}"}
