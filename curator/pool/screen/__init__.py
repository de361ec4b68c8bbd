"""What is wrong with a corpus: findings, each with its severity, how many rows, examples by id, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curator.recipe.pool import Findings

SEVERITIES = ("info", "warning", "error")
"""From what is good to know to what must not be published or trained on as it is."""
EXAMPLES = 10

DEFAULT = Findings()
"""From when something is reported, where no recipe says otherwise."""


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: A short name that stays the same, e.g. `near-duplicates`.
        severity: One of SEVERITIES.
        count: How many rows. `share`: of the rows that were looked at, in [0, 1].
        ids: All rows that it is about, sorted; pages show the first EXAMPLES.
        what: One sentence. `advice`: what to do.
    """

    kind: str
    severity: str
    count: int
    share: float
    ids: tuple[str, ...]
    what: str
    advice: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"Finding: severity {self.severity!r} is none of {SEVERITIES}")


def finding(
    kind: str, severity: str, ids: Iterable[str], rows: int, *, what: str, advice: str, count: int | None = None
) -> Finding:
    """A finding about these rows of `rows`; `count` where not every one has an id."""
    named = tuple(sorted(set(ids)))
    number = len(named) if count is None else count
    return Finding(kind, severity, number, number / rows if rows else 0.0, named, what, advice)


def at_least(findings: Sequence[Finding], severity: str) -> list[Finding]:
    """Findings of this severity or worse."""
    return [finding for finding in findings if SEVERITIES.index(finding.severity) >= SEVERITIES.index(severity)]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By severity, then by how many rows, then by kind."""
    return sorted(findings, key=lambda finding: (-SEVERITIES.index(finding.severity), -finding.count, finding.kind))
