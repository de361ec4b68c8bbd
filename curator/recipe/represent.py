"""What a recipe says of vectors: what turns a row into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.source import Count, Section


class Represent(Section):
    """What turns a row into a vector.

    From `hidden-states` of a causal model at `layer` (-1 is the last, after the final norm; 0 the embeddings) and
    `token`; from its `gradients`, `of` the start of LoRA of `rank` or `of` the head, projected to `dimensions` numbers
    by signs drawn from `seed`; or from a sentence embedder `id`. The causal model is the recipe's, or another `id` with
    `chat_template` (null: its tokenizer's own). `centre` subtracts the pool's mean before unit length.

    Rows of more than `max_tokens` lose their beginning (with an embedder their end). A batch has at most `batch_tokens`
    tokens, padding counted; on a CPU 1,024, beyond which it gets slower. It decides speed, memory and last bits only.
    """

    kind: Literal["hidden-states", "sentence-transformers", "gradients"] = Field("hidden-states", alias="from")
    id: str | None = None
    revision: str | None = None
    chat_template: str | None = None
    layer: int = -1
    token: Literal["last-completion", "eos", "mean-completion", "end-of-prompt"] = "last-completion"
    centre: bool = True
    max_tokens: Count = 1024
    batch_tokens: Count = 8192
    of: Literal["lora", "head"] = "lora"
    rank: Count = 8
    dimensions: Count = 4096
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _embedder(self) -> Represent:
        if self.kind == "sentence-transformers" and self.id is None:
            raise ValueError("from: sentence-transformers needs id, a model on the Hub or a local folder")
        if self.chat_template is not None and (self.kind == "sentence-transformers" or self.id is None):
            raise ValueError(
                "chat_template goes with the id of another causal model; remove it (an embedder reads the text "
                "alone, and the recipe's own model has model.chat_template)"
            )
        if self.id is None:
            self.refuse_unread("revision", reason="is of id, another model than the recipe's")
        if self.kind != "hidden-states":
            self.refuse_unread("layer", "token", reason=f"is of hidden-states, and these vectors are from {self.kind}")
        if self.kind != "gradients":
            names = ("of", "rank", "dimensions", "seed")
            self.refuse_unread(*names, reason=f"is of gradients, and these vectors are from {self.kind}")
        elif self.of == "head":
            self.refuse_unread("rank", reason="is of gradients of lora, and these are of the head")
        return self


def _how_many(value: Any) -> str:
    return "@list" if isinstance(value, list | tuple) else "@one"


Representations = Annotated[
    Annotated[Represent, Tag("@one")] | Annotated[Annotated[list[Represent], Field(min_length=1)], Tag("@list")],
    Discriminator(_how_many),
]


def label(section: Represent) -> str:
    """How a representation is called in tables."""
    if section.kind == "sentence-transformers":
        return f"{section.id}"
    name = f"gradients of {section.of}" if section.kind == "gradients" else f"layer {section.layer}, {section.token}"
    return name if section.id is None else f"{section.id}, {name}"


def names_of(representations: Sequence[Represent]) -> list[str]:
    """What each representation is called; those that would be called alike are numbered."""
    names = [label(section) for section in representations]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:position].count(name) + 1})"
        for position, name in enumerate(names)
    ]
