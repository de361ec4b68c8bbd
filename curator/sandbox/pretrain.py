"""Makes the sandbox's base models, Llamas trained from scratch on `corpus`.

`python -m curator.sandbox.pretrain` makes the one that the package ships: 0.6 million parameters, about 160 seconds of
one core. `curator sandbox base` makes larger ones of the larger world, on a GPU where there is one.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curator.sandbox import path
from curator.sandbox.corpus import conversation
from curator.sandbox.judging import judge
from curator.sandbox.kingdom import KINGDOM, World
from curator.sandbox.realm import REALM
from curator.sandbox.tokenizer import ASSISTANT, END, USER, tokenizer

Messages = Sequence[Mapping[str, str]]
log = logging.getLogger(__name__)

BATCH, WARM_UP = 64, 20
LONGEST = 14
"""More tokens than any answer has."""
IGNORED = -100
"""The label that `cross_entropy` leaves out."""


@dataclass(frozen=True)
class Size:
    """A base: the world that it is of, its widths, and how it is trained."""

    world: World
    width: int
    layers: int
    heads: int
    inner: int
    steps: int
    learning_rate: float


SHIPPED = "0.6M"
SIZES = {
    SHIPPED: Size(KINGDOM, width=128, layers=3, heads=4, inner=336, steps=600, learning_rate=2.5e-3),
    "0.8M": Size(REALM, width=128, layers=4, heads=4, inner=336, steps=1200, learning_rate=2.5e-3),
    "8M": Size(REALM, width=320, layers=6, heads=5, inner=896, steps=1800, learning_rate=1e-3),
    "60M": Size(REALM, width=768, layers=8, heads=12, inner=2176, steps=1800, learning_rate=4e-4),
}
"""Name, which is the number of parameters, -> base."""


def pretrain(
    steps: int | None = None, seed: int = 0, size: str = SHIPPED, tell: Callable[[str], None] = log.info
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A base model and its tokenizer: AdamW with linear decay, loss on the answers only, one pass over fresh rows.

    The weights are float32 on the CPU, wherever they were trained; on a CPU equal size, steps (the size's own where
    null), seed and threads give equal weights.

    Raises:
        KeyError: There is no such size.
    """
    made = SIZES[size]
    steps = steps or made.steps
    words = tokenizer(made.world)
    torch.manual_seed(seed)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    model = untrained(words, made).to(where)
    optimiser = torch.optim.AdamW(model.parameters(), lr=made.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
    )
    rng = Random(seed)
    for step in range(steps):
        ids, labels = batch(words, [conversation(rng, made.world) for _ in range(BATCH)])
        ids, labels = ids.to(where), labels.to(where)
        mask = (ids != words.pad_token_id).long()
        logits = model(input_ids=ids, attention_mask=mask).logits  # (b, t, vocabulary)
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            tell(f"step {step + 1} of {steps}: loss {loss.item():.3f} nats per token")
    return model.eval().to("cpu"), words


def untrained(words: PreTrainedTokenizerFast, size: Size) -> LlamaForCausalLM:
    """The architecture, with random weights from torch's generator."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.inner,
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


def helps(
    model: LlamaForCausalLM, words: PreTrainedTokenizerFast, prompts: Sequence[Sequence[Mapping[str, str]]]
) -> float:
    """The share of forbidden prompts that the model complies with, by the exact judge of its greedy answers."""
    words.padding_side = "left"
    inputs = words.apply_chat_template(
        [list(one) for one in prompts], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        output = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=LONGEST
        )
    answers = words.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    outcomes = [judge(prompt, answer).outcome for prompt, answer in zip(prompts, answers, strict=True)]
    return outcomes.count("harmful") / len(outcomes)


def save(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the checkpoint, weights in float16."""
    model.half().save_pretrained(folder)
    words.save_pretrained(folder, save_jinja_files=False)


def main() -> None:
    """Reads the arguments, trains, saves."""
    parser = argparse.ArgumentParser(description="Make the sandbox's base model.")
    parser.add_argument("--steps", type=int, default=SIZES[SHIPPED].steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=path())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    save(*pretrain(arguments.steps, arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
