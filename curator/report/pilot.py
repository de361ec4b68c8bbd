"""How a pilot chose the setting, or confirmed the sets that a bank proposed: the part of report.json."""

from __future__ import annotations

from curator.conclusions.part import Absent, Count, Many, Number, Part
from curator.conclusions.secondary import PilotRound
from curator.wording import percent, these


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
    bank_sets: Count | Absent = None
    """Sets of the bank that proposed the candidates; absent without one."""

    @property
    def of_its_probes(self) -> bool:
        """Whether a candidate was chosen by a metagradient, which is computed for the pilot's probes."""
        return any("metagradient" in (one.score or one.what or "") for one in self.candidates)

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
    def draw_won(self) -> bool:
        """Whether the curated set is the best random draw, which a bank's confirmation allows."""
        return self.banked and self.chosen == self.best_draw

    @property
    def no_optimising(self) -> str:
        """Why the difference between the arms curated and best-random is not an effect of optimising, in words; empty
        if it is one.
        """
        if self.draw_won:
            return (
                "The arms curated and best-random are the same set, so their difference is not an effect of optimising."
            )
        if any(each.name == self.chosen and each.kind == "observed" for each in self.candidates):
            return (
                "The chosen set is a random one, the best of many that the bank tried, so its difference to "
                "best-random is an effect of more tries, and not of optimising."
            )
        return ""

    @property
    def proposed(self) -> PilotCandidate | None:
        """The best candidate that is not a random draw; null if none was run."""
        ran = (each for each in self.candidates if not each.drawn and each.rounds)
        return min(ran, key=lambda each: (-len(each.rounds), each.rounds[-1].place), default=None)

    @property
    def last_round(self) -> str:
        """The best set that a bank proposed against the best random draw, in words; empty if one of them was not run or
        not scored and the set won.
        """
        draw = next((each for each in self.candidates if each.name == self.best_draw and each.rounds), None)
        if draw is None or self.proposed is None:
            return ""
        winner, other, rival = self.proposed, draw, "the best of the random draws"
        if self.draw_won:
            winner, other = other, winner
            rival = f"{other.name} ({other.what}), the best of the sets that the bank proposed"
        first, second = winner.rounds[-1], other.rounds[-1]
        if not self.draw_won and (first.after is None or second.after is None):
            return ""
        if first.after is None:  # the only reason that is left
            return f"No answer of the draw was scored. It ranks before {rival}, because that set is costly."
        words = f"In the last round, {percent(first.after)} of the answers of its models were harmful after fine-tuning"
        if second.after is None:
            words += f". No answer was scored for {rival}."
        else:
            words += f", against {percent(second.after)} for {rival}."
        if first.costly and second.costly:
            words += " Both are costly."
        elif second.costly:
            behind, ahead = ("set", "draw") if self.draw_won else ("draw", "set")
            words += f" That {behind} is costly, so the {ahead} ranks before it."
        return words

    @property
    def odds(self) -> str:
        """How many sets the best of each of the two kinds was chosen from, in words."""
        optimised, drawn = self.tries
        candidates = these(optimised, "candidate", "candidates")
        if self.bank_sets:
            candidates += f" proposed by a bank of {these(self.bank_sets, 'set', 'sets')}"
        return f"best of {candidates} against best of {these(drawn, 'draw', 'draws')}"
