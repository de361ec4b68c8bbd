"""The loss of a training: cross entropy at labelled positions only, by the model's own head.

With a vocabulary of tens of thousands of tokens the head is a large part of a small model, and prompts, which bear no
loss, are a large part of the rows. So the head processes labelled positions only. It stays within the model, so that
what some architectures do with logits (scaling, soft capping, a bias) still applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from torch.autograd.function import BackwardCFunction, FunctionCtx
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import ModelOutput

UNLABELLED = -100
LOGITS = 2**26
"""Most logits held at once: an eighth of a GiB in bf16, and about three times that with their gradients."""

IN_FP32 = {"cpu": 2**20, "cuda": 2**24}
"""Most logits that are held in fp32; on a CPU as many as its caches hold."""


class LabelledLoss:
    """Sums of cross entropy, in fp32, over the labelled positions of a causal model's rows.

    Args:
        model: The causal model itself, inside peft or a wrapper for several processes.
        router: Weight of a mixture-of-experts model's router loss; 0 for none.
    """

    def __init__(self, model: PreTrainedModel, *, router: float = 0.0) -> None:
        self.model, self.router = model, router
        self.body = model.base_model
        self.most = max(1, LOGITS // int(model.get_output_embeddings().weight.shape[0]))
        self.is_apart = self._is_apart()

    def __call__(
        self, model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The sum over labelled positions, and the weighted router loss, which is a mean.

        Args:
            model: The model as it is called in training, wrapped or not.
            ids, mask, labels: `(b, t)`, the labels unshifted.
        """
        labelled = labels[:, 1:] != UNLABELLED
        words = torch.split(labels[:, 1:][labelled], self.most)
        asked = {"output_router_logits": True} if self.router else {}
        if not self.is_apart:
            output = model(input_ids=ids, attention_mask=mask, use_cache=False, **asked)
            total = _summed(output.logits[:, :-1][labelled], torch.cat(words))
        else:
            with self._selecting(labelled) as later:
                output = model(input_ids=ids, attention_mask=mask, use_cache=False, **asked)
            total = _summed(output.logits[0], words[0])
            # The logits of the other positions are recomputed for gradients, and never held together.
            for states, some in zip(later, words[1:], strict=True):
                total = total + checkpoint(self._loss_of, states, some, use_reentrant=False)
        return total, self.router * output.aux_loss if self.router else 0.0

    @contextmanager
    def _selecting(self, labelled: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Lets the head see only the states at these positions while the block runs, at most `most` of them; the list
        gets the rest.
        """
        later: list[torch.Tensor] = []

        def select(_body: torch.nn.Module, _given: object, output: ModelOutput) -> ModelOutput:
            first, *rest = output.last_hidden_state[:, :-1][labelled].split(self.most)
            later.extend(rest)
            return replace(output, last_hidden_state=first[None])

        handle = self.body.register_forward_hook(select)
        try:
            yield later
        finally:
            handle.remove()

    def _loss_of(self, states: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return _summed(self._head(states), words)

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits `(n, v)` of states `(n, d)`: the model's forward pass around a body that returns these states."""
        self.body.forward = lambda *_, **__: self.kind(last_hidden_state=states[None])
        try:
            output = self.model(input_ids=torch.zeros((1, len(states)), dtype=torch.long, device=states.device))
        finally:
            del self.body.forward
        return output.logits[0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def _is_apart(self) -> bool:
        """Whether the head processes each state independently, tried on three tokens; if not, it gets whole rows."""
        if self.body is self.model:
            return False
        was_training = self.model.training
        self.model.eval()
        ids = torch.tensor([[1, 2, 3]], device=self.model.device)
        labelled = torch.tensor([[False, True]], device=ids.device)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        try:
            whole = self.model(**given).logits[0, 1]
            with self._selecting(labelled):
                chosen = self.model(**given).logits
            output = self.body(**given)
            self.kind = type(output)
            alone = self._head(output.last_hidden_state[0, 1:2])
            return chosen.shape[:2] == (1, 1) and all(_near(one, whole) for one in (chosen[0, 0], alone[0]))
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            return False
        finally:
            self.model.train(was_training)


def _summed(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """The sum of cross entropies of logits `(n, v)`, in fp32."""
    if logits.numel() <= IN_FP32["cpu"]:
        return cross_entropy(logits.float(), words, reduction="sum")
    return _InSlices.apply(logits, words)  # type: ignore[no-any-return,no-untyped-call]


class _InSlices(torch.autograd.Function):
    """`_summed` for many logits, differentiable once. torch would hold all of them in fp32 four times: cast, as log
    shares, and the gradients of both. On a CPU that took more time than the arithmetic.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        norms = torch.cat([some.float().logsumexp(1) for some in torch.split(logits, _rows(logits))])
        ctx.save_for_backward(logits, words, norms)
        return (norms - logits.gather(1, words[:, None])[:, 0]).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: BackwardCFunction, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, words, norms = ctx.saved_tensors  # type: ignore[misc]
        slopes = torch.empty_like(logits)
        parts = (torch.split(part, _rows(logits)) for part in (logits, slopes, norms, words))
        for some, target, norm, word in zip(*parts, strict=True):
            shares = (some - norm[:, None]).exp_()
            shares[torch.arange(len(word), device=word.device), word] -= 1
            target.copy_(shares.mul_(slope))
        return slopes, None


def _rows(logits: torch.Tensor) -> int:
    return max(1, IN_FP32[logits.device.type] // logits.shape[1])


def _near(logits: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether they are equal up to the rounding of products of other shapes."""
    return bool((logits - others).abs().max() <= 0.02 * others.abs().max())
