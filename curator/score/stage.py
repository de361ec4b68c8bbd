"""Stage `scores`: how similar every candidate is to each task, by each representation of the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.pool.stage import refuse_few
from curator.recipe import Recipe, scores_of, steps_taken
from curator.recipe.select import AGGREGATES, OBJECTIVES, Score, names_of, parts_of, rows_wanted
from curator.run import Run, Setting
from curator.run.names import EVERY_SCORE, MEAN_COSINE, TASK_COVER, part_below

if TYPE_CHECKING:
    import polars as pl

    from curator.records import Scores, Vectors


def scores(run: Run, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task, by each representation of the recipe."""
    from curator.run.files import save_array, save_frame, save_scores
    from curator.score.cosine import mean_cosine, task_cover

    r = run.recipe
    data = run.data()
    refuse_few(run, data.pool)  # where another run has read the pool, this one has not looked yet
    wanted = rows_wanted(r.select, data.pool.rows["tokens"]) if data.given is None else data.given.height
    taken = interference_of(run)
    names, compared = [], []
    every = [
        (run.vectors("pool", number), {task.name: run.vectors(f"task-{task.name}", number) for task in r.tasks})
        for number in range(len(r.representations))
    ]
    for number, (pool, tasks) in enumerate(every):
        own = folder / part_below(number)
        compared.append(Compared(pool, tasks, r.weights(), wanted, taken, every))
        found = scored(r.score, compared[-1])
        save_scores(own, found)
        for place, section in enumerate(scores_of(run.recipe)):
            save_scores(run.scores_folder(Setting(0.0, place, number)), scored(section, compared[-1]))
        save_array(own / MEAN_COSINE, mean_cosine(pool, tasks, r.weights()))
        if OBJECTIVES[r.select.objective].task_cover:
            anticipated = {name: vectors for name, vectors in tasks.items() if r.weights()[name] > 0}
            save_array(own / TASK_COVER, task_cover(pool, anticipated))
        middle = ((name, float(sorted(values)[len(values) // 2])) for name, values in found.tasks.items())
        names.append(f"{found.name}; median similarity to {', '.join(f'{name} {value:.3f}' for name, value in middle)}")
    save_frame(folder / EVERY_SCORE, every_score(r, compared))
    return {"summary": names[0]}


class Compared(NamedTuple):
    """One representation's vectors of the pool and of every task, and what scoring by them needs to know.

    `weights` is the task mass; `wanted` how many rows are to be chosen; `taken` the interference scores, by name;
    `every` the vectors of pool and tasks by each representation of the recipe, for their consensus.
    """

    pool: Vectors
    tasks: Mapping[str, Vectors]
    weights: Mapping[str, float]
    wanted: int
    taken: Mapping[str, Scores]
    every: Sequence[tuple[Vectors, Mapping[str, Vectors]]] = ()


def interference_of(run: Run) -> dict[str, Scores]:
    """Every interference score that the recipe asks for, by name, taken on the weights of the base stage."""
    from curator.model.load import load_model, load_tokenizer
    from curator.provenance import set_threads, threads_alone
    from curator.records import Conversations
    from curator.run.files import absolute
    from curator.score.interference import Texts, interference

    r, start, data = run.recipe, run.record("base"), run.data()
    sections = steps_taken(r)
    if not sections:
        return {}
    set_threads(threads_alone(r.engine))
    weights = start["weights"]
    adapters = [absolute(adapter, run.root) for adapter in weights["adapters"]]

    def texts(frame: pl.DataFrame) -> Texts:
        return Texts(frame["id"].to_list(), Conversations(frame))

    found = interference(
        texts(data.pool.rows),
        {task.name: texts(task.train) for task in data.tasks},
        r.weights(),
        sections=sections,
        model=load_model(
            absolute(weights["base"], run.root), revision=weights["revision"], adapters=adapters, master=True
        ),
        tokenizer=load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template),
        taken_on="the base" if r.model.instruction is None else "the base after its instruction stage",
        max_tokens=r.verify.finetune.max_tokens,
        micro_batch=r.verify.finetune.micro_batch,
        batch_tokens=r.representations[0].batch_tokens,
        progress=run.progress_of("scores"),
    )
    return {one.name: one for one in found}


def scored(section: Score, given: Compared) -> Scores:
    """The score that a recipe's section asks for.

    Raises:
        DataError: As `scores.cosine`.
    """
    from curator.score.cosine import consensus, cosine, rank_sum
    from curator.score.interference import name_of

    how: dict[str, Any] = {"aggregate": section.aggregate, "n": section.n, "k": given.wanted}
    if section.kind == "rank-sum":
        return rank_sum([scored(part, given) for part in section.of])
    if section.kind == "interference":
        return given.taken[name_of(section, section.loss)]
    if section.kind == "consensus":
        return consensus([cosine(pool, tasks, given.weights, **how) for pool, tasks in given.every])
    return cosine(given.pool, given.tasks, given.weights, **how)


def every_score(recipe: Recipe, compared: Sequence[Compared]) -> pl.DataFrame:
    """Every score that can be had of these vectors and steps: `id`, and a column `<score>:<task>` for each task.

    By each representation: every aggregator, what the recipe selects by and its parts, and, where interference is
    taken, the rank sum of it and the recipe's cosine. Then those that know no single representation: the consensus of
    several (as the recipe's cosine or consensus is aggregated), and every interference score.
    """
    import polars as pl

    columns: dict[str, Any] = {"id": compared[0].pool.ids}
    for name, given in zip(names_of(recipe.representations), compared, strict=True):
        for section in _sections(recipe, min(len(task.ids) for task in given.tasks.values())):
            found = scored(section, given)
            for task, values in found.tasks.items():
                columns[f"{found.name}, {name}:{task}"] = _in_order(given.pool.ids, found, values)
    apart = list(compared[0].taken.values())
    if len(compared[0].every) > 1:
        agreed = next((part for part in parts_of(recipe.score) if part.kind in ("consensus", "cosine")), Score())
        rows = min(len(task.ids) for _, tasks in compared[0].every for task in tasks.values())
        how = {"kind": "consensus", "n": min(agreed.n, rows)}
        apart.insert(0, scored(agreed.model_copy(update=how), compared[0]))
    for found in apart:
        for task, values in found.tasks.items():
            columns[f"{found.name}:{task}"] = _in_order(compared[0].pool.ids, found, values)
    return pl.DataFrame(columns)


def _sections(recipe: Recipe, rows: int) -> list[Score]:
    own = [part for part in parts_of(recipe.score) if part.kind == "cosine"]
    first = own[0] if own else Score(n=min(Score().n, rows))
    others = {"n": min(first.n, rows)}
    wanted = [*own, *(first.model_copy(update={**others, "aggregate": one}) for one in AGGREGATES)]
    steps = steps_taken(recipe)
    if steps:
        wanted.append(Score(kind="rank-sum", of=[first, steps[0]]))
    if recipe.score.kind == "rank-sum":
        wanted.append(recipe.score)
    return wanted


def _in_order(ids: Sequence[str], found: Scores, values: Any) -> Any:
    place = {one: row for row, one in enumerate(found.ids)}
    return values[[place[one] for one in ids]]
