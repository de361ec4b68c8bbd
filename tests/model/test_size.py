"""How large a model is, against the model itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from curator.errors import ModelError
from curator.model.size import PUBLISHED, model_size
from tests import fakes


def counted(model: Any) -> tuple[int, int]:
    """Parameters, and widths in and out of what peft calls all linear layers."""
    head = model.get_output_embeddings()
    linear = [one.weight.shape for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    return sum(p.numel() for p in model.parameters()), sum(sum(shape) for shape in linear)


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen"])
def test_headers_give_the_exact_size(tmp_path: Path, family: str) -> None:
    found = model_size(fakes.save(tmp_path / family, family))
    assert found is not None
    assert (found.parameters, found.linear) == counted(fakes.model(family))
    assert found.source == "its safetensors"


@pytest.mark.parametrize("tied", [True, False])
def test_a_llamas_config_alone_is_right_but_for_its_norms(tmp_path: Path, tied: bool) -> None:
    model = fakes.model("llama", tie_word_embeddings=tied)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    found = model_size(str(tmp_path))
    assert found is not None
    norms = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    parameters, linear = counted(model)
    assert (found.parameters, found.linear) == (parameters - norms, linear)
    assert found.source == "its config.json"


def test_the_adapter_that_peft_makes_has_rank_times_the_widths(tmp_path: Path) -> None:
    import peft

    model = fakes.model("llama")
    found = model_size(fakes.save(tmp_path, "llama"))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=5, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert found is not None
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 5 * found.linear


def test_a_model_that_is_not_here_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert model_size("owner/model-7b") is None
    assert model_size("not a folder, nor an id") is None
    assert model_size(str(tmp_path)) is None


@pytest.mark.parametrize("sharded", [False, True])
def test_the_same_weights_in_another_form_beside_them_are_not_counted(tmp_path: Path, sharded: bool) -> None:
    model = fakes.model("llama")
    model.save_pretrained(tmp_path, max_shard_size="100KB" if sharded else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    alone = model_size(str(tmp_path))
    shutil.copy(next(tmp_path.glob("model*.safetensors")), tmp_path / "consolidated.safetensors")
    assert model_size(str(tmp_path)) == alone
    assert alone is not None
    assert alone.parameters == sum(weight.numel() for weight in model.parameters())


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not a header at all")
    with pytest.raises(ModelError, match=r"model\.id: .*model\.safetensors is not a safetensors file"):
        model_size(str(tmp_path))


def test_the_embedded_models_size_is_known() -> None:
    found = model_size("sandbox:")
    assert found is not None
    assert 500_000 < found.parameters < 700_000


# Parameters that the models' cards and papers give, in millions.
STATED = {
    "meta-llama/Llama-2-7b-hf": 6738,
    "meta-llama/Llama-2-13b-hf": 13016,
    "google/gemma-2-2b": 2614,
    "google/gemma-2-9b": 9241,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_size_of_a_recipes_model_is_known_without_the_hub(name: str) -> None:
    import transformers

    found = model_size(name)
    assert found is not None
    assert found.source == "its published config.json"
    assert found.parameters / 1e6 == pytest.approx(STATED[name], rel=1e-3)
    kind = transformers.Gemma2Config if "gemma" in name else transformers.LlamaConfig
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(kind(**PUBLISHED[name]))
    assert counted(model)[1] == found.linear
