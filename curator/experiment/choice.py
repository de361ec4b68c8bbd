"""Selection by a bank: its findings become candidate sets, which are confirmed against as many random draws.

There are three kinds of candidates, taken in turn: rows that a predictor of harm prefers, as long as the set still
covers the pool; the mixture that the regression of a grouping predicts to last, filled by coverage; and the sets of the
bank that lasted best. The confirmation halves them on seeds that the bank did not use. If a random draw wins, it is the
curated set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curator.conclusions import LEVEL
from curator.errors import RunError
from curator.experiment.bank import plain, run_bank
from curator.experiment.features import VARIED, even, labels_of, of_rows
from curator.experiment.pilot import COVERING, Piloted, confirm, record
from curator.experiment.plan import DRAW, Candidate
from curator.run import Run, Setting
from curator.seeds import derive, generator
from curator.selection.mixture import covering, numbered
from curator.selection.objectives import coverage_term
from curator.selection.problem import standardise
from curator.selection.solve import solve
from curator.selection.stage import Choice, Chosen
from curator.wording import probability, these

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curator.decision.bank import Reading
    from curator.experiment.bank import Banked
    from curator.recipe.select import Select
    from curator.records import Data
    from curator.selection.problem import Column, Rows

KEPT = 0.5
"""Least share of the attainable coverage beyond that of random sets that a set by a predictor keeps."""
ALIKE = 0.9
"""Predictors whose scores of rows correlate more than this would choose the same set; only the stronger one is used."""
COVERS = {"coverage": "facility-location", "log-det": "log-det"}
"""Feature of a set -> the objective that it is the value of."""
SCORE, MIXTURE, OBSERVED = "score", "mixture", "observed"

Ids = tuple[str, ...]


class Proposal(NamedTuple):
    """A set that may become the curated one: its kind, its description, and its rows."""

    kind: str
    what: str
    ids: Ids


class Means(NamedTuple):
    """The inputs from which sets are made.

    Attributes:
        start: The pool, the limits on a set, and the set that covers best. `section`: the recipe's `select`.
        columns, labels: `n` values of each feature of rows, and `n` labels of each kind in VARIED.
    """

    start: Chosen
    section: Select
    columns: Mapping[str, Column]
    labels: Mapping[str, Sequence[str]]

    @property
    def floored(self) -> bool:
        """Whether a set can keep a share of coverage, which needs an objective that no row lowers."""
        return coverage_term(self.section.objective, self.start.problem, self.section.parameters).monotone

    def covering_most(self, objective: str) -> Ids:
        """The set with the largest value of an objective."""
        start = self.start
        if objective == self.section.objective:
            return start.selection.ids
        selection = solve(
            even(start.problem), start.bounds, weight=0.0, objective=objective, stochastic=self.section.stochastic,
            seed=start.selection.seed,
        )  # fmt: skip
        return selection.ids

    def filled(self, shares: Column, group: Rows) -> Ids:
        """A set with these group shares, filled by coverage; see `selection.mixture.covering`."""
        problem, bounds = self.start.problem, self.start.bounds
        term = coverage_term(self.section.objective, problem, self.section.parameters)
        return tuple(problem.ids[row] for row in covering(bounds, shares, group, term, np.zeros(len(group))))


def bank(run: Run, folder: Path, data: Data, choose: Callable[[Setting], Chosen], *, mixtures: int) -> Choice:
    """Runs a bank, analyses it, confirms its candidates, and returns the winner; the table of candidates is stored like
    a pilot's.

    Args:
        folder: The folder of stage `select`.
        choose: Makes the selection of a setting, within the recipe's limits.
        mixtures: Number of sets with random shares in the bank.

    Raises:
        RunError: No set of the bank was scored on every task.
        SelectionError: See `bank.design`.
    """
    from curator.decision.bank import read

    recipe, section = run.recipe, run.recipe.verify.pilot.bank
    measured = Setting(0.0, representation=recipe.covering)
    start = choose(measured)
    banked = run_bank(run, folder, data, start, mixtures=mixtures)
    reading = read(
        *banked, weights=section.mix(recipe.weights()), seed=derive(recipe.seed, "bank"),
        margins=recipe.verify.gates.of_pilots(),
    )  # fmt: skip
    traits = run.traits()
    if not reading.subsets.height:
        raise RunError(
            f"select.by: the bank has {these(reading.left_out, 'set', 'sets')}, and none has a scored answer on every "
            "task, so there is nothing to choose from; give judges that can score these answers, and build again"
        )
    columns = of_rows(start.problem, traits, run.every_score(), section.mix(recipe.weights()))
    labels = labels_of(start.problem, data.pool.rows, traits)
    offered = proposals(reading, banked, Means(start, recipe.select, columns, labels))
    compared, sets = candidates_of(in_turn(offered, section.candidates))
    for number in range(len(compared)):
        draw = Candidate(f"{DRAW}-{number}", kind=DRAW, what="a random set")
        random = generator(derive(recipe.seed, "pilot"), DRAW, number)
        sets[draw.name] = tuple(start.problem.ids[row] for row in plain(start.problem, start.bounds, random))
        compared.append(draw)
    sets[COVERING] = start.selection.ids
    # Even a set that is alone meets a draw.
    piloted = confirm(run, data, compared, sets, first=COVERING, least=1)
    best = winner(piloted)
    record(folder, piloted, compared, _about, chosen=best, probes=data.pilot.height)
    draw_ids = sets[piloted.best_draw.name] if piloted.best_draw else None
    return Choice(measured, draw_ids, sets[best.name], in_words(best))


def proposals(reading: Reading, banked: Banked, means: Means) -> list[Iterator[Proposal]]:
    """The sets that a bank proposes, the best of each kind first: by predictors, by mixtures, and those observed."""
    return [_by_predictors(reading, means), _by_mixtures(reading, banked, means), _observed(reading, banked)]


def _by_predictors(reading: Reading, means: Means) -> Iterator[Proposal]:
    """One set for each predictor that is significant by itself: rows by their score if rows have one, rows balanced
    over the labels that should vary, or those that cover most. Scores that resemble an earlier one are left out.
    """
    taken: list[Column] = []
    for feature, sign, p, adjusted in reading.predictors.select("feature", "sign", "p", "p_holm").iter_rows():
        if sign == 0 or p is None or p > LEVEL:
            continue
        words = (
            f"{'less' if sign > 0 else 'more'} {feature}, p {probability(p)} and Holm-adjusted {probability(adjusted)}"
        )
        if feature in COVERS and sign < 0:
            yield Proposal(SCORE, words, means.covering_most(COVERS[feature]))
        elif feature in VARIED and VARIED[feature][1] == sign:
            kind = VARIED[feature][0]
            names, group = numbered(means.labels[kind])
            ids = means.filled(np.full(len(names), 1.0 / len(names)), group)
            yield Proposal(
                SCORE, f"{words}: equally many rows of each {kind} as far as possible, filled by coverage", ids
            )
        elif feature in means.columns and means.floored:
            column = means.columns[feature]
            known = np.nan_to_num(column, nan=float(np.nanmean(column)))
            score = sign * standardise(known)[0]
            if score.any() and all(float((score * other).mean()) <= ALIKE for other in taken):
                taken.append(score)
                kept = f"{words}, with at least {KEPT:.0%} of the attainable coverage beyond random sets"
                yield Proposal(SCORE, kept, leaning(means.start, means.section, score))


def leaning(start: Chosen, section: Select, score: Column) -> Ids:
    """The set of lowest score among those that keep KEPT of the coverage, see `selection.floor`.

    Args:
        start: The pool, the limits on a set, and the set that covers best.
        score: `(n,)` standardised; lower is better.
    """
    selection = solve(
        start.problem.scored(score), start.bounds, coverage=KEPT, prefer="dissimilar", objective=section.objective,
        parameters=section.parameters, stochastic=section.stochastic, seed=start.selection.seed,
    )  # fmt: skip
    return selection.ids


def _by_mixtures(reading: Reading, banked: Banked, means: Means) -> Iterator[Proposal]:
    """One set for each grouping whose regression predicts unseen sets, the most reliable grouping first."""
    for grouping, mixture in sorted(reading.mixtures.items(), key=lambda each: -(each[1].rho or 0.0)):
        if not mixture.best:
            continue
        label_of = dict(banked.groups.select("id", grouping).iter_rows())
        names, group = numbered([label_of[row_id] for row_id in means.start.problem.ids])
        best = {each.group: each.share for each in mixture.best}
        shares = np.array([best.get(name, 0.0) for name in names])
        words = f"the mixture over {grouping} with the lowest upper limit of predicted harm, filled by coverage"
        yield Proposal(MIXTURE, words, means.filled(shares / shares.sum(), group))


def _observed(reading: Reading, banked: Banked) -> Iterator[Proposal]:
    """The sets of the bank by rising harm after fine-tuning; costly ones come last."""
    sets = {name: (grouping, tuple(ids)) for name, grouping, _, ids in banked.subsets.iter_rows()}
    for name in reading.subsets.sort("costly", "harm", maintain_order=True)["subset"]:
        grouping, ids = sets[name]
        drawn = f"random over {grouping}" if grouping else "a random set"
        yield Proposal(OBSERVED, f"the bank's set {name}, {drawn}", ids)


def in_turn(kinds: Sequence[Iterator[Proposal]], count: int) -> list[Proposal]:
    """The first `count` proposals with different rows, from the kinds in turn as long as each has any."""
    offered, kept = (each for turn in zip_longest(*kinds) for each in turn if each is not None), list[Proposal]()
    for proposal in offered:
        if all(set(proposal.ids) != set(other.ids) for other in kept):
            kept.append(proposal)
        if len(kept) == count:
            break
    return kept


def candidates_of(kept: Sequence[Proposal]) -> tuple[list[Candidate], dict[str, Ids]]:
    """Candidates named by their kind and number, and their rows."""
    compared: list[Candidate] = []
    sets: dict[str, Ids] = {}
    for proposal in kept:
        number = sum(candidate.kind == proposal.kind for candidate in compared)
        compared.append(Candidate(f"{proposal.kind}-{number}", kind=proposal.kind, what=proposal.what))
        sets[compared[-1].name] = proposal.ids
    return compared, sets


def winner(piloted: Piloted) -> Candidate:
    """The best candidate, or the best draw if it ranks before it in their last round: a costly set ranks behind all
    others, then one without a scored answer, then the one with more harm after fine-tuning.
    """
    draw, best = piloted.best_draw, piloted.best
    if draw is None:
        return best

    def rank(candidate: Candidate) -> tuple[bool, bool, float]:
        last = piloted.rounds[candidate.name][-1]
        return last.costly, last.after is None, last.after or 0.0

    return draw if rank(draw) < rank(best) else best


def in_words(best: Candidate) -> str:
    """How the curated set was chosen, for the summary of the stage."""
    if best.drawn:
        return "a random draw, which ranked before the best candidate left in the confirmation"
    return f"{best.name}, chosen by the bank ({best.what})"


def _about(candidate: Candidate) -> Mapping[str, object]:
    return {"kind": candidate.kind, "what": candidate.what}
