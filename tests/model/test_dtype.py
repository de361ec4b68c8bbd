"""In which dtype a model computes, and that what adds up is added up in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from curator.errors import ModelError
from curator.model import dtype
from curator.model.dtype import Choice, chosen, product_rates, torch_dtype
from curator.model.load import load_model
from tests import fakes

LARGE = "owner/model"  # of which no file tells the size


def rates(monkeypatch, times):
    monkeypatch.setattr(dtype, "product_rates", lambda: {"fp32": 100.0, "bf16": 100.0 * times})


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_what_the_recipe_names_is_not_measured(monkeypatch, asked, where):
    monkeypatch.setattr(dtype, "product_rates", None)
    assert chosen(asked, LARGE, where=where) == Choice(asked, "as the recipe says")


@pytest.mark.parametrize(("times", "name"), [(0.3, "fp32"), (1.49, "fp32"), (1.5, "bf16"), (5.0, "bf16")])
def test_a_cpu_takes_bf16_where_its_products_are_half_as_fast_again(monkeypatch, times, name):
    rates(monkeypatch, times)
    choice = chosen("auto", LARGE, where="cpu")
    assert choice.dtype == name
    assert f"{times:.1f}x as fast" in choice.reason


def test_a_small_model_stays_in_fp32(monkeypatch, llama_folder):
    rates(monkeypatch, 9.0)
    for name in ("sandbox:", llama_folder):
        assert chosen("auto", name, where="cpu").dtype == "fp32"


@pytest.mark.parametrize(("native", "name"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_takes_bf16_where_it_has_it(monkeypatch, native, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    # torch says that a T4 supports bf16, which it imitates slowly.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert chosen("auto", "sandbox:", where="cuda").dtype == name
    if native:
        assert torch_dtype("bf16", "cuda") == torch.bfloat16
    else:
        with pytest.raises(ModelError, match=r"model\.dtype: found bf16, but this machine's Tesla T4 does not"):
            torch_dtype("bf16", "cuda")
    assert torch_dtype("fp32", "cuda") == torch.float32


def test_rates_are_measured_and_of_this_machines_order():
    measured = product_rates(0.1)
    assert measured.keys() == {"fp32", "bf16"}
    assert all(1e8 < rate < 1e15 for rate in measured.values())


def test_adapters_are_added_in_fp32_and_rounded_once(llama_folder, tmp_path):
    """Twenty small changes: rounding after each would lose most of them, each being below half a step of bf16."""
    from peft import LoraConfig, get_peft_model

    plain = load_model(llama_folder)
    model = get_peft_model(plain, LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"], init_lora_weights=False))
    small = dict(model.named_parameters())
    for name, weight in small.items():
        if "lora_" in name:
            weight.data.fill_(0.01)  # so that an adapter adds 1e-4 to weights of about 0.02
    folders = [str(tmp_path / str(number)) for number in range(20)]
    for folder in folders:
        model.save_pretrained(folder)
    before = load_model(llama_folder).state_dict()
    exact = {name: weight + 20 * 1e-4 if "q_proj" in name else weight for name, weight in before.items()}
    merged = {name: load_model(llama_folder, adapters=folders, dtype=name) for name in ("fp32", "bf16")}
    for name, weight in merged["fp32"].state_dict().items():
        torch.testing.assert_close(weight, exact[name], rtol=0, atol=1e-6)
    for name, weight in merged["bf16"].state_dict().items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, merged["fp32"].state_dict()[name].bfloat16())
    # What is not a weight keeps its precision: rotary angles in bf16 would be off by whole turns at long positions.
    angles = {name: value.dtype for name, value in merged["bf16"].named_buffers() if "inv_freq" in name}
    assert angles
    assert set(angles.values()) == {torch.float32}


def test_what_a_file_holds_in_fp32_is_not_rounded_before_adapters_are_added(tmp_path):
    folder = fakes.save(tmp_path / "model")
    file = Path(folder) / "model.safetensors"
    weights = load_file(file)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    name = next(name for name in weights if "q_proj" in name)
    # Between two values of bf16, a hair below the middle; the adapter carries it over.
    value = 1.0 + 2.0**-8 - 2.0**-12
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file, metadata={"format": "pt"})
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        load_model(folder), LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"], init_lora_weights=False)
    )
    for part, weight in model.named_parameters():
        if "lora_" in part:
            weight.data.fill_(2.0**-5)  # which adds 2^-10
    model.save_pretrained(tmp_path / "adapter")
    merged = load_model(folder, adapters=[str(tmp_path / "adapter")], dtype="bf16").state_dict()[name]
    assert torch.equal(merged, torch.full_like(merged, 1.0 + 2.0**-7))


def test_a_file_in_bf16_takes_small_adapters_in_fp32(tmp_path):
    """Each of twenty adapters adds a tenth of a step of bf16, which would be lost, and all together add two steps."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = fakes.save(tmp_path / "model")
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    for name, weight in half.named_parameters():
        if "q_proj" in name:
            weight.data.fill_(1.0)  # where bf16 has steps of 2^-7
    half.save_pretrained(tmp_path / "half")
    fakes.tokenizer().save_pretrained(tmp_path / "half")
    path = str(tmp_path / "half")
    model = get_peft_model(
        load_model(path), LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"], init_lora_weights=False)
    )
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            weight.data.fill_(1.0)
        elif "lora_B" in name:
            weight.data.fill_(2.0**-7 / 10)
    folders = [str(tmp_path / str(number)) for number in range(20)]
    for adapter in folders:
        model.save_pretrained(adapter)
    for dtype_name, tolerance in (("fp32", 1e-5), ("bf16", 0.0)):
        weights = load_model(path, adapters=folders, dtype=dtype_name).state_dict()
        name = next(name for name in weights if "q_proj" in name)
        merged = weights[name].float()
        torch.testing.assert_close(merged, torch.full_like(merged, 1.0 + 2.0**-6), rtol=0, atol=tolerance)
