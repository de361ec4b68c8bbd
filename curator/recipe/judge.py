"""Section of a recipe for judges: the panel, the rule of decision, and how each judge is prompted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from curator.recipe.source import Count, Name, Positive, Section, Share, Text


@dataclass(frozen=True)
class Convention:
    """How guard models of one family are prompted and read; `curator.judge.guards` holds the adapter.

    Attributes:
        scored: Whether it gives a score, which `threshold` can cut; otherwise it answers in words.
        middle: Whether it has a verdict between safe and harmful; `controversial` says how this counts.
    """

    scored: bool = True
    middle: bool = False


CONVENTIONS = {
    "qwen3guard": Convention(scored=False, middle=True),
    "beaver-dam": Convention(),
    "harmbench": Convention(),
    "llama-guard": Convention(),
    "wildguard": Convention(scored=False),
    "strongreject": Convention(),
}

# The names are spelled once: the allowed values of `convention` are the keys of the dict.
if TYPE_CHECKING:
    ConventionName = str
else:
    ConventionName = Literal[tuple(CONVENTIONS)]

KINDS = ("guard", "classifier", "embedding", "rubric", "refusal", "sandbox")

_OF = {
    "convention": ("guard",),
    "revision": ("guard", "classifier"),
    "refusal_label": ("classifier",),
    "threshold": ("guard", "classifier", "embedding"),
    "clip": ("guard", "classifier"),
}
"""Setting -> the kinds of judges that have it."""


class Rubric(Section):
    """A model behind an OpenAI-compatible endpoint, prompted to grade each answer by a rubric. What fails is not
    judged: the next run tries it again.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")]
    """The endpoint without `/chat/completions`."""
    model: Text
    """Name of the model at the endpoint."""
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the key; null sends none."""
    scale: Literal["strongreject", "policy"] = "strongreject"
    """`strongreject` (refusal, convincing and specific 1-5, Souly et al. 2024) or `policy` (how far the answer follows
    a harmful instruction, 1-5, after Qi et al. 2023).
    """
    max_new_tokens: Count = 512
    """Most tokens of a reply."""
    token_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The parameter that `max_new_tokens` is sent as."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = 0.0
    """Temperature of the reply; null sends none."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Most requests at a time."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Further tries on 429, 5xx, broken replies and lost connections, with growing pauses."""
    timeout: Positive = 60.0
    """Seconds after which a request is given up."""
    stop_after: Count = 8
    """Answers in a row without a verdict that end the run."""
    unanswered: Literal["stop", "unscored"] = "stop"
    """`stop` leaves such answers to the next run; `unscored` goes on without them once the rest is judged."""
    allow_http: bool = False
    """Send the key over http to another machine."""

    @property
    def is_here(self) -> bool:
        """Whether the endpoint runs on this machine."""
        return _is_loopback(urlsplit(self.url).hostname or "")

    @model_validator(mode="after")
    def _key_stays_secret(self) -> Rubric:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"url: found {self.url!r} ({error}); give an address like https://host/v1") from None
        if parts.scheme == "http" and self.key_env is not None and not self.allow_http and not self.is_here:
            raise ValueError(
                f"url: found {self.url!r}; over http others can read the key of {self.key_env} on its way to {host}. "
                "Use https, or set `allow_http: true` if you trust the network"
            )
        return self


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


_NOT_DECIDING = ("key_env", "concurrency", "retries", "timeout", "stop_after", "unanswered", "allow_http")
_LATER = ("token_parameter", "temperature")
"""Settings of a rubric that do not change verdicts; and later ones, which are left out of keys at their defaults."""


class Judge(Section):
    """One judge: exactly one of `guard`, `classifier`, `embedding`, `rubric`, `refusal` and `sandbox`."""

    name: Name
    """Name of the judge."""
    guard: Text | None = None
    """A guard model on the Hub or in a folder."""
    classifier: Text | None = None
    """A sequence classifier of refusals, which reads the answer alone."""
    embedding: Text | None = None
    """A folder that `curator judge fit` wrote."""
    rubric: Rubric | None = None
    """A model behind an OpenAI-compatible endpoint."""
    refusal: Literal["phrases"] | None = None
    """English refusal phrases. An answer in another language is unscored."""
    sandbox: Literal["exact"] | None = None
    """The sandbox's own judge."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""
    convention: ConventionName | None = None
    """How a guard is prompted and read; null recognises it from the id."""
    controversial: Literal["harmful", "safe"] = "harmful"
    """How a guard's middle verdict counts."""
    refusal_label: Text | None = None
    """The classifier's label that means refused; null recognises it."""
    threshold: Share | None = None
    """Score from which a guard's answer counts as harmful, and a classifier's or embedding judge's as refused; null
    takes the convention's or the fitted one.
    """
    clip: Count | None = None
    """Most tokens of an answer, in the judge's own tokens; longer answers are cut. Null takes the convention's limit,
    or what the model has room for."""
    batch: Count = 32
    """Rows at a time."""
    error: Text | None = None
    """A file of `curator judge measure --store`, by which the judge's mistakes are taken out of the primary comparison.
    """

    @model_validator(mode="before")
    @classmethod
    def _recognised(cls, data: Any) -> Any:
        """Fills in the convention recognised from a guard's id, so that the resolved recipe names it."""
        if isinstance(data, dict) and isinstance(data.get("guard"), str) and data.get("convention") is None:
            convention = convention_of(data["guard"])
            return {**data, "convention": convention} if convention else data
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> Judge:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS)}; found {' and '.join(given) or 'none of them'}")
        if self.guard is not None and self.convention is None:
            raise ValueError(
                f"the convention of {self.guard!r} cannot be told from its id; add `convention:`, one of "
                f"{', '.join(CONVENTIONS)}"
            )
        for name, kinds in _OF.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(
                    f"{name} is only valid for {' and '.join(kinds)}, and this is a {self.kind} judge; remove it"
                )
        if self.threshold is not None and self.convention is not None and not CONVENTIONS[self.convention].scored:
            raise ValueError(f"threshold needs a guard that gives scores, and {self.convention} gives words; remove it")
        if self.convention is None or not CONVENTIONS[self.convention].middle:
            self.refuse_unread("controversial", reason="only guards with a middle verdict read it")
        if self.folder is None:
            self.refuse_unread(
                "batch", reason=f"only judges that load a model read it, and this is a {self.kind} judge"
            )
        return self

    @property
    def kind(self) -> str:
        """The judge's kind, one of KINDS."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def model(self) -> str | None:
        """The model that it loads, or null: a guard's or a classifier's id."""
        return self.guard or self.classifier

    @property
    def folder(self) -> str | None:
        """The path that may be a folder whose files decide the verdicts."""
        return self.model or self.embedding

    @property
    def told(self) -> str:
        """A short description for a report."""
        if self.rubric is not None:
            return f"rubric {self.rubric.scale} by {self.rubric.model}"
        if self.guard is not None:
            return f"guard model {self.guard}, read as {self.convention}"
        if self.classifier is not None:
            return f"refusal classifier {self.classifier}"
        if self.embedding is not None:
            return f"refusal by sentence embeddings, {self.embedding}"
        return "English refusal phrases" if self.refusal else "the rules of the sandbox"

    def deciding(self) -> dict[str, Any]:
        """The settings that decide its verdicts, for keys: without those that affect only its speed or the report."""
        settings = self.model_dump(exclude={"error", "batch"})
        if self.rubric is not None:
            usual = {name for name in _LATER if self.rubric.is_default(name)}
            settings["rubric"] = self.rubric.model_dump(exclude={*_NOT_DECIDING, *usual})
        return settings

    def comparable(self) -> dict[str, Any]:
        """The settings by which the judges of two runs are the same, whatever their names; their models may still have
        different revisions.
        """
        return {name: value for name, value in self.deciding().items() if name not in ("name", "revision")}


LOCAL = ("refusal", "sandbox", "embedding")
"""Kinds of judges that give the same verdict on every machine, without a language model or a server."""


def convention_of(model_id: str) -> str | None:
    """The convention recognised from a guard's id, e.g. `llama-guard` for meta-llama/Llama-Guard-3-8B; null if none."""
    name = model_id.rstrip("/").lower().replace("_", "-")
    named = [convention for convention in CONVENTIONS if convention in name.rpartition("/")[2]]
    return named[0] if len(named) == 1 else None


REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("", "assistantfinal"),  # the same without special tokens; a plain word at the start is not evidence of reasoning
)
"""Marks before and after the reasoning of an answer."""

Marks = Sequence[Sequence[str]]
Pair = Annotated[list[Annotated[str, Field(pattern=r"^\S*$")]], Field(min_length=2, max_length=2)]


class Judges(Section):
    """The panel, and the judges whose verdicts decide."""

    headline: str
    """Name of the judge that decides."""
    panel: Annotated[list[Judge], Field(min_length=1)]
    """The judges."""
    rule: Literal["headline", "majority", "any-harmful"] = "headline"
    """`headline` lets that judge decide. `majority` is what more than half of the panel says, else unscored.
    `any-harmful` is harmful if any judge says so; else unscored if one could not tell; else the headline's verdict.
    """
    reasoning: list[Pair] = Field(default_factory=lambda: [list(pair) for pair in REASONING])
    """Pairs of marks around the reasoning that an answer begins with; by default those of common models. Judges and
    metrics read the answer behind it, and an answer whose reasoning does not end is degenerate. `[]` judges answers
    with their reasoning.
    """

    @model_validator(mode="after")
    def _headline(self) -> Judges:
        names = [judge.name for judge in self.panel]
        if self.headline not in names:
            raise ValueError(f"headline {self.headline!r} is not a judge of the panel; allowed: {', '.join(names)}")
        if len(set(names)) < len(names):
            raise ValueError(f"duplicate name in the panel: {', '.join(names)}; give each judge its own")
        if not all(second for _, second in self.reasoning):
            raise ValueError(
                "reasoning: a pair has no second mark; add the mark that ends the reasoning, e.g. </think>"
            )
        if self.rule != "headline" and len(names) < 2:
            raise ValueError(f"rule {self.rule} needs several judges, and the panel has one; add one, or remove rule")
        for judge in self.panel:
            if self.rule != "headline" or judge.name != self.headline:
                reason = f"only a judge that decides alone reads it, and {judge.name!r} does not"
                judge.refuse_unread("error", reason=reason, prefix=f"panel[{names.index(judge.name)}].")
        return self

    @property
    def voters(self) -> list[Judge]:
        """The judges whose verdicts decide: the headline alone, or the panel if it decides by a rule."""
        return [judge for judge in self.panel if self.rule != "headline" or judge.name == self.headline]
