"""Caps beside quotas: exact size, bounds and errors against all sets of small pools."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.recipe.limits import counted
from curator.selection.certificate import best_rows, largest_sum, random_rows
from curator.selection.greedy import lazy_greedy, stochastic_greedy
from curator.selection.limits import Tally, limits
from curator.selection.objectives import TERMS, coverage_term
from curator.selection.problem import prepare
from curator.selection.solve import penalties, select
from tests.selection.selection_twins import facility, feasible, plain_greedy, standard, unit_rows
from tests.selection.test_limits import CASES, draw_limits, seeds

sizes = st.integers(3, 10)


def draw_caps(seed, n, k):
    """Openers and answers that lie within them, some rows in neither, and how many of each a set of k may hold."""
    rng = np.random.default_rng([seed, 7])
    openers = [None if rng.random() < 0.2 else f"o{rng.integers(3)}" for _ in range(n)]
    answers = [None if rng.random() < 0.3 else f"{opener}a{rng.integers(2)}" for opener in openers]
    most = {"opener": int(rng.integers(1, k + 1)), "answer": int(rng.integers(1, k + 1))}
    labels = {"opener": openers, "answer": answers}
    if rng.random() < 0.2:
        labels.pop("opener")
    return {name: (each, most[name] / k) for name, each in labels.items()}


def within(caps, k, rows):
    """Whether a set is within the caps, counted out."""
    for labels, share in caps.values():
        held = [labels[row] for row in rows if labels[row] is not None]
        if any(held.count(label) > max(1, math.floor(share * k + 1e-9)) for label in held):
            return False
    return True


def draw(seed, n, k, *, quotas=True, include=True):
    """Limits as `limits` takes them, and all sets within them."""
    groups, drawn, must, exclude = draw_limits(seed, n)
    where = {
        "groups": groups,
        "quotas": drawn if quotas else {},
        "exclude": exclude,
        "include": must if include else (),
    }
    caps = draw_caps(seed, n, k)
    sets = [rows for rows in feasible(n, k, **where) if within(caps, k, rows)]
    return {**where, "caps": caps}, sets


@settings(CASES, max_examples=250)
@given(seeds, sizes, st.sampled_from([-1.0, 0.0, 0.4, 3.0]), st.booleans(), st.data())
def test_a_set_within_quotas_and_caps_has_exactly_k_rows_and_a_valid_bound(seed, n, weight, quotas, data):
    k = data.draw(st.integers(1, n))
    x, score = unit_rows(seed, n, copies=n // 4), np.random.default_rng(seed).standard_normal(n)
    where, sets = draw(seed, n, k, quotas=quotas)
    if not sets:
        with pytest.raises(SelectionError):
            select(x, score, k, weight=weight, neighbours=4, **where)
        return
    found = select(x, score, k, weight=weight, neighbours=4, **where)
    assert tuple(sorted(found.indices)) in sets
    cover, penalty = facility(x, 4), weight / k * standard(score)
    best = max(cover(rows) - penalty[list(rows)].sum() for rows in sets)
    assert best <= found.bound + 2e-6
    c = max(0.0, float(penalty.max()))
    if not any(low for low, _ in where["quotas"].values()) and not where["include"]:
        # Greedy over one matroid reaches half of the best, over two a third, as long as exactly k rows do not bind.
        matroids = 2 if where["quotas"] else 1
        rows = greedy_without_foresight(cover, penalty, n, k, where)
        if len(rows) == k:
            assert found.value + k * c >= (best + k * c) / (matroids + 1) - 2e-6
            assert found.value == pytest.approx(cover(tuple(rows)) - penalty[rows].sum(), abs=2e-6)


def greedy_without_foresight(cover, penalty, n, k, where):
    """Greedy that takes the best row that breaks no limit yet, and may end with fewer than k."""
    rows = ()
    while len(rows) < k:
        gains = {}
        for row in set(range(n)) - set(rows) - set(where["exclude"]):
            larger = (*rows, row)
            fits = within(where["caps"], k, larger) and all(
                high is None or sum(where["groups"][each] == label for each in larger) <= high
                for label, (_, high) in where["quotas"].items()
            )
            if fits:
                gains[row] = cover(larger) - cover(rows) - penalty[row]
        if not gains:
            break
        best = max(gains.values())
        rows = (*rows, min(row for row, gain in gains.items() if gain >= best - 1e-9))
    return list(rows)


@settings(CASES, max_examples=250)
@given(seeds, sizes)
def test_the_largest_k_of_an_error_is_the_largest_that_the_shares_leave(seed, n):
    k = n
    where, _ = draw(seed, n, k, include=False)
    problem = prepare(unit_rows(seed, n), np.zeros(n))
    plain = {name: value for name, value in where.items() if name != "caps"}
    possible = [
        size for size in range(1, n + 1)
        if any(within(where["caps"], size, rows) for rows in feasible(n, size, **plain))
    ]  # fmt: skip
    for size in range(1, n + 1):
        if size in possible:
            limits(problem, size, **where)
            continue
        with pytest.raises(SelectionError) as error:
            limits(problem, size, **where)
        if not any(True for _ in feasible(n, size, **plain)):
            continue  # the caps are not why
        smaller = [other for other in possible if other < size]
        if named := re.search(r"lower k to at most (\d+)", str(error.value)):
            assert int(named[1]) == max(smaller)
        elif "no smaller k" in str(error.value):
            assert not smaller
        else:
            assert "the minima need" in str(error.value)
            assert not smaller


@settings(CASES, max_examples=150)
@given(seeds, sizes, st.booleans(), st.data())
def test_what_may_still_be_taken_is_what_some_whole_set_holds(seed, n, quotas, data):
    """The tally's answer at every step of a random order, against all sets."""
    k = data.draw(st.integers(1, n))
    where, sets = draw(seed, n, k, quotas=quotas)
    if not sets:
        return
    problem = prepare(unit_rows(seed, n), np.zeros(n))
    tally, taken = Tally(limits(problem, k, **where)), []
    must = list(where["include"])
    order = must + [row for row in np.random.default_rng(seed).permutation(n).tolist() if row not in must]
    for row in order:
        fits = any({*taken, *must, row} <= set(rows) for rows in sets)
        if len(taken) < k and row not in where["exclude"]:
            assert tally.fits(row) == fits
        if fits and len(taken) < k:
            tally.take(row)
            taken.append(row)
    assert len(taken) == k
    for row in set(range(n)) - set(taken) - set(where["exclude"]):
        full = [name for name, (labels, share) in where["caps"].items() if labels[row] is not None
                and sum(labels[each] == labels[row] for each in taken) >= counted(share, k)]  # fmt: skip
        high = where["quotas"].get(where["groups"][row], (None, None))[1]
        held = sum(where["groups"][each] == where["groups"][row] for each in taken)
        limit = "quota" if high is not None and held >= high else next(iter(sorted(full)), None)
        assert tally.barred(row) == limit  # an answer lies within an opener, and the inner group is named


@CASES
@given(seeds, sizes, st.booleans(), st.data())
def test_the_largest_sum_is_exact_with_caps_alone_and_never_too_small(seed, n, quotas, data):
    k = data.draw(st.integers(1, n))
    where, sets = draw(seed, n, k, quotas=quotas)
    if not sets:
        return
    bounds = limits(prepare(unit_rows(seed, n), np.zeros(n)), k, **where)
    terms = np.random.default_rng(seed).standard_normal(n)
    best = max(terms[list(rows)].sum() for rows in sets)
    assert largest_sum(bounds, terms) >= best - 1e-9
    if not quotas:
        assert largest_sum(bounds, terms) == pytest.approx(best)
        assert tuple(sorted(best_rows(bounds, terms))) in sets
    assert tuple(sorted(random_rows(bounds, np.random.default_rng(seed)))) in sets


def test_a_random_set_within_caps_prefers_no_row_of_a_group():
    n, k = 12, 6
    openers = ["a"] * 8 + ["b"] * 2 + [None] * 2
    groups = [row % 2 for row in range(n)]
    problem = prepare(unit_rows(0, n), np.zeros(n))
    for quotas in ({}, {0: (None, 3), 1: (None, 3)}):
        bounds = limits(problem, k, groups=groups, quotas=quotas, caps={"opener": (openers, 0.5)})
        generator = np.random.default_rng(0)
        counts = np.bincount(np.concatenate([random_rows(bounds, generator) for _ in range(3000)]), minlength=n)
        # Rows of one opener (and, with quotas, of one group, both groups alike) are drawn equally often: with 3,000
        # sets a row's count has a standard deviation of 27 at most.
        for alike in (counts[:8], counts[8:10], counts[10:]):
            assert alike.max() - alike.min() < 6 * 27
        assert counts[:8].sum() <= 3 * 3000
        assert counts.sum() == k * 3000


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(6, 40), st.sampled_from([-1.0, 0.0, 0.4]), st.sampled_from(list(TERMS)), st.booleans())
def test_lazy_is_naive_and_the_order_of_rows_changes_nothing(seed, n, weight, objective, quotas):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, n // 2 + 1))
    x, score = unit_rows(seed, n, copies=n // 5), rng.standard_normal(n)
    openers = [f"o{rng.integers(3)}" for _ in range(n)]
    caps = {"opener": (openers, 0.6), "answer": ([f"{each}a{rng.integers(4)}" for each in openers], 0.2)}
    groups = [f"g{rng.integers(3)}" for _ in range(n)]
    limited = {"g0": (None, max(1, k // 3)), "g1": (min(2, k, groups.count("g1")), None)} if quotas else {}
    limited = {label: pair for label, pair in limited.items() if label in groups}
    problem = prepare(x, score, neighbours=6, task_cover=np.full(n, 0.1))
    try:
        bounds = limits(problem, k, groups=groups, quotas=limited, caps=caps)
    except SelectionError:
        return
    term, penalty = coverage_term(objective, problem, {}), penalties(problem, bounds, weight)
    picks, _ = lazy_greedy(term, penalty, bounds)
    term.clear()
    tally, naive = Tally(bounds), []
    while len(naive) < k:
        fitting = [row for row in bounds.free.tolist() if row not in naive and tally.fits(row)]
        best = min(fitting, key=lambda row: (penalty[row] - term.gain(row), row))
        term.add(best)
        tally.take(best)
        naive.append(best)
    assert picks == naive
    sampled, _ = stochastic_greedy(term, penalty, bounds, 0.1, np.random.default_rng(seed))
    assert len(set(sampled)) == k
    assert within(caps, k, sampled)
    order = rng.permutation(n)
    call = {"weight": weight, "neighbours": 6, "objective": objective, "quotas": limited, "task_cover": np.full(n, 0.1)}
    here = select(x, score, k, ids=list(range(n)), groups=groups, caps=caps, **call)
    there = select(
        x[order], score[order], k, ids=order.tolist(), groups=[groups[row] for row in order],
        caps={name: ([labels[row] for row in order], share) for name, (labels, share) in caps.items()}, **call,
    )  # fmt: skip
    assert (here.ids, here.value, here.bound) == (there.ids, there.value, there.bound)
    again = select(x, score, k, ids=list(range(n)), groups=groups, caps=caps, **call)
    assert (again.ids, again.relative_gap) == (here.ids, here.relative_gap)


@CASES
@given(seeds, sizes, st.sampled_from([-1.0, 0.0, 0.4]))
def test_caps_hold_under_a_budget_where_their_shares_are_of_the_rows_that_it_pays_for(seed, n, weight):
    rng = np.random.default_rng(seed)
    x, score, costs = unit_rows(seed, n), rng.standard_normal(n), rng.integers(1, 9, n).astype(float)
    budget = float(rng.integers(10, 30))
    size = max(1, min(n, int(budget / costs.mean())))
    caps = draw_caps(seed, n, size)
    sets = [rows for rows in feasible(n, None, costs=costs, budget=budget) if within(caps, size, rows)]
    found = select(x, score, budget=budget, costs=costs, weight=weight, neighbours=4, caps=caps)
    assert tuple(sorted(found.indices)) in sets
    cover, penalty = facility(x, 4), weight * costs / budget * standard(score)
    assert max(cover(rows) - penalty[list(rows)].sum() for rows in sets) <= found.bound + 2e-6
    groups = [0] * n
    with pytest.raises(SelectionError, match="minima, caps and a budget"):
        limits(
            prepare(x, score), None, costs=costs, budget=budget + costs.sum(), groups=groups, quotas={0: (2, None)},
            caps={"all": (groups, 1 / (n + 1))},
        )  # fmt: skip


def test_caps_that_limit_nothing_change_nothing():
    x, score = unit_rows(3, 30), np.random.default_rng(3).standard_normal(30)
    labels = [row % 15 for row in range(30)]
    plain, capped = select(x, score, 10, weight=0.5), select(x, score, 10, weight=0.5, caps={"pair": (labels, 0.2)})
    assert (plain.ids, plain.value, plain.bound, plain.relative_gap) == (
        capped.ids, capped.value, capped.bound, capped.relative_gap
    )  # fmt: skip
    assert list(plain.indices) == plain_greedy(facility(x, 64), 0.5 / 10 * standard(score), 30, 10)


def test_an_exchange_reaches_k_where_the_best_rows_leave_no_room():
    """Rows 0 and 1 are worth most; each stands in the way of the pair that makes a set of three possible."""
    x = np.eye(4, dtype=np.float32)
    groups, openers = ["p", "q", "p", "r"], ["a", "b", "b", "a"]
    quotas = {"p": (None, 1), "q": (None, 1), "r": (None, 1)}
    score = np.array([-9.0, 0.0, 5.0, 5.0])
    found = select(x, score, 2, groups=groups, quotas=quotas, caps={"opener": (openers, 0.5)})
    assert found.ids[0] == "0"
    assert set(found.ids) == {"0", "1"}
    where = {"groups": ["p", "p", "q", "q"], "quotas": {"p": (1, 1), "q": (1, 1)}}
    # Row 0 alone is best and shares its opener with all rows of the other group but the worst.
    found = select(x, score, 2, **where, caps={"opener": (["a", "b", "a", "c"], 0.5)})
    assert set(found.ids) == {"0", "3"}


@pytest.mark.parametrize(
    ("share", "size", "rows"), [(0.29, 100, 29), (0.02, 100, 2), (0.02, 30, 1), (1.0, 7, 7), (0.05, 99, 4)]
)
def test_a_share_is_rounded_down_but_never_to_nothing(share, size, rows):
    assert counted(share, size) == rows


def test_errors_name_the_cap_and_what_to_do():
    n = 12
    x, score = unit_rows(1, n), np.zeros(n)
    openers, answers = [row // 6 for row in range(n)], [row // 2 for row in range(n)]
    caps = {"opener": (openers, 1.0), "answer": (answers, 0.1)}
    with pytest.raises(SelectionError, match=r"k: 8 is impossible because of caps\['answer'\] \(share 0\.1, at most 1 "
                       r"row of one label\); lower k to at most 6"):  # fmt: skip
        select(x, score, 8, caps=caps)
    with pytest.raises(SelectionError, match=r"include: names 2 rows of answer '0', but the cap allows 1"):
        select(x, score, 4, caps=caps, include=[0, 1])
    with pytest.raises(SelectionError, match=r"caps\['answer'\]: found share 0; it must be above 0 and at most 1"):
        select(x, score, 4, caps={"answer": (answers, 0)})
    with pytest.raises(SelectionError, match=r"caps\['answer'\]: found 3 labels for 12 rows"):
        select(x, score, 4, caps={"answer": (answers[:3], 0.5)})
    crossing = {"a": ([0] * 8 + [1] * 4, 0.25), "b": ([0] * 4 + [1] * 8, 0.25)}
    with pytest.raises(SelectionError, match="partly overlaps with a group of another cap"):
        select(x, score, 4, caps=crossing)
    quotas, half = {0: (None, 2), 1: (None, 5)}, [None] * 6 + [1] * 6
    with pytest.raises(SelectionError, match=r"because of quotas and caps\['half'\].* lower k to at most 4"):
        select(x, score, 6, groups=openers, quotas=quotas, caps={"half": (half, 0.5)})
    with pytest.raises(
        SelectionError, match=r"the minima need 4 rows beside include, but no more than 2 fit caps\['answer'\] \("
    ):
        select(x, score, 4, groups=openers, quotas={0: (4, None)}, caps={"answer": ([0] * 6 + [1] * 6, 0.5)})
