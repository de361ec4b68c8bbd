"""Which models are trained and prompted, arms x tasks x seeds, and for how long they train.

Imports nothing heavy, so that a plan can be shown at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curator.recipe.bank import Bank
from curator.recipe.source import of_regime, rows_added
from curator.recipe.sweep import name_at, split
from curator.recipe.task import TaskSection
from curator.recipe.training import Training
from curator.recipe.verify import Pilot, Verify
from curator.run.names import cell_folder

if TYPE_CHECKING:
    import polars as pl


NONE = "none"  # the arm that is never aligned

DRAW = "draw"  # what a random draw is called, and its kind


@dataclass(frozen=True, order=True)
class Cell:
    """One model of the grid: an arm's aligned model (task null) or that model fine-tuned on a task, in the recipe's way
    or in that of a `setting` of the task's sweep or of the search for the regime. `at` is the share of it done, in
    (0, 1), of a checkpoint of a training.
    """

    arm: str
    seed: int
    task: str | None = None
    setting: str | None = None
    at: float | None = None

    @property
    def folder(self) -> str:
        """Where its pieces live below a stage's folder."""
        return cell_folder(self.arm, self.seed, self.task, self.setting, self.at)

    @property
    def tuned(self) -> str | None:
        """What its answers call the task: its name, with the setting where there is one."""
        return None if self.task is None else name_at(self.task, self.setting)

    @property
    def phase(self) -> str:
        """What its answers call the phase."""
        return "before" if self.task is None else "after" if self.at is None else "during"

    @property
    def done(self) -> float:
        """Share of fine-tuning done, in [0, 1]."""
        return 0.0 if self.task is None else 1.0 if self.at is None else self.at


BASE = Cell(NONE, 0)


@dataclass(frozen=True)
class Plan:
    """Every model of the experiment.

    Attributes:
        aligned, finetuned: Models to train.
        unaligned: Cells before fine-tuning whose model is the base itself: those of the arm `none`, and of every arm
            where it is rehearsed. The base answers once for all of them.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.
    """

    aligned: tuple[Cell, ...]
    finetuned: tuple[Cell, ...]
    unaligned: tuple[Cell, ...] = ()
    rehearsal: bool = False

    @property
    def asked(self) -> tuple[Cell, ...]:
        """Models that answer probes: the base where a cell needs it, aligned, and fine-tuned ones."""
        return (*((BASE,) if self.unaligned else ()), *self.aligned, *self.finetuned)


def plan(verify: Verify, tasks: Iterable[str], *, seeds: int | None = None) -> Plan:
    """The grid of a recipe, or of its first `seeds` seeds. Seeds come first in the order, so that an interrupted grid
    holds whole pairs.

    Args:
        tasks: What models are fine-tuned on: tasks, or tasks at a setting, by their names (`recipe.sweep.name_at`).
    """
    most = verify.most_seeds if seeds is None else min(seeds, verify.most_seeds)
    return grid({arm.name: min(most, verify.seeds_of(arm)) for arm in verify.arms}, tasks, stage=verify.stage)


def grid(seeds: Mapping[str, int], tasks: Iterable[str], *, stage: str) -> Plan:
    """The plan of these arms, each with so many seeds; `tasks` as above, `stage` is `upstream` or `rehearsal`."""
    most, rehearsal = max(seeds.values(), default=0), stage == "rehearsal"
    cells = [Cell(arm, seed) for seed in range(most) for arm, count in seeds.items() if seed < count]
    return Plan(
        aligned=tuple(cell for cell in cells if cell.arm != NONE and not rehearsal),
        finetuned=tuple(Cell(cell.arm, cell.seed, *split(task)) for task in tasks for cell in cells),
        unaligned=tuple(cell for cell in cells if cell.arm == NONE or rehearsal),
        rehearsal=rehearsal,
    )


def setting_name(section: Training) -> str:
    """What a setting of the search for the regime is called, in folders too: its length and its learning rate."""
    length = f"{section.steps}-steps" if section.steps is not None else f"{section.epochs!r}-epochs"
    return f"{length}-{section.learning_rate!r}"


def regime_grid(verify: Verify, tasks: Sequence[str]) -> Plan:
    """The models of the search for the regime: the control at its seeds, fine-tuned on each task at each setting."""
    if verify.regime is None:
        return Plan((), ())
    settings = [setting_name(section) for section in verify.regime.settings(verify.finetune)]
    tried = [name_at(task, setting) for setting in settings for task in tasks]
    return grid({verify.control: verify.regime.seeds}, tried, stage=verify.stage)


@dataclass(frozen=True)
class Candidate:
    """A set that could be curated.

    Attributes:
        name: `w0`, `w1`, ... in the order of the recipe, or `draw-0`, ... for a random draw.
        weight: lambda of the objective, `score`: what rows are chosen by, `representation`: number of the one it is
            taken from; all null for a random draw, and for a set that comes from a bank.
        kind: Of a candidate beside a bank: `score`, `mixture`, `observed` or `draw`. `what`: which it is, in words.
    """

    name: str
    weight: float | None = None
    score: int | None = None
    representation: int | None = None
    kind: str | None = None
    what: str | None = None

    @property
    def drawn(self) -> bool:
        return self.weight is None if self.kind is None else self.kind == DRAW


def candidates(pilot: Pilot, representations: int, covering: int = 0) -> list[Candidate]:
    """Every weight with every score and representation, then the random draws.

    Args:
        pilot: The recipe's section. Without scores of its own it compares weights by the recipe's one score (null).
        representations: How many the recipe names. `covering`: the number of the one that coverage is by, where the
            pilot does not compare every one.
    """
    scores: Sequence[int | None] = range(len(pilot.scores)) or (None,)
    compared = range(representations) if pilot.represent == "every" else (covering,)
    settings = [(weight, score, number) for number in compared for score in scores for weight in pilot.weights]
    chosen = [Candidate(f"w{number}", *setting) for number, setting in enumerate(settings)]
    return chosen + [Candidate(f"draw-{number}") for number in range(pilot.tries(representations)[1])]


def confirmed(bank: Bank) -> list[Candidate]:
    """As many candidates and random draws as a bank confirms, before anybody knows which they are."""
    kinds = ("observed", DRAW)
    return [Candidate(f"{kind}-{number}", kind=kind) for kind in kinds for number in range(bank.candidates)]


def bank_grid(verify: Verify, tasks: Iterable[str]) -> Plan:
    """The models of a bank, `tasks` being those that it runs on."""
    bank = verify.pilot.bank
    names = [f"mix-{number}" for number in range(bank.mixtures)] + [f"{DRAW}-{number}" for number in range(bank.draws)]
    return grid(dict.fromkeys(names, bank.seeds), tasks, stage=verify.stage)


def rounds(optimised: int, drawn: int, seeds: int) -> Iterator[tuple[int, int, int]]:
    """The rounds of successive halving: how many optimised and drawn sets run in each, and on how many seeds.

    A kind goes on until one of it is left; a kind of one member runs as long as the other kind does.
    """
    while optimised > 1 or drawn > 1:
        yield optimised, drawn, seeds
        optimised, drawn, seeds = -(-optimised // 2), -(-drawn // 2), 2 * seeds


def seeds_of(compared: Sequence[Candidate], seeds: int) -> dict[str, int]:
    """How many seeds each candidate comes to by name, as if those listed first went on; empty where nothing is run."""
    names, draws = ([candidate.name for candidate in compared if candidate.drawn is drawn] for drawn in (False, True))
    counts: dict[str, int] = {}
    for optimised, drawn, count in rounds(len(names), len(draws), seeds):
        counts |= dict.fromkeys([*names[:optimised], *draws[:drawn]], count)
    return counts


@dataclass(frozen=True)
class Tally:
    """Rows to train on.

    Attributes:
        rows: All of them.
        kept: Those of at most `max_tokens` tokens; the others are left out of training.
        tokens: Tokens of the kept rows.
        counted: Whether they were counted. Otherwise each row is taken to have `max_tokens` tokens, the most allowed.
    """

    rows: int
    kept: int
    tokens: float
    counted: bool = True

    @classmethod
    def of(cls, tokens: pl.Series, section: Training) -> Tally:
        """Rows of so many tokens each."""
        kept = tokens.filter(tokens <= section.max_tokens)
        return cls(tokens.len(), kept.len(), float(kept.sum()))

    @classmethod
    def at_most(cls, rows: int, section: Training) -> Tally:
        """Rows whose tokens nobody has counted yet."""
        return cls(rows, rows, rows * section.max_tokens, counted=False)

    @property
    def mean(self) -> float:
        """Mean tokens of a kept row; 1 where no row is kept."""
        return self.tokens / self.kept if self.kept else 1.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows, self.kept + other.kept, self.tokens + other.tokens, self.counted and other.counted
        )

    def sample(self, rows: int) -> Tally:
        """What `rows` rows like these have, on average."""
        kept = round(rows * self.kept / self.rows) if self.rows else 0
        return Tally(rows, kept, kept * self.mean, self.counted)


def steps_by_exposure(section: Training, exposure: str, rows: Tally, reference: Tally) -> int:
    """Optimiser steps of an arm's alignment.

    Args:
        section: How arms are aligned.
        exposure: By `steps`, every arm takes the steps of the curated one. By `tokens`, an arm takes as many as show it
            the tokens of the curated one, to half a step. By `epochs`, it takes those that its own rows make.
        rows: The arm's rows and the keep rows; tokens matter to exposure by `tokens` alone.
        reference: The same of the curated arm.
    """
    if exposure == "epochs":
        return section.steps_over(rows.rows)
    steps = section.steps_over(reference.rows)
    return max(1, round(steps * reference.mean / rows.mean)) if exposure == "tokens" else steps


def rehearsed_rows(rows: int, share: float) -> int:
    """How many rows of an arm are added to `rows` rows of a task so that they are `share` of all, at least 1."""
    return max(1, rows_added(rows, share))


def rows_by_part(task: TaskSection, rows: int) -> dict[str, int]:
    """Of which rows a fine-tuning on `rows` rows of a task consists: the task's, an attack's among them, and those that
    a defence adds.
    """
    attack = of_regime(rows, task.regime.share) if task.regime else 0
    defence = rows_added(rows, task.defence.safety_mix) if task.defence else 0
    return {"train": rows - attack, "regime": attack, "defence": defence}


def trained_on(task: TaskSection, verify: Verify, rows: int | None = None) -> int | None:
    """Rows of one fine-tuning on `rows` of a task (null: all of them), what defends and what is rehearsed among them;
    null where all of a source are taken.
    """
    rows = task.rows if rows is None else rows
    if rows is None:
        return None
    total = sum(rows_by_part(task, rows).values())
    return total + (rehearsed_rows(total, verify.rehearsal_share) if verify.stage == "rehearsal" else 0)
