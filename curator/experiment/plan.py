"""The models that are trained and prompted, arms x tasks x seeds, and their numbers of training steps.

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


NONE = "none"  # name of the arm that is never aligned

DRAW = "draw"  # prefix of a random draw's name, and its kind


@dataclass(frozen=True, order=True)
class Cell:
    """One model of the grid: an arm's aligned model (task null) or that model fine-tuned on a task, by the recipe's
    settings or by a `setting` of the task's sweep or of the search for the regime. For a checkpoint `at` is the share
    of fine-tuning done, in (0, 1).
    """

    arm: str
    seed: int
    task: str | None = None
    setting: str | None = None
    at: float | None = None

    @property
    def folder(self) -> str:
        """Folder of its pieces, relative to the stage's folder."""
        return cell_folder(self.arm, self.seed, self.task, self.setting, self.at)

    @property
    def tuned(self) -> str | None:
        """The task's name in its answers, with the setting if there is one."""
        return None if self.task is None else name_at(self.task, self.setting)

    @property
    def phase(self) -> str:
        """The phase's name in its answers."""
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
        unaligned: Cells before fine-tuning whose model is the base itself: those of the arm `none`, and of every arm if
            arms are rehearsed. The base answers once for all of them.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.
    """

    aligned: tuple[Cell, ...]
    finetuned: tuple[Cell, ...]
    unaligned: tuple[Cell, ...] = ()
    rehearsal: bool = False

    @property
    def asked(self) -> tuple[Cell, ...]:
        """Models that answer probes: the base if a cell needs it, aligned, and fine-tuned ones."""
        return (*((BASE,) if self.unaligned else ()), *self.aligned, *self.finetuned)


def plan(verify: Verify, tasks: Iterable[str], *, seeds: int | None = None) -> Plan:
    """The grid of a recipe, or of its first `seeds` seeds. The order is by seed first, so that an interrupted grid
    holds complete pairs.

    Args:
        tasks: Names of tasks, or of tasks at a setting, to fine-tune on (`recipe.sweep.name_at`).
    """
    most = verify.most_seeds if seeds is None else min(seeds, verify.most_seeds)
    return grid({arm.name: min(most, verify.seeds_of(arm)) for arm in verify.arms}, tasks, stage=verify.stage)


def grid(seeds: Mapping[str, int], tasks: Iterable[str], *, stage: str) -> Plan:
    """The plan of these arms with their numbers of seeds; `tasks` as in `plan`, `stage` is `upstream` or
    `rehearsal`.
    """
    most, rehearsal = max(seeds.values(), default=0), stage == "rehearsal"
    cells = [Cell(arm, seed) for seed in range(most) for arm, count in seeds.items() if seed < count]
    return Plan(
        aligned=tuple(cell for cell in cells if cell.arm != NONE and not rehearsal),
        finetuned=tuple(Cell(cell.arm, cell.seed, *split(task)) for task in tasks for cell in cells),
        unaligned=tuple(cell for cell in cells if cell.arm == NONE or rehearsal),
        rehearsal=rehearsal,
    )


def setting_name(section: Training) -> str:
    """The name of a setting of the search for the regime, also used for folders: its length and its learning rate."""
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
        weight: lambda of the objective, `score`: the score that rows are chosen by, `representation`: number of its
            representation; all null for a random draw, and for a set that comes from a bank.
        kind: Kind of a candidate from a bank: `score`, `mixture`, `observed` or `draw`. `what`: its description.
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
        pilot: The recipe's section. If it names no scores it compares weights by the recipe's own score (null).
        representations: Number of representations in the recipe.
        covering: Number of the representation for coverage, if the pilot does not compare all of them.
    """
    scores: Sequence[int | None] = range(len(pilot.scores)) or (None,)
    compared = range(representations) if pilot.represent == "every" else (covering,)
    settings = [(weight, score, number) for number in compared for score in scores for weight in pilot.weights]
    chosen = [Candidate(f"w{number}", *setting) for number, setting in enumerate(settings)]
    return chosen + [Candidate(f"draw-{number}") for number in range(pilot.tries(representations)[1])]


def confirmed(bank: Bank) -> list[Candidate]:
    """As many candidates and random draws as a bank confirms, before it is known which they are."""
    kinds = ("observed", DRAW)
    return [Candidate(f"{kind}-{number}", kind=kind) for kind in kinds for number in range(bank.candidates)]


def bank_grid(verify: Verify, tasks: Iterable[str]) -> Plan:
    """The models of a bank that runs on `tasks`."""
    bank = verify.pilot.bank
    names = [f"mix-{number}" for number in range(bank.mixtures)] + [f"{DRAW}-{number}" for number in range(bank.draws)]
    return grid(dict.fromkeys(names, bank.seeds), tasks, stage=verify.stage)


def rounds(optimised: int, drawn: int, seeds: int, *, least: int = 0) -> Iterator[tuple[int, int, int]]:
    """The rounds of successive halving: the numbers of optimised sets, of drawn sets and of seeds in each.

    A kind is halved until one member is left, which runs as long as the other kind does. There are at least `least`
    rounds, even with a single member of each kind.
    """
    while optimised > 1 or drawn > 1 or least > 0:
        yield optimised, drawn, seeds
        least -= 1
        optimised, drawn, seeds = -(-optimised // 2), -(-drawn // 2), 2 * seeds


def seeds_of(compared: Sequence[Candidate], seeds: int) -> dict[str, int]:
    """The number of seeds of each candidate, by name, as if those listed first went on; empty if nothing is run."""
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
        kept: Number of rows with at most `max_tokens` tokens; the others are left out of training.
        tokens: Total tokens of the kept rows.
        counted: Whether tokens were counted. Otherwise each row is assumed to have `max_tokens` tokens, the maximum.
    """

    rows: int
    kept: int
    tokens: float
    counted: bool = True

    @classmethod
    def of(cls, tokens: pl.Series, section: Training) -> Tally:
        """The tally of rows with these numbers of tokens."""
        kept = tokens.filter(tokens <= section.max_tokens)
        return cls(tokens.len(), kept.len(), float(kept.sum()))

    @classmethod
    def at_most(cls, rows: int, section: Training) -> Tally:
        """The tally of rows whose tokens have not been counted yet."""
        return cls(rows, rows, rows * section.max_tokens, counted=False)

    @property
    def mean(self) -> float:
        """Mean tokens of a kept row; 1 if no row is kept."""
        return self.tokens / self.kept if self.kept else 1.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows, self.kept + other.kept, self.tokens + other.tokens, self.counted and other.counted
        )

    def sample(self, rows: int) -> Tally:
        """The expected tally of `rows` such rows."""
        kept = round(rows * self.kept / self.rows) if self.rows else 0
        return Tally(rows, kept, kept * self.mean, self.counted)


def steps_by_exposure(section: Training, exposure: str, rows: Tally, reference: Tally) -> int:
    """Optimiser steps of an arm's alignment.

    Args:
        section: The training section of alignment.
        exposure: `steps`: every arm takes as many steps as the curated one. `tokens`: an arm takes as many steps as
            give it the tokens of the curated one, to within half a step. `epochs`: it takes the steps of its own rows.
        rows: The arm's rows and the keep rows; tokens matter only for `tokens`.
        reference: The same for the curated arm.
    """
    if exposure == "epochs":
        return section.steps_over(rows.rows)
    steps = section.steps_over(reference.rows)
    return max(1, round(steps * reference.mean / rows.mean)) if exposure == "tokens" else steps


def rehearsed_rows(rows: int, share: float) -> int:
    """Number of rows of an arm, at least 1, that are added to `rows` rows of a task to be the share `share` of the
    sum.
    """
    return max(1, rows_added(rows, share))


def rows_by_part(task: TaskSection, rows: int) -> dict[str, int]:
    """The numbers of rows in a fine-tuning on `rows` rows of a task, by part: the task's own, an attack's among them,
    and those that a defence adds.
    """
    attack = of_regime(rows, task.regime.share) if task.regime else 0
    defence = rows_added(rows, task.defence.safety_mix) if task.defence else 0
    return {"train": rows - attack, "regime": attack, "defence": defence}


def trained_on(task: TaskSection, verify: Verify, rows: int | None = None) -> int | None:
    """Number of rows of one fine-tuning on `rows` of a task (null for all of them), including those of a defence and
    rehearsed ones; null if it depends on the size of a source.
    """
    rows = task.rows if rows is None else rows
    if rows is None:
        return None
    total = sum(rows_by_part(task, rows).values())
    return total + (rehearsed_rows(total, verify.rehearsal_share) if verify.stage == "rehearsal" else 0)
