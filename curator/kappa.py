"""How far two readers agree beyond chance."""

from __future__ import annotations


def kappa(both: int, only_first: int, only_second: int, neither: int) -> tuple[float | None, float | None]:
    """Share of cases on which two readers say the same of a yes or no, and Cohen's kappa.

    Both are null without cases; kappa also where both always say the same one thing.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return None, None
    share = (both + neither) / n
    first, second = (both + only_first) / n, (both + only_second) / n
    chance = first * second + (1 - first) * (1 - second)
    return share, None if chance == 1 else (share - chance) / (1 - chance)
