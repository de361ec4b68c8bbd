"""Rows in batches by length, and batches as padded tensors.

Letters: `b` batch, `t` tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


CPU_TOKENS = 1024
"""Most tokens of a batch on a CPU: larger batches do not fit its caches. With batches of 8,192 tokens, the models of
the representation benchmark took 1.45 times (width 128) and 2.2 times (width 512) the CPU seconds. In bf16, batches of
512 and 1,024 tokens are equally fast, and larger ones are slower."""


def budget(batch_tokens: int, where: str) -> int:
    """Tokens of a batch on a device: the recipe's number, on a CPU at most CPU_TOKENS."""
    return min(batch_tokens, CPU_TOKENS) if where == "cpu" else batch_tokens


def batches(lengths: Sequence[int], ids: Sequence[str], *, tokens: int, rows: int) -> list[list[int]]:
    """Positions grouped into batches of similar length: at most `rows` each, and at most `tokens` once padded.

    The longest rows come first, so that memory runs out at once if at all. Equal lengths are ordered by id, so that a
    batch depends on the rows and not on their order. A row longer than `tokens` is a separate batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], ids[i]))
    groups: list[list[int]] = []
    for i in order:
        widest = lengths[groups[-1][0]] if groups else 0
        if groups and len(groups[-1]) < rows and widest * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def mixed(groups: list[list[int]]) -> list[list[int]]:
    """The same batches, the first still first and the others in a fixed order that does not depend on their lengths, so
    that the time left, told from the rows done so far, is neither too long nor too short.
    """
    rest = groups[1:]
    random.Random(0).shuffle(rest)
    return [*groups[:1], *rest]


def pad(rows: Sequence[Sequence[int]], filler: int, *, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids `(b, t)` int64 and attention mask `(b, t)` int64 of rows padded on the `left` or `right`."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        span = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, span] = torch.tensor(row, dtype=torch.long)
        mask[i, span] = 1
    return ids, mask


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of every token `(b, t)`, counted from the first real one, so that padding on either side gives equal
    states.
    """
    return (mask.cumsum(-1) - 1).clamp(min=0)


def by_length(batch: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of a batch in groups of equal length, which need no padding."""
    groups: dict[int, list[int]] = {}
    for number in batch:
        groups.setdefault(lengths[number], []).append(number)
    return list(groups.values())
