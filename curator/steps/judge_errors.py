"""What the deciding judge's mistakes do to the primary comparison, from labels by people where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import JudgeError
from curator.provenance import file_identity
from curator.recipe.judge import Judge
from curator.run import Site
from curator.run.folder import read_json

if TYPE_CHECKING:
    from curator.conclusions import Comparison

VERSION = 1  # of the file that `curator judge measure --store` writes


def settings(site: Site) -> Any:
    """What of the recipe decides the correction, for the report's key: the rule, and the content of the named file."""
    headline = deciding_judge(site)
    return site.recipe.judges.rule, headline and (headline.error, file_identity(headline.error or ""))


def deciding_judge(site: Site) -> Judge | None:
    """The judge whose mistakes matter; null where a panel decides, whose mistakes nobody has measured."""
    judges = site.recipe.judges
    if judges.rule != "headline":
        return None
    return next(judge for judge in judges.panel if judge.name == judges.headline)


def judge_error(site: Site, primary: Comparison) -> dict[str, Any]:
    """The corrected difference, or why there is none, and the sensitivity analysis, for report.json.

    Raises:
        JudgeError: The recipe's `error` file is missing, damaged, or of another judge.
    """
    from curator.verify.judge_error import Labelled, correct

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


def read_stored(judge: Judge, file: str) -> dict[str, Any]:
    """What `curator judge measure --store` wrote of this judge: outcome, run, labels, and `judge`, its own counts."""
    path, key = Path(file), f"judges.panel.{judge.name}.error"
    again = "write it with `curator judge measure --store`"
    if not path.is_file():
        raise JudgeError(f"{key}: there is no file {file}; {again}")
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("version") != VERSION or not isinstance(stored.get("judges"), list):
        raise JudgeError(f"{key}: {file} holds no measured judges of version {VERSION}; {again}")
    same = [one for one in stored["judges"] if one["settings"] == judge.comparable()]
    if not same:
        names = ", ".join(str(one["name"]) for one in stored["judges"]) or "none"
        raise JudgeError(f"{key}: {file} measures {names}, and none with the settings of {judge.name!r}; {again}")
    return {name: stored[name] for name in ("outcome", "run", "labels")} | {"judge": same[0]}
