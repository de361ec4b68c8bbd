"""From a recipe to a chosen subset: base, pool, represent, scores, select."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator.errors import SelectionError
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
    if r.select.k > rows:
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
    """Turns candidates and task rows into unit vectors, centred on the pool where the recipe says so."""
    from curator.engine.threads import resolved_threads
    from curator.model import load_model, load_tokenizer
    from curator.provenance import set_threads
    from curator.represent import centre, mean_of, represent
    from curator.store import absolute, load_data, save_array, save_vectors

    r, start, data = site.recipe, site.record("base"), load_data(site.folder("pool"))
    set_threads(resolved_threads(r.engine) * r.engine.workers)
    model = tokenizer = None
    if r.represent.kind == "hidden-states":
        weights = start["weights"]
        tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template)
        adapters = [absolute(adapter, site.root) for adapter in weights["adapters"]]
        model = load_model(absolute(weights["base"], site.root), revision=weights["revision"], adapters=adapters)
    frames = {"pool": data.pool.rows, **{f"task-{task.name}": task.train for task in data.tasks}}
    total, before, truncated = sum(frame.height for frame in frames.values()), 0, 0
    mean = None
    for name, frame in frames.items():
        vectors = represent(
            frame["id"].to_list(), frame["messages"].to_list(), section=r.represent, model=model, tokenizer=tokenizer,
            name=r.model.id, revision=start["revision"],
            progress=lambda done, _, seen=before: site.tell.progress("represent", seen + done, total),  # type: ignore[misc]
        )  # fmt: skip
        before, truncated = before + frame.height, truncated + vectors.truncated
        if r.represent.centre:
            mean = mean_of(vectors) if mean is None else mean
            vectors = centre(vectors, mean)
        save_vectors(folder, name, vectors)
    if mean is not None:
        save_array(folder / "mean.npy", mean)
    width = vectors.matrix.shape[1]
    cut = f", {truncated} rows cut to {r.represent.max_tokens} tokens" if truncated else ""
    return {"truncated": truncated, "width": width, "summary": f"{total} vectors of {width} numbers{cut}"}


def scores(site: Site, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task."""
    from curator.scores import cosine, mean_cosine
    from curator.store import load_vectors, save_array, save_scores

    r, source = site.recipe, site.folder("represent")
    pool = load_vectors(source, "pool")
    tasks = {task.name: load_vectors(source, f"task-{task.name}") for task in r.tasks}
    scores = cosine(pool, tasks, r.weights(), aggregate=r.score.aggregate, n=r.score.n, k=r.select.k)
    save_scores(folder, scores)
    save_array(folder / "mean-cosine.npy", mean_cosine(pool, tasks, r.weights()))
    middle = ", ".join(f"{name} {float(sorted(values)[len(values) // 2]):.3f}" for name, values in scores.tasks.items())
    return {"name": scores.name, "summary": f"{scores.name}; median similarity to {middle}"}


def select(site: Site, folder: Path) -> Mapping[str, Any]:
    """Chooses the curated set, and draws the sets of all other arms."""
    import numpy as np

    from curator.select.choose import select as choose_rows
    from curator.select.draws import draw_arms
    from curator.store import load_data, load_scores, load_vectors, save_frame, save_selection
    from curator.verify.pilot import Candidate, choose

    r = site.recipe
    scores, vectors = load_scores(site.folder("scores")), load_vectors(site.folder("represent"), "pool")
    candidate = choose([Candidate(r.select.weight)], folder / "pilot")
    selection = choose_rows(
        vectors.matrix, scores.combined, r.select.k, ids=scores.ids, weight=candidate.weight,
        objective=r.select.objective, neighbours=r.select.neighbours, seed=r.seed,
    )  # fmt: skip
    save_selection(folder, selection)
    seeds = {arm.name: r.verify.seeds_of(arm) for arm in r.verify.arms}
    rows = load_data(site.folder("pool")).pool.rows
    mean = np.load(site.folder("scores") / "mean-cosine.npy")
    drawn = draw_arms(rows, scores, selection, seeds=seeds, mean_cosine=mean, seed=r.seed)
    save_frame(folder / "arms.parquet", drawn)
    gap = (
        "no certificate"
        if selection.relative_gap is None
        else f"at most {selection.relative_gap:.1%} short of the best"
    )
    return {"summary": f"{r.select.k} rows, value {selection.value:.4f}, {gap}"}
