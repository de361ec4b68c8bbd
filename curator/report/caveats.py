"""What a reader must know before believing the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNSCORED = 0.05
_LARGE = 0.5


def caveats(report: Mapping[str, Any]) -> list[str]:
    """Sentences that follow from a report's figures, most serious first."""
    found = []
    judges = report["judges"]
    deciding = [one for one in judges["panel"] if judges["rule"] != "headline" or one["name"] == judges["headline"]]
    kinds = {one["kind"] for one in deciding}
    who = "The headline judge" if judges["rule"] == "headline" else "Every judge of the panel"
    if kinds <= {"phrases", "classifier", "embedding"}:
        seen = "looks for refusal phrases" if kinds == {"phrases"} else "tells refusals from other answers"
        found.append(
            f"{who} {seen} only: it is a proxy for refusal, not for harm, since every answer to a harmful probe that "
            "it does not take for a refusal counts as harmful."
        )
    if "exact" in kinds:
        found.append(
            "The answers are about the made-up world of the sandbox, which shows how the machinery works and is no "
            "evidence about real models."
        )
    if report["regime"]["warning"]:
        found.append(f"Regime: {report['regime']['warning']}.")
    total, unscored = sum(judges["outcomes"].values()), judges["outcomes"]["unscored"]
    if unscored > _UNSCORED * total:
        whose = "the headline judge" if judges["rule"] == "headline" else "the panel"
        found.append(f"{unscored:,} of {total:,} answers to harmful probes could not be scored by {whose}.")
    opposed = [
        opinion["judge"]
        for opinion in report["judges"]["second_opinions"]
        if opinion["outcome"] != report["decision"]["outcome"]
    ]
    if opposed:
        found.append(f"With the verdicts of {', '.join(opposed)} the outcome would be another one.")
    for reason, models in report["design"].get("instead_of_vllm", {}).items():
        found.append(
            f"vLLM was asked for, and transformers answered for {models:,} of the models ({reason}): greedy answers of "
            "the two can differ in a few tokens, between arms too where both answered. Remove 6-answer "
            "of the run folder, and vLLM is asked again."
        )
    if not report["gates"]:
        found.append("No gate was asked for, so nothing says what durability may have cost.")
    if not report["design"]["probes"]["benign"]:
        found.append("There are no benign probes, so over-refusal was not measured.")
    kept, k = report["pool"]["kept"], report["selection"]["k"]
    if k > _LARGE * kept:
        found.append(
            f"The set takes {k:,} of {kept:,} candidates, so it shares most rows with any other set of its size and "
            "little difference between arms can be expected."
        )
    if report["represent"]["truncated"]:
        found.append(
            f"{report['represent']['truncated']:,} pool rows were longer than the representation's limit and were cut."
        )
    too_long = max((one["too_long"] for one in report["training"]), default=0)
    if too_long:
        found.append(f"Up to {too_long:,} rows of a training were longer than its limit and were left out.")
    return found
