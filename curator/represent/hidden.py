"""States of a causal model at several layers and tokens, in one pass over a batch.

Letters: `b` batch, `t` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curator.errors import ModelError
from curator.model.chat import Tokens, encode_all
from curator.model.load import batches, memory, pad, window
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Piece, budget

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Place(NamedTuple):
    """Where a state is taken: a layer counted from 0 (the embeddings) to the number of blocks, and a token."""

    layer: int
    token: str


class _Enough(Exception):  # noqa: N818 - no error: the way out of a pass
    """Raised inside a pass when the last layer that is asked for has been seen, so that no block after it runs."""


def body_of(model: PreTrainedModel) -> Any:
    """The model without its head."""
    return model.get_decoder() if hasattr(model, "get_decoder") else model.base_model


def blocks_of(body: Any) -> Any:
    """The list of transformer blocks, whatever the architecture calls it.

    Raises:
        ModelError: It is called otherwise.
    """
    for attribute in ("layers", "h", "blocks"):
        if hasattr(body, attribute):
            return getattr(body, attribute)
    raise ModelError(
        f"represent.from: the blocks of a {type(body).__name__} are not known; "
        "use represent: {from: sentence-transformers}"
    )


def resolved(layer: int, token: str, blocks: int, name: str) -> Place:
    """The place with its layer counted from 0.

    Raises:
        ModelError: There is no such layer.
    """
    found = layer if layer >= 0 else blocks + 1 + layer
    if not 0 <= found <= blocks:
        raise ModelError(
            f"represent.layer: found {layer}; {name} has {blocks} blocks, allowed: {-blocks - 1} to {blocks}"
        )
    return Place(found, token)


def states_at(body: Any, rows: Sequence[Tokens], places: Sequence[Place], filler: int) -> list[torch.Tensor]:
    """The state of every row at every place, `(b, d)` each, on the model's device and in its dtype.

    Rows are padded on the right, whatever side the tokenizer pads on: no token of a causal model sees what comes after
    it, so the padding needs no mask, and attention without one takes the fast causal path. Of a layer only the asked
    places are kept, and blocks after the last asked layer do not run.
    """
    blocks, found = blocks_of(body), dict[Place, Any]()
    where = next(body.parameters()).device
    ids, mask = pad([row.ids for row in rows], filler, side="right")
    inputs = {"input_ids": ids.to(where)}
    if _looks_ahead(body):
        inputs["attention_mask"] = mask.to(where)
    layers = {place.layer for place in places}
    taking = {token: _taking(rows, token, ids.shape[1], where) for token in sorted({one.token for one in places})}

    def take(layer: int, states: torch.Tensor) -> None:
        found.update({place: taking[place.token](states) for place in places if place.layer == layer})

    with ExitStack() as hooks:
        for layer in layers - {len(blocks)}:
            hook = blocks[layer].register_forward_pre_hook(_catching(layer, take, max(layers)), with_kwargs=True)
            hooks.callback(hook.remove)
        try:
            last = body(**inputs, use_cache=False).last_hidden_state
            if len(blocks) in layers:
                take(len(blocks), last)
        except _Enough:
            pass
    return [found[place] for place in places]


def _catching(layer: int, take: Callable[[int, torch.Tensor], None], last: int) -> Callable[..., None]:
    """A hook on block `layer`: what goes into it is what came out of the one before it, or out of the embeddings."""

    def catch(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        take(layer, args[0] if args else kwargs["hidden_states"])
        if layer == last:
            raise _Enough

    return catch


def _looks_ahead(body: Any) -> bool:
    """Whether tokens see later ones, as in models that were turned into encoders."""
    return bool(getattr(body.config, "use_bidirectional_attention", False)) or not getattr(
        body.config, "is_causal", True
    )


def _taking(
    rows: Sequence[Tokens], token: str, width: int, where: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from states `(b, t, d)` to those of each row's token `(b, d)`."""
    import torch

    spans = [_span(row, token) for row in rows]
    first, last = torch.tensor(spans, device=where).T
    if token != "mean-completion":
        return lambda states: states[torch.arange(len(rows), device=where), last]
    places = torch.arange(width, device=where)
    inside = (places >= first[:, None]) & (places <= last[:, None])

    def mean(states: torch.Tensor) -> torch.Tensor:
        # Added up in fp32 at least: hundreds of bf16 states lose their small parts otherwise.
        wide = torch.promote_types(states.dtype, torch.float32)
        added = torch.where(inside[..., None], states, 0).sum(dim=1, dtype=wide)
        found: torch.Tensor = added / inside.sum(dim=1, keepdim=True)
        return found

    return mean


def _span(row: Tokens, token: str) -> tuple[int, int]:
    """First and last token of a place. An empty answer has no token of its own before the end token: the place that the
    answer starts from stands in.
    """
    end, before = len(row.ids) - 1, max(row.start - 1, 0)
    last = max(end - 1, before)
    if token == "mean-completion":
        return min(row.start, last), last
    place = {"last-completion": last, "eos": end, "end-of-prompt": before}[token]
    return place, place


def hidden_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    places: Sequence[tuple[int, str]],
    max_tokens: int,
    batch_tokens: int,
    name: str,
) -> Encoder:
    """Unit vectors of the states at every place, a layer and a token, which one pass over the rows gives together.

    Layers count as transformers does: 0 is the embeddings, i the output of block i, the last (-1) after the final norm.
    Tokens: `last-completion` is the answer's last token before its end token, `eos` the end token, `mean-completion`
    the mean over the answer without its end token, `end-of-prompt` the token from which the answer is predicted. A
    row of more than `max_tokens` tokens, or than the model has positions for, loses its beginning and is counted. No
    logits are computed, no block after the last asked layer runs, and of every layer only the asked tokens are kept.

    Rows go in batches of like length, of at most `batch_tokens` tokens with their padding (on a CPU CPU_TOKENS). A
    row's vector is the same in every batch up to rounding: 1e-4 in fp32.

    Source of the default: He et al. 2024 (arXiv 2404.01099), Hsiung et al. 2025 (arXiv 2506.05346).

    Raises:
        ModelError: There is no such layer; when it is called, memory runs out.
    """
    body = body_of(model)
    asked = [resolved(layer, token, len(blocks_of(body)), name) for layer, token in places]
    most = budget(batch_tokens, next(body.parameters()).device.type)
    width, limit = int(model.config.get_text_config().hidden_size), min(max_tokens, window(model))

    def encode(piece: Piece, wanted: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        import torch

        rows = [cut(row, limit) for row in encode_all(tokenizer, piece.rows)]
        tokens, over = [row for row, _ in rows], np.array([one for _, one in rows], dtype=np.bool_)
        own = [asked[number] for number in wanted]
        out = [np.zeros((len(tokens), width), dtype=np.float32) for _ in own]
        done, before = 0, None
        lengths = [len(row.ids) for row in tokens]
        for batch in [*batches(lengths, piece.ids, tokens=most, rows=LARGEST_BATCH), None]:
            with torch.inference_mode(), memory("represent.batch_tokens"):
                states = [] if batch is None else _units(body, [tokens[i] for i in batch], own, tokenizer.pad_token_id)
                # Fetched only now: a GPU is at work on the next batch while this one comes back.
                if before is not None:
                    for matrix, found in zip(out, before[1], strict=True):
                        matrix[before[0]] = found.cpu().numpy()
                    done += len(before[0])
                    progress(done)
            before = (batch, states) if batch is not None else None
        return [Encoded(matrix, over) for matrix in out]

    return Encoder((width,) * len(asked), encode)


def cut(row: Tokens, limit: int) -> tuple[Tokens, bool]:
    """The last `limit` tokens of a row, and whether there were more."""
    over = len(row.ids) - limit
    return (row, False) if over <= 0 else (Tokens(row.ids[over:], max(row.start - over, 0)), True)


def _units(body: Any, rows: Sequence[Tokens], places: Sequence[Any], filler: int) -> list[torch.Tensor]:
    import torch

    return [torch.nn.functional.normalize(one.float(), dim=-1) for one in states_at(body, rows, places, filler)]
