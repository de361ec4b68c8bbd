"""Hidden states of a causal model: unit vectors of its states at several layers and tokens, in one pass over a batch.

Letters: `b` batch, `t` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curator.errors import ModelError
from curator.model.batches import batches, budget, mixed, pad
from curator.model.chat import Tokens, encode_all, own_begin
from curator.model.load import memory, window
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Texts, stored_together
from curator.represent.products import summing, take_products
from curator.wording import these

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Point(NamedTuple):
    """The position of a state: a layer, from 0 (the embeddings) to the number of blocks, and a token; for
    `first-answer` the mean over the `first` tokens of the answer.
    """

    layer: int
    token: str
    first: int = 0


MEANS = ("mean-completion", "first-answer")
OF_PROMPT = ("end-of-prompt", "first-answer")  # of a row that is too long, these need the prompt, not the answer's end


BLOCKS = ("layers", "h", "blocks")  # what architectures call the list of their blocks
BODIES = ("model", "language_model", "text_model", "decoder", "transformer", "backbone")  # and what holds it


class _Enough(Exception):  # noqa: N818 - not an error: the way out of a pass
    """Raised inside a pass after the last layer that is needed, so that no later block runs."""


def hidden_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    points: Sequence[Point],
    max_tokens: int,
    batch_tokens: int,
    name: str,
) -> Encoder:
    """Unit vectors of the states at every point, from a single pass over the rows.

    Layers are numbered as in transformers: 0 is the embeddings, i the output of block i, the last (-1) after the final
    norm. Tokens: `last-completion` is the answer's own last token, whatever the template writes between it and the end
    token, `eos` the end token, `mean-completion` the mean over the answer's own tokens, `first-answer` the mean over
    the first of them (all, if it has fewer), `end-of-prompt` the prompt's last token. No token of a frame that the
    template writes between prompt and answer is among them.

    A row of more than `max_tokens` tokens, or than the model has positions for, is cut and counted. It loses its
    beginning, except a begin token that the tokenizer writes by itself; for `end-of-prompt` and `first-answer` it loses
    the end of its answer first. No logits are computed, no block after the last needed layer runs, and of every layer
    only the needed tokens are kept.

    Rows are processed in batches of similar length, of at most `batch_tokens` tokens including padding (on a CPU
    CPU_TOKENS). A row's vector is the same in every batch up to rounding: 1e-4 in fp32.

    Args:
        model, tokenizer: The model and its tokenizer.
        points: The positions of the states.
        max_tokens: Most tokens of a row.
        batch_tokens: Most tokens of a batch, including padding.
        name: Name of the model, for messages.

    Source of the default: He et al. 2024 (arXiv 2404.01099), Hsiung et al. 2025 (arXiv 2506.05346).

    Raises:
        ModelError: There is no such layer; the encoder raises it if memory runs out.
    """
    take_products(model)
    body = body_of(model)
    counted = [point._replace(layer=_counted(point.layer, len(blocks_of(body)), name)) for point in points]
    most = budget(batch_tokens, next(body.parameters()).device.type)
    width, limit = int(model.config.get_text_config().hidden_size), min(max_tokens, window(model))
    begin = own_begin(tokenizer)

    def encode(texts: Texts, numbers: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        import torch

        rows = encode_all(tokenizer, texts.rows)
        over = np.array([len(row.ids) > limit for row in rows], dtype=np.bool_)
        needed = [counted[number] for number in numbers]
        views = _views(rows, needed, limit, begin)
        tokens = [view.tokens for view in views]
        matrices = [np.zeros((len(rows), width), dtype=np.float32) for _ in needed]
        done, pending = 0, None
        lengths, ids = [len(row.ids) for row in tokens], [texts.ids[view.row] for view in views]
        for batch in [*mixed(batches(lengths, ids, tokens=most, rows=LARGEST_BATCH)), None]:
            with torch.inference_mode(), memory("represent.batch_tokens"):
                states = []
                if batch is not None:
                    states = _unit_states(body, [tokens[i] for i in batch], needed, tokenizer.pad_token_id)
                # Fetched only now: a GPU works on the next batch while this one is transferred.
                if pending is not None:
                    read, fetched = [views[i] for i in pending[0]], pending[1]
                    for number, (matrix, vectors) in enumerate(zip(matrices, fetched, strict=True)):
                        inside = [place for place, view in enumerate(read) if number in view.points]
                        matrix[[read[place].row for place in inside]] = vectors.cpu().numpy()[inside]
                    done += sum(0 in view.points for view in read)
                    progress(done)
            pending = (batch, states) if batch is not None else None
        return [Encoded(matrix, over) for matrix in matrices]

    return Encoder((width,) * len(counted), encode, stored_together(body))


class _View(NamedTuple):
    """Tokens of a row that are read for some of the points: all of the row, or a part of one that is too long."""

    row: int
    tokens: Tokens
    points: frozenset[int]


def _views(rows: Sequence[Tokens], points: Sequence[Point], limit: int, begin: int | None) -> list[_View]:
    """What is read of every row. A part depends on its point alone, so a vector is the same beside other points."""
    by_held: dict[int | None, set[int]] = {}
    for number, point in enumerate(points):
        needed = point.first if point.token == "first-answer" else 0
        by_held.setdefault(needed if point.token in OF_PROMPT else None, set()).add(number)
    every = frozenset(range(len(points)))
    views = []
    for number, row in enumerate(rows):
        if len(row.ids) <= limit:
            views.append(_View(number, row, every))
            continue
        parts = ((cut(row, limit, begin, held), frozenset(of)) for held, of in by_held.items())
        views += [_View(number, tokens, of) for tokens, of in parts]
    return views


def cut(row: Tokens, limit: int, begin: int | None, held: int | None = None) -> Tokens:
    """At most `limit` tokens of a row, which loses its beginning, but not a leading `begin`.

    Args:
        held: Answer tokens that are needed, if the prompt is needed more than the others: the answer's end is lost
            before the prompt's beginning. The answer takes at most half of the limit from the prompt.
    """
    if len(row.ids) <= limit:
        return row
    end = len(row.ids) if held is None else max(limit, min(len(row.ids), row.first + min(held, limit // 2)))
    opens = int(row.ids[0] == begin and limit > 1)
    gone = end - limit
    start, first, stop = (min(max(place - gone, opens), limit) for place in (row.start, row.first, row.stop))
    return Tokens((*row.ids[:opens], *row.ids[opens + gone : end]), start, stop, first - start)


def body_of(model: PreTrainedModel) -> Any:
    """The model without its head; of several nested ones, the first that has blocks."""
    body = outer = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    while not any(hasattr(body, attribute) for attribute in BLOCKS):
        inner = next((part for name in BODIES if (part := getattr(body, name, None)) is not None), None)
        if inner is None or inner is body:
            return outer
        body = inner
    return body


def blocks_of(body: Any) -> Any:
    """The list of transformer blocks, under any of its known names.

    Raises:
        ModelError: The architecture has no list of blocks with a known name.
    """
    for attribute in BLOCKS:
        if hasattr(body, attribute):
            return getattr(body, attribute)
    raise ModelError(
        f"represent.from: the blocks of {type(body).__name__} cannot be found; use represent: {{from: "
        "sentence-transformers}"
    )


def _counted(layer: int, blocks: int, name: str) -> int:
    """The layer counted from 0; -1 is the output of the last block."""
    from_zero = layer if layer >= 0 else blocks + 1 + layer
    if not 0 <= from_zero <= blocks:
        raise ModelError(
            f"represent.layer: found {layer}; {name} has {these(blocks, 'block', 'blocks')}, allowed: {-blocks - 1} to "
            f"{blocks}"
        )
    return from_zero


def _unit_states(body: Any, rows: Sequence[Tokens], points: Sequence[Point], filler: int) -> list[torch.Tensor]:
    """The state of every row at every point, as unit rows `(b, d)` in fp32 on the model's device.

    Rows are padded on the right, whatever side the tokenizer pads on: in a causal model no token sees later ones, so
    padding needs no mask, and attention without a mask takes the fast causal path.
    """
    import torch

    blocks, states_at = blocks_of(body), dict[Point, Any]()
    where = next(body.parameters()).device
    ids, mask = pad([row.ids for row in rows], filler, side="right")
    inputs = {"input_ids": ids.to(where)}
    if _looks_ahead(body):
        inputs["attention_mask"] = mask.to(where)
    layers = {point.layer for point in points}
    reducers = {point[1:]: _reducer(rows, point, ids.shape[1], where) for point in points}

    def keep(layer: int, states: torch.Tensor) -> None:
        # Reduced at once: all tokens of a layer take `t` times the memory of what is kept.
        states_at.update({point: reducers[point[1:]](states) for point in points if point.layer == layer})

    with ExitStack() as hooks:
        for layer in layers - {len(blocks)}:
            hook = blocks[layer].register_forward_pre_hook(_input_hook(layer, keep, max(layers)), with_kwargs=True)
            hooks.callback(hook.remove)
        try:
            with summing(body):
                last = body(**inputs, use_cache=False).last_hidden_state
            if len(blocks) in layers:
                keep(len(blocks), last)
        except _Enough:
            pass
    return [torch.nn.functional.normalize(states_at[point].float(), dim=-1) for point in points]


def _input_hook(layer: int, keep: Callable[[int, torch.Tensor], None], last: int) -> Callable[..., None]:
    """A hook on block `layer`: its input is the output of the previous block, or of the embeddings."""

    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # By position or by name: architectures, and versions of transformers, differ.
        keep(layer, args[0] if args else kwargs["hidden_states"])
        if layer == last:
            raise _Enough

    return hook


def _looks_ahead(body: Any) -> bool:
    """Whether tokens see later ones, as in models converted into encoders."""
    config = body.config
    return bool(getattr(config, "use_bidirectional_attention", False)) or not getattr(config, "is_causal", True)


def _reducer(
    rows: Sequence[Tokens], point: Point, width: int, where: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from states `(b, t, d)` to those of each row's token `(b, d)`, or to the mean over several."""
    import torch

    first, last = torch.tensor([_span(row, point) for row in rows], device=where).T
    if point.token not in MEANS:
        return lambda states: states[torch.arange(len(rows), device=where), last]
    positions = torch.arange(width, device=where)
    inside = (positions >= first[:, None]) & (positions <= last[:, None])

    def mean(states: torch.Tensor) -> torch.Tensor:
        # Summed in fp32 at least: otherwise sums of hundreds of bf16 states lose small parts.
        wide = torch.promote_types(states.dtype, torch.float32)
        total = torch.where(inside[..., None], states, 0).sum(dim=1, dtype=wide)
        return torch.div(total, inside.sum(dim=1, keepdim=True))

    return mean


def _span(row: Tokens, point: Point) -> tuple[int, int]:
    """First and last position of a token or of a mean over several. For an empty answer, the token from which it is
    predicted is used.
    """
    end, before = len(row.ids) - 1, max(row.start - 1, 0)
    last = max(row.stop - 1, before)
    if point.token in MEANS:
        first = min(row.first, last)
        return first, last if point.token == "mean-completion" else min(last, first + point.first - 1)
    position = {"last-completion": last, "eos": end, "end-of-prompt": before}[point.token]
    return position, position
