"""Inference with a judge's model: texts to tokens, batches of similar length, greedy replies and labels' probabilities.

Letters: `b` batch, `t` tokens, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curator.errors import JudgeError
from curator.judge.guards.adapter import Reply
from curator.model.batches import batches, pad
from curator.model.load import memory, window

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KEY = "judges.panel"


def tokens(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """Token ids of a text, with the begin and end tokens that the tokenizer adds itself if `special`."""
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    return ids


def clipped(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """The text up to its `limit`-th token of this tokenizer; the whole text if it has at most `limit` tokens."""
    ids = tokens(tokenizer, text, special=False)
    if len(ids) <= limit:
        return text
    if limit < 1:
        return ""
    if not tokenizer.is_fast:
        return str(tokenizer.decode(ids[:limit], skip_special_tokens=True))
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text[: offsets[limit - 1][1]]


def defused(tokenizer: PreTrainedTokenizerBase, text: str, delimiters: Sequence[str]) -> str:
    """The text with a space after the first character of every mark that could end its part of the prompt.

    Marks are the tokenizer's special tokens, which would otherwise be read in the text, and `delimiters`.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    # The longest first: a short mark may be a part of a long one.
    for mark in sorted({*special, *delimiters}, key=lambda mark: (-len(mark), mark)):
        if len(mark) > 1 and not mark.isspace() and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def label_tokens(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> dict[str, list[int]]:
    """Label -> the first tokens by which a reply may begin it: as written, capitalised, and with a space in front.

    Tokens that begin several labels, such as a bare space, do not distinguish them and are left out.

    Raises:
        JudgeError: A label has no token that distinguishes it from the others.
    """
    beginnings: dict[str, set[int]] = {}
    vocabulary = tokenizer.get_vocab()
    for label in labels:
        ids = set()
        for word in dict.fromkeys((label, label.capitalize())):
            ids |= {vocabulary[word]} if word in vocabulary else set()
            ids |= {tokens(tokenizer, text, special=False)[0] for text in (word, f" {word}")}
        beginnings[label] = ids
    alone = {
        label: sorted(ids - set().union(*(other for name, other in beginnings.items() if name != label)))
        for label, ids in beginnings.items()
    }
    for label, unique in alone.items():
        if not unique:
            raise JudgeError(
                f"{KEY}: in the judge's tokenizer the label {label!r} begins with the same token as another label "
                f"(labels: {', '.join(labels)}); use another judge"
            )
    return alone


def replies(
    rows: Sequence[Sequence[int]],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labels: Mapping[str, Sequence[int]],
    new_tokens: int,
    batch: int,
) -> list[Reply]:
    """A causal model's greedy reply to each row of tokens, and its first token's probability of each label.

    The order of the rows changes nothing.

    Args:
        labels: Label -> token ids, from `label_tokens`; probabilities are of the whole vocabulary, summed over ids.
    """
    from curator.model.greedy import greedy

    stated = model.generation_config.eos_token_id
    known = [] if stated is None else [stated] if isinstance(stated, int) else list(stated)
    ends = {token for token in (*known, tokenizer.eos_token_id) if token is not None}
    shares: list[dict[str, float]] = [{} for _ in rows]

    def note(group: Sequence[int], logits: torch.Tensor) -> None:
        # In float32: a softmax over a whole vocabulary in bf16 has too few digits to sum to 1.
        of_all = logits.softmax(-1).cpu()  # (b, v)
        for i, row in zip(group, of_all, strict=True):
            shares[i] = {name: float(row[labels[name]].sum()) for name in labels}

    with memory(f"{KEY}.batch"):
        written = greedy(
            rows,
            ids,
            model=model,
            ends=ends,
            filler=tokenizer.pad_token_id,
            new_tokens=new_tokens,
            batch=batch,
            first=note if labels else None,
        )
    texts = [
        tokenizer.decode(reply[:-1] if reply[-1] in ends else reply, skip_special_tokens=True) for reply in written
    ]
    return [Reply(text, by_label) for text, by_label in zip(texts, shares, strict=True)]


def classes(
    rows: Sequence[Sequence[int]],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: int,
    many: bool,
) -> list[Reply]:
    """A sequence classifier's probability of each of its labels for each row of tokens; padded on the right.

    Args:
        many: Labels are independent (a sigmoid each), and not exclusive (a softmax).
    """
    import torch

    # Decoders pool their last token that is not padding, so the filler must not be a token that ends a row.
    last = {row[-1] for row in rows if row}
    fillers = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, 0, 1, 2)
    filler = next(token for token in fillers if token is not None and token not in last)
    if not is_encoder(model):
        model.config.pad_token_id = filler
    else:
        filler = tokenizer.pad_token_id
    names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    lengths = [len(row) for row in rows]
    output: list[Reply | None] = [None] * len(rows)
    for group in batches(lengths, ids, tokens=max(lengths, default=1) * batch, rows=batch):
        input_ids, mask = pad([rows[i] for i in group], filler, side="right")  # (b, t)
        with torch.inference_mode(), memory(f"{KEY}.batch"):
            logits = model(input_ids=input_ids.to(model.device), attention_mask=mask.to(model.device)).logits.float()
        shares = (logits.sigmoid() if many else logits.softmax(-1)).cpu().tolist()
        for i, row in zip(group, shares, strict=True):
            by_label = dict(zip(names, row, strict=True))
            output[i] = Reply("; ".join(f"{name} {share:.3f}" for name, share in by_label.items()), by_label)
    return [reply for reply in output if reply is not None]


def is_encoder(model: PreTrainedModel) -> bool:
    """Whether a classifier reads a class token, like BERT and similar models, and not the last token of the row."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = model.config.model_type
    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of a row: the model's positions, or its tokenizer's smaller limit."""
    # RoBERTa and similar models number positions from after the padding id, so their table has that many more
    # positions.
    offset = (model.config.pad_token_id or 0) + 1 if "roberta" in model.config.model_type else 0
    stated = tokenizer.model_max_length  # transformers uses about 1e30 if a tokenizer has no limit
    return min(window(model) - offset, stated if stated < 10**9 else 10**9)
