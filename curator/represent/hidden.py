"""Hidden states of a causal model at one layer and one place of each row.

Letters: `n` rows, `b` batch, `t` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.chat import Encoded, encode_all
from curator.errors import ModelError
from curator.model import batches, memory, pad, positions, window
from curator.recipe_select import Represent
from curator.records import Messages, Vectors

if TYPE_CHECKING:
    import torch

LARGEST_BATCH = 256  # rows; beyond it a batch gains nothing and only its padding grows


def hidden_states(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    model: Any,
    tokenizer: Any,
    section: Represent,
    name: str,
    revision: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Vectors:
    """Unit vectors `(n, d)` float32 of the states at `section.layer` and `section.token`.

    Layers count as transformers does: 0 is the embeddings, i the output of block i, the last (-1) after the final norm.
    Places: `last-completion` is the answer's last token before its end token, `eos` the end token, `mean-completion`
    the mean over the answer without its end token, `end-of-prompt` the token from which the answer is predicted. A
    row of more than `section.max_tokens` tokens, or than the model has positions for, loses its beginning and is
    counted. No logits are computed, and no layer but the asked one is kept. Source of the default: He et al. 2024
    (arXiv 2404.01099), Hsiung et al. 2025 (arXiv 2506.05346).

    Raises:
        ModelError: There is no such layer, or memory runs out.
    """
    import torch

    limit = min(section.max_tokens, window(model))
    encoded = [_cut(row, limit) for row in encode_all(tokenizer, rows)]
    truncated = sum(cut for _, cut in encoded)
    tokens = [row for row, _ in encoded]
    body = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    blocks = _blocks(body)
    layer = section.layer if section.layer >= 0 else len(blocks) + 1 + section.layer
    if not 0 <= layer <= len(blocks):
        raise ModelError(
            f"represent.layer: found {section.layer}; {name} has {len(blocks)} blocks, "
            f"allowed: {-len(blocks) - 1} to {len(blocks)}"
        )
    out: np.ndarray[Any, np.dtype[np.float32]] | None = None
    done = 0
    for batch in batches([len(row.ids) for row in tokens], ids, tokens=section.batch_tokens, rows=LARGEST_BATCH):
        picked = [tokens[i] for i in batch]
        with torch.inference_mode(), memory("represent.batch_tokens"):
            states = _states(body, blocks, layer, picked, tokenizer)
            taken = _take(states, picked, section.token, tokenizer.padding_side).float()
            taken = torch.nn.functional.normalize(taken, dim=-1).cpu()
        if out is None:
            out = np.zeros((len(rows), taken.shape[1]), dtype=np.float32)
        out[batch] = taken.numpy()
        done += len(batch)
        progress(done, len(rows))
    width = int(model.config.get_text_config().hidden_size)
    matrix = out if out is not None else np.zeros((0, width), dtype=np.float32)
    return Vectors(tuple(ids), matrix, name, revision, section.layer, section.token, truncated)


def _cut(row: Encoded, limit: int) -> tuple[Encoded, bool]:
    over = len(row.ids) - limit
    return (row, False) if over <= 0 else (Encoded(row.ids[over:], max(row.start - over, 0)), True)


def _blocks(body: Any) -> Any:
    """The list of transformer blocks, whatever the architecture calls it."""
    for attribute in ("layers", "h", "blocks"):
        if hasattr(body, attribute):
            return getattr(body, attribute)
    raise ModelError(
        f"represent.from: the blocks of a {type(body).__name__} are not known; "
        "use represent: {from: sentence-transformers}"
    )


def _states(body: Any, blocks: Any, layer: int, rows: Sequence[Encoded], tokenizer: Any) -> torch.Tensor:
    """States `(b, t, d)` of one layer. The last is what the body returns; others are caught on their way."""
    ids, mask = pad([row.ids for row in rows], tokenizer.pad_token_id, side=tokenizer.padding_side)
    where = next(body.parameters()).device
    inputs = {"input_ids": ids.to(where), "attention_mask": mask.to(where), "position_ids": positions(mask).to(where)}
    if layer == len(blocks):
        last: torch.Tensor = body(**inputs, use_cache=False).last_hidden_state
        return last
    caught: list[torch.Tensor] = []

    def catch(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append(args[0] if args else kwargs["hidden_states"])

    # What goes into block `layer` is what came out of the one before it, or out of the embeddings.
    handle = blocks[layer].register_forward_pre_hook(catch, with_kwargs=True)
    try:
        body(**inputs, use_cache=False)
    finally:
        handle.remove()
    return caught[0]


def _take(states: torch.Tensor, rows: Sequence[Encoded], token: str, side: str) -> torch.Tensor:
    """The state of each row at its place, `(b, d)`."""
    import torch

    width = states.shape[1]
    taken = []
    for i, row in enumerate(rows):
        shift = width - len(row.ids) if side == "left" else 0
        end = len(row.ids) - 1
        # An empty answer has no token of its own before the end token: the place the answer starts from stands in.
        before = max(row.start - 1, 0)
        first, last = row.start, max(end - 1, before)
        if token == "mean-completion":
            first = min(first, last)
            taken.append(states[i, shift + first : shift + last + 1].float().mean(dim=0).to(states.dtype))
        else:
            place = {"last-completion": last, "eos": end, "end-of-prompt": before}[token]
            taken.append(states[i, shift + place])
    return torch.stack(taken)
