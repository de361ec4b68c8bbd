"""Interference: how much a small step on a task raises the loss of each safe answer.

Letters: `n` pool rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.errors import DataError, ModelError
from curator.model.batches import batches
from curator.model.chat import Tokens, encode_all
from curator.model.load import memory, window
from curator.model.losses import LOSSES, Losses, answer_losses, token_losses
from curator.recipe.score import Score
from curator.records import Scores
from curator.represent.encoder import Texts
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def interference(
    pool: Texts,
    tasks: Mapping[str, Texts],
    weights: Mapping[str, float],
    *,
    sections: Sequence[Score],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taken_on: str,
    max_tokens: int,
    micro_batch: int,
    batch_tokens: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    kept: Callable[[str, Callable[[], Losses]], Losses] = lambda name, take: take(),
) -> list[Scores]:
    """The loss of every pool row's answer after a small step on a task, less the loss before it, in nats a token.

    The step goes against the gradient g of the task's loss, the mean over all answer tokens of the first `section.rows`
    of its rows in the order of ids, which are hashes. With W all weights that have a gradient, as one vector, the
    weights move by -section.size * |W| * u, where u is g / |g| (`gradient`, what plain gradient descent does) or
    sign(g) / |sign(g)| (`sign`, about what Adam's first steps do); |.| is the Euclidean length. Afterwards the weights
    are restored bit for bit.

    A larger value means that the task harms the row more; it takes the place of a larger similarity. To first order the
    value is -size * |W| * (r . u) with r the gradient of the row's own loss, so it shows whether task and row pull the
    weights in opposite directions. It needs no gradients of single rows, only two forward passes per row (the first
    serves all steps on all tasks).

    Args:
        pool: `n` rows.
        tasks: Task name -> rows. Rows of more than `max_tokens` tokens are left out, as fine-tuning leaves them out.
        weights: Task name -> task mass p_t. A task of weight 0 gets its score and adds nothing.
        sections: Steps to take; each of LOSSES after the same step is its own score.
        model: In fp32, since small steps vanish in bf16.
        tokenizer: The model's tokenizer.
        taken_on: In words, which weights these are.
        micro_batch: Task rows in a batch for the gradient.
        batch_tokens: Most tokens in a batch of pool rows.
        progress: Called with the forward passes done and their total, one pass per row.
        kept: Takes a name, `@before` or of a task and step, and a function that gives its losses; may return those of
            an earlier run instead.

    Returns:
        For each section one Scores per loss, in the order of LOSSES. Values are any finite numbers. The scores name no
        nearest task row.

    Raises:
        DataError: All rows of a task are too long.
        ModelError: A gradient is zero or not finite, a row is too long for the model, or memory runs out.
    """
    encoded = encode_all(tokenizer, pool.rows)
    passes = 1 + len(tasks) * len(sections)
    filler, flags = tokenizer.pad_token_id, [weight.requires_grad for weight in model.parameters()]

    def losses(passes_before: int) -> Losses:
        return answer_losses(
            encoded, pool.ids, model=model, filler=filler, batch_tokens=batch_tokens, key="represent.batch_tokens",
            progress=lambda done: progress(passes_before * len(encoded) + done, passes * len(encoded)),
        )  # fmt: skip

    def after_step(name: str, section: Score, step_rows: Sequence[tuple[str, Tokens]], steps: int) -> Losses:
        _set_gradient(step_rows, model=model, filler=filler, micro_batch=micro_batch)
        with stepped(model, section.step, section.size, name):
            return losses(steps)

    before = kept("@before", lambda: losses(0))
    after, rows = [dict[str, Losses]() for _ in sections], [dict[str, int]() for _ in sections]
    limit = min(max_tokens, window(model))
    model.requires_grad_(True)  # weights have no gradients after an adapter is merged
    try:
        steps = 0
        for name, task in tasks.items():
            for number, section in enumerate(sections):
                step_rows = _step_rows(task, section.rows, limit, tokenizer, name)
                steps, rows[number][name] = steps + 1, len(step_rows)
                take = partial(after_step, name, section, step_rows, steps)
                after[number][name] = kept(f"{name}/{step_name(section)}", take)
    finally:
        for weight, flag in zip(model.parameters(), flags, strict=True):
            weight.requires_grad_(flag)
    return [
        _scores(
            section, loss, ids=pool.ids, weights=weights, before=before, after=after[number],
            facts={"taken_on": taken_on, "rows": rows[number]},
        )
        for number, section in enumerate(sections)
        for loss in LOSSES
    ]  # fmt: skip


def name_of(section: Score, loss: str) -> str:
    """What such a score is called, e.g. `interference/sign-0.001-64/first-token`."""
    return f"interference/{step_name(section)}/{loss}"


def step_name(section: Score) -> str:
    """A step on a task, e.g. `sign-0.001-64`."""
    return f"{section.step}-{section.size:g}-{section.rows}"


@contextmanager
def stepped(model: PreTrainedModel, step: str, size: float, task: str) -> Iterator[None]:
    """Moves the weights against the gradients that they hold while the block runs, then restores them.

    The gradients are removed either way. Old values are copied instead of added back, since weights that are moved
    there and back differ in their last bits.

    Args:
        step, size: As in `interference`.
        task: Name of the task, for messages.

    Raises:
        ModelError: The gradient is zero or not finite, or memory runs out.
    """
    import torch

    moving = [weight for weight in model.parameters() if weight.grad is not None]
    with torch.no_grad(), memory("model.id", "name a smaller model"):
        if step == "sign":
            for weight in moving:
                weight.grad.sign_()
        length = _length(weight.grad for weight in moving)
        if not (math.isfinite(length) and length > 0.0):
            raise ModelError(
                f"score.from: interference needs the gradient of task {task!r}, which has length {length:g} on this "
                "model; use another score, or another model"
            )
        scale = size * _length(moving) / length
        # On the CPU, so that the GPU holds only weights and gradients.
        originals = [weight.detach().to("cpu", copy=True) for weight in moving]
    try:
        with torch.no_grad():
            for weight in moving:
                weight.sub_(weight.grad, alpha=scale)
                weight.grad = None
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(moving, originals, strict=True):
                weight.copy_(value)
                weight.grad = None


def _length(tensors: Any) -> float:
    import torch

    return math.sqrt(sum(float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2 for tensor in tensors))


def _step_rows(
    task: Texts, count: int | None, limit: int, tokenizer: PreTrainedTokenizerBase, name: str
) -> list[tuple[str, Tokens]]:
    """Ids and tokens of the task rows that a step is taken on, at most `count`."""
    order = sorted(range(len(task.ids)), key=lambda row: task.ids[row])
    encoded = encode_all(tokenizer, [task.rows[row] for row in order])
    short = [(task.ids[row], tokens) for row, tokens in zip(order, encoded, strict=True) if len(tokens.ids) <= limit]
    if not short:
        raise DataError(
            f"verify.finetune.max_tokens: every row of task {name!r} has more than {these(limit, 'token', 'tokens')}, "
            "so interference has no row to take a step on; raise it, or use another score"
        )
    return short[:count]


def _set_gradient(rows: Sequence[tuple[str, Tokens]], *, model: PreTrainedModel, filler: int, micro_batch: int) -> None:
    """Computes the gradient of the mean loss over the rows' answer tokens into the weights' `grad`."""
    import torch

    model.zero_grad(set_to_none=True)
    ids, encoded = [row_id for row_id, _ in rows], [tokens for _, tokens in rows]
    lengths = [len(row.ids) for row in encoded]
    # Each micro-batch adds its sum divided by this total, so that batching does not change the weight of a row.
    total = sum(len(row.ids) - max(row.start, 1) for row in encoded)
    with torch.enable_grad(), memory("verify.finetune.micro_batch"):
        for batch in batches(lengths, ids, tokens=max(lengths) * micro_batch, rows=micro_batch):
            losses = token_losses([encoded[i] for i in batch], model=model, filler=filler)
            (torch.cat(losses).sum() / total).backward()  # type: ignore[no-untyped-call]  # torch gives it no types


def _scores(
    section: Score,
    loss: str,
    *,
    ids: Sequence[str],
    weights: Mapping[str, float],
    before: Losses,
    after: Mapping[str, Losses],
    facts: Mapping[str, Any],
) -> Scores:
    tasks = {name: losses.named(loss) - before.named(loss) for name, losses in after.items()}
    return Scores(
        ids=tuple(ids),
        name=name_of(section, loss),
        combined=np.sum([weights[name] * tasks[name] for name in sorted(tasks)], axis=0),
        tasks=tasks,
        nearest={},
        low=-math.inf,
        high=math.inf,
        parameters={
            "step": section.step,
            "size": section.size,
            "loss": loss,
            "weights": {name: float(weights[name]) for name in tasks},
            **facts,
        },
    )
