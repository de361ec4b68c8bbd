"""Makes the sandbox's base model: `python -m curator.sandbox.pretrain`. The package ships what it made.

A Llama of 0.6 million parameters, trained from scratch on `corpus` in about 160 seconds of one core.
"""

import argparse
import logging
from pathlib import Path
from random import Random

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curator.sandbox import path
from curator.sandbox.corpus import conversation
from curator.sandbox.tokenizer import ASSISTANT, END, USER, tokenizer

log = logging.getLogger(__name__)

STEPS, BATCH, LEARNING_RATE, WARM_UP = 600, 64, 2.5e-3, 20
IGNORED = -100
"""The label that `cross_entropy` leaves out."""


def pretrain(steps: int = STEPS, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A base model and its tokenizer: AdamW with linear decay, loss on the answers only, one pass over fresh rows.

    The weights are float32 on the CPU; equal steps, seed and threads give equal weights.
    """
    words = tokenizer()
    torch.manual_seed(seed)
    model = untrained(words)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
    )
    rng = Random(seed)
    for step in range(steps):
        ids, labels = batch(words, [conversation(rng) for _ in range(BATCH)])
        mask = (ids != words.pad_token_id).long()
        logits = model(input_ids=ids, attention_mask=mask).logits  # (b, t, vocabulary)
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            log.info("step %d of %d: loss %.3f nats per token", step + 1, steps, loss.item())
    return model.eval(), words


def untrained(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The architecture, with random weights from torch's generator."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=336,
            tie_word_embeddings=True,
            max_position_embeddings=256,
            pad_token_id=words.pad_token_id,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
        )
    )
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id
    )
    return model


def batch(words: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(prompt, answer) rows as token ids and labels, both (b, t), padded on the right; prompts and padding are not
    labelled.
    """
    starts = words([f"{USER}{prompt}{ASSISTANT}" for prompt, _ in rows])["input_ids"]
    wholes = words([f"{USER}{prompt}{ASSISTANT}{answer}{END}" for prompt, answer in rows])["input_ids"]
    ids = torch.full((len(rows), max(map(len, wholes))), words.pad_token_id)
    labels = torch.full_like(ids, IGNORED)
    for i, (start, whole) in enumerate(zip(starts, wholes, strict=True)):
        ids[i, : len(whole)] = torch.tensor(whole)
        labels[i, len(start) : len(whole)] = ids[i, len(start) : len(whole)]
    return ids, labels


def save(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the checkpoint, weights in float16."""
    model.half().save_pretrained(folder)
    words.save_pretrained(folder, save_jinja_files=False)


def main() -> None:
    """Reads the arguments, trains, saves."""
    parser = argparse.ArgumentParser(description="Make the sandbox's base model.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=path())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    save(*pretrain(arguments.steps, arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
