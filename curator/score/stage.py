"""Stage `scores`: how similar every candidate is to each task, by each representation, with all scores side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.recipe import Recipe, embedders_of, every_part, scores_of, steps_taken
from curator.recipe.pool import Embedder
from curator.recipe.represent import names_of
from curator.recipe.score import AGGREGATES, KINDS, Score, name_of, parts_of
from curator.recipe.select import OBJECTIVES, rows_wanted
from curator.run import Run, Setting
from curator.run.names import EVERY_SCORE, MEAN_COSINE, SCORING, TASK_COVER, part_below

if TYPE_CHECKING:
    import polars as pl

    from curator.model.losses import Losses
    from curator.records import Scores, Vectors
    from curator.represent.encoder import Texts
    from curator.score.format import Space


SpaceName = tuple[str, Embedder | None]
"""A kind of score, and its embedder if that is not the pool's."""


class Compared(NamedTuple):
    """One representation's vectors of the pool and of every task, and what else scoring needs.

    Attributes:
        pool: Vectors of the candidates. `tasks`: vectors of every task's rows, by name.
        weights: Task name -> task mass.
        k: Number of rows to select.
        interference: The interference scores, by name. `models`: the scores of models, by name.
        representations: The vectors of pool and tasks by each representation of the recipe, and their names (`names`):
            for their consensus, and for scores that name one.
        spaces: Vectors of pool and tasks that are computed from the texts, for scores that need them.
    """

    pool: Vectors
    tasks: Mapping[str, Vectors]
    weights: Mapping[str, float]
    k: int
    interference: Mapping[str, Scores]
    representations: Sequence[tuple[Vectors, Mapping[str, Vectors]]] = ()
    names: Sequence[str] = ()
    spaces: Mapping[SpaceName, Space] = MappingProxyType({})
    models: Mapping[str, Scores] = MappingProxyType({})


def scores(run: Run, folder: Path) -> Mapping[str, Any]:
    """Scores every candidate by its similarity to each task, by each representation of the recipe."""
    from curator.provenance import packages
    from curator.run.files import save_array, save_frame, save_scores
    from curator.score.cosine import mean_cosine, task_cover
    from curator.score.models import of_models

    recipe, data = run.recipe, run.data()
    weights = recipe.weights()
    k = rows_wanted(recipe.select, data.pool.rows["tokens"]) if data.given is None else data.given.height
    interference = interference_of(run)
    representations = [
        (run.vectors("pool", number), {task.name: run.vectors(f"task-{task.name}", number) for task in recipe.tasks})
        for number in range(len(recipe.representations))
    ]
    names, spaces = names_of(recipe.representations), spaces_of(run)
    models = of_models(run, run.root / SCORING, k=k)
    compared = [
        Compared(pool, tasks, weights, k, interference, representations, names, spaces, models)
        for pool, tasks in representations
    ]
    for number, vectors in enumerate(compared):
        part = folder / part_below(number)
        score = scored(recipe.score, vectors)
        save_scores(part, score)
        for candidate, section in enumerate(scores_of(recipe)):
            save_scores(run.scores_folder(Setting(0.0, candidate, number)), scored(section, vectors))
        save_array(part / MEAN_COSINE, mean_cosine(vectors.pool, vectors.tasks, weights))
        if OBJECTIVES[recipe.select.objective].task_cover:
            anticipated = {name: rows for name, rows in vectors.tasks.items() if weights[name] > 0}
            save_array(part / TASK_COVER, task_cover(vectors.pool, anticipated))
        if number == recipe.covering:
            medians = [f"{name} {sorted(values)[len(values) // 2]:.3f}" for name, values in score.tasks.items()]
            summary = f"{score.name}; median similarity to {', '.join(medians)}"
    save_frame(folder / EVERY_SCORE, every_score(recipe, compared))
    return {**packages(*(section.id for section in embedders_of(recipe))), "summary": summary}


def interference_of(run: Run) -> dict[str, Scores]:
    """Every interference score that the recipe needs, by name, taken on the weights of the base stage."""
    from curator.model.load import load_model, load_tokenizer
    from curator.provenance import set_threads, threads_alone
    from curator.run.files import absolute
    from curator.score.interference import interference

    recipe = run.recipe
    sections = steps_taken(recipe)
    if not sections:
        return {}
    base, data = run.record("base"), run.data()
    set_threads(threads_alone(recipe.engine))
    weights = base["weights"]

    section = recipe.verify.finetune
    scores = interference(
        _texts(data.pool.rows),
        {task.name: _texts(task.train) for task in data.tasks},
        recipe.weights(),
        sections=sections,
        model=load_model(
            absolute(weights["base"], run.root),
            revision=weights["revision"],
            adapters=[absolute(adapter, run.root) for adapter in weights["adapters"]],
            # In fp32 whatever the recipe's dtype is: a step of a thousandth would vanish in bf16.
        ),
        tokenizer=load_tokenizer(
            base["tokenizer"], revision=base["revision"], chat_template=recipe.model.chat_template
        ),
        taken_on="the base" if recipe.model.instruction is None else "the base after its instruction stage",
        max_tokens=section.max_tokens,
        micro_batch=section.micro_batch,
        batch_tokens=recipe.representations[0].batch_tokens,
        progress=run.progress_of("scores"),
        kept=_kept(run),
    )
    return {score.name: score for score in scores}


def _kept(run: Run) -> Callable[[str, Callable[[], Losses]], Losses]:
    """Keeps the losses of every pass as a piece of the run, which its key finds again."""
    from curator.keys.pieces import measures_key
    from curator.model.losses import EVERY_LOSS, Losses
    from curator.run.files import load_row_values, save_row_values
    from curator.run.folder import make
    from curator.train.job import start_of

    recipe, data = run.recipe, run.data()
    section, ids = recipe.verify.finetune, list(data.pool.rows["id"])
    tasks = {task.name: list(task.train["id"]) for task in data.tasks}

    def kept(name: str, take: Callable[[], Losses]) -> Losses:
        def work(folder: Path) -> Mapping[str, object]:
            losses = take()
            save_row_values(folder, {"id": ids, **{loss: losses.named(loss) for loss in EVERY_LOSS}})
            return {"rows": len(ids)}

        # Ids are hashes of the rows' texts. The losses before a step depend on no task.
        task = tasks.get(name.partition("/")[0], [])
        taken = [name, task, *([section.max_tokens, section.micro_batch] if task else [])]
        key = measures_key(
            "interference", [start_of(run).key], recipe.model.chat_template, [ids, taken],
            recipe.representations[0].batch_tokens,
        )  # fmt: skip
        made = make(run.root / SCORING / "interference" / name, key, work)
        frame = load_row_values(made.folder)
        return Losses(*(frame[loss].to_numpy() for loss in EVERY_LOSS))

    return kept


def spaces_of(run: Run) -> dict[SpaceName, Space]:
    """The vectors that the recipe's scores of texts compare, each computed once."""
    from curator.provenance import set_threads, threads_alone
    from curator.represent.vectors import embedder
    from curator.score.content import contents
    from curator.score.format import formats

    recipe = run.recipe
    spaces: dict[SpaceName, Space] = {}
    for part in every_part(recipe):
        if part.kind not in TEXTUAL or _space(part) in spaces:
            continue
        data = run.data()
        pool, tasks = _texts(data.pool.rows), {task.name: _texts(task.train) for task in data.tasks}
        if part.kind == "format":
            spaces[_space(part)] = formats(pool, tasks, recipe.weights())
            continue
        set_threads(threads_alone(recipe.engine))
        section = part.embedder or recipe.pool.embedder
        embed = embedder(
            section, run.vector_cache(), dtype=run.record("base").get("dtype", "fp32"),
            progress=run.progress_of("scores"),
        )  # fmt: skip
        spaces[_space(part)] = contents(pool, tasks, embed, section.id)
    return spaces


def _space(section: Score) -> SpaceName:
    return section.kind, section.embedder


def _texts(frame: pl.DataFrame) -> Texts:
    from curator.records import Conversations
    from curator.represent.encoder import Texts

    return Texts(frame["id"].to_list(), Conversations(frame))


def scored(section: Score, compared: Compared) -> Scores:
    """The score that a recipe's section names.

    Raises:
        DataError: See `cosine.cosine`.
    """
    return SCORERS[section.kind](section, compared)


def _cosine(section: Score, compared: Compared) -> Scores:
    if section.by is None:
        return _of(section, compared, compared.pool, compared.tasks)
    score = _of(section, compared, *compared.representations[compared.names.index(section.by)])
    # Called as in the table of every score.
    return replace(score, name=f"{score.name}, {section.by}", parameters={**score.parameters, "by": section.by})


def _of(section: Score, compared: Compared, pool: Vectors, tasks: Mapping[str, Vectors]) -> Scores:
    from curator.score.cosine import cosine

    return cosine(pool, tasks, compared.weights, aggregate=section.aggregate, n=section.n, k=compared.k)


def _interference(section: Score, compared: Compared) -> Scores:
    from curator.score.interference import name_of as called

    return compared.interference[called(section, section.loss)]


def _textual(section: Score, compared: Compared) -> Scores:
    score = _of(section, compared, *compared.spaces[_space(section)])
    name = score.name.replace("cosine/", f"{section.kind}/")
    return replace(score, name=f"{name}, {section.embedder.id}" if section.embedder else name)


def _rank_sum(section: Score, compared: Compared) -> Scores:
    from curator.score.cosine import rank_sum

    return rank_sum([scored(part, compared) for part in section.of])


def _consensus(section: Score, compared: Compared) -> Scores:
    from curator.score.cosine import consensus

    return consensus([_of(section, compared, pool, tasks) for pool, tasks in compared.representations])


def _of_models(section: Score, compared: Compared) -> Scores:
    return compared.models[name_of(section)]


SCORERS: dict[str, Callable[[Score, Compared], Scores]] = {
    "cosine": _cosine,
    "interference": _interference,
    "rank-sum": _rank_sum,
    "consensus": _consensus,
    "format": _textual,
    "content": _textual,
    **{name: _of_models for name, kind in KINDS.items() if kind.models is not None},
}
"""How each kind of `recipe.score.KINDS` is computed for all rows of the pool."""

TEXTUAL = tuple(kind for kind, scorer in SCORERS.items() if scorer is _textual)


def every_score(recipe: Recipe, compared: Sequence[Compared]) -> pl.DataFrame:
    """Every score that these vectors and steps allow: `id`, and a column `<score>:<task>` for each task.

    By each representation: every aggregator, what the recipe selects by or its bank compares and its parts, and,
    if interference is computed, the rank sum of it and the recipe's cosine. Then the scores that belong to no single
    representation: the consensus of several (as the recipe's cosine or consensus is aggregated), every interference
    score, and whatever else the recipe selects by or its pilot compares.
    """
    import polars as pl

    first = compared[0]
    columns: dict[str, Any] = {"id": first.pool.ids}
    for name, vectors in zip(names_of(recipe.representations), compared, strict=True):
        for section in _sections(recipe, min(len(task.ids) for task in vectors.tasks.values())):
            score = scored(section, vectors)
            columns |= _columns(first.pool.ids, score, f"{score.name}, {name}")
    if len(first.representations) > 1:
        agreed = next((part for part in parts_of(recipe.score) if part.kind in ("consensus", "cosine")), Score())
        rows = min(len(task.ids) for _, tasks in first.representations for task in tasks.values())
        score = scored(agreed.model_copy(update={"kind": "consensus", "n": min(agreed.n, rows)}), first)
        columns |= _columns(first.pool.ids, score, score.name)
    for score in first.interference.values():
        columns |= _columns(first.pool.ids, score, score.name)
    for section in every_part(recipe):
        if not KINDS[section.kind].of_vectors:
            score = scored(section, first)
            columns |= _columns(first.pool.ids, score, score.name)
    return pl.DataFrame(columns)


def _sections(recipe: Recipe, rows: int) -> list[Score]:
    """The scores of each representation; `rows` is the size of the smallest task, which bounds `n` of a top-mean."""
    compared = [recipe.score, *(scores_of(recipe) if recipe.select.by == "bank" else ())]
    # Whichever representation the recipe names, the table holds these scores for each.
    parts = [part for score in compared for part in parts_of(score)]
    cosines = [part.model_copy(update={"by": None}) for part in parts if part.kind == "cosine"]
    first = cosines[0] if cosines else Score(n=min(Score().n, rows))
    n = min(first.n, rows)
    sections = [*cosines, *(first.model_copy(update={"n": n, "aggregate": aggregate}) for aggregate in AGGREGATES)]
    steps = steps_taken(recipe)
    if steps:
        sections.append(Score(kind="rank-sum", of=[first, steps[0]]))
    return [*sections, *(score for score in compared if score.kind == "rank-sum")]


def _columns(ids: Sequence[str], score: Scores, name: str) -> dict[str, Any]:
    """A column for each task, its values in the order of `ids`."""
    position = {row_id: row for row, row_id in enumerate(score.ids)}
    order = [position[row_id] for row_id in ids]
    return {f"{name}:{task}": values[order] for task, values in score.tasks.items()}
