"""What decides a vector beside the row: the name of a cache."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from curator.recipe.select import Represent

SCHEME = 1  # raised when other vectors are made of equal settings


def about(section: Represent, *, name: str, weights: Any, where: str, template: str | None = None) -> dict[str, Any]:
    """Everything that decides the raw vector of a row, in plain values.

    `batch_tokens`, `centre` and the number of threads are not in it: they decide last bits, or nothing before centring.

    Args:
        section: Of the recipe.
        name: What the model is called, for people who look into the cache.
        weights: What tells these weights (and their tokenizer) from all others.
        where: The device, `cpu` or `cuda`.
        template: The text of the chat template, for hidden states.
    """
    causal, hidden = section.kind != "sentence-transformers", section.kind == "hidden-states"
    library = "transformers" if causal else "sentence-transformers"
    gradient = [section.of, section.rank if section.of == "lora" else None, section.dimensions, section.seed]
    return {
        "scheme": SCHEME,
        "from": section.kind,
        "name": name,
        "weights": weights,
        "template": template,
        "layer": section.layer if hidden else None,
        "token": section.token if hidden else None,
        "gradient": None if section.kind != "gradients" else gradient,
        "max_tokens": section.max_tokens,
        "device": where,
        "dtype": "bfloat16" if where == "cuda" and causal else "float32",
        library: ".".join(version(library).split(".")[:2]),
    }
