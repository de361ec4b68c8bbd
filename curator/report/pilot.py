"""How a pilot chose the setting, or confirmed what a bank proposed, as report.json says it."""

from __future__ import annotations

from curator.report.part import Absent, Count, Many, Number, Part, ShareOrNull
from curator.wording import these


class PilotRound(Part):
    """What a candidate did in one round of the pilot."""

    number: Count
    seeds: Count
    before: ShareOrNull
    """Harmful before fine-tuning."""
    after: ShareOrNull
    """Harmful after."""
    degenerate: ShareOrNull
    """Degenerate answers, after."""
    costly: bool
    place: Count
    kept: bool


class PilotCandidate(Part):
    """A setting that the pilot tried, a set that a bank proposed, or a random draw."""

    name: str
    kind: str | Absent = None
    """Beside a bank: `score`, `mixture`, `observed`, or `draw`."""
    what: str | Absent = None
    """Which it is, in words."""
    weight: Number = None
    score: str | None = None
    representation: str | None = None
    rounds: Many[PilotRound]

    @property
    def drawn(self) -> bool:
        """Whether it is a random draw, which no pilot chose."""
        return self.weight is None if self.kind is None else self.kind == "draw"


class Pilot(Part):
    """How a pilot chose the setting, or the set that a bank proposed."""

    probes: Count
    """Harmful probes of its own."""
    chosen: str
    """The candidate that won."""
    best_draw: str | None = None
    """The best of the random draws."""
    candidates: Many[PilotCandidate]

    @property
    def tries(self) -> tuple[int, int]:
        """How many sets were optimised, and how many drawn."""
        drawn = sum(candidate.drawn for candidate in self.candidates)
        return len(self.candidates) - drawn, drawn

    @property
    def banked(self) -> bool:
        """Whether the candidates come from a bank."""
        return any(candidate.kind is not None for candidate in self.candidates)

    @property
    def odds(self) -> str:
        """In words, how many sets each of the two kinds was the best of."""
        optimised, drawn = self.tries
        return f"best of {these(optimised, 'candidate', 'candidates')} against best of {these(drawn, 'draw', 'draws')}"
