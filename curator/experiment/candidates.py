"""What a pilot compares, and on how many seeds. Imports nothing heavy, so that a plan can be shown at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curator.recipe.verify import Pilot


@dataclass(frozen=True)
class Candidate:
    """A set that could be curated.

    Attributes:
        name: `w0`, `w1`, ... in the order of the recipe, or `draw-0`, ... for a random draw.
        weight: lambda of the objective, `score`: what rows are chosen by, `representation`: number of the one it is
            taken from; all null for a random draw.
    """

    name: str
    weight: float | None = None
    score: int | None = None
    representation: int | None = None

    @property
    def drawn(self) -> bool:
        return self.weight is None


def candidates(pilot: Pilot, representations: int) -> list[Candidate]:
    """Every weight with every score and representation, then the random draws.

    Args:
        pilot: The recipe's section. Without scores of its own it compares weights by the recipe's one score (null).
        representations: How many the recipe names.
    """
    scores: Sequence[int | None] = range(len(pilot.scores)) or (None,)
    compared = range(representations if pilot.represent == "every" else 1)
    settings = [(weight, score, number) for number in compared for score in scores for weight in pilot.weights]
    chosen = [Candidate(f"w{number}", *setting) for number, setting in enumerate(settings)]
    return chosen + [Candidate(f"draw-{number}") for number in range(pilot.random_draws)]


def rounds(optimised: int, drawn: int, seeds: int) -> Iterator[tuple[int, int, int]]:
    """The rounds of successive halving: how many optimised and drawn sets run in each, and on how many seeds.

    A kind goes on until one of it is left; a kind of one member runs as long as the other kind does.
    """
    while optimised > 1 or drawn > 1:
        yield optimised, drawn, seeds
        optimised, drawn, seeds = -(-optimised // 2), -(-drawn // 2), 2 * seeds


def seeds_of(compared: Sequence[Candidate], seeds: int) -> dict[str, int]:
    """How many seeds each candidate comes to by name, as if those listed first went on; empty where nothing is run."""
    kinds = [[one.name for one in compared if one.drawn is drawn] for drawn in (False, True)]
    found: dict[str, int] = {}
    for optimised, drawn, count in rounds(len(kinds[0]), len(kinds[1]), seeds):
        found |= dict.fromkeys([*kinds[0][:optimised], *kinds[1][:drawn]], count)
    return found
