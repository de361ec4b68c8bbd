"""Hidden states of a causal model, at one place of each row or at several.

Letters: `n` rows, `b` batch, `t` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.model.chat import Encoded as Tokens
from curator.model.chat import encode_all
from curator.model.load import batches, memory, window
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Piece, budget
from curator.represent.places import blocks_of, body_of, resolved, states_at

if TYPE_CHECKING:
    import torch


def hidden_states(
    model: Any,
    tokenizer: Any,
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
