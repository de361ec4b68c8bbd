"""Section of a recipe for the log-odds of refusing: the openers that count as refusing, and as complying."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Count, Section

Text = Annotated[str, Field(min_length=1)]


class LogOdds(Section):
    """Log P(refusing) - log P(complying) of every model at every harmful probe. P of a set is the sum, over its
    openers, of the probability that an answer begins with the opener. `log_odds: pilot` is short for `{from: pilot}`.
    A bank runs before there are answers to learn openers from, so it measures log-odds only if the recipe gives the
    texts `refuse` and `comply`.
    """

    kind: Literal["recipe", "pilot"] = Field("recipe", alias="from")
    """Openers of the `recipe`, or learned from the answers of the `pilot`."""
    refuse: list[Text] = Field(default_factory=list)
    """Openers that refuse."""
    comply: list[Text] = Field(default_factory=list)
    """Openers that comply."""
    tokens: Count = 2
    """Most tokens of an opener that is learned."""
    openers: Count = 5
    """Openers that are learned of either kind."""

    @model_validator(mode="after")
    def _agree(self) -> LogOdds:
        if self.kind == "pilot":
            self.refuse_unread("refuse", "comply", reason="the pilot finds the openers")
            return self
        self.refuse_unread("tokens", "openers", reason="only from: pilot reads it, and the recipe gives the openers")
        for name in ("refuse", "comply"):
            texts = getattr(self, name)
            if not texts:
                raise ValueError(f"{name} has no opener; give at least one, or write log_odds: pilot")
            self.refuse_repeated(name)
        for first, second in ((self.refuse, self.comply), (self.comply, self.refuse)):
            for text in first:
                longer = next((other for other in second if other.startswith(text)), None)
                if longer is not None:
                    raise ValueError(
                        f"{text!r} is the beginning of {longer!r} in the other set, so an answer could match both; "
                        "make it longer, or remove one of the two"
                    )
        return self
