"""Findings about a corpus, each with its severity, number of rows, examples by id, and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from curator.recipe.pool import Findings

SEVERITIES = ("info", "warning", "error")
"""From information to problems that must be fixed before publication or training."""
EXAMPLES = 10

DEFAULT = Findings()
"""Default thresholds for reporting."""


@dataclass(frozen=True)
class Finding:
    """One problem or remark about a corpus.

    Attributes:
        kind: A stable short name, e.g. `near-duplicates`.
        severity: One of SEVERITIES.
        count: Number of rows. `share`: their share of the rows that were examined, in [0, 1].
        ids: Ids of all rows concerned, sorted; pages show the first EXAMPLES.
        what: The finding in one sentence. `advice`: what to do.
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
            raise ValueError(f"Finding: found severity {self.severity!r}; allowed: {', '.join(SEVERITIES)}")


def finding(
    kind: str, severity: str, ids: Iterable[str], rows: int, *, what: str, advice: str, count: int | None = None
) -> Finding:
    """A finding about these rows among `rows`; give `count` if some have no id."""
    named = tuple(sorted(set(ids)))
    number = len(named) if count is None else count
    return Finding(kind, severity, number, number / rows if rows else 0.0, named, what, advice)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings sorted by severity, then by number of rows, then by kind."""
    return sorted(findings, key=lambda finding: (-SEVERITIES.index(finding.severity), -finding.count, finding.kind))
