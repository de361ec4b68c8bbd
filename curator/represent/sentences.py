"""Sentence embeddings; the only file that knows sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError, first_line
from curator.model.batches import batches, budget, mixed
from curator.model.dtype import Choice, chosen, torch_dtype
from curator.model.load import device, locate, memory
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Texts, stored_together, unit
from curator.represent.products import take_products

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


ALIKE = 0.999
"""The least cosine between a text's vector in bf16 and its vector in fp32."""

_TEXT = (
    "The old harbour stands at the end of a narrow street, and in summer people come to see the boats. A ferry leaves "
    "at nine in the morning and at four in the afternoon; tickets cost 3.50 for adults and nothing for children under "
    "six. Bring warm clothes, because the wind is cold even on a clear day. On the other side there are three "
    "villages, a museum of tools, and a path along the cliffs that takes two hours. Why do so many walk it twice? "
    "Some say that the light changes, others that they forgot to look back. The keeper writes down each visitor's "
    "name in a green book: 1,204 of them last year, fewer than the year before. def total(prices): return sum(prices) "
    "is how her son would count them. In the evening the shops close, the lamps are lit, and the last boat brings "
    "bread and letters."
)
_LENGTHS = (2, 5, 9, 16, 30, 60, 110, 140)  # numbers of words of the texts on which the two dtypes are compared


def load_embedder(
    model_id: str,
    revision: str | None = None,
    dtype: str = "fp32",
    *,
    key: str = "represent.id",
    advice: str = "give a local folder, package:NAME/PATH, or a model on the Hub that you can access",
) -> Any:
    """The embedder, on the device, in fp32 or bf16. Where the Hub does not answer, it is loaded from the cache of this
    machine at once.

    Args:
        model_id, revision: The embedder. `dtype`: the dtype it computes in.
        key: The recipe key or option that messages name. `advice`: what they say to do.

    Raises:
        ModelError: It cannot be loaded, or the device does not support bf16.
    """
    from sentence_transformers import SentenceTransformer

    path = locate(model_id, key=key)
    cached = not Path(path).exists() and _out_of_reach(path, revision)
    try:
        where = device()
        embedder = SentenceTransformer(path, revision=revision, device=where, local_files_only=cached)
        return rounded(embedder, torch_dtype(dtype, where))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{key}: cannot load a sentence embedder from {model_id!r} ({first_line(error)}); {advice}"
        ) from error


def rounded(embedder: SentenceTransformer, dtype: torch.dtype) -> SentenceTransformer:
    """The embedder, whose weights are rounded to a dtype in place; frequencies of rotary positions keep theirs, since
    in bf16 late positions would be wrong by whole turns.
    """
    exact = {name: buffer for name, buffer in embedder.named_buffers() if name.endswith("inv_freq")}
    embedder.to(dtype)
    for name, buffer in exact.items():
        module, _, last = name.rpartition(".")
        setattr(embedder.get_submodule(module), last, buffer)
    return embedder


def _out_of_reach(model_id: str, revision: str | None) -> bool:
    """Whether the Hub does not answer. Its client would try each file six times, for half a minute, and say so."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        HfApi().model_info(model_id, revision=revision, timeout=10)
    except (HfHubHTTPError, HFValidationError):  # an answer, or no name to ask for: loading says what is wrong
        return False
    except (HTTPError, OSError):  # the client's root class
        return True
    return False


def embedder_dtype(wanted: str, model_id: str, load: Callable[[], Any], *, revision: str | None = None) -> Choice:
    """The dtype that an embedder computes in, and why.

    Args:
        wanted: `fp32`, `bf16`, or `auto` for what `model.dtype.chosen` takes for this model on this device. bf16 is
            taken only if the vectors of a few neutral texts of 2 to 140 words all stay within ALIKE.
        model_id, revision: The embedder.
        load: Returns the embedder in fp32; called only if bf16 is possible.
    """
    choice = chosen(wanted, model_id, where=device(), revision=revision)
    if wanted == "bf16":
        choice = Choice("bf16", "as the recipe's model")
    if choice.dtype == "fp32":
        return choice
    cosine = least_cosine(load())
    if not cosine >= ALIKE:  # also if bf16 gives NaN
        return Choice("fp32", f"since a vector in bf16 has a cosine of {cosine:.4f} to the same in fp32")
    return Choice("bf16", f"{choice.reason}, and its vectors have cosines of {cosine:.4f} or more to those in fp32")


def least_cosine(embedder: SentenceTransformer) -> float:
    """The least cosine between a text's vector in fp32 and in bf16, over neutral texts of several lengths."""
    texts = [" ".join(_TEXT.split()[:words]) for words in _LENGTHS]
    in_fp32, in_bf16 = (
        unit(np.asarray(model.encode(texts, show_progress_bar=False), dtype=np.float32))
        for model in (embedder, rounded(deepcopy(embedder), torch_dtype("bf16", "cpu")))
    )
    return float((in_fp32 * in_bf16).sum(axis=1).min())


def commit_of(embedder: SentenceTransformer) -> str | None:
    """The commit on the Hub that an embedder was loaded from, if it is known."""
    commit = getattr(getattr(getattr(embedder[0], "model", None), "config", None), "_commit_hash", None)
    return None if commit is None else str(commit)


SIDES: Mapping[str, slice] = {"both": slice(None), "prompt": slice(-1), "answer": slice(-1, None)}
"""Which turns of a conversation that ends with an answer are embedded."""


def sentences(embedder: SentenceTransformer, *, max_tokens: int, batch_tokens: int, side: str = "both") -> Encoder:
    """Unit vectors of each conversation's text on a side of SIDES, its turns joined by blank lines.

    Rows of more tokens than the embedder's limit (or `max_tokens`) are cut and counted; sentence-transformers itself
    cuts silently. If the embedder is a plain transformer without a prompt of its own, texts are tokenised once, for
    their lengths and for the model.

    Raises:
        ModelError: The encoder raises it if memory runs out.
    """
    limit = min(max_tokens, embedder.max_seq_length or max_tokens)
    most, turns = budget(batch_tokens, embedder.device.type), SIDES[side]
    width = embedder.get_embedding_dimension() or 0
    if _is_plain(embedder):
        take_products(embedder[0].model)

    def encode(texts: Texts, numbers: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        embedder.max_seq_length = limit
        plain = ["\n\n".join(message["content"] for message in messages[turns]) for messages in texts.rows]
        lengths, over, features = _tokenised(embedder, plain, limit)
        matrix, done = np.zeros((len(plain), width), dtype=np.float32), 0
        for batch in mixed(batches(lengths, texts.ids, tokens=most, rows=LARGEST_BATCH)):
            with memory("represent.batch_tokens"):
                if features is None:
                    batch_texts = [plain[i] for i in batch]
                    matrix[batch] = embedder.encode(batch_texts, batch_size=len(batch), show_progress_bar=False)
                else:
                    matrix[batch] = _forward(
                        embedder, {name: [values[i] for i in batch] for name, values in features.items()}
                    )
            done += len(batch)
            progress(done)
        return [Encoded(unit(matrix), over)] * len(numbers)

    return Encoder((width,), encode, stored_together(embedder))


def _tokenised(
    embedder: SentenceTransformer, texts: list[str], limit: int
) -> tuple[list[int], NDArray[np.bool_], dict[str, list[list[int]]] | None]:
    """Length of every text as the model sees it, whether it was cut, and its tokens; null if the embedder does more to
    a text than tokenising it.
    """
    if not texts:
        return [], np.zeros(0, dtype=np.bool_), {}
    if not _is_plain(embedder):
        whole = [len(tokens) for tokens in embedder.tokenizer(texts, truncation=False)["input_ids"]]
        return [min(length, limit) for length in whole], np.array([length > limit for length in whole]), None
    tokenised = embedder.tokenizer(texts, truncation=True, max_length=limit)
    over = np.array([bool(encoding.overflowing) for encoding in tokenised.encodings])
    return [len(tokens) for tokens in tokenised["input_ids"]], over, dict(tokenised)


def _is_plain(embedder: SentenceTransformer) -> bool:
    from sentence_transformers.models import Transformer

    return (
        type(embedder[0]) is Transformer
        and embedder.default_prompt_name is None
        and embedder.truncate_dim is None
        and getattr(embedder.tokenizer, "is_fast", False)
    )


def _forward(embedder: SentenceTransformer, features: dict[str, list[list[int]]]) -> Any:
    import torch

    padded = embedder.tokenizer.pad(features, return_tensors="pt")
    with torch.inference_mode():
        output = embedder({name: tensor.to(embedder.device) for name, tensor in padded.items()})
        return output["sentence_embedding"].float().cpu().numpy()
