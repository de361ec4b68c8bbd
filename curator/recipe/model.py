"""Section of a recipe for the model that is aligned and fine-tuned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from curator.recipe.source import Count, Section, Source, Text


class Instruction(Section):
    """Instruction tuning of a base model before alignment, shared by all arms, with the settings of `verify.align`."""

    data: Source
    """Rows to tune on."""
    rows: Count
    """Number of rows to tune on."""

    @model_validator(mode="after")
    def _checked(self) -> Instruction:
        self.data.refuse_unread("rows", reason="rows of this section are as many as are read", prefix="data.")
        return self


class Model(Section):
    """The model that is aligned and fine-tuned."""

    id: Text
    """A folder, a GGUF file, a model on the Hub, `package:NAME/PATH` for a folder or file inside an installed Python
    package, or `sandbox:` for the embedded toy model.
    """
    revision: str | None = None
    """Branch, tag or commit on the Hub; null takes the default branch. The commit that it resolves to is recorded."""
    chat_template: str | None = None
    """`llama-2`, `chatml`, `plain`, or a file that holds a Jinja template; null takes the tokenizer's own template."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of the numbers in representation, training and answering. `auto` is bf16 where that is faster, measured once
    for a run folder. Weights that are trained stay in fp32.
    """
    quantise: Literal["4bit"] | None = None
    """`4bit` keeps the weights in NF4 and trains adapters alone."""
    instruction: Instruction | None = None
    """Instruction tuning before alignment; null does none."""

    @model_validator(mode="before")
    @classmethod
    def _started(cls, data: Any) -> Any:
        """Reads recipes with the removed key `start`, which never had an effect."""
        if not isinstance(data, dict) or "start" not in data:
            return data
        if data["start"] != "base":
            raise ValueError(
                f"start: found {data['start']!r}, but the key no longer exists: every arm starts from the given model, "
                "and the arm 'none' is that model unchanged; remove start, and add the arm 'none'"
            )
        return {name: value for name, value in data.items() if name != "start"}
