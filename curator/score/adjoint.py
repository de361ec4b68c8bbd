"""The derivative of a training's outcome with respect to the weights of its rows: reverse mode through every AdamW
step.

A training is the map z -> step(step(... z)) of a state z: the weights and both moments of AdamW. Its adjoint runs the
steps backwards, each the transposed derivative of that one step, with the step's own gradient differentiated again
(double backward). A state is kept every sqrt(n) steps and the others are recomputed, so that n steps need about 2
sqrt(n) states in memory and twice the forward steps.

Source: Engstrom et al. 2025, Optimizing ML Training with Metagradient Descent (arXiv 2503.13751), which also explains
why AdamW is made smooth: with its sign-like first steps the derivative is correct but predicts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from curator.recipe.training import Training

if TYPE_CHECKING:
    import torch

Named = dict[str, "torch.Tensor"]

BETAS, EPSILON, LONGEST = (0.9, 0.999), 1e-8, 1.0  # AdamW's constants, and the norm to which gradients are clipped
ROOT = 1e-8
"""Added to the second moment before its square root is taken, which AdamW itself does not do."""


class State(NamedTuple):
    """Weights by name, and the first and second moments of their gradients."""

    weights: Named
    first: Named
    second: Named

    @classmethod
    def at(cls, weights: Mapping[str, torch.Tensor]) -> State:
        """A training that begins at these weights."""
        zeros = ({name: value.new_zeros(value.shape) for name, value in weights.items()} for _ in range(2))
        return cls(dict(weights), *zeros)

    def leaves(self) -> State:
        """The same values as leaf tensors that gradients can be taken with respect to."""
        return State(*({name: value.detach().requires_grad_() for name, value in part.items()} for part in self))

    def flat(self) -> list[torch.Tensor]:
        """All tensors in one order."""
        return [value for part in self for value in part.values()]


@dataclass(frozen=True)
class Phase:
    """One training.

    Attributes:
        loss: Takes weights, the number of a step from 0 and the rows' weights `(n,)`; gives the loss of its batch.
        section: Learning rate, schedule, warm-up and weight decay. `steps`: how many.
    """

    loss: Callable[[Mapping[str, torch.Tensor], int, torch.Tensor], torch.Tensor]
    section: Training
    steps: int

    def rate(self, number: int) -> float:
        """The learning rate of a step, counted from 0, by the trainer's schedule."""
        section, warm = self.section, round(self.section.warmup * self.steps)
        if number < warm:
            return section.learning_rate * number / warm
        share = (number - warm) / max(1, self.steps - warm)
        factor = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + math.cos(math.pi * share))}
        return section.learning_rate * factor[section.schedule]

    def step(self, state: State, number: int, rows: torch.Tensor, *, twice: bool) -> State:
        """The state after one step; with `twice`, the step itself can be differentiated."""
        import torch

        weights = state.weights if twice else state.leaves().weights
        with torch.enable_grad():
            slopes = torch.autograd.grad(
                self.loss(weights, number, rows), list(weights.values()), create_graph=twice, materialize_grads=True
            )
        with torch.set_grad_enabled(twice):
            length = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()
            scale = (LONGEST / (length + 1e-6)).clamp(max=1.0)
            made = State({}, {}, {})
            for (name, value), slope in zip(weights.items(), slopes, strict=True):
                made.first[name] = BETAS[0] * state.first[name] + (1 - BETAS[0]) * scale * slope
                made.second[name] = BETAS[1] * state.second[name] + (1 - BETAS[1]) * (scale * slope).square()
                first, second = (
                    moment / (1 - beta ** (number + 1))
                    for moment, beta in zip((made.first[name], made.second[name]), BETAS, strict=True)
                )
                # As the trainer does, biases and norms are not decayed.
                decay = self.section.weight_decay if value.ndim > 1 else 0.0
                moved = first / ((second + ROOT).sqrt() + EPSILON)
                made.weights[name] = value * (1 - self.rate(number) * decay) - self.rate(number) * moved
        return made if twice else State(*({name: value.detach() for name, value in part.items()} for part in made))

    def run(self, start: State, rows: torch.Tensor) -> tuple[State, list[State]]:
        """The state at the end, and the states that are kept: the first of every stretch of about sqrt(n) steps."""
        kept, state = [], start
        for number in range(self.steps):
            if number % self.stretch == 0:
                kept.append(state)
            state = self.step(state, number, rows, twice=False)
        return state, kept

    @property
    def stretch(self) -> int:
        """Steps between two states that are kept."""
        return max(1, math.isqrt(self.steps))

    def back(self, kept: Sequence[State], slope: State, rows: torch.Tensor) -> tuple[State, torch.Tensor]:
        """The adjoint of the training: takes the derivative of an outcome with respect to the final state, and gives
        those with respect to the initial state and to the rows' weights `(n,)`.

        Args:
            kept: The states that `run` kept with the same rows.
            slope: The derivative of the outcome with respect to the final state.
            rows: `(n,)` weights of the rows.
        """
        import torch

        by_rows = torch.zeros_like(rows)
        for number in reversed(range(0, self.steps, self.stretch)):
            states, last = [kept[number // self.stretch]], min(number + self.stretch, self.steps)
            for later in range(number, last - 1):
                states.append(self.step(states[-1], later, rows, twice=False))
            for at, state in reversed(list(zip(range(number, last), states, strict=True))):
                here, weighed = state.leaves(), rows.detach().requires_grad_()
                with torch.enable_grad():
                    after = self.step(here, at, weighed, twice=True)
                    slopes = torch.autograd.grad(
                        after.flat(), [*here.flat(), weighed], grad_outputs=slope.flat(), materialize_grads=True,
                        allow_unused=True,
                    )  # fmt: skip
                by_rows += slopes[-1]
                parts, names = list(slopes[:-1]), list(here.weights)
                size = len(names)
                slope = State(*(dict(zip(names, parts[i * size : (i + 1) * size], strict=True)) for i in range(3)))
        return slope, by_rows
