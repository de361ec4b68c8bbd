"""What a bank proposes, which of it wins, and whole small runs that choose by one."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from curator.conclusions.bank import GroupShare, Mixture
from curator.conclusions.secondary import PilotRound
from curator.decision.bank import read
from curator.errors import RunError
from curator.experiment import bank as experiment_bank
from curator.experiment import choice, grid, pilot
from curator.experiment import features as feature
from curator.experiment.bank import SUBSET_SCHEMA, Banked, design, run_bank
from curator.experiment.choice import (
    KEPT,
    Means,
    Proposal,
    candidates_of,
    in_turn,
    in_words,
    leaning,
    proposals,
    winner,
)
from curator.experiment.features import features, groups_of, labels_of, of_rows, of_sets
from curator.experiment.pilot import Piloted
from curator.experiment.plan import Candidate
from curator.pipeline import build
from curator.recipe.bank import Bank
from curator.recipe.select import Select
from curator.run import Run
from curator.selection.certificate import random_mean
from curator.selection.limits import limits
from curator.selection.objectives import coverage_term
from curator.selection.problem import prepare, standardise
from curator.selection.solve import solve
from curator.selection.stage import Chosen
from curator.wording import probability
from tests.experiment.test_bank import invented
from tests.small_run import recipe, report_of

SECTION = Select(k=15, by="bank")


@pytest.fixture(scope="module")
def world():
    """A bank over a pool of 120 rows in which harm rises with words, and nothing else matters."""
    rows, traits, vectors = invented(120)
    problem = prepare(vectors.matrix, np.zeros(120), ids=vectors.ids, neighbours=8)
    bounds = limits(problem, 15)
    start = Chosen(problem, bounds, solve(problem, bounds, weight=0.0))
    groups = groups_of(rows, traits, vectors, ["opener", "answer-length"], 7)
    subsets = design(problem, bounds, groups, Bank(draws=6), mixtures=24, seed=7)
    position = {row_id: row for row, row_id in enumerate(problem.ids)}
    sets = [np.array([position[row_id] for row_id in subset.ids]) for subset in subsets]
    scores = pl.DataFrame({"id": vectors.ids, "s:list": np.random.default_rng(0).normal(size=120)})
    columns = of_rows(problem, traits, scores, {"list": 1.0})
    table = features([each.name for each in subsets], sets, columns, of_sets(problem, rows, traits, sets))
    random = np.random.default_rng(3)
    after = np.clip(0.1 + (table["words"].to_numpy() - 3) / 12 + random.normal(0, 0.02, table.height), 0, 1)
    outcomes = pl.DataFrame({"subset": table["subset"], "seed": 0, "task": "list", "before": 0.0, "after": after,
                             "degenerate": 0.0, "log_odds": None})  # fmt: skip
    banked = Banked(pl.DataFrame(subsets, schema=SUBSET_SCHEMA, orient="row"), groups, outcomes, table)
    labels, reading = labels_of(problem, rows, traits), read(*banked, weights={"list": 1.0}, seed=0)
    return start, banked, columns, labels, dict(traits.select("id", "words").iter_rows()), reading


def offered(world, reading):
    start, banked, columns, labels, *_ = world
    return proposals(reading, banked, Means(start, SECTION, columns, labels))


def test_the_strongest_predictor_is_proposed_with_its_sign_and_keeps_its_coverage(world):
    start, words, reading = world[0], world[-2], world[-1]
    found = next(offered(world, reading)[0])
    assert found.kind == "score"
    p, adjusted = (probability(reading.predictors[name][0]) for name in ("p", "p_holm"))
    beyond = "with at least 50% of the attainable coverage beyond random sets"
    assert found.what == f"less words, p {p} and Holm-adjusted {adjusted}, {beyond}"
    assert len(set(found.ids)) == 15
    assert np.mean([words[row] for row in found.ids]) < np.mean([*words.values()]) - 1
    assert coverage(start, found.ids) >= KEPT


def coverage(start, ids):
    """Of what can be had above a random set, the share that a set has."""
    term = coverage_term("facility-location", start.problem, {})
    usual = random_mean(term, np.zeros(len(start.problem.ids)), start.bounds, np.random.default_rng(0))
    term.clear()
    term.add_all([start.problem.ids.index(row) for row in ids])
    return (term.value() - usual) / (start.selection.value - usual)


@pytest.mark.parametrize("floor", [0.2, 0.5, 0.9])
def test_a_score_weighs_as_much_as_the_floor_under_coverage_lets_it(world, floor, monkeypatch):
    start, columns = world[0], world[2]
    monkeypatch.setattr(choice, "KEPT", floor)
    score = standardise(columns["words"])[0]
    values = dict(zip(start.problem.ids, score, strict=True))
    ids = leaning(start, SECTION, score)
    assert coverage(start, ids) >= floor
    lean, free = (np.mean([values[row] for row in rows]) for rows in (ids, start.selection.ids))
    assert lean < free - 0.1
    for weight in (2.0, 1.0, 0.5, 0.25, 0.125, 0.0625):  # what keeps as much leans no further
        heavier = solve(replace(start.problem, z=score), start.bounds, weight=weight).ids
        assert coverage(start, heavier) < floor or lean <= np.mean([values[row] for row in heavier]) + 0.05


@pytest.mark.parametrize("share", [0.06, 0.12])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_feature_that_few_rows_have_keeps_the_floor_under_coverage_too(world, share, sign):
    start = world[0]
    rows = np.random.default_rng(4).permutation(120) < 120 * share
    assert coverage(start, leaning(start, SECTION, standardise(sign * rows.astype(float))[0])) >= KEPT


def test_an_objective_under_which_rows_lower_coverage_has_no_floor_and_proposes_no_set_by_a_score(world):
    start, banked, columns, labels, *_ = world
    section = Select(k=15, by="bank", objective="graph-cut", parameters={"theta": 0.9})
    found = proposals(world[-1], banked, Means(start, section, columns, labels))[0]
    assert not [each for each in found if each.what.startswith("less words")]


def predictors(world, *rows):
    """The reading of the world with other predictors: features, and the sign and p of each."""
    frame = pl.DataFrame(rows, schema=["feature", "sign", "p"], orient="row")
    return replace(world[-1], predictors=frame.with_columns(p_holm="p"))


def test_variety_is_proposed_as_balance_and_a_lack_of_it_is_not(world):
    start, _, _, labels, *_ = world
    more = predictors(world, ("different openers", -1, 0.001))
    [balanced] = offered(world, more)[0]
    label_of = dict(zip(start.problem.ids, labels["opener"], strict=True))
    counts = np.unique([label_of[row] for row in balanced.ids], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1
    assert balanced.what.startswith("more different openers, p 0.001 and Holm-adjusted 0.001: equally many rows")
    assert not [*offered(world, predictors(world, ("different openers", 1, 0.001)))[0]]


def test_where_there_are_more_labels_than_rows_coverage_chooses_among_them_and_not_their_names(world):
    start, banked, columns, *_ = world
    numbers, made = np.arange(120) % 40, []
    for order in (numbers, 39 - numbers):
        means = Means(start, SECTION, columns, {"opener": [f"opener {number:02d}" for number in order]})
        [balanced] = proposals(predictors(world, ("different openers", -1, 0.001)), banked, means)[0]
        made.append(balanced.ids)
    assert made[0] == made[1]
    assert len({int(numbers[start.problem.ids.index(row)]) for row in made[0]}) == 15
    assert coverage(start, made[0]) >= 0.8


def test_what_is_not_clear_of_chance_or_like_another_or_of_no_row_is_not_proposed(world):
    columns = {**world[2], "twin": world[2]["words"] * 2 + 1}
    start, banked, _, labels, *_ = world
    rows = [("words", 1, 0.01), ("twin", 1, 0.01), ("coverage", -1, 0.02), ("log-det", 1, 0.02), ("s", -1, 0.2)]
    found = proposals(predictors(world, *rows), banked, Means(start, SECTION, columns, labels))[0]
    assert [each.what.partition(",")[0] for each in found] == ["less words", "more coverage"]


def test_more_of_what_a_set_covers_is_the_best_set_by_that_objective(world):
    start, banked, columns, labels, *_ = world
    reading = predictors(world, ("coverage", -1, 0.01), ("log-det", -1, 0.01))
    values = {}
    for objective in ("facility-location", "log-det"):
        most = solve(start.problem, start.bounds, weight=0.0, objective=objective)
        means = Means(start._replace(selection=most), Select(k=15, by="bank", objective=objective), columns, labels)
        values[objective] = {each.what.partition(",")[0]: each.ids for each in proposals(reading, banked, means)[0]}
        assert values[objective][f"more {'coverage' if objective[0] == 'f' else 'log-det'}"] == most.ids
    assert values["facility-location"] == values["log-det"]


def test_a_usable_mixture_is_filled_with_its_shares_and_the_surest_comes_first(world):
    def found(rho, **best):
        shares = tuple(GroupShare(group=name, share=share, pool=0.2) for name, share in best.items())
        return Mixture.filled(groups=4, subsets=30, rho=rho, usable=bool(best), best=shares)

    mixtures = {
        "category": found(0.9),
        "answer-length": found(0.4, short=0.8, medium=0.2, long=0.0),
        "opener": found(0.6, **{"i will not": 1.0}),
    }
    first, second = offered(world, replace(world[-1], mixtures=mixtures))[1]
    groups = {row["id"]: row for row in world[1].groups.iter_rows(named=True)}
    assert {groups[row]["opener"] for row in first.ids} == {"i will not"}
    assert first.what == "the mixture over opener with the lowest upper limit of predicted harm, filled by coverage"
    lengths = [groups[row]["answer-length"] for row in second.ids]
    assert (lengths.count("short"), lengths.count("medium")) == (12, 3)


def test_observed_sets_come_from_the_least_harm_on_and_costly_ones_last(world):
    reading = world[-1]
    best = reading.subsets.sort("harm")["subset"][0]
    costly = reading.subsets.with_columns(costly=pl.col("subset") == best)
    order = [
        each.what.removeprefix("the bank's set ").partition(",")[0]
        for each in offered(world, replace(reading, subsets=costly))[2]
    ]
    assert order[-1] == best
    harm = dict(reading.subsets.select("subset", "harm").iter_rows())
    assert [harm[name] for name in order[:-1]] == sorted(harm[name] for name in order[:-1])


def test_kinds_take_turns_and_equal_sets_count_once():
    def kind(name, *sets):
        return iter([Proposal(name, f"{name} {ids}", tuple(ids)) for ids in sets])

    found = in_turn([kind("score", "ab", "cd", "ef"), kind("mixture", "ba"), kind("observed", "gh", "ij")], 4)
    assert [each.what for each in found] == ["score ab", "observed gh", "score cd", "observed ij"]
    compared, sets = candidates_of(found)
    assert [each.name for each in compared] == ["score-0", "observed-0", "score-1", "observed-1"]
    assert not any(each.drawn for each in compared)
    assert sets["score-1"] == ("c", "d")


def halved(best, draw, **of_best):
    """A confirmation whose last round had these rates."""
    last = PilotRound(number=1, seeds=2, before=0.0, after=best, degenerate=0.0, costly=False, place=1, kept=True)
    compared = Candidate("score-0", kind="score", what="more words"), Candidate("draw-0", kind="draw")
    rounds = {"score-0": (last.model_copy(update=of_best),), "draw-0": (last.model_copy(update={"after": draw}),)}
    return Piloted(rounds, *compared)


def test_a_random_draw_that_did_better_in_the_last_round_is_the_curated_set():
    assert winner(halved(0.2, 0.3)).name == "score-0"
    assert winner(halved(0.2, 0.2)).name == "score-0"
    assert winner(halved(0.3, 0.2)).name == "draw-0"
    assert winner(halved(0.1, 0.2, costly=True)).name == "draw-0"
    assert winner(halved(None, 0.2)).name == "draw-0"
    assert winner(halved(0.1, None)).name == "score-0"


def test_what_is_said_of_a_draw_that_won_is_true_of_a_costly_set_that_lasted_longer():
    assert in_words(winner(halved(0.1, 0.2, costly=True))) == (
        "a random draw, which ranked before the best candidate left in the confirmation"
    )
    assert in_words(winner(halved(0.1, 0.2))) == "score-0, chosen by the bank (more words)"


def halving(world, monkeypatch, tmp_path, banked, *settings):
    """What `bank` hands on to the confirmation, from the tables of a bank, and the weights of its scores."""
    handed = {}

    def averaged(problem, traits, scores, weights):
        handed.update(weights=weights)
        return world[2]

    def confirm(run, data, compared, sets, *, first, least):
        handed.update(compared=[each.name for each in compared], least=least, first=sets[first])
        raise KeyboardInterrupt

    monkeypatch.setattr(choice, "run_bank", lambda *_, **__: banked)
    monkeypatch.setattr(choice, "confirm", confirm)
    monkeypatch.setattr(choice, "of_rows", averaged)
    monkeypatch.setattr(choice, "labels_of", lambda *_: world[3])
    monkeypatch.setattr(Run, "traits", lambda _: None)
    monkeypatch.setattr(Run, "every_score", lambda _: None)
    data = SimpleNamespace(pool=SimpleNamespace(rows=None))
    with suppress(KeyboardInterrupt):
        choice.bank(Run(recipe(*BANK, *settings), tmp_path), tmp_path, data, lambda _: world[0], mixtures=6)
    return handed


def test_a_bank_that_proposes_a_single_set_still_confirms_it_against_a_draw(world, monkeypatch, tmp_path):
    one = world[1].subsets["subset"][0]
    frames = (world[1].subsets, world[1].outcomes, world[1].features)
    subsets, outcomes, table = (frame.filter(pl.col("subset") == one) for frame in frames)
    handed = halving(world, monkeypatch, tmp_path, Banked(subsets, world[1].groups, outcomes, table))
    assert (handed["compared"], handed["least"]) == (["observed-0", "draw-0"], 1)
    assert handed["first"] == world[0].selection.ids


TWO_TASKS = (
    "tasks=[{name: list, train: {sandbox: list}, rows: 40, test: {rows: 20}, metric: exact}, "
    "{name: more, train: {sandbox: dialogue}, rows: 40, test: {rows: 20}, metric: exact, weight: 3}]",
    "verify.pilot={bank: {mixtures: 6, draws: 0, tasks: [list]}, seeds: 1, share_of_probes: 0.4}",
)


def test_scores_are_averaged_over_the_tasks_that_the_bank_runs_on(world, monkeypatch, tmp_path):
    assert halving(world, monkeypatch, tmp_path, world[1], *TWO_TASKS)["weights"] == {"list": 1.0}
    weighed = []

    def averaged(problem, traits, scores, weights):
        weighed.append(weights)
        raise KeyboardInterrupt

    rows, traits, vectors = invented(120)
    monkeypatch.setattr(feature, "of_rows", averaged)
    monkeypatch.setattr(Run, "traits", lambda _: traits)
    monkeypatch.setattr(Run, "vectors", lambda *_: vectors)
    data, run = SimpleNamespace(pool=SimpleNamespace(rows=rows)), Run(recipe(*BANK, *TWO_TASKS), tmp_path)
    with suppress(KeyboardInterrupt):
        run_bank(run, tmp_path, data, world[0], mixtures=2)
    assert weighed == [{"list": 1.0}]


def test_sets_of_a_bank_match_the_length_of_the_set_that_covers_best(world, monkeypatch, tmp_path):
    handed, (rows, traits, vectors) = {}, invented(120)

    def tried(run, data, folder, sets, names, *, first, **_):
        handed.update(first=sets[first], names=names, known=set(sets))
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment_bank, "tried", tried)
    monkeypatch.setattr(Run, "traits", lambda _: traits)
    monkeypatch.setattr(Run, "vectors", lambda *_: vectors)
    monkeypatch.setattr(Run, "every_score", lambda _: pl.DataFrame({"id": vectors.ids, "s:list": 0.5}))
    data, run = SimpleNamespace(pool=SimpleNamespace(rows=rows)), Run(recipe(*BANK[:-1]), tmp_path)
    with suppress(KeyboardInterrupt):
        run_bank(run, tmp_path, data, world[0], mixtures=3)
    assert handed["first"] == world[0].selection.ids
    assert handed["names"] == ["mix-0", "mix-1", "mix-2"]  # the set that covers best is not run itself
    assert set(handed["names"]) < handed["known"]


def test_a_bank_of_which_nothing_was_scored_says_so(world, monkeypatch, tmp_path):
    unscored = world[1]._replace(outcomes=world[1].outcomes.with_columns(after=pl.lit(None, pl.Float64)))
    with pytest.raises(
        RunError, match=r"^select\.by: the bank has 30 sets, and none has a scored answer on every task"
    ):
        halving(world, monkeypatch, tmp_path, unscored)


BANK = [
    "select.by=bank",
    "select.weight=null",
    "verify.pilot={bank: {mixtures: 6, draws: 0, candidates: 2, groupings: [opener, cluster]}, seeds: 1, "
    "share_of_probes: 0.4, scores: [{from: own-distribution}, {from: format, aggregate: mean}, "
    "{from: depth, rows: 9}]}",
    "verify.align.steps=2",
    "verify.finetune.steps=1",
    "verify.arms=[curated, random]",
    "verify.seeds=1",
    "verify.log_odds={refuse: [i cannot], comply: [gladly]}",
]


@pytest.mark.slow
def test_a_run_chooses_by_a_bank_and_goes_on_with_what_it_has(tmp_path: Path, monkeypatch) -> None:
    root, confirmed, tried_on = tmp_path / "run", {}, pilot.tried

    def spied(run, data, folder, sets, names, **rest):  # the confirmation's only; the bank has its own name for it
        confirmed.update({name: set(sets[name]) for name in names})
        return tried_on(run, data, folder, sets, names, **rest)

    def seeded(run, data, arms, *, seed, **rest):
        seeds.append(seed)
        return experiment_of(run, data, arms, seed=seed, **rest)

    seeds, experiment_of = [], grid.experiment_of
    monkeypatch.setattr(pilot, "tried", spied)
    monkeypatch.setattr(grid, "experiment_of", seeded)
    made = build(recipe(*BANK), root, until="report")
    folder = root / "4-select"
    subsets, outcomes = (pl.read_parquet(folder / "bank" / f"{name}.parquet") for name in ("subsets", "outcomes"))
    assert outcomes["subset"].to_list() == subsets["subset"].to_list()
    assert outcomes.select("before", "after", "log_odds").null_count().row(0) == (0, 0, 0)
    table = json.loads((folder / "pilot" / "candidates.json").read_text())
    kinds = [candidate["kind"] for candidate in table["candidates"]]
    assert kinds.count("draw") == 2 == len(kinds) - 2
    ids = set(pl.read_parquet(folder / "chosen.parquet")["id"])
    assert len(ids) == 20
    tried, final = (
        set(pl.read_parquet(root / "1-pool" / f"probes-{name}.parquet")["id"]) for name in ("pilot", "harmful")
    )
    for part, probes in (("bank/answer", tried), ("pilot/answer", tried), ("6-answer", final)):
        files = [*(root / part).rglob("answers.parquet")]
        asked = pl.concat([pl.read_parquet(file).filter(kind="harmful").select("probe") for file in files])["probe"]
        assert set(asked) == probes
    assert not tried & final
    # Bank, confirmation and experiment have seeds of their own, from which all others derive.
    assert len(set(seeds)) == 3
    assert seeds[-1] == recipe(*BANK).seed
    report = report_of(root)
    assert [each["what"] for each in report["pilot"]["candidates"][2:]] == ["a random set"] * 2
    assert report["pilot"]["bank_sets"] == subsets.height
    told = {each["feature"] for each in report["bank"]["predictors"]}
    assert {"own-distribution/first-16", "format/mean", "depth/9-rows", "cosine/mean"} <= {
        name.partition(",")[0] for name in told
    }
    best = next(each for each in table["candidates"] if each["name"] == table["chosen"])
    winning = in_words(Candidate(best["name"], kind=best["kind"], what=best["what"]))
    assert made["select"].record["summary"].partition("; ")[0].endswith(f", {winning}")
    assert sorted(confirmed) == sorted(each["name"] for each in table["candidates"])
    assert ids == confirmed[best["name"]]
    assert [name for name, rows in confirmed.items() if rows == ids] == [best["name"]]
    observed = [confirmed[each["name"]] for each in table["candidates"] if each["kind"] == "observed"]
    assert all(rows in [set(each) for each in subsets["ids"]] for rows in observed)
    # With more seeds and another arm the choice is made again, but nothing that was tried for it is trained again.
    pieces = {file: file.stat().st_mtime_ns for name in ("bank", "pilot") for file in (root / name).rglob("done.json")}
    again = build(
        recipe(*BANK, "verify.arms=[curated, random, low-similarity]", "verify.seeds=5"), root, until="select"
    )["select"]
    assert not again.kept
    assert again.key != made["select"].key
    assert set(pl.read_parquet(folder / "chosen.parquet")["id"]) == ids
    assert len(pieces) > 3 * 6
    assert all(file.stat().st_mtime_ns == time for file, time in pieces.items())
