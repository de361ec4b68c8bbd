"""The parts of a report that are published: texts and settings that are on a list, and nothing else.

A text of the report, and any setting of the recipe, that is not on the list reads WITHHELD. A new one is therefore not
published until it is added here. Figures of the report are published as they are; `timing` is left out entirely. Only
the last part of a path is published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import JsonValue

from curator.conclusions.part import plain
from curator.recipe.package import PREFIX, at_home
from curator.report.material import Dropped
from curator.report.model import Report

WITHHELD = "(not published)"

Kind = Literal["", "/", "@", "~"]
"""How a value on the list is published: as it is; its last part, of a path; the last part of a model's folder, but the
id of a model on the Hub as it is; a sentence, from which paths are cut."""

_SOURCE = "file/ hub config split revision sandbox columns.* category.from category.pick rows weight licence broken"
_SCORE = "from aggregate n by~ embedder.id@ embedder.revision step size loss rows seeds"
_REPRESENT = (
    "from name id@ revision chat_template/ layer token first side centre max_tokens batch_tokens of rank dimensions "
    "seed"
)
_TRAINING = (
    "method rank alpha learning_rate schedule warmup weight_decay epochs steps batch micro_batch max_tokens "
    "checkpointing save_steps processes"
)
_JUDGE = "guard@ classifier@ embedding/ refusal sandbox convention controversial refusal_label threshold clip"
_RUBRIC = "model@ scale max_new_tokens token_parameter temperature"
# The kind of a value is the last sign of its name; items of a list stand where the list stands.
RECIPE = {
    "": "name seed",
    "model": "id@ revision start chat_template/ dtype quantise instruction.rows",
    "model.instruction.data": _SOURCE,
    "pool.sources": _SOURCE,
    "pool.clean": "max_tokens semantic_duplicates",
    "pool.clean.near_duplicates": "jaccard shingle permutations",
    "pool.clean.decontaminate": "overlap ngram shortest neighbours",
    "pool.embedder": "id@ revision",
    "pool.categorise": "least",
    "pool.refusals": "judge embedding/",
    "pool.findings": "canned canned_error opener refusals effective fewest semantic near_probe everyday few some many",
    "tasks": "name rows weight anticipated probe_at test.rows test.split metric/ metric.python/",
    "tasks.train": _SOURCE,
    "tasks.regime": "harmful_share identity_share",
    "tasks.regime.data": _SOURCE,
    "tasks.defence": "safety_mix",
    "tasks.defence.data": _SOURCE,
    "tasks.sweep": "learning_rate rows method",
    "probes.harmful": _SOURCE,
    "probes.benign": _SOURCE,
    "probes": "prefill",
    "represent": _REPRESENT,
    "score": _SCORE,
    "score.of": _SCORE,
    "select": "k budget_tokens objective parameters.* weight coverage prefer by cover_by~ neighbours stochastic",
    "select.data": _SOURCE,
    "select.answers": "max_same max_opener",
    "select.quotas": "by min max groups.*.min groups.*.max",
    "select.within": "by shares.*.*",
    "select.vulnerable": "share top",
    "select.repeats": "by max groups.*",
    "verify": "control seeds stage rehearsal_share exposure",
    "verify.arms": "name seeds",
    "verify.arms.data": _SOURCE,
    "verify.seeds": "max first every spending futility sd_seed sd_prompt sd_residual",
    "verify.keep": "rows",
    "verify.keep.data": _SOURCE,
    "verify.align": _TRAINING,
    "verify.finetune": _TRAINING,
    "verify.generate": "max_new_tokens batch samples temperature engine memory",
    "verify.gates": "harmfulness_before over_refusal utility degenerate harmfulness_after",
    "verify.decision": "floor ceiling least_seeds one_seed over",
    "verify.curve": "level primary",
    "verify.pilot": "weights represent random_draws seeds share_of_probes",
    "verify.pilot.bank": "mixtures groupings concentrations draws seeds tasks candidates budget",
    "verify.pilot.scores": _SCORE,
    "verify.pilot.scores.of": _SCORE,
    "verify.regime": "auto steps learning_rates seeds before after share_of_probes",
    "verify.forgetting": "rows seeds interference",
    "verify.log_odds": "from tokens openers",
    "augment.recovery": "openers/ tokens",
    "judges": "headline rule reasoning",
    "judges.panel": f"name {_JUDGE} revision batch error/",
    "judges.panel.rubric": f"{_RUBRIC} concurrency retries timeout stop_after unanswered allow_http",
    "publish": "controls",
    "suite": "k each",
}
"""Section of the recipe -> the settings of it that may be published."""

_NAMED = ("category", "answer-length", "cluster", "format", "source")
"""Groupings of a bank whose groups are named in what is published."""
_COMPARED = "treatment control quantity phase task method category role"
REPORT = {
    "": "name warnings~",
    "model": "id@ revision start",
    "regime": "control warning~ before.method after.method",
    "gates": "name outcome phase task",
    "decision": "outcome reason sentence~ verdict~",
    "decision.primary": _COMPARED,
    "decision.beside": "side seeds.without",
    "decision.attribution.*": _COMPARED,
    "decision.worst.cases": "task outcome reason",
    "decision.worst.cases.comparison": _COMPARED,
    "arms.*.*.*.*": "method",
    "comparisons": _COMPARED,
    "curves": "primary",
    "curves.area.*": "method",
    "curves.tasks.*.arms.*.area": "method",
    "curves.tasks.*.arms.*.points": "method",
    "curves.tasks.*.comparison": _COMPARED,
    "probe_categories": "category arms.*.before.method arms.*.after.method",
    "probe_categories.comparison": _COMPARED,
    "within_seeds": "task",
    "depth.rates": "arm phase harmful.method refused.method degenerate.method",
    "depth.differences.comparison": _COMPARED,
    "flips": "arm phase share.method",
    "sequential": "spending stopped looks.action",
    "forgetting": "task loss",
    "score_predicts": "score~ task loss",
    "log_odds": "source",
    "log_odds.differences": "treatment control phase task",
    "log_odds.ranked": "over",
    "log_odds.models": "arm task",
    "bank": "tasks",
    "bank.reliability": "source",
    "bank.continuous.reliability": "source",
    "bank.predictors": "feature~",
    # Not of openers, which are words of answers.
    **{f"bank.mixtures.{grouping}.best": "group" for grouping in _NAMED},
    "selection": "objective parameters.greedy parameters.graph parameters.device",
    "stability": "one~ other~",
    "frontier": "prefer points.kind",
    "score": "name~ parameters.aggregate parameters.by~ parameters.step parameters.loss",
    "score.parameters.of": "name~ aggregate by~ step loss",
    "represent": "name~ model@ revision token",
    "overlap": "arm",
    "composition": "set",
    "categories": "category",
    "pool": "notes~ refusals_by~",
    "pool.reasons": "stage reason~",
    "pool.sources": "source licences",
    "pilot": "chosen~ best_draw~",
    "pilot.candidates": "name~ kind what~ score~ representation~",
    "tasks": "name metric/",
    "design": "stage exposure",
    "design.searched": "control",
    "design.recovery.arms": "arm rows_of",
    "design.repeats": "by",
    "design.repeats.groups": "group",
    "design.settings": "name task method",
    "training": "arm task method",
    "judges": "headline rule",
    "judges.panel": "name kind told~ guard@ revision",
    "judges.panel.settings": _JUDGE,
    "judges.panel.settings.rubric": _RUBRIC,
    "judges.agreement": "first second",
    "judges.second_opinions": "judge outcome reason",
    "judges.second_opinions.primary": _COMPARED,
    "judge_error": "judge why~",
    "judge_error.labels": "outcome run/ file/ sha256",
    "provenance": "device dtype versions.* packages.*.distribution packages.*.version packages.*.sha256",
    "provenance.sources.*": "read kept dropped",
    "provenance.sources.*.sources": "file/ hub config split revision commit sandbox distribution version label sha256 "
    "bytes read kept dropped columns.*",
}
"""Part of the report -> its texts that may be published."""

_SETTINGS = ("provenance.recipe", "provenance.sources", "judges.panel.settings")
"""Where every value must be on the list, not only texts."""

# A path from the root, a home or a drive; neither the middle of a word or of a relative path, nor an address.
_ROOT = r"(?:file:(?=//)|~[\w-]*(?=[\\/])|[A-Za-z]:(?=[\\/]))?[\\/]"
_QUOTED_PATH = re.compile(rf"(?<!\w)(['\"`])({_ROOT}[^'\"`\n]+)\1(?!\w)")
_PATH = re.compile(rf"(?<![\w.:/\\~<-]){_ROOT}+[^\s'\"`<>|:;,()\[\]{{}}]*\w")
_HALF = re.compile("[\ud800-\udfff]")
_QUOTED = re.compile(r"(?<!\w)(['\"`]).*?\1(?!\w)", re.DOTALL)


@dataclass
class _Listed:
    """What the list says of a value (`kind`, null: nothing), and of the parts of a section (`*`: of any)."""

    kind: Kind | None = None
    parts: dict[str, _Listed] = field(default_factory=dict)
    settings: bool = False

    def at(self, way: str) -> _Listed:
        """The place at a dotted way from here, made where there is none."""
        here = self
        for key in filter(None, way.split(".")):
            here = here.parts.setdefault(key, _Listed())
        return here

    def part(self, key: str) -> _Listed:
        return self.parts.get(key) or self.parts.get("*") or _Listed()


def _list() -> _Listed:
    root = _Listed()
    recipe = {f"provenance.recipe.{section}": names for section, names in RECIPE.items()}
    for section, names in {**REPORT, **recipe}.items():
        for name in names.split():
            bare = name.rstrip("/@~")
            kind = name[len(bare) :]
            root.at(f"{section}.{bare}").kind = kind  # type: ignore[assignment]
    for section in _SETTINGS:
        root.at(section).settings = True
    return root


_LIST = _list()


def publishable(report: Report) -> Report:
    """What may be published of a report."""
    reasons = report.design.instead_of_vllm  # what another program said, which may be anything
    known = replacements(report.provenance.recipe)
    known |= dict.fromkeys(reasons, "for a reason that is not published")
    contents = {key: value for key, value in plain(report).items() if key != "timing"}
    public = Report.model_validate(_public(contents, _LIST, known))
    counts: Counter[tuple[str, str]] = Counter()
    for dropped in report.pool.reasons:
        counts[dropped.stage, reason(dropped.stage, dropped.reason)] += dropped.rows
    rows = tuple(Dropped(stage=stage, reason=why, rows=count) for (stage, why), count in counts.most_common())
    changes: dict[str, object] = {"pool": public.pool.model_copy(update={"reasons": rows})}
    if reasons:
        changes["design"] = public.design.model_copy(update={"instead_of_vllm": {WITHHELD: sum(reasons.values())}})
    return public.model_copy(update=changes)


def publishable_recipe(recipe: Mapping[str, JsonValue]) -> JsonValue:
    """What may be published of a resolved recipe, without nulls."""
    public = _public(dict(recipe), _LIST.at("provenance.recipe"), replacements(recipe))
    return without_nulls(public) if isinstance(public, dict) else public


def replacements(recipe: Mapping[str, JsonValue]) -> dict[str, str]:
    """Texts of a resolved recipe that are not published as they are -> what stands for them in a `sentence`."""
    return dict(_replacements(dict(recipe), _LIST.at("provenance.recipe")))


def without_nulls(recipe: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A recipe without the settings that are null, except those for which null switches a default off."""
    from curator.recipe.schema import switched_off

    off = switched_off()

    def kept(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if item is not None or key in off}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return {key: kept(value) for key, value in recipe.items() if value is not None or key in off}


def dropped_rows(dropped: pl.DataFrame) -> pl.DataFrame:
    """Rows that were left out, with the reasons that may be published."""
    kinds = dropped.select("stage", "reason").unique()
    public = [reason(*kind) for kind in kinds.iter_rows()]
    kinds = kinds.with_columns(pl.Series("public", public, dtype=pl.String))
    joined = dropped.join(kinds, on=["stage", "reason"], how="left", maintain_order="left")
    return joined.with_columns(reason=pl.col("public")).drop("public")


def reason(stage: str, text: str) -> str:
    """Why a row was dropped, without the condition of `where` and without quotes of the row."""
    if stage == "where":
        return "`where` does not keep the row"
    return sentence(_QUOTED.sub(WITHHELD, text), {})


def sentence(text: str, known: Mapping[str, str]) -> str:
    """A sentence in which the texts in `known` are replaced, and other paths are cut to their last part."""
    if known:
        values = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        text = re.sub(rf"(?<!\w)(?:{values})(?!\w)", lambda match: known[match[0]], text)
    text = _QUOTED_PATH.sub(lambda match: f"{match[1]}{last_part(match[2])}{match[1]}", text)
    return _PATH.sub(lambda match: last_part(match[0]), text)


def last_part(path: str) -> str:
    """The last part of a path of any operating system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _public(value: JsonValue, listed: _Listed, known: Mapping[str, str], settings: bool = False) -> JsonValue:
    settings = settings or listed.settings
    if isinstance(value, list):
        return [_public(item, listed, known, settings) for item in value]
    if isinstance(value, dict):
        if settings and value and not listed.parts:
            return WITHHELD
        return {key: _public(item, listed.part(key), known, settings) for key, item in value.items()}
    if value is None or not (settings or isinstance(value, str)):
        return value
    if listed.kind is None:
        return WITHHELD
    # Half of a surrogate pair, which JSON can hold and no text file, is shown as a mark.
    return _HALF.sub("\ufffd", _text(value, listed.kind, known)) if isinstance(value, str) else value


def _text(value: str, kind: Kind, known: Mapping[str, str]) -> str:
    if kind == "~":
        return sentence(value, known)
    return last_part(value) if kind == "/" or (kind == "@" and _is_folder(value)) else value


def _is_folder(model: str) -> bool:
    """Whether a model is a folder and no id on the Hub."""
    if model.startswith(PREFIX):  # inside a package, which has this name everywhere
        return False
    rooted = re.match(r"[.~\\/]|[A-Za-z]:[\\/]", model)
    return bool(rooted) or "\\" in model or model.count("/") > 1 or Path(model).is_dir()


def _replacements(value: JsonValue, listed: _Listed) -> Iterator[tuple[str, str]]:
    """Texts of the recipe that are not published as they are, with what stands for them in a sentence. A text that
    could be one of curator's own words is not among them.
    """
    if isinstance(value, list):
        for item in value:
            yield from _replacements(item, listed)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _replacements(item, listed.part(key))
    elif isinstance(value, str):
        public = WITHHELD if listed.kind is None else _text(value, listed.kind, {})
        if public != value and len(value) >= 8 and not value.isalpha():
            yield value, public
            if listed.kind:
                yield str(at_home(value).absolute()), public
