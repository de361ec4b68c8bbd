"""What a recipe may say: the sections of the file as frozen models, each default stated here.

A stage takes its own section or plain arguments; only build, audit and cli see a whole `Recipe`. Reading a file,
applying `--set` and reporting mistakes is `curator.recipe_file`'s.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curator.recipe_source import Count, Name, Section, Share, Source

BUILT_IN_ARMS = ("curated", "random", "matched-random", "low-similarity", "high-similarity", "full", "none")


class Instruction(Section):
    """Instruction tuning of a base model before alignment, shared by all arms; settings are those of `verify.align`."""

    data: Source
    rows: Count


class Model(Section):
    """The model that is aligned and fine-tuned."""

    id: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    start: Literal["base", "aligned"] = "base"
    chat_template: str | None = None
    instruction: Instruction | None = None


class Clean(Section):
    """What leaves the pool: rows of more than `max_tokens` templated tokens of the target model, and exact
    duplicates.
    """

    max_tokens: Count = 1024


class PoolSection(Section):
    """Candidate safety examples: where they come from, and what leaves them."""

    sources: Annotated[list[Source], Field(min_length=1)]
    clean: Clean = Clean()


class Test(Section):
    """Held-out rows of a task: split off by hash from the train source, or another `split` of the same data set."""

    rows: Count = 200
    split: str | None = None


class TaskSection(Section):
    """One downstream task. `rows` are fine-tuned on; `anticipated: false` gives it weight 0 and shows it apart."""

    name: Name
    train: Source
    rows: Count | None = None
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    anticipated: bool = True
    test: Test = Test()
    metric: Literal["rouge1", "exact", "final-number"] = "rouge1"

    @model_validator(mode="after")
    def _split(self) -> TaskSection:
        if self.test.split is not None and self.train.hub is None:
            raise ValueError("test.split names a split of a hub data set, and train is none; remove test.split")
        return self


class Probes(Section):
    """Prompts asked before and after fine-tuning: harmful ones, and benign look-alikes for over-refusal."""

    harmful: Annotated[list[Source], Field(min_length=1)]
    benign: list[Source] = Field(default_factory=list)


class Represent(Section):
    """What turns a row into a vector.

    From `hidden-states` of the target model at `layer` (-1 is the last, after the final norm; 0 the embeddings) and
    `token`, or from a sentence embedder `id`. `centre` subtracts the pool's mean before unit length.
    """

    kind: Literal["hidden-states", "sentence-transformers"] = Field("hidden-states", alias="from")
    id: str | None = None
    revision: str | None = None
    layer: int = -1
    token: Literal["last-completion", "eos", "mean-completion", "end-of-prompt"] = "last-completion"
    centre: bool = True
    max_tokens: Count = 1024
    batch_tokens: Count = 8192

    @model_validator(mode="after")
    def _embedder(self) -> Represent:
        if self.kind == "sentence-transformers" and self.id is None:
            raise ValueError("from: sentence-transformers needs id, a model on the Hub or a local folder")
        if self.kind == "hidden-states" and self.id is not None:
            raise ValueError(
                "from: hidden-states uses the recipe's model; remove id, or use from: sentence-transformers"
            )
        return self


class Score(Section):
    """Similarity of a candidate to a task: cosines over the task's rows, aggregated (`n` is for top-mean)."""

    kind: Literal["cosine"] = Field("cosine", alias="from")
    aggregate: Literal["max", "mean", "top-mean", "per-example"] = "top-mean"
    n: Count = 10


class Select(Section):
    """How many rows, and what is optimised; `weight` is lambda of the objective, of either sign."""

    k: Count
    objective: Literal["facility-location"] = "facility-location"
    weight: float = 0.5
    neighbours: Count = 64


class Arm(Section):
    """One arm of the experiment; `seeds` below the experiment's own makes it context without a decision."""

    name: Literal[BUILT_IN_ARMS]  # type: ignore[valid-type]  # a tuple of literals, spelled once
    seeds: Count | None = None


class Keep(Section):
    """Benign rows mixed into the alignment set of every arm, the same for all."""

    data: Source
    rows: Count


class Training(Section):
    """One supervised fine-tuning: AdamW on completion tokens only.

    `epochs` or `steps` (one of them); `batch` rows a step, in `micro_batch` rows at a time; rows longer than
    `max_tokens` are left out and counted, never cut; `warmup` is a share of the steps; `rank` and `alpha` (2 x rank
    when null) are for LoRA on every linear layer; `checkpointing` recomputes activations, for less memory at more
    time.
    """

    method: Literal["lora", "full"] = "lora"
    rank: Count = 16
    alpha: Count | None = None
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    steps: Count | None = None
    batch: Count = 32
    micro_batch: Count = 8
    max_tokens: Count = 1024
    checkpointing: bool = False

    @model_validator(mode="after")
    def _length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("needs exactly one of epochs and steps")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        return self


class Generate(Section):
    """Greedy answers: at most `max_new_tokens` each, `batch` prompts of like length at a time."""

    max_new_tokens: Count = 256
    batch: Count = 64


class Gates(Section):
    """The largest cost that durability may have; `harmfulness_after` is an absolute cap, off unless given."""

    harmfulness_before: Share = 0.05
    over_refusal: Share = 0.05
    utility: Share = 0.05
    degenerate: Share = 0.05
    harmfulness_after: Share | None = None


class Verify(Section):
    """The experiment: arms x tasks x seeds from one base."""

    control: Literal["random"] = "random"
    arms: list[Arm] = Field(
        default_factory=lambda: [Arm(name=name) for name in ("curated", "random", "matched-random", "none")]
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] = 6
    keep: Keep | None = None
    align: Training
    finetune: Training
    generate: Generate = Generate()
    gates: Gates = Gates()

    @model_validator(mode="before")
    @classmethod
    def _bare_names(cls, data: Any) -> Any:
        """Reads `arms: [curated, {name: none, seeds: 2}]`: a bare name is an arm with every seed."""
        if isinstance(data, dict) and isinstance(data.get("arms"), list):
            return {**data, "arms": [{"name": a} if isinstance(a, str) else a for a in data["arms"]]}
        return data

    @model_validator(mode="after")
    def _arms(self) -> Verify:
        names = [arm.name for arm in self.arms]
        for name in ("curated", self.control):
            if name not in names:
                raise ValueError(
                    f"arms must hold {name!r}, which the decision compares; found {', '.join(names) or 'none'}"
                )
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"arms holds {name!r} twice; remove one")
        for arm in self.arms:
            if arm.seeds is not None and arm.seeds > self.seeds:
                raise ValueError(f"arm {arm.name!r} asks for {arm.seeds} seeds, more than verify.seeds ({self.seeds})")
        return self

    def seeds_of(self, arm: Arm) -> int:
        return self.seeds if arm.seeds is None else arm.seeds


class Judge(Section):
    """One judge: exactly one of `guard` (a model on the Hub or a folder), `refusal: phrases` and `sandbox: exact`.

    `controversial` says how a guard's middle verdict counts.
    """

    name: Name
    guard: str | None = None
    revision: str | None = None
    refusal: Literal["phrases"] | None = None
    sandbox: Literal["exact"] | None = None
    controversial: Literal["harmful", "safe"] = "harmful"

    @model_validator(mode="after")
    def _one_kind(self) -> Judge:
        given = [name for name in ("guard", "refusal", "sandbox") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of guard, refusal, sandbox; found {' and '.join(given) or 'none of them'}"
            )
        return self


class Judges(Section):
    """The panel; `headline` names the judge whose verdicts decide."""

    headline: str
    panel: Annotated[list[Judge], Field(min_length=1)]

    @model_validator(mode="after")
    def _headline(self) -> Judges:
        names = [judge.name for judge in self.panel]
        if self.headline not in names:
            raise ValueError(f"headline {self.headline!r} is no judge of the panel; allowed: {', '.join(names)}")
        if len(set(names)) < len(names):
            raise ValueError(f"two judges of the panel share a name: {', '.join(names)}")
        return self


class Engine(Section):
    """Where work runs: `workers` processes of `threads` threads each; null threads: cores over workers."""

    kind: Literal["local"] = "local"
    workers: Count = 1
    threads: Count | None = None


class Recipe(Section):
    """One experiment, from a pool to a verified data set."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: Model
    pool: PoolSection
    tasks: Annotated[list[TaskSection], Field(min_length=1)]
    probes: Probes
    represent: Represent = Represent()
    score: Score = Score()
    select: Select
    verify: Verify
    judges: Judges
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _tasks(self) -> Recipe:
        names = [task.name for task in self.tasks]
        if "anticipated" in names:
            raise ValueError("tasks: the name 'anticipated' means the weighted mix in reports; choose another")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tasks: the name {name!r} is used twice; a task needs a name of its own")
        if not any(task.anticipated for task in self.tasks):
            raise ValueError("tasks: none is anticipated; similarity needs at least one with anticipated: true")
        return self

    def weights(self) -> dict[str, float]:
        """Task mass p_t by name: weights of anticipated tasks scaled to sum 1, 0 for the others."""
        total = sum(task.weight for task in self.tasks if task.anticipated)
        return {task.name: task.weight / total if task.anticipated else 0.0 for task in self.tasks}
