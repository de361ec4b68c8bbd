"""Findings about the answers of a corpus: refusals, identical answers, harmful answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import polars as pl

from curator.language import words
from curator.pool.screen import DEFAULT, Finding, finding
from curator.pool.traits import opener
from curator.pool.words import last
from curator.recipe.pool import Findings
from curator.records import Conversations, Messages, Verdict
from curator.wording import these

Refuses = Callable[[str], bool | None]
"""Whether an answer opens with a refusal; null if it cannot be judged."""
Judging = Callable[[Sequence[Messages]], Sequence[Verdict]]
"""`n` conversations that end with an answer -> `n` verdicts."""


def canned(rows: pl.DataFrame, limits: Findings = DEFAULT) -> list[Finding]:
    """Answers that many rows share, ignoring case and punctuation."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        groups[tuple(words(last(messages, "assistant")))].append(row)
    if rows.height < limits.fewest:
        return []
    findings: list[Finding] = []
    for _, ids in sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0])):
        share = len(ids) / rows.height
        if share < limits.canned:
            break
        severity = "error" if share >= limits.canned_error else "warning"
        what = f"{share:.0%} of the rows share {'another' if findings else 'one'} identical answer."
        advice = (
            "Rewrite the answers to fit their requests, or keep only a few of these rows. A model aligned on them "
            "learns a single sentence, which fine-tuning overwrites."
        )
        findings.append(finding("canned-answer", severity, ids, rows.height, what=what, advice=advice))
    return findings


def alike(rows: pl.DataFrame, limits: Findings = DEFAULT) -> list[Finding]:
    """Openers that many answers share, their first three words, case and punctuation apart; not where most of
    these are one answer, which `canned` reports.
    """
    groups: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        answer = last(messages, "assistant")
        groups[opener(answer)][row] = tuple(words(answer))
    if rows.height < limits.fewest:
        return []
    findings = []
    for begins, answers in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        share, counts = len(answers) / rows.height, Counter(answers.values())
        if share < limits.opener:
            break
        most = max(counts.values())
        if not begins or (2 * most > len(answers) and most >= limits.canned * rows.height):  # `canned` says so
            continue
        different = these(len(counts), "different answer", "different answers")
        what = f"{share:.0%} of the answers begin with the same three words ({different})."
        advice = (
            "Vary how these answers begin, or choose rows with `select.answers.max_opener`, the largest share of a set "
            "that may share an opener."
        )
        findings.append(finding("repeated-opener", "warning", answers, rows.height, what=what, advice=advice))
    return findings


def refusals(
    rows: pl.DataFrame, refuses: Refuses, limits: Findings = DEFAULT
) -> tuple[list[Finding], dict[str, float | None]]:
    """The share of refusals among the answers in English, null if none is in English, and the finding about it."""
    answers = (last(messages, "assistant") for messages in Conversations(rows))
    by_row = {row: refuses(answer) for row, answer in zip(rows["id"], answers, strict=True)}
    others = [row for row, refused in by_row.items() if refused is None]
    ids = [row for row, refused in by_row.items() if refused]
    judged = rows.height - len(others)
    if others and 2 * judged < rows.height:
        what = (
            f"Refusals were not counted in {these(len(others), 'answer', 'answers')}: the refusal phrases are English, "
            "and these answers are not."
        )
        advice = "Read a sample of the answers, or count refusals with a judge for their language."
        share = len(ids) / judged if judged else None
        return [finding("refusals", "info", others, rows.height, what=what, advice=advice)], {"refusals": share}
    share = len(ids) / judged if judged else 0.0
    few = share < limits.refusals
    what = f"{share:.0%} of the answers open with an English refusal phrase."
    if others:
        english = these(judged, "English answer", "English answers")
        what = f"{share:.0%} of {english} open with a refusal phrase. "
        what += (
            f"{these(len(others), 'answer in another language was', 'answers in other languages were')} not checked."
        )
    advice = (
        "Add refusals of harmful requests, or read the answers: a corpus without refusals does not teach refusing."
        if few
        else "Compare this share with what you want to teach. A safe, helpful answer is not a refusal."
    )
    severity = "warning" if few else "info"
    return [finding("refusals", severity, ids, rows.height, what=what, advice=advice)], {"refusals": share}


def harmful(rows: pl.DataFrame, judge: Judging, name: str) -> list[Finding]:
    """Answers that a judge calls harmful, and answers that it could not judge."""
    verdicts = judge(Conversations(rows))
    ids: dict[str, list[str]] = defaultdict(list)
    for row, verdict in zip(rows["id"], verdicts, strict=True):
        ids[verdict.outcome].append(row)
    bad, unscored, broken = ids["harmful"], ids["unscored"], ids["degenerate"]
    findings = []
    if bad:
        what = f"{these(len(bad), 'answer is', 'answers are')} harmful according to the judge `{name}`."
        advice = "Read these rows, then drop them or replace their answers: alignment would teach them."
        findings.append(finding("harmful-answers", "error", bad, rows.height, what=what, advice=advice))
    if unscored:
        what = f"The judge `{name}` gave no verdict on {these(len(unscored), 'answer', 'answers')}."
        advice = "Use another judge, or read them."
        findings.append(finding("unscored-answers", "info", unscored, rows.height, what=what, advice=advice))
    if broken:
        what = f"{these(len(broken), 'answer is', 'answers are')} empty, repetitive or gibberish."
        advice = "Drop these rows."
        findings.append(finding("degenerate-answers", "warning", broken, rows.height, what=what, advice=advice))
    return findings
