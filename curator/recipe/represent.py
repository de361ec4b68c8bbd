"""Section of a recipe for representations, which turn rows into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.source import Count, Name, Section

Token = Literal["last-completion", "eos", "mean-completion", "first-answer", "end-of-prompt"]


class Represent(Section):
    """What turns a row into a vector: the hidden states or gradients of a causal model, or a sentence embedder."""

    kind: Literal["hidden-states", "sentence-transformers", "gradients"] = Field("hidden-states", alias="from")
    """Where vectors come from."""
    name: Name | None = None
    """What tables and other keys call this representation; null names it by its settings."""
    id: str | None = None
    """Another model than the recipe's, or the sentence embedder."""
    revision: str | None = None
    """Branch, tag or commit of `id` on the Hub."""
    chat_template: str | None = None
    """Chat template of `id`, as in `model.chat_template`."""
    layer: int = -1
    """Layer of the hidden states: -1 is the last, after its norm, and 0 the embeddings."""
    token: Token = "last-completion"
    """Where hidden states are read. `first-answer` is the mean over the answer's first tokens."""
    first: Count = 16
    """Number of tokens of `first-answer`."""
    side: Literal["both", "prompt", "answer"] = "both"
    """What a sentence embedder reads: the whole conversation, the `prompt` (all turns before the last answer) or the
    last `answer`.
    """
    centre: bool = True
    """Subtract the pool's mean before vectors are scaled to unit length."""
    max_tokens: Count = 1024
    """Longer rows lose their beginning (for `first-answer` and `end-of-prompt` the answer's end, with a sentence
    embedder their end).
    """
    batch_tokens: Count = 8192
    """Most tokens in a batch, including padding; at most 1,024 on a CPU. It changes only speed, memory and the last
    bits.
    """
    of: Literal["lora", "head"] = "lora"
    """Which parameters the gradients are of: LoRA at its start, or the output `head`."""
    rank: Count = 8
    """Rank of that LoRA."""
    dimensions: Count = 4096
    """Numbers that gradients are projected to, by random signs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the random signs."""

    @model_validator(mode="after")
    def _embedder(self) -> Represent:
        if self.kind == "sentence-transformers" and self.id is None:
            raise ValueError("from: sentence-transformers needs id; give a model on the Hub or a local folder")
        if self.chat_template is not None and (self.kind == "sentence-transformers" or self.id is None):
            raise ValueError(
                "chat_template is only valid with the id of another causal model; remove it (an embedder reads plain "
                "text, and the recipe's own model has model.chat_template)"
            )
        if self.id is None:
            self.refuse_unread("revision", reason="only another model, given as id, reads it")
        if self.kind != "hidden-states":
            self.refuse_unread("layer", "token", reason=f"only from: hidden-states reads it, and this is {self.kind}")
        if self.token != "first-answer":
            self.refuse_unread("first", reason=f"only token: first-answer reads it, and the token is {self.token}")
        if self.kind != "sentence-transformers":
            self.refuse_unread("side", reason=f"only from: sentence-transformers reads it, and this is {self.kind}")
        if self.kind != "gradients":
            names = ("of", "rank", "dimensions", "seed")
            self.refuse_unread(*names, reason=f"only from: gradients reads it, and this is {self.kind}")
        elif self.of == "head":
            self.refuse_unread("rank", reason="only of: lora reads it, and of is head")
        return self

    @property
    def place(self) -> str:
        """The token, with the number of tokens of the mean if that is a setting."""
        return f"{self.token}-{self.first}" if self.token == "first-answer" else self.token


def _how_many(value: Any) -> str:
    return "@list" if isinstance(value, list | tuple) else "@one"


Representations = Annotated[
    Annotated[Represent, Tag("@one")] | Annotated[Annotated[list[Represent], Field(min_length=1)], Tag("@list")],
    Discriminator(_how_many),
]


def label(section: Represent) -> str:
    """The name of a representation in tables."""
    if section.name is not None:
        return section.name
    if section.kind == "sentence-transformers":
        return f"{section.id}" if section.side == "both" else f"{section.id}, {section.side}"
    name = f"gradients of {section.of}" if section.kind == "gradients" else f"layer {section.layer}, {section.place}"
    return name if section.id is None else f"{section.id}, {name}"


def names_of(representations: Sequence[Represent]) -> list[str]:
    """The name of each representation; equal names are numbered."""
    names = [label(section) for section in representations]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:position].count(name) + 1})"
        for position, name in enumerate(names)
    ]


def number_of(name: str, representations: Sequence[Represent]) -> int:
    """The number of the representation with this name.

    Raises:
        ValueError: There is none; the message continues the key that holds the name, and suggests the nearest name.
    """
    names = names_of(representations)
    if name in names:
        return names.index(name)
    near = get_close_matches(name, names, 1)
    raise ValueError(
        f"is {name!r}, which is not the name of a representation;{f' did you mean {near[0]!r}?' if near else ''} "
        f"allowed: {', '.join(map(repr, names))}"
    )


def require_distinct(representations: Sequence[Represent]) -> None:
    """Raises: ValueError: A `name` is also that of another representation."""
    names = [label(section) for section in representations]
    for section in representations:
        if section.name is not None and names.count(section.name) > 1:
            raise ValueError(f"represent: duplicate name {section.name!r}; give each representation its own")
