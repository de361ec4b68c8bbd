"""Stage `select`: the chosen set, why each row is in it or not, and the sets of all other arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from curator.errors import SelectionError
from curator.provenance import packages
from curator.recipe.limits import CAPPED_BY, TRAITS
from curator.recipe.represent import names_of
from curator.recipe.select import Select
from curator.recipe.verify import BEST_RANDOM, RANDOM_CAPPED
from curator.run import Run, Setting
from curator.run.names import CHOSEN, DROPPED, FRONTIER, OPENED, OTHERS, REPEATS, STABILITY
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe.augment import Recovery
    from curator.records import Data, Scores, Selection, Vectors
    from curator.selection.limits import Limits
    from curator.selection.problem import Column, Problem


class Chosen(NamedTuple):
    """A selection with the problem and the limits it was solved from, for `explain`."""

    problem: Problem
    bounds: Limits
    selection: Selection


class Choice(NamedTuple):
    """The result of a pilot.

    Attributes:
        setting: The setting that rows are chosen by, or measured by if the rows are known.
        best_draw: The best random draw; null if there is none.
        ids: The rows of the curated set, if no setting chooses them. `words`: how they were chosen.
    """

    setting: Setting
    best_draw: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    words: str = ""


class Pilot(Protocol):
    """A function that chooses by training, which this room does not do; `folder` is that of stage `select`."""

    def __call__(self, run: Run, folder: Path, data: Data, choose: Callable[[Setting], Chosen]) -> Choice: ...


def require_possible(run: Run) -> None:
    """Checks, after stage `pool` and before hours of work, that some set meets the limits. Whether the share of
    vulnerable rows does too is left to stage `select`, since a model tells which rows those are.

    Raises:
        SelectionError: None does; the message names the recipe's key.
    """
    import numpy as np

    from curator.selection.bounds import Ids, bounds_of
    from curator.selection.messages import in_words_of_the_recipe
    from curator.selection.repeats import labels_of, require_groups

    section, data, traits = run.recipe.select, run.data(), run.traits()
    rows, ids, k = data.pool.rows, data.pool.rows["id"], section.k
    if k is not None and k > rows.height:
        dropped = data.pool.dropped.height
        raise SelectionError(
            f"select.k: found {k:,}, but the pool has {these(rows.height, 'row', 'rows')} ({dropped:,} of "
            f"{rows.height + dropped:,} were dropped, see {run.folder('pool') / DROPPED}); lower k to at most "
            f"{rows.height:,}, or add sources"
        )
    if section.vulnerable is not None and k is not None and (unmet := section.vulnerable.unmet(rows.height, k)):
        raise SelectionError(f"select.vulnerable: {unmet}")
    if section.repeats is not None:
        require_groups(section.repeats, labels_of(section.repeats.by, rows, lambda: traits))
    order = ids.arg_sort()
    pool = Ids(tuple(ids.gather(order)), order.to_numpy().astype(np.int64))
    size = data.given.height if data.given is not None and section.budget_tokens is None else k
    try:
        bounds_of(section.model_copy(update={"vulnerable": None}), pool, ids.to_list(), rows, traits, k=size)
    except SelectionError as error:
        raise SelectionError(in_words_of_the_recipe(str(error), section)) from error


def select(run: Run, folder: Path, *, pilot: Pilot) -> Mapping[str, Any]:
    """Chooses the curated set (or takes the given one), explains each row, and draws the sets of all other arms.

    Args:
        pilot: Chooses if the recipe says `weight: auto` or `by: bank`. It trains models, which this room does not.
    """
    from curator.run.files import save_arms, save_frame, save_scores, save_selection
    from curator.run.readers import hazards_of
    from curator.selection import outcome, quotas
    from curator.selection.composition import POOL, compositions, remarks
    from curator.selection.explain import explain, stability
    from curator.selection.floor import frontier_frame
    from curator.selection.frontier import frontier
    from curator.selection.repeats import labels_of, require_groups, table, told
    from curator.selection.vulnerable import vulnerable_rows

    recipe, section, data = run.recipe, run.recipe.select, run.data()
    rows, traits, repeats, vulnerable = data.pool.rows, run.traits(), section.repeats, vulnerable_rows(run)
    groups = {} if repeats is None else require_groups(repeats, labels_of(repeats.by, rows, run.traits))

    def chosen(setting: Setting, seed: int = recipe.seed, ids: Sequence[str] | None = None) -> Chosen:
        number = setting.representation
        return choose(
            section, rows, run.vectors("pool", number), run.scores(setting),
            weight=None if section.coverage is not None else setting.weight, task_cover=run.task_cover(number),
            given=ids if data.given is None else data.given["id"].to_list(), seed=seed,
            source_weights=recipe.pool.weights(), traits=traits, vulnerable=vulnerable,
        )  # fmt: skip

    if section.piloted:
        choice = pilot(run, folder, data, chosen)
    else:
        weight = section.weight if isinstance(section.weight, float) else 0.0  # the weight is found by `coverage`
        choice = Choice(Setting(weight, representation=recipe.covering))
    setting = choice.setting
    curated = chosen(setting, ids=choice.ids)
    selection, scores = curated.selection, run.scores(setting)
    setting = setting._replace(weight=selection.weight)
    save_selection(folder, selection)
    points = selection.frontier or frontier(*curated, stochastic=section.stochastic)
    save_frame(folder / FRONTIER, frontier_frame(points))
    save_scores(folder, scores)
    for file, frame in zip((CHOSEN, OTHERS), explain(*curated, scores), strict=True):
        save_frame(folder / file, frame)
    agreement = stability(_sets(run, setting, selection.ids, chosen), rows.height)
    save_frame(folder / STABILITY, agreement)
    sets = _drawn(run, choice, curated, rows, traits)
    drawn = sets.filter(sets["arm"].is_in([arm.name for arm in recipe.verify.arms]))
    save_arms(folder, drawn)
    summary = _summary(run, choice, selection, agreement["overlap"].to_list())
    if repeats is not None:
        save_frame(folder / REPEATS, table(repeats, groups, dict.fromkeys(drawn["arm"]), selection.ids))
        summary += f"; {told(repeats, groups, selection.ids)}"
    recovery, shipped = recipe.augment.recovery, packages()
    if recovery is not None:
        opened, shipped = _opened(run, recovery, drawn), packages(recovery.openers)
        save_frame(folder / OPENED, opened)
        summary += f"; {these(opened.height, 'refusal', 'refusals')} of the recovery arms with an opener in front"
    composed = compositions(rows, traits, scores, sets, run.vectors("pool", setting.representation),
                            vulnerable=vulnerable)  # fmt: skip
    notes = quotas.remarks(section, _labels(section, rows, traits), selection.ids, hazards_of(run.root),
                           many=recipe.pool.findings.many)  # fmt: skip
    of_arms = {POOL, *drawn["arm"]}  # the sets hold random ones within the caps even where no arm does
    shares = {each.set: each.refusals for each in composed if each.set in of_arms}
    noted = remarks(shares, composable=section.may_compose("refusal"))
    return {
        "representation": setting.representation,
        "weight": setting.weight,
        "summary": "; ".join(filter(None, [summary, outcome.line(composed), *noted, *notes])),
        "notes": notes,
        "composition": outcome.recorded(composed),
        **shipped,
    }


def choose(
    section: Select,
    rows: pl.DataFrame,
    vectors: Vectors,
    scores: Scores,
    *,
    weight: float | None,
    task_cover: Column | None,
    given: Sequence[str] | None = None,
    seed: int,
    source_weights: Mapping[str, float] | None = None,
    traits: pl.DataFrame | None = None,
    vulnerable: Set[str] | None = None,
) -> Chosen:
    """The selection that a recipe's `select` section describes.

    Args:
        section: The recipe's `select`.
        weight: Replaces the section's own, which may be `auto`; null to find it by the section's `coverage`.
        rows: The pool, in the columns of ROW_SCHEMA; groups and tokens are read from it.
        vectors, scores: Vectors and scores of the same rows, in the same order as each other.
        given: Ids of a set to measure instead of choosing one.
        task_cover: `(n,)` in the order of `vectors`, in [0, 1], for conditional gain.
        seed: Seed of everything random.
        source_weights: Label of a source -> how much each of its rows counts in coverage; 1 if it is not named.
        traits: What kind of answer each row has (see `Run.traits`); needed if the section has `answers`, or limits by
            one of `recipe.limits.TRAITS`.
        vulnerable: Ids of the pool's vulnerable rows; needed if the section has `vulnerable`.

    Raises:
        SelectionError: No set meets the section's limits; the message names the recipe's key.
    """
    from curator.selection.bounds import bounds_of, groups_of
    from curator.selection.messages import in_words_of_the_recipe
    from curator.selection.problem import prepare
    from curator.selection.solve import solve

    row_weights = [1.0] * len(vectors.ids)
    if source_weights:
        source_of = dict(rows.select("id", "source").iter_rows())
        row_weights = [source_weights.get(source_of[row_id], 1.0) for row_id in vectors.ids]
    position = {row_id: row for row, row_id in enumerate(rows["id"])}
    tokens = rows["tokens"].gather([position[row_id] for row_id in vectors.ids]).to_list()
    try:
        problem = prepare(
            vectors.matrix,
            scores.combined,
            ids=vectors.ids,
            neighbours=section.neighbours,
            row_weights=None if set(row_weights) == {1.0} else row_weights,
            task_cover=task_cover,
            seed=seed,
        )
        size = len(given) if given is not None and section.budget_tokens is None else section.k
        bounds = bounds_of(section, problem, vectors.ids, rows, traits, k=size, vulnerable=vulnerable)
        selection = solve(
            problem,
            bounds,
            weight=weight,
            coverage=section.coverage if weight is None else None,
            prefer=section.prefer,
            objective=section.objective,
            parameters=section.parameters,
            stochastic=section.stochastic,
            given=given,
            seed=seed,
            lengths=tokens,
        )
        if not selection.ids:  # under a budget, rows are added while their value is positive
            raise SelectionError(
                f"budget: no row that fits it adds to the objective at weight {selection.weight:g}; lower weight, or "
                "raise budget_tokens"
            )
    except SelectionError as error:
        raise SelectionError(in_words_of_the_recipe(str(error), section)) from error
    if section.vulnerable is not None:  # its groups are not the ones counted
        by_row, _ = groups_of(section, rows, traits)
        counts = Counter(str(by_row[position[row_id]]) for row_id in selection.ids)
        named = sorted(set(by_row), key=lambda label: (label is not None, str(label)))
        selection = replace(selection, group_counts={str(label): counts[str(label)] for label in named})
    if set(section.groupings) & {*TRAITS}:  # there may be as many labels as rows
        selection = replace(selection, group_counts={name: n for name, n in selection.group_counts.items() if n})
    return Chosen(problem, bounds, selection)


def _labels(section: Select, rows: pl.DataFrame, traits: pl.DataFrame) -> dict[str, str | None]:
    """Row id -> its group for the quotas; empty without quotas."""
    from curator.selection.groups import grouped

    if section.quotas is None:
        return {}
    labels = grouped(rows, traits, section.groupings)[section.quotas.by]
    return dict(zip(rows["id"], labels.to_list(), strict=True))


def capped(chosen: Chosen) -> Callable[[tuple[str, ...]], tuple[str, ...]] | None:
    """A function from ordered ids to those within a selection's caps on answers: the first ones of each label, in the
    same order. Null if there are no such caps.
    """
    import numpy as np

    from curator.selection.caps import sized

    ids, given = chosen.problem.ids, [each for each in chosen.bounds.caps.given if each.name in CAPPED_BY]
    if not given:
        return None
    caps = sized(given, chosen.bounds.caps.size, np.arange(len(ids)), ids)
    row_of = {row_id: row for row, row_id in enumerate(ids)}

    def within(order: tuple[str, ...]) -> tuple[str, ...]:
        kept = caps.kept(np.array([row_of[row_id] for row_id in order], dtype=np.int64))
        return tuple(row_id for row_id, keep in zip(order, kept.tolist(), strict=True) if keep)

    return within


def _similar_by(run: Run, setting: Setting, scores: Scores) -> int:
    """The number of the representation that the score uses, or of the setting's own if the score names none."""
    name = scores.parameters.get("by")
    return setting.representation if name is None else names_of(run.recipe.representations).index(str(name))


def _sets(
    run: Run, setting: Setting, ids: Sequence[str], chosen: Callable[[Setting, int], Chosen]
) -> dict[str, Sequence[str]]:
    """The chosen set, and the sets that other representations and other seeds would give."""
    recipe = run.recipe
    names = names_of(recipe.representations)
    sets = {names[setting.representation]: ids}
    if recipe.select.data is not None or recipe.select.by == "bank":
        return sets
    for number, name in enumerate(names):
        if number != setting.representation:
            sets[name] = chosen(setting._replace(representation=number), recipe.seed).selection.ids
    for number in (1, 2) if recipe.select.stochastic is not None else ():
        ids = chosen(setting, recipe.seed + number).selection.ids
        sets[f"{names[setting.representation]}, other seed {number}"] = ids
    return sets


def _opened(run: Run, section: Recovery, drawn: pl.DataFrame) -> pl.DataFrame:
    """The rows of the recovery arms that are trained on behind an opener, in the columns of OPENED_SCHEMA."""
    from curator.model.load import load_tokenizer
    from curator.model.prefill import opener_tokens
    from curator.recipe.refusals import refusals_by
    from curator.selection.recovery import openers, refusals, table

    start, least, most = run.record("base"), *section.tokens
    tokenizer = load_tokenizer(
        start["tokenizer"], revision=start["revision"], chat_template=run.recipe.model.chat_template
    )
    cut = opener_tokens(tokenizer, section.texts(), most)
    ids = refusals(drawn, run.traits(), by=refusals_by(run.recipe))
    return table(openers(ids, cut, (least, most), seed=run.recipe.seed), tokenizer)


def _drawn(run: Run, choice: Choice, curated: Chosen, rows: pl.DataFrame, traits: pl.DataFrame) -> pl.DataFrame:
    """The sets of all arms, in the columns of ARM_SCHEMA, and random sets within the caps on answers even where they
    are not an arm: they tell what the choice adds to the caps.
    """
    from curator.selection.arms import draw_arms

    recipe, data, selection, scores = run.recipe, run.data(), curated.selection, run.scores(choice.setting)
    given = {name: tuple(frame["id"]) for name, frame in data.arms.items()}
    given |= {} if choice.best_draw is None else {BEST_RANDOM: choice.best_draw}
    seeds = {arm.name: recipe.verify.seeds_of(arm) for arm in recipe.verify.arms}
    barred = frozenset(recipe.select.exclude)  # none for a given set, which bars its own rows
    drawable = scores.ids if data.given is None else tuple(data.candidates["id"])
    drawable = tuple(row_id for row_id in drawable if row_id not in barred)
    within = capped(curated)
    if within is not None and len(within(drawable)) >= len(selection.ids):
        seeds.setdefault(RANDOM_CAPPED, max(seeds.values()))
    return draw_arms(
        rows, traits, scores, selection, seeds=seeds,
        mean_cosine=run.mean_cosine(_similar_by(run, choice.setting, scores)),
        budget=recipe.select.budget_tokens, given=given,
        drawable=frozenset(drawable) if data.given is not None or barred else None, seed=recipe.seed, capped=within,
    )  # fmt: skip


def _summary(run: Run, choice: Choice, selection: Selection, overlaps: Sequence[float]) -> str:
    from curator.selection.outcome import quality

    size = these(len(selection.ids), "row", "rows")
    if run.recipe.select.data is not None:
        size += " given"
    if selection.budget_used is not None:
        size += f" of {these(round(selection.budget_used), 'token', 'tokens')}"
    if choice.words:  # a set chosen by trials does not maximise the objective, and need not
        return f"{size}, {choice.words}"
    if run.recipe.select.piloted:
        size += f", weight {choice.setting.weight:g} by the pilot"
    floor = selection.parameters.get("floor")
    if floor is not None and floor["prefer"] == "none":
        size += " by coverage alone"
    elif floor is not None:
        end = "least" if floor["prefer"] == "dissimilar" else "most"
        kept = "no coverage" if floor["share"] is None else f"{floor['share']:.1%} of the coverage"
        size += f", the {end} similar found that keep {kept} above random sets within the limits"
        size += f", weight {selection.weight:.3g}"
    return f"{size}, {quality(selection, overlaps)}"
