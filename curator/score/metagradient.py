"""Metagradient: how much harm after fine-tuning rises when a row counts more in alignment, through both trainings.

The outcome is f = log P(complying) - log P(refusing), the mean over the probes kept for pilot and regime, of the model
that is aligned on the whole pool (and the keep rows) with a weight w_i on the loss of row i, and then fine-tuned on a
task. The score is df/dw_i at w = 1, in nats. A large score means that the model complies more if the row counts more.

Unlike the other scores of models it is not cross-fitted, because it is the derivative of a training that holds the row.
Alignment takes whole epochs, as many as cover the recipe's number of steps, so that every row is seen equally often.
Length, learning rates and batches come from the recipe; the order of rows and the smooth AdamW (`adjoint.ROOT`) do not.
Rows that are too long for training change nothing and score 0.

Source: Engstrom et al. 2025, Optimizing ML Training with Metagradient Descent (arXiv 2503.13751).

Letters: `n` rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from curator.errors import DataError, ModelError
from curator.model.chat import Tokens, encode_all, prompt_of
from curator.model.load import window
from curator.model.losses import token_losses
from curator.model.openers import in_place, openers_of
from curator.recipe.training import Training
from curator.score.adjoint import Phase, State
from curator.seeds import generator
from curator.wording import these

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from curator.model.openers import Openers
    from curator.records import Messages
    from curator.score.passes import Course
    from curator.train.job import Rows

LARGEST = 50_000_000
"""Most parameters of a model, since 2 sqrt(steps) states of three tensors each must fit into memory."""


ANSWER = {"role": "assistant", "content": "An answer."}  # placeholder behind a probe


class Placed:
    """A model evaluated with other weights, with the interface that the functions of `model.losses` expect."""

    def __init__(self, model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
        self.model, self.weights = model, weights

    @property
    def placed(self) -> PreTrainedModel:
        """The model itself, whose kind is the same with any weights."""
        return self.model

    def parameters(self) -> Iterator[torch.Tensor]:
        """The weights."""
        return iter(self.weights.values())

    def __call__(self, **given: object) -> object:
        """The model's output with these weights."""
        import torch

        return torch.func.functional_call(self.model, dict(self.weights), args=(), kwargs=given)


def require_trials(
    courses: Sequence[Course], rows: Sequence[Messages], config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuses, before any model is trained, every trial that would be refused once its job begins: it is set up on a
    model without weights.

    Args:
        rows: Rows of the pool.
        config, tokenizer: The base model's.

    Raises:
        ModelError, RecipeError: See `trial_of`.
        DataError: See `Trial.phase`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    _require_small(model)
    encoded = encode_all(tokenizer, rows)
    for course in courses:
        trial = trial_of(course, encoded, model, tokenizer)
        for task in (None, *trial.tasks):
            trial.phase(task)


def _require_small(model: PreTrainedModel) -> None:
    size = sum(weight.numel() for weight in model.parameters())
    if size > LARGEST:
        raise ModelError(
            f"score.from: metagradient stores many copies of all weights, and the model has {size:,} parameters; "
            f"allowed: at most {LARGEST:,}; use another score, such as forgetting"
        )


def trial_of(
    course: Course, rows: Sequence[Tokens], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Trial:
    """The trial of a job.

    Args:
        rows: Rows of the pool.
        model, tokenizer: The base model's.

    Raises:
        ModelError: The model is larger than LARGEST, or a probe and an opener are longer than its context.
        RecipeError: See `openers.openers_of`.
    """
    _require_small(model)

    def encoded(parts: Sequence[Rows]) -> list[Tokens]:
        return encode_all(tokenizer, [messages for part in parts for messages in part.messages()])

    openers, _ = openers_of(*(in_place(tokenizer, texts) for texts in (course.refuse, course.comply)))
    asked = [prompt_of(messages) for part in course.probes for messages in part.messages()]
    prompts = encode_all(tokenizer, [[*turns, ANSWER] for turns in asked])
    probes = [
        Tokens((*prompt.ids[: prompt.start], *opener), prompt.start, prompt.start + len(opener))
        for prompt in prompts
        for opener in openers.every
    ]
    longest = max((len(probe.ids) for probe in probes), default=0)
    if longest > window(model):
        raise ModelError(
            f"verify.log_odds: metagradient reads every probe with every opener behind it, and the longest pair has "
            f"{these(longest, 'token', 'tokens')}, more than the model's context of {window(model):,}; give shorter "
            "texts, leave long probes out with `where`, or use another score"
        )
    return Trial(
        model=model,
        filler=tokenizer.pad_token_id,
        rows=rows,
        keep=encoded(course.keep),
        tasks={name: encoded(parts) for name, parts in course.tasks},
        probes=probes,
        openers=openers,
        align=course.align,
        finetune=course.finetune,
        seed=course.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Both trainings and the outcome, as functions of the weights of `n` rows.

    Attributes:
        model: In fp32 or better. `filler`: padding token.
        rows: Rows of the pool, whose weights vary. `keep`: rows beside them, of weight 1.
        tasks: Task name -> rows to fine-tune on.
        probes: Each probe followed by each opener, in the order of `openers` for every probe.
        seed: Seed of the orders of rows.
    """

    model: PreTrainedModel
    filler: int
    rows: Sequence[Tokens]
    keep: Sequence[Tokens]
    tasks: Mapping[str, Sequence[Tokens]]
    probes: Sequence[Tokens]
    openers: Openers
    align: Training
    finetune: Training
    seed: int

    def start(self) -> State:
        """The base model's weights, shared ones once."""
        return State.at({name: value.detach() for name, value in self.model.named_parameters()})

    def phase(self, task: str | None) -> Phase:
        """Alignment, or fine-tuning on a task.

        Raises:
            DataError: All of its rows are too long.
        """
        section = self.finetune if task else self.align
        every = list(self.tasks[task]) if task else [*self.rows, *self.keep]
        limit = min(section.max_tokens, window(self.model))
        short = [number for number, row in enumerate(every) if len(row.ids) <= limit]
        if not short:
            rows = f"every row of task {task!r}" if task else "every row of the pool, and of the keep rows,"
            raise DataError(
                f"verify.{'finetune' if task else 'align'}.max_tokens: {rows} has more than "
                f"{these(limit, 'token', 'tokens')}, so metagradient has no row to train on; raise it, or use another "
                "score"
            )
        epoch = math.ceil(len(short) / section.batch)
        # As long as for the recipe's rows; alignment ends with a whole epoch.
        steps = section.steps_over(len(short))
        steps = steps if task else epoch * math.ceil(steps / epoch)
        batches: list[list[int]] = []
        while len(batches) < steps:
            order = generator(self.seed, task or "", len(batches)).permutation(short).tolist()
            batches += [order[at : at + section.batch] for at in range(0, len(order), section.batch)]

        def loss(weights: Mapping[str, torch.Tensor], number: int, by_row: torch.Tensor) -> torch.Tensor:
            import torch

            taken = batches[number]
            losses = self.losses(weights, [every[row] for row in taken])
            total = sum(len(each) for each in losses)
            counted = by_row.new_ones(len(taken))
            if task is None:
                varied = [(place, row) for place, row in enumerate(taken) if row < len(self.rows)]
                places, numbers = [place for place, _ in varied], [row for _, row in varied]
                counted = counted.index_put((torch.tensor(places, device=counted.device),), by_row[numbers])
            return torch.stack([each.sum() for each in losses]).mul(counted).sum() / total

        return Phase(loss, section, steps)

    def losses(self, weights: Mapping[str, torch.Tensor], rows: Sequence[Tokens]) -> list[torch.Tensor]:
        """The losses of every answer token of some rows, in nats."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        placed = cast("PreTrainedModel", Placed(self.model, weights))
        with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
            return token_losses(rows, model=placed, filler=self.filler)

    def outcome(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Log P(complying) - log P(refusing) in nats, the mean over probes."""
        import torch

        log_probs = -torch.stack([each.sum() for each in self.losses(weights, self.probes)])
        refuse, comply = (
            part.logsumexp(dim=1)
            for part in log_probs.view(-1, len(self.openers.every)).tensor_split([len(self.openers.refuse)], dim=1)
        )
        return (comply - refuse).mean()

    def after(self, by_row: torch.Tensor, task: str) -> float:
        """The outcome in nats after both trainings with these row weights `(n,)`."""
        aligned, _ = self.phase(None).run(self.start(), by_row)
        tuned, _ = self.phase(task).run(State.at(aligned.weights), by_row)
        return float(self.outcome(tuned.weights).detach())

    def gradients(self) -> dict[str, NDArray[np.float64]]:
        """Task name -> df/dw at w = 1, `(n,)` in nats."""
        import torch

        start = self.start()
        ones = next(iter(start.weights.values())).new_ones(len(self.rows))
        phase, by_task = self.phase(None), dict[str, NDArray[np.float64]]()
        aligned, kept = phase.run(start, ones)
        for task in self.tasks:
            tuning = self.phase(task)
            tuned, on_the_way = tuning.run(State.at(aligned.weights), ones)
            end = tuned.leaves()
            with torch.enable_grad():
                slopes = torch.autograd.grad(
                    self.outcome(end.weights), list(end.weights.values()), materialize_grads=True
                )
            slope, _ = tuning.back(on_the_way, State.at(dict(zip(end.weights, slopes, strict=True))), ones)
            # The moments start from zero in every training, so alignment affects fine-tuning only through the weights.
            _, by_row = phase.back(kept, State.at(slope.weights), ones)
            by_task[task] = by_row.double().cpu().numpy()
        return by_task
