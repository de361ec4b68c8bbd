"""Replies of a causal model to many rows, greedy or drawn: a step of all rows at work reads the weights once.

What all rows begin with is read once. Rows of like length begin together; a row that has ended leaves at once, and
waiting ones take the free places.

Letters: `b` rows, `t` tokens, `v` vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import Cache, DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from curator.model.cache import Columns
from curator.model.draws import drawing
from curator.model.linear import by_onednn
from curator.model.load import batches, pad, positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curator.model.draws import Sampling
    from curator.model.openers import Opened

First = Callable[[Sequence[int], torch.Tensor], None]
"""Called with numbers of rows, and the logits `(b, v)` in fp32 of the first token of each one's reply."""

PREFILL = 8192  # tokens that begin together at most: more gains nothing
ALIKE = 0.9  # the shortest row that begins together with another has this share of its length, or is
CLOSE = 8  # so many tokens shorter at most
FREE = 8  # one in so many places is free before waiting rows begin: few rows at a time would waste a reading of weights
STEPS = {"cuda": 8}  # device -> steps between two looks at which rows have ended; a look waits for a GPU


def greedy(
    rows: Sequence[Sequence[int]],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    ends: set[int],
    filler: int,
    new_tokens: int,
    batch: int,
    first: First | None = None,
    sampling: Sampling | None = None,
    opened: Opened | None = None,
) -> list[list[int]]:
    """The tokens of each row's reply, up to its end token where it has one, which is the last then.

    Each token is the likeliest, of equally likely ones the first in the vocabulary; or what `sampling` draws. What is
    at work together depends on lengths, ids and replies only, so the order of the rows changes nothing.

    Args:
        rows: Tokens of what comes before a reply. `ids`: theirs.
        model: A causal model, or one with adapters beside it. One whose memory of a row is not keys and values of its
            tokens, such as a state-space model, replies through its own `generate`, a whole batch at a time.
        ends: Tokens that end a reply. `filler`: A token to pad with.
        new_tokens: Of a reply at most, its end token included.
        batch: Rows at a time.
        first: Sees the logits of every reply's first token.
        sampling: Draws the tokens of the rows; null for greedy replies.
        opened: Takes how likely its openers are behind each row. No reply differs by it.
    """
    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    table = Table(
        body, rows, ends=ends, filler=filler, new_tokens=new_tokens, first=first, sampling=sampling, opened=opened
    )
    lengths = [len(row) for row in rows]
    with torch.inference_mode(), by_onednn(body):
        if not joinable(body):
            for group in batches(lengths, ids, tokens=max(lengths, default=0) * batch, rows=batch):
                table.whole(group)
            return table.replies
        waiting = sorted(range(len(rows)), key=lambda i: (-lengths[i], ids[i]))
        table.share()
        while waiting or table.live:
            while waiting and len(table.live) <= batch - max(1, batch // FREE):
                count = alike([lengths[i] - table.shared for i in waiting[: batch - len(table.live)]])
                table.begin(waiting[:count], room=min(batch, len(table.live) + len(waiting)))
                del waiting[:count]
            table.step()
    return table.replies


def joinable(model: PreTrainedModel) -> bool:
    """Whether all that a model remembers of a row is its tokens' keys and values, and its inputs are the usual ones."""
    kind = type(model)
    usual = kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    if model.config.is_encoder_decoder or not usual or "past_key_values" not in _inputs(model):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def alike(lengths: Sequence[int]) -> int:
    """How many of the first rows begin together, of rows that are sorted by length, the longest first."""
    longest = lengths[0]
    shortest = min(longest * ALIKE, longest - CLOSE)
    most = max(1, min(len(lengths), PREFILL // longest))
    return next((count for count, length in enumerate(lengths[:most]) if length < shortest), most)


def common(row: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(row, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(row), len(other)))


def _inputs(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(type(model).forward).parameters)


class Table:
    """The rows at work. Every one but its last token stands in the cache, and all end at the same column."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Sequence[Sequence[int]],
        *,
        ends: set[int],
        filler: int,
        new_tokens: int,
        first: First | None,
        sampling: Sampling | None = None,
        opened: Opened | None = None,
    ) -> None:
        self.model, self.rows, self.first, self.sampling, self.opened = model, rows, first, sampling, opened
        self.ends, self.filler, self.new_tokens = ends, filler, new_tokens
        self.replies: list[list[int]] = [[] for _ in rows]
        self.inputs = _inputs(model)
        self.where = next(model.parameters()).device
        self.stride = STEPS.get(self.where.type, 1)
        self.live: list[int] = []  # numbers of the rows at work, as they stand in the cache
        self.layers: list[Columns] = []
        self.shared = 0  # tokens that every row begins with, and that are read once
        self.prefix = DynamicCache()

    def share(self) -> None:
        """Reads what all rows begin with, such as a system prompt, where that can be done once for all."""
        layers = DynamicCache(config=self.model.config).layers
        # Between it and the rest of a row stands padding: of a window, that would take a part, and some models know a
        # token's position from its column alone.
        if "position_ids" not in self.inputs or any(layer.is_sliding for layer in layers):
            return
        # The last token of a row is its own: it is what a reply follows.
        shared = min((common(self.rows[0], row[:-1]) for row in self.rows), default=0)
        if len(self.rows) > 1 and shared >= CLOSE:
            ids = torch.tensor([self.rows[0][:shared]], device=self.where)
            mask = torch.ones_like(ids)
            self._forward(ids, mask, positions(mask), self.prefix)
            self.shared = shared

    def begin(self, group: Sequence[int], *, room: int) -> None:
        """Reads new rows, and puts those whose reply goes on behind the rows at work."""
        ids, mask = self._padded([self.rows[i][self.shared :] for i in group])
        mask = torch.cat([mask.new_ones(len(group), self.shared), mask], dim=1)
        cache = DynamicCache()  # without a window, as `Columns`
        for number, layer in enumerate(self.prefix.layers):
            cache.update(*(held.expand(len(group), -1, -1, -1) for held in (layer.keys, layer.values)), number)
        logits = self._forward(ids, mask, positions(mask)[:, self.shared :], cache)
        if self.first is not None:
            self.first(group, logits.float())
        if self.opened is not None:
            # Some models know a token's position from its column alone, and a window is part of the usual mask.
            windows = (each.sliding_window for each in DynamicCache(config=self.model.config).layers if each.is_sliding)
            if "position_ids" in self.inputs and mask.shape[1] + self.opened.longest <= min(windows, default=2**31):
                self.opened.read(group, logits, mask, cache, self.model)
            else:
                self._open(group)
        chosen = self._chosen(logits, self._numbers(group, 1), 0)
        for i, token in zip(group, chosen.tolist(), strict=True):
            self.replies[i].append(token)
        stay = [number for number, i in enumerate(group) if not self._ended(i)]
        if not stay:
            return
        staying = torch.tensor(stay, device=self.where)[:, None]
        # Padding goes to the front of what is shared.
        columns, padding = torch.arange(mask.shape[1], device=self.where), (mask == 0).sum(1, keepdim=True)
        columns = torch.where(columns < padding + self.shared, (columns - padding).clamp(min=0), columns)
        self.layers = self.layers or [Columns() for _ in cache.layers]
        for layer, new in zip(self.layers, cache.layers, strict=True):
            keys, values = (held[staying, :, columns[stay]].transpose(1, 2) for held in (new.keys, new.values))
            layer.join(keys, values, rows=len(self.live), room=room)
            new.keys = new.values = None
        self.live += [group[number] for number in stay]

    def step(self) -> None:
        """One token more of every row at work, or several on a GPU; those that ended leave."""
        if not self.live:
            return
        used = [len(self.rows[i]) + len(self.replies[i]) - 1 for i in self.live]
        width = self.layers[0].get_seq_length()
        steps = min(self.stride, *(self.new_tokens - len(self.replies[i]) for i in self.live))
        begin = torch.tensor(used, device=self.where)[:, None]
        mask = (torch.arange(width + steps, device=self.where) >= width - begin).long()
        tokens = [torch.tensor([self.replies[i][-1] for i in self.live], device=self.where)]
        numbers = self._numbers(self.live, steps)
        cache = Cache(layers=self.layers)
        for number in range(steps):
            seen = mask[:, : width + number + 1]
            logits = self._forward(tokens[-1][:, None], seen, begin + number, cache)
            tokens.append(self._chosen(logits, numbers, number))
        for i, new in zip(self.live, torch.stack(tokens[1:], 1).tolist(), strict=True):
            self._say(i, new)
        self._leave()

    def whole(self, group: Sequence[int]) -> None:
        """Replies by the model's own `generate`, of all these rows to the end of the last one."""
        ids, mask = self._padded([self.rows[i] for i in group])
        out = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self.new_tokens,
            do_sample=False,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=self.filler,
            logits_processor=None if self.sampling is None else drawing(self.sampling, group, ids.shape[1]),
            output_logits=self.first is not None,
            return_dict_in_generate=True,
        )
        if self.first is not None:
            self.first(group, out.logits[0].float())
        if self.opened is not None:
            self._open(group)
        for i, new in zip(group, out.sequences[:, ids.shape[1] :].tolist(), strict=True):
            self._say(i, new)

    def _numbers(self, rows: Sequence[int], count: int) -> torch.Tensor | None:
        """By which the next tokens of rows are drawn; null where they are the likeliest."""
        if self.sampling is None:
            return None
        return self.sampling.numbers(rows, [len(self.replies[i]) for i in rows], count, self.where)

    def _chosen(self, logits: torch.Tensor, numbers: torch.Tensor | None, step: int) -> torch.Tensor:
        if self.sampling is None or numbers is None:
            return logits.float().argmax(-1)
        return self.sampling.tokens(logits, numbers[:, step])

    def _open(self, group: Sequence[int]) -> None:
        """How likely openers are, by a pass over every row with every opener: the way that all models know."""
        assert self.opened is not None
        for number, opener in enumerate(self.opened.openers):
            ids, mask = self._padded([(*self.rows[i], *opener) for i in group])
            extra = {"position_ids": positions(mask), "logits_to_keep": len(opener) + 1, "use_cache": False}
            extra = {name: value for name, value in extra.items() if name in self.inputs}
            logits = self.model(input_ids=ids, attention_mask=mask, **extra).logits
            self.opened.add(group, number, logits[:, -len(opener) - 1 : -1])

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad(rows, self.filler, side="left")
        return ids.to(self.where), mask.to(self.where)

    def _say(self, i: int, new: Sequence[int]) -> None:
        """Adds to a reply what came up to its end; what came behind is not its own."""
        end = next((count for count, token in enumerate(new, 1) if token in self.ends), len(new))
        self.replies[i] += new[:end]

    def _leave(self) -> None:
        """The last rows take the places of those that ended."""
        ended = [self._ended(i) for i in self.live]
        if not any(ended):
            return
        count = len(ended) - sum(ended)
        holes = [place for place in range(count) if ended[place]]
        movers = [place for place in range(count, len(ended)) if not ended[place]]
        for hole, mover in zip(holes, movers, strict=True):
            self.live[hole] = self.live[mover]
        del self.live[count:]
        columns = max((len(self.rows[i]) + len(self.replies[i]) - 1 for i in self.live), default=0)
        rows, to = (torch.tensor(places, dtype=torch.long, device=self.where) for places in (movers, holes))
        for layer in self.layers:
            layer.leave(rows, to, columns)

    def _ended(self, i: int) -> bool:
        reply = self.replies[i]
        return len(reply) >= self.new_tokens or reply[-1] in self.ends

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, place: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Logits `(b, v)` of the token behind the last one."""
        extra = {"position_ids": place, "logits_to_keep": 1}
        extra = {name: value for name, value in extra.items() if name in self.inputs}
        out = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        logits: torch.Tensor = out.logits[:, -1]
        return logits
