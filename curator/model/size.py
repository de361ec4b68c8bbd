"""The size of a model, read from its files without loading it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.errors import ModelError
from curator.model.gguf import is_gguf
from curator.recipe.package import path_of
from curator.run.folder import read_json

_DAMAGED = "fix it, or get the model again"

_TABLES = ("embed", "wte", "wpe", "lm_head")  # parts of the names of tensors that LoRA does not adapt

_OF_WORDS = ("token_embd", "output.")  # the same in GGUF

_WIDTHS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_LLAMA = {"vocab_size": 32000, "tie_word_embeddings": False}
_GEMMA = {"vocab_size": 256000, "tie_word_embeddings": True, "head_dim": 256}
PUBLISHED: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-hf": _LLAMA | dict(zip(_WIDTHS, (4096, 11008, 32, 32, 32), strict=True)),
    "meta-llama/Llama-2-13b-hf": _LLAMA | dict(zip(_WIDTHS, (5120, 13824, 40, 40, 40), strict=True)),
    "google/gemma-2-2b": _GEMMA | dict(zip(_WIDTHS, (2304, 9216, 26, 8, 4), strict=True)),
    "google/gemma-2-9b": _GEMMA | dict(zip(_WIDTHS, (3584, 14336, 42, 16, 8), strict=True)),
}
"""Widths of the models of the shipped recipes, from their config.json on the Hub, so that a plan needs no network."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model.

    Attributes:
        parameters: Number of all parameters.
        linear: Sum of input and output widths over the linear layers that LoRA adapts; multiplied by the rank, it is
            the number of an adapter's parameters.
        source: The file that the numbers come from.
    """

    parameters: int
    linear: int
    source: str


def model_size(model_id: str, revision: str | None = None) -> ModelSize | None:
    """The size of a model in a local folder, in the Hub's local cache, or in PUBLISHED; null for any other.

    Headers of safetensors are exact; from only a config.json, the size is that of a Llama with these widths.

    Raises:
        ModelError: A file is damaged.
    """
    if model_id == "sandbox:":
        folder = Path(__file__).parent.parent / "sandbox" / "checkpoint"
    elif (path := Path(path_of(model_id))).is_dir():
        folder = path
    elif path.is_file() and is_gguf(path.name):
        return _from_gguf(path)
    else:
        if (file := _cached(model_id, revision)) is not None:
            return _from_config(read_json(file, _DAMAGED), "its config.json")
        published = PUBLISHED.get(model_id)
        return None if published is None else _from_config(published, "its published config.json")
    shapes = [shape for file in _weights(folder) for shape in _header(file)]
    if shapes:
        adapted = [shape for name, shape in shapes if len(shape) == 2 and not any(table in name for table in _TABLES)]
        return ModelSize(sum(math.prod(shape) for _, shape in shapes), sum(map(sum, adapted)), "its safetensors")
    config = folder / "config.json"
    return _from_config(read_json(config, _DAMAGED), "its config.json") if config.exists() else None


def _weights(folder: Path) -> list[Path]:
    """The files that transformers loads; a folder may hold the same weights in another form beside them."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index, _DAMAGED)["weight_map"].values()))]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def _from_gguf(file: Path) -> ModelSize | None:
    """The size from a GGUF file; null if gguf is not installed."""
    try:
        import gguf
    except ImportError:
        return None
    try:
        tensors = gguf.GGUFReader(file).tensors
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(
            f"model.id: {file.name} is not a GGUF file, or it is damaged ({error}); download it again"
        ) from error
    adapted = [tensor.shape for tensor in tensors if len(tensor.shape) == 2 and not tensor.name.startswith(_OF_WORDS)]
    linear = sum(int(shape.sum()) for shape in adapted)
    return ModelSize(sum(int(tensor.n_elements) for tensor in tensors), linear, "its GGUF file")


def _header(file: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of a file's tensors: 8 bytes of length, then JSON (https://github.com/huggingface/safetensors)."""
    try:
        with open(file, "rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"model.id: {file} is not a safetensors file ({error}); download the model again") from error
    yield from ((name, tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _cached(model_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    except HFValidationError:  # neither a folder that exists nor a Hub id: the build will say so
        return None
    return Path(path) if isinstance(path, str) else None


def _from_config(config: Mapping[str, Any], source: str) -> ModelSize | None:
    config = config.get("text_config", config)

    def read(*names: str) -> int | None:
        return next((int(config[name]) for name in names if config.get(name) is not None), None)

    width, layers = read("hidden_size", "n_embd"), read("num_hidden_layers", "n_layer")
    heads, words = read("num_attention_heads", "n_head"), read("vocab_size")
    if width is None or layers is None or heads is None or words is None:
        return None
    head = read("head_dim") or width // heads
    queries, keys = heads * head, (read("num_key_value_heads") or heads) * head
    inner = read("intermediate_size", "n_inner") or 4 * width
    # Queries, keys, values and output of attention; gate, up and down of the MLP.
    layer = [(width, queries), (width, keys), (width, keys), (queries, width), *[(width, inner)] * 3]
    tables = 1 if config.get("tie_word_embeddings") else 2
    parameters = layers * sum(a * b for a, b in layer) + tables * words * width
    return ModelSize(parameters, layers * sum(a + b for a, b in layer), source)
