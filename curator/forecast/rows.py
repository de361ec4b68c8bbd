"""Counts the rows of every role before a run, and reports if a recipe needs more rows than there are.

Roles are made by the same functions as in a run. What only a run can determine (rows too long for the model, near and
semantic duplicates) is left out, so the counted pool is an upper limit. Imports nothing heavy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from curator.errors import DataError
from curator.forecast.lengths import signs
from curator.recipe import Recipe, share
from curator.recipe.file import Keys
from curator.recipe.limits import TRAITS
from curator.recipe.refusals import refusal_judge
from curator.recipe.source import labels
from curator.recipe.verify import MATCHED_END, UNDRAWN
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe.limits import Answers

Problem = tuple[Keys, str]
"""Path of a key, and a sentence about it."""


@dataclass(frozen=True)
class Counted:
    """The result of counting rows.

    Attributes:
        problems: The recipe needs more rows than there are.
        warnings: A run is possible but cannot show anything.
        candidates: Most rows of the pool; null if a source was not counted.
        lengths: Role, as in `Measured.tallies` -> characters of each row that was counted.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    candidates: int | None
    lengths: Mapping[str, pl.Series] = field(default_factory=dict)


def too_few(recipe: Recipe, readable: Collection[Keys]) -> Counted:
    """Counts the rows of the recipe's roles and compares them with what the recipe needs.

    Args:
        readable: Paths of the sources that can be read here, in a short time. A role with another source is not
            counted, and its consequences are not checked.
    """
    roles = _Roles(recipe, readable)
    roles.read()
    roles.claim_probes()
    roles.claim_tasks()
    roles.count_pool()
    roles.count_mixed()
    candidates = None if roles.pool is None else roles.pool.height
    return Counted(tuple(roles.problems), tuple(roles.warnings), candidates, roles.lengths)


class _Roles:
    """The roles of a recipe while they are counted, in the order in which they claim prompts."""

    def __init__(self, recipe: Recipe, readable: Collection[Keys]) -> None:
        from curator.pool.ledger import Ledger

        self.recipe, self.readable = recipe, readable
        self.ledger = Ledger(recipe.seed)
        self.pool: pl.DataFrame | None = None
        self.harmful: pl.DataFrame | None = None
        self.tasks: dict[str, pl.DataFrame] = {}
        self.trains: dict[str, int] = {}
        self.lengths: dict[str, pl.Series] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def can_read(self, *keys: Keys) -> bool:
        return all(key in self.readable for key in keys)

    @contextmanager
    def telling(self, *keys: str | int) -> Iterator[None]:
        """Records an error about the data as a problem of these keys."""
        try:
            yield
        except DataError as error:
            self.problems.append((keys, str(error)))

    def read(self) -> None:
        if self.can_read(*(("pool", "sources", number) for number in range(len(self.recipe.pool.sources)))):
            with self.telling("pool", "sources"):
                self.pool = self.ledger.read("pool", self.recipe.pool.sources)
        for number, task in enumerate(self.recipe.tasks):
            if self.can_read(("tasks", number, "train")):
                with self.telling("tasks", number, "train"):
                    self.tasks[task.name] = self.ledger.read(f"task {task.name}", [task.train])

    def claim_probes(self) -> None:
        from curator.pool.gather import probe_rows, probes_of
        from curator.pool.ledger import BENIGN, HARMFUL

        probes, known = self.recipe.probes, []
        for kind, role, sources in (("harmful", HARMFUL, probes.harmful), ("benign", BENIGN, probes.benign)):
            if self.can_read(*(("probes", kind, number) for number in range(len(sources)))):
                with self.telling("probes", kind):
                    rows = probe_rows(self.ledger, role, sources)
                    self.ledger.claim(role, rows)
                    known.append((role, rows))
        self.harmful = dict(known).get(HARMFUL)
        if self.recipe.pool.clean.decontaminate is not None:
            self.ledger.probes = probes_of(known, self.recipe.pool.clean.decontaminate)
        if self.harmful is not None and self.harmful.height < 2 and share(self.recipe) is not None:
            self.problems.append(
                (
                    ("probes", "harmful"),
                    "found 1 probe; the pilot or the search for the regime needs a separate one; give more probes",
                )
            )

    def claim_tasks(self) -> None:
        from curator.pool.gather import test_rows, train_rows

        tests: dict[str, pl.DataFrame] = {}
        for number, task in enumerate(self.recipe.tasks):
            if task.name in self.tasks:
                with self.telling("tasks", number, "test", "rows"):
                    tests[task.name] = test_rows(self.ledger, task, self.tasks[task.name])
        for name, rows in tests.items():
            self.ledger.claim(f"test of {name}", rows)
        self._count_instructions()
        trains: dict[str, pl.DataFrame] = {}
        for number, task in enumerate(self.recipe.tasks):
            if task.name in tests:
                with self.telling("tasks", number, "rows"):
                    trains[task.name] = train_rows(self.ledger, task, self.tasks[task.name], tests[task.name])
        for name, rows in trains.items():
            self.ledger.claim(f"task {name}", rows)
        self.trains = {name: rows.height for name, rows in trains.items()}
        self.lengths |= {f"train {name}": signs(rows) for name, rows in trains.items()}

    def _count_instructions(self) -> None:
        """Counts the rows that the base is tuned on, which only probes and test rows keep out."""
        from curator.pool.gather import INSTRUCTIONS, instruction_rows

        instruction = self.recipe.model.instruction
        if instruction is None or not self.can_read(("model", "instruction", "data")):
            return
        with self.telling("model", "instruction"):
            instruction_rows(self.ledger, instruction)
        if left := self.ledger.drops([INSTRUCTIONS]).filter(stage="leak").height:
            sentence = (
                f"{these(left, 'row holds', 'rows hold')} a probe or the prompt of a test row, and the base is not "
                "tuned on such rows"
            )
            self.warnings.append((("model", "instruction", "data"), sentence))

    def count_pool(self) -> None:
        if self.pool is None:
            return
        from curator.pool.gather import refuse_empty, with_given

        before = Counter(self.pool["source"].to_list())
        pool = self.ledger.unclaimed("pool", self.pool, stage="leak")
        after = Counter(pool["source"].to_list())
        self.pool = pool
        with self.telling("pool", "sources"):
            refuse_empty(self.ledger, "pool", pool)
        for number, label in enumerate(labels(self.recipe.pool.sources)):
            if before[label] and not after[label] and not pool.is_empty():
                self.problems.append((("pool", "sources", number), self._all_claimed(label)))
        if not pool.is_empty():
            self._limits(pool)
            self._kinds(pool)
        given = self.recipe.select.data
        if given is not None and self.can_read(("select", "data")) and not pool.is_empty():
            drawn = any(arm.data is None and arm.name not in UNDRAWN for arm in self.recipe.verify.arms)
            with self.telling("select", "data"):
                self.pool, _ = with_given(self.ledger, pool, given, {}, drawn=drawn)
        self.ledger.claim("pool", self.pool)
        self.lengths["pool"] = signs(self.pool)

    def _all_claimed(self, label: str) -> str:
        import polars as pl

        left = self.ledger.drops(["pool"]).filter((pl.col("source") == label) & (pl.col("stage") == "leak"))
        reasons = left.group_by("reason").len().sort("len", descending=True)
        return (
            f"no row of {label} can be a candidate, because the recipe uses their prompts in another role (most often: "
            f"{reasons['reason'][0]}, {reasons['len'][0]:,} of {left.height:,}); remove one of the two"
        )

    def _limits(self, pool: pl.DataFrame) -> None:
        """Checks that a set with the size and quotas of `select` can be chosen."""
        select = self.recipe.select
        rows, known = pool.height, set(pool["id"])
        count = these(rows, "row", "rows")
        if select.k is not None and select.k > rows:
            account = self.ledger.account("pool")
            self.problems.append(
                (
                    ("select", "k"),
                    f"found {select.k:,}; the pool has at most {count} ({account}); lower k, or add sources",
                )
            )
        elif select.k == rows:
            self.warnings.append(
                (
                    ("select", "k"),
                    f"the pool has at most {count}, so every arm is the same set; lower k",
                )
            )
        for name in ("include", "exclude"):
            for number, row in enumerate(getattr(select, name)):
                if row not in known:
                    self.problems.append(
                        (("select", name, number), f"no row with id {row!r} in the pool; correct the id")
                    )
        if select.vulnerable is not None and select.k is not None and select.k <= rows:
            unmet = select.vulnerable.unmet(rows, select.k)
            if unmet is not None:
                self.problems.append((("select", "vulnerable"), unmet))
        if select.answers is not None and select.k is not None and select.k <= rows:
            self._answers(pool.filter(~pool["id"].is_in(select.exclude)), select.answers, select.k)
        # Categories assigned by a model, and thirds of a pool that will be smaller, are not known yet.
        unknown = {"length", *(["category"] if self.recipe.pool.categorise else [])}
        judge = refusal_judge(self.recipe)
        if judge is not None and judge.kind == "embedding":  # its model is not loaded for a check
            unknown, judge = {*unknown, "refusal"}, None
        if select.quotas is not None and select.quotas.by not in unknown:
            from curator.pool.traits import traits
            from curator.selection.groups import grouped, stock_of

            kinds = traits(pool, judge) if select.quotas.by in TRAITS else None
            labels = grouped(pool, kinds, select.groupings)[select.quotas.by]
            stock = stock_of(labels, ~pool["id"].is_in(select.exclude))
            for group, sentence in select.quotas.unmet(stock, select.k):
                self.problems.append((("select", "quotas", *(() if group is None else ("groups", group))), sentence))

        if select.repeats is not None and select.repeats.by not in unknown - {"length"}:
            from curator.pool.traits import traits
            from curator.selection.repeats import labels_of

            groups = labels_of(select.repeats.by, pool, lambda: traits(pool, judge)).values()
            for group, sentence in select.repeats.unknown({label for label in groups if label is not None}):
                self.problems.append((("select", "repeats", "groups", group), sentence))

    def _kinds(self, pool: pl.DataFrame) -> None:
        """Warns of sets whose similarity may decide the kind of their answers."""
        select, arms = self.recipe.select, [arm.name for arm in self.recipe.verify.arms]
        ends = [name for name in arms if name in MATCHED_END and MATCHED_END[name] not in arms]
        leans = select.prefer != "none" if select.coverage is not None else select.weight not in (None, 0.0, "auto")
        leans = leans and select.may_compose("refusal")
        judge = refusal_judge(self.recipe)
        if not (ends or leans) or (judge is not None and judge.kind == "embedding"):  # its model is not loaded here
            return
        from curator.pool.refusals import of_both

        share = of_both(pool, judge)
        if share is None:
            return
        why = (
            f"the pool holds refusals ({share:.0%}) and other answers, and similarity often tells these apart first, so"
        )
        if leans:
            sentence = (
                f"{why} the chosen set may hold hardly any of one kind; within: [refusal] gives it the pool's share"
            )
            self.warnings.append((("select",), sentence))
        if ends:
            named, instead = (
                " and ".join(f"`{name}`" for name in names) for names in (ends, map(MATCHED_END.get, ends))
            )
            sentence = f"{why} {named} may hold hardly any of one kind; add {instead}, with the pool's share of each"
            self.warnings.append((("verify", "arms"), sentence))

    def _answers(self, pool: pl.DataFrame, answers: Answers, k: int) -> None:
        from curator.pool.traits import by_opener

        left = answers.left(by_opener(pool), k)
        if left < k:
            self.problems.append(
                (
                    ("select", "answers"),
                    f"the limits leave {these(left, 'row', 'rows')}, fewer than k ({k:,}); raise max_same or "
                    "max_opener, or lower k",
                )
            )

    def count_mixed(self) -> None:
        """Counts the user's own arms, the rows of attacks and defences, and keep rows."""
        from curator.pool.gather import keep_rows, refuse_empty
        from curator.pool.roles import defence_rows, regime_rows
        from curator.records import no_rows

        for number, arm in enumerate(self.recipe.verify.arms):
            keys = ("verify", "arms", number)
            if arm.data is not None and (self.can_read(keys) or self.can_read((*keys, "data"))):
                with self.telling(*keys):
                    role = f"arm {arm.name}"
                    rows = self.ledger.unclaimed(role, self.ledger.read(role, [arm.data]), stage="leak")
                    refuse_empty(self.ledger, role, rows)
                    self.lengths[role] = signs(rows)
        for number, task in enumerate(self.recipe.tasks):
            if task.name not in self.trains:
                continue
            attacked = self.trains[task.name]
            if task.regime is not None and self.can_read(("tasks", number, "regime", "data")):
                with self.telling("tasks", number, "regime"):
                    added = regime_rows(self.ledger, task, attacked)
                    self.lengths[f"regime {task.name}"] = signs(added)
                    attacked += added.height
            if task.defence is not None:
                stock = self.pool if task.defence.data is None else no_rows()
                if stock is not None and (
                    task.defence.data is None or self.can_read(("tasks", number, "defence", "data"))
                ):
                    with self.telling("tasks", number, "defence"):
                        mixed = defence_rows(self.ledger, task, attacked, stock)
                        self.lengths[f"defence {task.name}"] = signs(mixed)
        if self.recipe.verify.keep is not None and self.can_read(("verify", "keep", "data")):
            with self.telling("verify", "keep", "rows"):
                self.lengths["keep"] = signs(keep_rows(self.ledger, self.recipe.verify.keep))
