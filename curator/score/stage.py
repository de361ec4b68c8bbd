"""Stage `scores`: how similar every candidate is to each task, by each representation of the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator.pool.stage import refuse_few
from curator.recipe import scores_of
from curator.recipe.select import OBJECTIVES, rows_wanted
from curator.run import Setting, Site, below, scores_folder
from curator.score.every import Compared, every_score, interference_of, scored


def scores(site: Site, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task, by each representation of the recipe."""
    from curator.run.files import load_data, load_vectors, save_array, save_frame, save_scores
    from curator.score.cosine import mean_cosine, task_cover

    r = site.recipe
    data = load_data(site.folder("pool"))
    refuse_few(site, data.pool)  # where another run has read the pool, this one has not looked yet
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
        for place, section in enumerate(scores_of(site.recipe)):
            save_scores(scores_folder(site, Setting(0.0, place, number)), scored(section, compared[-1]))
        save_array(own / "mean-cosine.npy", mean_cosine(pool, tasks, r.weights()))
        if OBJECTIVES[r.select.objective].task_cover:
            anticipated = {name: vectors for name, vectors in tasks.items() if r.weights()[name] > 0}
            save_array(own / "task-cover.npy", task_cover(pool, anticipated))
        middle = ((name, float(sorted(values)[len(values) // 2])) for name, values in found.tasks.items())
        names.append(f"{found.name}; median similarity to {', '.join(f'{name} {value:.3f}' for name, value in middle)}")
    save_frame(folder / "all.parquet", every_score(r, compared))
    return {"summary": names[0]}
