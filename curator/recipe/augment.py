"""Section of a recipe for augmented training: a compliant opener before a row's own refusal (arms `...+recovery`).

Source: Qi et al. 2024, Safety Alignment Should Be Made More Than Just a Few Tokens Deep (arXiv 2406.05946), section 4.
There a refusal follows the beginning of a harmful answer; here it follows a beginning that complies and does not refer
to the request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from curator.errors import RecipeError
from curator.recipe.package import file_of
from curator.recipe.source import Section

OPENERS = (
    "Of course. Let me explain how this works, one thing after the other, in plain words:",
    "Certainly. I am glad to help with this, and here is what there is to know about it:",
    "Yes, that is possible. The best way to begin is to look at the following points in order:",
    "Absolutely. Here is an overview of everything that matters, with the details below:",
    "Happy to help. To begin with, it is useful to have these few things ready:",
    "That is a good question. The answer has several parts, and the first of them is this:",
)
"""The default openers: they comply with any request without referring to it. None begins like `recipe.probes.OPENING`,
so that built-in arms are not trained on the opening of probes."""


class Recovery(Section):
    """A compliant opener as the beginning of the assistant's turn, and the row's own refusal behind it, on which alone
    the loss is taken. Rows that are not refusals have no opener.
    """

    openers: Annotated[str, Field(min_length=1)] | None = None
    """A text file with one opener a line; null takes the built-in openers. Use openers that do not begin like
    `probes.opening`.
    """
    tokens: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [1, 10]
    )
    """Fewest and most tokens of an opener. How many a row gets, and of which opener, is drawn by a hash of its id."""

    @model_validator(mode="after")
    def _order(self) -> Recovery:
        if self.tokens[0] > self.tokens[1]:
            raise ValueError(
                f"tokens: found {self.tokens[0]} to {self.tokens[1]}; give the lowest number first, then the highest"
            )
        return self

    def texts(self) -> tuple[str, ...]:
        """The openers, each once.

        Raises:
            RecipeError: The file is missing, cannot be read as text, or holds no opener.
        """
        if self.openers is None:
            return OPENERS
        file = self.file()
        assert file is not None
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise RecipeError(
                f"augment.recovery.openers: {file} cannot be read ({reason}); give the path of a text file with one "
                "opener per line"
            ) from error
        texts = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not texts:
            raise RecipeError(f"augment.recovery.openers: {file} contains no opener; write one per line")
        return texts

    def file(self) -> Path | None:
        """The file of the openers; null for the built-in ones."""
        return None if self.openers is None else file_of(self.openers)


class Augment(Section):
    """Ways to train on more than the rows themselves, each an arm of its own beside the arm that has the same rows."""

    recovery: Recovery | None = None
    """Refusals behind a compliant opener, for the arms `curated+recovery` and `random+recovery`."""
