"""Tiny real models and tokenizers, built in code with seeded random weights: what the tests of models share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from curator.model.chat import TEMPLATES
from curator.records import ROW_SCHEMA, row_id

torch.set_num_threads(1)  # more threads only wait for each other on models this small

SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
WORDS = (
    "the lighthouse keeper counts grey gulls every morning and writes their names into a long green book",
    "a baker asks how many loaves fit into the stone oven when the oven is cold and the baker is late",
    "sorry, I cannot open the silver gate. please ask the old gate keeper, or wait until noon",
    "### Instruction: list three rivers ### Response: the Ald, the Bern and the Corr",
    "[INST] what is 12 + 30? [/INST] 42 <<SYS>> be brief <</SYS>> user assistant system",
)
SIZE = {"vocab_size": 320, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 256}
WIDE = {**SIZE, "hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, WIDE),
    # Every second block sees 8 tokens only. Tied to these wide embeddings it would say one token over and over.
    "gemma": (
        transformers.Gemma2Config,
        {**WIDE, "sliding_window": 8, "query_pre_attn_scalar": 16, "tie_word_embeddings": False},
    ),
    "qwen": (transformers.Qwen3Config, WIDE),
    "gpt2": (
        transformers.GPT2Config,
        {"vocab_size": 320, "n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 256}
        | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
}
FAMILIES = tuple(CONFIGS)
# The last linear layers of its blocks get all tokens of a batch in one row.
CONFIGS["opt"] = (
    transformers.OPTConfig,
    {"vocab_size": 320, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    | {"max_position_embeddings": 256, "word_embed_proj_dim": 32, "dropout": 0.0},
)


@cache
def _trained() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(WORDS * 4, trainer)
    return bpe.to_str()


def tokenizer(template: str | None = "plain", **changes: Any) -> Any:
    """A byte-level BPE of 320 tokens; `template` is a name in TEMPLATES or Jinja text."""
    settings = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "padding_side": "left", **changes}
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_trained()), **settings)
    made.chat_template = TEMPLATES.get(template or "", template)
    return made


def model(family: str, *, seed: int = 0, **changes: Any) -> Any:
    """A causal model of three blocks, in evaluation mode. Its weights are wide enough for answers to differ."""
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.25}
    kind, shape = CONFIGS[family]
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(kind(**{**shape, **ends, **changes})).eval()


def save(folder: Path, family: str = "llama", *, template: str | None = "plain", seed: int = 0, **changes: Any) -> str:
    """A checkpoint with its tokenizer, as a user has it on disk."""
    model(family, seed=seed, **changes).save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return str(folder)


def turns(*said: str) -> list[dict[str, str]]:
    """A conversation that the user begins."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def conversations(count: int = 9) -> list[list[dict[str, str]]]:
    """Rows of very different lengths, one of several turns and one of an empty answer among them."""
    words = " ".join(WORDS).split()
    rows = [
        turns(" ".join(words[i : i + 2 + 5 * i % 23]), " ".join(words[2 * i : 2 * i + 1 + 7 * i % 19]))
        for i in range(count)
    ]
    rows[1] = turns("who is there?", "a baker", "and who else?", "the old gate keeper, who is late")
    rows[2] = turns("say nothing", "")
    return rows


def frame(rows: list[list[dict[str, str]]], source: str = "invented") -> pl.DataFrame:
    """The rows in the columns of ROW_SCHEMA."""
    return pl.DataFrame(
        {
            "id": [row_id(messages) for messages in rows],
            "messages": rows,
            "source": source,
            "line": range(len(rows)),
            "category": "fiction",
            "licence": "CC0-1.0",
            "tokens": 0,
        },
        schema=ROW_SCHEMA,
    )
