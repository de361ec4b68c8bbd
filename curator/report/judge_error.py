"""What the deciding judge's mistakes do to the primary comparison, from labels by people where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curator.judge.measure import deciding_judge, read_stored
from curator.run import Site

if TYPE_CHECKING:
    from curator.conclusions import Comparison


def judge_error(site: Site, primary: Comparison) -> dict[str, Any]:
    """The corrected difference, or why there is none, and the sensitivity analysis, for report.json.

    Raises:
        JudgeError: The recipe's `error` file is missing, damaged, or of another judge.
    """
    from curator.decision.judge_error import Labelled, correct

    judge = deciding_judge(site)
    stored = read_stored(judge, judge.error) if judge is not None and judge.error else None
    labels, other = {}, None
    if stored is not None and stored["outcome"] == "harmful":
        labels = {
            arm: Labelled(one["both"], one["only_people"], one["neither"], one["only_judge"])
            for arm, one in stored["judge"]["arms"].items()
        }
    elif stored is not None:
        other = f"the labels are of answers that are {stored['outcome']}, and the comparison is of harm"
    found = correct(primary, labels, seed=site.recipe.seed)
    return {
        "judge": judge.name if judge else None,
        "labels": None if stored is None else {"outcome": stored["outcome"], "run": stored["run"], **stored["labels"]},
        "corrects": found.corrects,
        "why": other or found.why,
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "assumed": [
            {"sensitivity": se, "specificity": sp, "difference": value} for (se, sp), value in found.assumed.items()
        ],
        "tipping": found.tipping,
    }
