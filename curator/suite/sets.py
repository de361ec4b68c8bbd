"""What the alignment sets of a run are like: how similar to the task, and how different their rows from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from curator.records import Scores, Vectors

Arms = Mapping[tuple[str, int], Sequence[str]]


def set_facts(vectors: Vectors, scores: Scores, arms: Arms) -> dict[str, dict[str, Any]]:
    """Arm -> figures of its sets, means over those that differ: `rows`, `sets`, `similarity` (the mean score), `z` (the
    same in standard deviations of the pool from its mean), `log_det`, `vendi` and `pairwise`; all but the first two are
    null for an arm with rows outside the pool.

    Args:
        vectors: The pool's. `scores`: of the same rows. `arms`: (arm, seed) -> ids.
    """
    import numpy as np

    from curator.report.rows import draws_of

    place = {one: row for row, one in enumerate(vectors.ids)}
    middle, spread = float(scores.combined.mean()), float(scores.combined.std())
    score = dict(zip(scores.ids, scores.combined.tolist(), strict=True))
    found: dict[str, dict[str, Any]] = {}
    for arm, sets in draws_of(arms).items():
        own: dict[str, Any] = {"rows": float(np.mean([len(ids) for ids in sets])), "sets": len(sets)}
        if all(one in place for ids in sets for one in ids):
            each = [diversity(vectors.matrix[[place[one] for one in ids]]) for ids in sets]
            mean = float(np.mean([score[one] for ids in sets for one in ids]))
            own |= {"similarity": mean, "z": (mean - middle) / spread if spread > 0 else 0.0}
            own |= {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        else:
            own |= dict.fromkeys(("similarity", "z", "log_det", "vendi", "pairwise"))
        found[arm] = own
    return found


def diversity(rows: NDArray[Any]) -> dict[str, float]:
    """How different `(k, d)` unit rows are from each other.

    Returns:
        `log_det`: log det(I + X X'), 0 for nothing, k log 2 for rows at right angles; `vendi`: the Vendi score, from 1
        for equal rows to k for rows at right angles; `pairwise`: the mean cosine of two different rows (1 for one row).
    """
    import numpy as np

    from curator.pool.redundancy import redundancy

    wide = np.asarray(rows, dtype=np.float64)
    # X'X has the eigenvalues of XX' that are not 0, and is the smaller of the two for sets larger than the width.
    log_det = float(np.linalg.slogdet(np.eye(wide.shape[1]) + wide.T @ wide)[1])
    count, total = len(wide), float(np.sum(wide.sum(axis=0) ** 2))
    own = float(np.sum(wide**2))
    pairwise = (total - own) / (count * (count - 1)) if count > 1 else 1.0
    return {"log_det": log_det, "vendi": redundancy(wide.astype(np.float32)).vendi, "pairwise": pairwise}


def shared_rows(arms: Arms, one: str, other: str) -> int | None:
    """Rows that the first sets of two arms have in common; null where one of them was not run."""
    first, second = arms.get((one, 0)), arms.get((other, 0))
    return None if first is None or second is None else len(set(first) & set(second))
