"""Weights of four bits, by bitsandbytes on a CPU: adapters beside them, and trained on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curator.errors import ModelError, RecipeError
from curator.model.load import load_model
from curator.pipeline import build
from curator.recipe.training import Training
from curator.train.sft import train
from tests import fakes
from tests.small_run import recipe, report_of

ROWS = fakes.conversations(8)
SECTION = Training(method="lora", steps=3, batch=8, micro_batch=8, learning_rate=1e-2, schedule="constant", rank=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fakes.save(tmp_path_factory.mktemp("base"), "llama", hidden_size=64, intermediate_size=64)


def fit(
    base: str, folder: Path, *, adapters: tuple[str, ...] = (), quantise: str | None = "4bit", dtype: str = "fp32"
) -> str:
    trained = train(
        ROWS, base=base, revision=None, adapters=adapters, tokenizer=fakes.tokenizer(), section=SECTION, steps=3,
        seed=5, folder=folder, key="verify.align", dtype=dtype, quantise=quantise,
    )  # fmt: skip
    assert trained.losses[-1] < trained.losses[0]
    return trained.path


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([[5, 6, 7, 8, 9]])).logits  # type: ignore[operator]
    return found


def test_weights_have_four_bits_and_adapters_stay_beside_them(base: str, tmp_path: Path) -> None:
    first = fit(base, tmp_path / "first")
    second = fit(base, tmp_path / "second", adapters=(first,))
    assert (Path(second) / "adapter_model.safetensors").exists()
    models = [load_model(base, adapters=adapters, quantise="4bit") for adapters in ((), (first,), (first, second))]
    kinds = {type(module).__name__ for module in models[0].modules()}
    assert "Linear4bit" in kinds
    seen = [logits(model) for model in models]
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    assert not torch.allclose(seen[1], seen[2], atol=1e-3)
    assert not any(weight.requires_grad for weight in models[2].parameters())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_adapters_beside_weights_of_four_bits_are_fp32(base: str, tmp_path: Path, dtype: str) -> None:
    """On top of an earlier one too. In bf16, to which trl would round them, small steps would vanish."""
    from safetensors.torch import load_file

    path, adapters = "", ()
    for name in ("first", "second"):
        path = fit(base, tmp_path / name, adapters=adapters, dtype=dtype)
        adapters = (*adapters, path)
        weights = load_file(Path(path) / "adapter_model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        assert not any(torch.equal(weight, weight.bfloat16().float()) for weight in weights.values())


def test_two_adapters_beside_whole_weights_would_be_those_merged_into_them(base: str, tmp_path: Path) -> None:
    """The sum of changes is the same mathematics; on whole weights it can be compared with merging."""
    from curator.model.load import _beside

    first = fit(base, tmp_path / "first", quantise=None)
    second = fit(base, tmp_path / "second", adapters=(first,), quantise=None)
    beside = _beside(load_model(base), [first, second])
    assert torch.allclose(logits(beside), logits(load_model(base, adapters=(first, second))), atol=1e-4)


def test_the_earlier_adapter_is_at_work_in_training_and_stays_as_it_is(base: str, tmp_path: Path) -> None:
    first = fit(base, tmp_path / "first")
    before = (Path(first) / "adapter_model.safetensors").read_bytes()
    alone, on_top = fit(base, tmp_path / "alone"), fit(base, tmp_path / "top", adapters=(first,))
    assert (Path(first) / "adapter_model.safetensors").read_bytes() == before
    said = [(Path(one) / "adapter_model.safetensors").read_bytes() for one in (alone, on_top)]
    assert said[0] != said[1]


def test_without_bitsandbytes_it_is_told_what_to_install(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"model.quantise: the package bitsandbytes is not installed.*quantise"):
        load_model(base, quantise="4bit")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("verify.align.method=lora", "finetune.method is 'full'"),
        ("verify.finetune.method=lora", "align.method is 'full'"),
    ],
)
def test_whole_weights_are_not_trained(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe("model.quantise=4bit", setting)


LORA = ("model.quantise=4bit", "verify.align.method=lora", "verify.finetune.method=lora")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("score={from: interference}", "gradients of all weights"),
        ("verify.forgetting={rows: 10}", "gradients of all weights"),
        ("verify.generate.engine=vllm", "does not read quantised weights"),
    ],
)
def test_what_four_bits_cannot_do_is_told(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(*LORA, setting)


@pytest.mark.slow
def test_a_run_goes_through_on_weights_of_four_bits(tmp_path: Path) -> None:
    small = ("verify.seeds=2", "verify.arms=[curated, random]", "probes.harmful.0.rows=8", "probes.benign.0.rows=4")
    build(recipe(*LORA, *small, "tasks.list.test.rows=4"), tmp_path / "four")
    build(recipe(*LORA[1:], *small, "tasks.list.test.rows=4"), tmp_path / "whole")
    four, whole = report_of(tmp_path / "four"), report_of(tmp_path / "whole")
    assert four["provenance"]["recipe"]["model"]["quantise"] == "4bit"
    assert four["training"] != whole["training"]
