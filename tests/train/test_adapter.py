"""What LoRA adapts, told from a configuration alone, against adapters on models with weights."""

from __future__ import annotations

import pytest
import transformers

from curator.errors import ModelError
from curator.recipe.training import Training
from curator.train.adapter import left_out, with_adapter
from tests import fakes

GPT_OSS = transformers.GptOssConfig(**fakes.WIDE, num_local_experts=2, num_experts_per_tok=1)


@pytest.mark.parametrize("family", fakes.FAMILIES)
def test_of_these_models_every_linear_layer_but_the_head_is_adapted(family):
    model = fakes.model(family)
    assert left_out(model.config) is None
    wide = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    tables = {name for name in wide if any(table in name for table in ("embed", "wte", "wpe", "lm_head"))}
    adapted = with_adapter(model, Training(rank=2, steps=1))
    names = {name for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert len(names) == len(wide - tables)


def test_experts_that_are_no_layers_are_told_with_their_share():
    model = transformers.AutoModelForCausalLM.from_config(GPT_OSS)
    experts = [weight for name, weight in model.named_parameters() if name.endswith(("gate_up_proj", "down_proj"))]
    routers = [weight for name, weight in model.named_parameters() if name.endswith("router.weight")]
    assert len(experts) == 2 * GPT_OSS.num_hidden_layers
    remaining = left_out(GPT_OSS)
    assert remaining is not None
    assert set(remaining.names) == {"mlp.router.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"}
    total = sum(weight.numel() for weight in model.parameters())
    assert remaining.share == pytest.approx(sum(weight.numel() for weight in [*experts, *routers]) / total)
    adapted = with_adapter(model, Training(rank=2, steps=1))
    assert not [name for name, _ in adapted.named_parameters() if "lora_" in name and "mlp" in name]
    assert str(remaining).startswith("Adapters (LoRA) leave mlp.router.weight, ")


def test_a_model_that_lora_cannot_adapt_is_told_with_a_way_out():
    config = transformers.MambaConfig(vocab_size=320, hidden_size=32, state_size=8, num_hidden_layers=2)
    with pytest.raises(ModelError) as error:
        left_out(config)
    text = str(error.value)
    assert text.startswith("model.id: LoRA cannot adapt a mamba model (")
    assert text.endswith("set method: full in verify.align and verify.finetune, or name another model")


def test_a_configuration_of_which_no_model_can_be_made_is_told():
    config = transformers.LlamaConfig(**fakes.WIDE)
    config.hidden_act = "no such function"
    with pytest.raises(ModelError, match=r"cannot build a llama model from this config.json \(.*no such function"):
        left_out(config)
