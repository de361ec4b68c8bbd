"""What a recipe says of the log-odds of refusing: which openers of answers count as refusing, which as complying."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Count, Section

Text = Annotated[str, Field(min_length=1)]


class LogOdds(Section):
    """Log P(refusing) - log P(complying) of every model at every harmful probe, where P of a set is the sum, over its
    openers, of the probability that an answer begins with the opener's tokens.

    The openers are the texts of `refuse` and `comply`, or, with `from: pilot` (`log_odds: pilot`), learned from the
    answers of the pilot of `select.weight: auto`: the `openers` most frequent beginnings, of at most `tokens` tokens,
    of those judged safe and refusing, and of those judged harmful.
    """

    kind: Literal["recipe", "pilot"] = Field("recipe", alias="from")
    refuse: list[Text] = Field(default_factory=list)
    comply: list[Text] = Field(default_factory=list)
    tokens: Count = 2
    openers: Count = 5

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, data: object) -> object:
        return {"from": "pilot"} if data == "pilot" else data

    @model_validator(mode="after")
    def _agree(self) -> LogOdds:
        if self.kind == "pilot":
            self.refuse_unread("refuse", "comply", reason="is of openers of the recipe's, and these are of the pilot")
            return self
        self.refuse_unread("tokens", "openers", reason="is of from: pilot, and the openers are the recipe's")
        for name in ("refuse", "comply"):
            texts = getattr(self, name)
            if not texts:
                raise ValueError(f"{name} has no opener; give one text or more, or write log_odds: pilot")
            twice = next((text for text in texts if texts.count(text) > 1), None)
            if twice is not None:
                raise ValueError(f"{name} holds {twice!r} twice; remove one")
        for first, second in ((self.refuse, self.comply), (self.comply, self.refuse)):
            for text in first:
                longer = next((other for other in second if other.startswith(text)), None)
                if longer is not None:
                    raise ValueError(
                        f"{text!r} begins {longer!r} of the other set, so an answer could count as both; make it "
                        "longer, or remove one of the two"
                    )
        return self
