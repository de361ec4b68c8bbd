"""Replies of a causal model to many rows, greedy or sampled: each step of all active rows reads the weights once.

A prefix that all rows share is read once. Rows of similar length start together; a row that has ended leaves at once,
and waiting rows take the free places.

Letters: `b` rows, `t` tokens, `v` vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from transformers import Cache, DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from curator.model.batches import batches, by_length, pad, positions
from curator.model.cache import Columns
from curator.model.draws import drawing
from curator.model.linear import by_onednn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from curator.model.draws import Sampling
    from curator.model.openers import Opened

First = Callable[[Sequence[int], torch.Tensor], None]
"""Called with numbers of rows, and the logits `(b, v)` in fp32 of the first token of each one's reply."""

PREFILL = 8192  # most tokens that start together: more gains nothing
ALIKE = 0.9  # the shortest row that starts together with another has at least this share of its length, or is
CLOSE = 8  # at most this many tokens shorter
FREE = 8  # one in this many places must be free before waiting rows start: few rows would waste a pass over the weights
STEPS = {"cuda": 8}  # device -> steps between two checks for ended rows; a check waits for the GPU


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
    """The tokens of each row's reply, up to and including its end token if it has one.

    Each token is the most likely one, ties going to the first in the vocabulary, or the one that `sampling` draws.
    Batches depend only on lengths, ids and replies, so the order of the rows changes nothing.

    Args:
        rows: Tokens before each reply.
        ids: Ids of the rows.
        model: A causal model, possibly with adapters beside it. A model whose state is not the keys and values of its
            tokens, such as a state-space model, replies through its own `generate`, one whole batch after another.
        ends: Tokens that end a reply.
        filler: Padding token.
        new_tokens: Most tokens of a reply, including its end token.
        batch: Number of rows in a batch.
        first: Called with the logits of every reply's first token.
        sampling: Draws the tokens of the rows; null for greedy replies.
        opened: Collects the probabilities of its openers behind each row. It does not change the replies.
    """
    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    table = Table(
        body, rows, ends=ends, filler=filler, new_tokens=new_tokens, first=first, sampling=sampling, opened=opened
    )
    lengths = [len(row) for row in rows]
    with torch.inference_mode(), by_onednn(body):
        if not joinable(body):
            padding = reads_mask(body)
            for group in batches(lengths, ids, tokens=max(lengths, default=0) * batch, rows=batch):
                for part in [group] if padding else by_length(group, lengths):
                    table.whole(part)
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
    """Whether a model's state of a row is only its tokens' keys and values, and its inputs are the usual ones."""
    kind = type(model)
    usual = kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    if model.config.is_encoder_decoder or not usual or "past_key_values" not in _inputs(model):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def windows(model: PreTrainedModel) -> list[int]:
    """The width of the window of every layer that has one, or 0 where columns and not positions are counted."""
    sizes = [layer.sliding_window for layer in DynamicCache(config=model.config).layers if layer.is_sliding]
    # GPT-Neo's local layers, which its cache does not show.
    return [*sizes, *(0 for kind in getattr(model.config, "attention_layers", None) or () if kind == "local")]


def reads_mask(model: PreTrainedModel) -> bool:
    """Whether padding in front of a row leaves its logits as they are. Some recurrent models read padding like any
    other token, so rows of different lengths must not share a batch. A model whose state is not the usual one is tried
    once, on a row of a few tokens.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if joinable(model):
        return True
    if model not in _READS_MASK:
        where, size = next(model.parameters()).device, int(model.config.get_text_config().vocab_size)
        row = torch.arange(5, device=where)[None] % size
        padded, mask = (
            torch.cat([row.new_full((1, 7), fill), end], 1) for fill, end in ((6 % size, row), (0, row * 0 + 1))
        )
        extra = {"position_ids": positions(mask)} if "position_ids" in _inputs(model) else {}
        with torch.inference_mode():
            alone = model(input_ids=row).logits[0].float()
            beside = model(input_ids=padded, attention_mask=mask, **extra).logits[0, -5:].float()
        far = 0.05 if model.dtype in (torch.bfloat16, torch.float16) else 1e-3
        _READS_MASK[model] = bool((alone - beside).abs().max() <= far * alone.abs().max())
    return _READS_MASK[model]


_READS_MASK: MutableMapping[PreTrainedModel, bool] = WeakKeyDictionary()


def alike(lengths: Sequence[int]) -> int:
    """How many of the first rows start together; rows are sorted by length, the longest first."""
    longest = lengths[0]
    shortest = min(longest * ALIKE, longest - CLOSE)
    most = max(1, min(len(lengths), PREFILL // longest))
    return next((count for count, length in enumerate(lengths[:most]) if length < shortest), most)


def common(row: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens in the common prefix."""
    pairs = enumerate(zip(row, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(row), len(other)))


def _inputs(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(type(model).forward).parameters)


class Table:
    """The active rows. All tokens of a row except the last are in the cache, and all rows end at the same column."""

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
        self.live: list[int] = []  # numbers of the active rows, in the order of the cache
        self.layers: list[Columns] = []
        self.shared = 0  # the common prefix of all rows, which is read once
        self.prefix = DynamicCache()

    def share(self) -> None:
        """Reads the common prefix of all rows, such as a system prompt, if that can be done once for all."""
        # Padding stands between it and the rest of a row, which would take up part of a window, and some models know a
        # token's position only from its column.
        if "position_ids" not in self.inputs or windows(self.model):
            return
        # The last token of a row is not shared, since the reply follows it.
        shared = min((common(self.rows[0], row[:-1]) for row in self.rows), default=0)
        if len(self.rows) > 1 and shared >= CLOSE:
            ids = torch.tensor([self.rows[0][:shared]], device=self.where)
            mask = torch.ones_like(ids)
            self._forward(ids, mask, positions(mask), self.prefix)
            self.shared = shared

    def begin(self, group: Sequence[int], *, room: int) -> None:
        """Reads new rows, and adds those whose reply continues after the active rows."""
        ids, mask = self._padded([self.rows[i][self.shared :] for i in group])
        mask = torch.cat([mask.new_ones(len(group), self.shared), mask], dim=1)
        cache = DynamicCache()  # without a window, as in `Columns`
        for number, layer in enumerate(self.prefix.layers):
            cache.update(*(held.expand(len(group), -1, -1, -1) for held in (layer.keys, layer.values)), number)
        logits = self._forward(ids, mask, positions(mask)[:, self.shared :], cache)
        if self.first is not None:
            self.first(group, logits.float())
        if self.opened is not None:
            # Some models know a token's position only from its column, and a window is part of the usual mask. ALiBi
            # reads positions from the usual mask.
            alibi = bool(getattr(self.model.config, "alibi", False))
            widest = 0 if alibi else min(windows(self.model), default=2**31)
            if "position_ids" in self.inputs and mask.shape[1] + self.opened.longest <= widest:
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
        # Padding goes in front of the shared prefix.
        columns, padding = torch.arange(mask.shape[1], device=self.where), (mask == 0).sum(1, keepdim=True)
        columns = torch.where(columns < padding + self.shared, (columns - padding).clamp(min=0), columns)
        self.layers = self.layers or [Columns() for _ in cache.layers]
        for layer, new in zip(self.layers, cache.layers, strict=True):
            keys, values = (held[staying, :, columns[stay]].transpose(1, 2) for held in (new.keys, new.values))
            layer.join(keys, values, rows=len(self.live), room=room)
            new.keys = new.values = None
        self.live += [group[number] for number in stay]

    def step(self) -> None:
        """Generates one more token for every active row, or several on a GPU; rows that ended leave."""
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
        """Replies to all these rows by the model's own `generate`, until the last one ends."""
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
        """The random numbers for the rows' next tokens; null for greedy replies."""
        if self.sampling is None:
            return None
        return self.sampling.numbers(rows, [len(self.replies[i]) for i in rows], count, self.where)

    def _chosen(self, logits: torch.Tensor, numbers: torch.Tensor | None, step: int) -> torch.Tensor:
        if self.sampling is None or numbers is None:
            return logits.float().argmax(-1)
        return self.sampling.tokens(logits, numbers[:, step])

    def _open(self, group: Sequence[int]) -> None:
        """Measures the openers' probabilities by a pass over every row with every opener, which works with all
        models.
        """
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
        """Adds new tokens to a reply up to its end token, and drops those after it."""
        end = next((count for count, token in enumerate(new, 1) if token in self.ends), len(new))
        self.replies[i] += new[:end]

    def _leave(self) -> None:
        """Moves the last rows into the places of those that ended."""
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
        """Logits `(b, v)` of the token after the last one."""
        extra = {"position_ids": place, "logits_to_keep": 1}
        extra = {name: value for name, value in extra.items() if name in self.inputs}
        out = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        logits: torch.Tensor = out.logits[:, -1]
        return logits
