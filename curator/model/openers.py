"""The probabilities with which a model opens its answers with given tokens.

Common prefixes of openers are read once: the openers form a tree, whose inner tokens are read in one pass after the
row's own keys and values, each seeing the row and the tokens that lead to it. So a row costs as many additional tokens
as the tree has inner ones, and none if every opener is a single token.

Letters: `b` rows, `c` openers, `n` inner tokens of their tree, `t` columns, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.errors import RecipeError
from curator.model.chat import encode_all

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

Opener = tuple[int, ...]

QUESTION = {"role": "user", "content": "A question?"}  # the prompt after which an opener is tokenised


class Odds(NamedTuple):
    """For some rows, `(b,)` float64 each, in nats: log P(refusing) and log P(complying)."""

    refuse: NDArray[np.float64]
    comply: NDArray[np.float64]


@dataclass(frozen=True)
class Openers:
    """Two sets of token ids that answers may begin with. None is a prefix of another, so that no answer counts
    twice.
    """

    refuse: tuple[Opener, ...]
    comply: tuple[Opener, ...]

    @property
    def every(self) -> tuple[Opener, ...]:
        return (*self.refuse, *self.comply)

    def odds(self, log_probs: NDArray[np.float64]) -> Odds:
        """The log-probabilities of the two sets, from those of all openers `(b, c)`, in nats."""
        refuse, comply = np.split(log_probs, [len(self.refuse)], axis=1)
        return Odds(np.logaddexp.reduce(refuse, axis=1), np.logaddexp.reduce(comply, axis=1))


def in_place(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Opener]:
    """For each text, the tokens of an answer that begins with it, after a prompt in the model's template."""
    rows = encode_all(tokenizer, [[QUESTION, {"role": "assistant", "content": text}] for text in texts])
    return [row.ids[row.start : row.stop] for row in rows]


def openers_of(refuse: Sequence[Opener], comply: Sequence[Opener]) -> tuple[Openers, list[tuple[int, int]]]:
    """Both sets without openers of which another in the same set is a prefix.

    Returns:
        The sets, and the openers that were left out: the number of the set (0, 1) and the position in it.

    Raises:
        RecipeError: An opener of one set is a prefix of one in the other: an answer with the longer one would count in
            both.
    """
    for position, short in enumerate((*refuse, *comply)):
        others, name = (comply, "refuse") if position < len(refuse) else (refuse, "comply")
        if any(opener[: len(short)] == short for opener in others):
            number = position if name == "refuse" else position - len(refuse)
            raise RecipeError(
                f"verify.log_odds.{name}: in this model's tokens, an opener of the other set begins with opener "
                f"#{number + 1}, so an answer could count as both; make it longer, or remove one of the two"
            )
    kept: list[tuple[Opener, ...]] = []
    dropped = []
    for number, openers in enumerate((refuse, comply)):
        nested = [
            any(
                opener[: len(other)] == other and (len(other) < len(opener) or place < position)
                for place, other in enumerate(openers)
            )
            for position, opener in enumerate(openers)
        ]
        dropped += [(number, position) for position, is_nested in enumerate(nested) if is_nested]
        kept.append(tuple(opener for opener, is_nested in zip(openers, nested, strict=True) if not is_nested))
    return Openers(kept[0], kept[1]), dropped


class Tree:
    """Openers as a tree: `nodes` are the inner nodes, each the tokens from the root; parents come first."""

    def __init__(self, openers: Sequence[Opener]) -> None:
        leading = [opener[:length] for opener in openers for length in range(1, len(opener))]
        self.nodes = list(dict.fromkeys(leading))
        number = {node: position for position, node in enumerate(self.nodes)}
        self.ancestors = [[number[node[:length]] for length in range(1, len(node) + 1)] for node in self.nodes]
        # For each node (-1 for the root): the openers with a token after it, and that token.
        self.steps: dict[int, tuple[list[int], list[int]]] = {}
        for position, opener in enumerate(openers):
            for length, token in enumerate(opener):
                of, tokens = self.steps.setdefault(number.get(opener[:length], -1), ([], []))
                of.append(position)
                tokens.append(token)


class Opened:
    """Collects log-probabilities of openers behind rows.

    Attributes:
        log_probs: `(b, c)` float64, in nats; NaN until a row has been read.
    """

    def __init__(self, openers: Sequence[Opener], rows: int) -> None:
        self.openers = tuple(openers)
        self.tree = Tree(self.openers)
        self.log_probs = np.full((rows, len(self.openers)), np.nan)

    @property
    def longest(self) -> int:
        return max(map(len, self.openers))

    def read(
        self, group: Sequence[int], first: torch.Tensor, mask: torch.Tensor, cache: Cache, model: PreTrainedModel
    ) -> None:
        """Measures them behind rows in the cache, which afterwards also holds the tree's columns.

        Args:
            group: Numbers of the rows.
            first: Logits `(b, v)` of the token after each row.
            mask: `(b, t)` over the cache's columns, 1 for a row's own.
            model: A model that takes positions as an input.
        """
        logits = [first]
        if self.tree.nodes:
            logits += self._behind(mask, cache, model).unbind(1)
        total = first.new_zeros(len(group), len(self.openers), dtype=_wide(first))
        for node, (of, tokens) in self.tree.steps.items():
            total[:, of] += _log_probs(logits[node + 1], tokens)
        self.log_probs[list(group)] = total.double().cpu().numpy()

    def _behind(self, mask: torch.Tensor, cache: Cache, model: PreTrainedModel) -> torch.Tensor:
        """Logits `(b, n, v)` of the tokens after the nodes."""
        import torch

        rows, width, count = *mask.shape, len(self.tree.nodes)
        ids = torch.tensor([node[-1] for node in self.tree.nodes], device=mask.device).expand(rows, count)
        depth = torch.tensor([len(node) - 1 for node in self.tree.nodes], device=mask.device)
        leads = torch.zeros(count, count, dtype=torch.bool, device=mask.device)
        for number, path in enumerate(self.tree.ancestors):
            leads[number, path] = True
        seen = torch.cat([mask.bool()[:, None].expand(-1, count, -1), leads.expand(rows, -1, -1)], dim=2)
        # An additive mask, which every kind of attention accepts.
        hidden = torch.zeros(rows, 1, count, width + count, dtype=model.dtype, device=mask.device)
        hidden.masked_fill_(~seen[:, None], torch.finfo(model.dtype).min)
        at = mask.sum(1, keepdim=True) + depth
        out = model(input_ids=ids, attention_mask=hidden, position_ids=at, past_key_values=cache, use_cache=True)
        behind: torch.Tensor = out.logits
        return behind

    def add(self, group: Sequence[int], number: int, logits: torch.Tensor) -> None:
        """Adds one opener from a pass over whole rows; `logits` `(b, t, v)` are those that predict its tokens."""
        total = sum(_log_probs(logits[:, at], [token])[:, 0] for at, token in enumerate(self.openers[number]))
        assert not isinstance(total, int)  # an opener has at least one token
        self.log_probs[list(group), number] = total.double().cpu().numpy()


def _log_probs(logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """`(b, k)` log-probabilities of some tokens, from logits `(b, v)`, in fp32 or better."""
    wide = logits.to(_wide(logits))
    return wide[:, tokens] - wide.logsumexp(-1, keepdim=True)


def _wide(logits: torch.Tensor) -> torch.dtype:
    import torch

    return torch.promote_types(logits.dtype, torch.float32)
