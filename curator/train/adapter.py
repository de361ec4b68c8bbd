"""LoRA on a model: its settings, the weights it adapts, and the weights it leaves unchanged."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import ModelError, first_line
from curator.wording import percent

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curator.recipe.training import Training

NEW = "default"  # the trained adapter; peft writes an adapter of this name directly into the folder


class LeftOut(NamedTuple):
    """Weights that LoRA leaves unchanged, besides embeddings and the output head.

    Attributes:
        names: Names of these weights, without the number of the block. `share`: of the model's parameters, in (0, 1].
    """

    names: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        names = ", ".join(self.names)
        return f"Adapters (LoRA) leave {names} unchanged ({percent(self.share)} of the model's parameters)"


def with_adapter(model: PreTrainedModel, section: Training) -> Any:
    """The model with a new adapter; only the adapter is trained."""
    from peft import PeftModel, get_peft_model

    settings = _settings(section.rank, section.alpha or 2 * section.rank)
    if not isinstance(model, PeftModel):
        return get_peft_model(model, settings, adapter_name=NEW)
    # Earlier adapters could not be merged into quantised weights: they stay active and are not changed.
    earlier = list(model.peft_config)
    model.add_adapter(NEW, settings)
    model.base_model.set_adapter([*earlier, NEW])
    for name, weight in model.named_parameters():
        weight.requires_grad_(f".{NEW}." in name)
    return model


def left_out(config: Any) -> LeftOut | None:
    """The weights that LoRA leaves out of a model with this configuration, or null. Loads no weights.

    Raises:
        ModelError: LoRA cannot adapt such a model.
    """
    import torch
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM

    from curator.model.load import quiet

    quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"model.id: cannot build a {config.model_type} model from this config.json ({first_line(error)}); "
                "give the config.json that belongs to the weights, or name another model"
            ) from error
        # Counted before peft, which may replace the model's layers.
        total = sum(weight.numel() for weight in model.parameters())
        try:
            adapted = get_peft_model(model, _settings(1, 2))
        except (ValueError, NotImplementedError, TypeError) as error:
            reason = first_line(error).partition(". ")[0]
            raise ModelError(
                f"model.id: LoRA cannot adapt a {config.model_type} model ({reason}); set method: full in "
                "verify.align and verify.finetune, or name another model"
            ) from error
    covered: set[int] = set()
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            # A parameter that is not a separate layer is wrapped by its name.
            wrapped = getattr(module, "parameter_name", None)
            covered.add(id(module.get_param() if wrapped else module.get_base_layer().weight))
        elif isinstance(module, torch.nn.Embedding):
            covered.add(id(module.weight))
    if (head := adapted.get_output_embeddings()) is not None:
        covered.add(id(head.weight))
    remaining = {
        name: weight
        for name, weight in adapted.named_parameters()
        if weight.ndim > 1 and id(weight) not in covered and "lora_" not in name and not name.endswith("bias")
    }
    if not remaining:
        return None
    names = dict.fromkeys(re.sub(r"^.*?\.\d+\.|base_layer\.", "", name) for name in remaining)
    return LeftOut(tuple(names), sum(weight.numel() for weight in remaining.values()) / total)


def _settings(rank: int, alpha: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def drops(config: Any) -> bool:
    """Whether a model's configuration has any dropout."""
    return any(value > 0 for part in _parts(config) for value in _dropouts(vars(part)).values())


def without_dropout(model: Any) -> None:
    """Sets every dropout of a model to 0, in its layers and its configuration. It would make a training depend on how
    its rows are split into passes and processes.
    """
    parts = [*model.modules(), *_parts(model.config)]
    for part in parts:
        for name in _dropouts(vars(part)):
            setattr(part, name, 0.0)
        if type(part).__name__.startswith("Dropout") and hasattr(part, "p"):
            part.p = 0.0


def _parts(config: Any) -> list[Any]:
    text = config.get_text_config()
    return [config] if text is config else [config, text]


def _dropouts(fields: Mapping[str, Any]) -> dict[str, float]:
    """Every dropout among the fields, without those of heads that a causal model does not have."""
    return {
        name: float(value)
        for name, value in fields.items()
        if "drop" in name and not name.startswith(("summary", "classifier"))
        and isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip
