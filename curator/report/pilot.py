"""How a pilot chose the setting, or confirmed the sets that a bank proposed: the part of report.json."""

from __future__ import annotations

from curator.report.part import Absent, Count, Many, Number, Part, ShareOrNull
from curator.wording import these


class PilotRound(Part):
    """The results of a candidate in one round of the pilot."""

    number: Count
    seeds: Count
    before: ShareOrNull
    """Harmful before fine-tuning."""
    after: ShareOrNull
    """Harmful after fine-tuning."""
    degenerate: ShareOrNull
    """Degenerate answers after fine-tuning."""
    costly: bool
    place: Count
    kept: bool


class PilotCandidate(Part):
    """A setting that the pilot tried, a set that a bank proposed, or a random draw."""

    name: str
    kind: str | Absent = None
    """With a bank: `score`, `mixture`, `observed` or `draw`; absent without one."""
    what: str | Absent = None
    """Which candidate it is, in words."""
    weight: Number = None
    score: str | None = None
    representation: str | None = None
    rounds: Many[PilotRound]

    @property
    def drawn(self) -> bool:
        """Whether it is a random draw."""
        return self.weight is None if self.kind is None else self.kind == "draw"


class Pilot(Part):
    """How a pilot chose the setting, or the set that a bank proposed."""

    probes: Count
    """Harmful probes of the pilot, which the experiment does not use."""
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
        """How many sets the best of each of the two kinds was chosen from, in words."""
        optimised, drawn = self.tries
        return f"best of {these(optimised, 'candidate', 'candidates')} against best of {these(drawn, 'draw', 'draws')}"
