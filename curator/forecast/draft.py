"""A recipe drafted from a user's files: columns, sizes and lengths come from their rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from curator.errors import DataError, RecipeError
from curator.recipe.limits import Answers
from curator.recipe.source import Source
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The default model of a draft: small enough for a laptop, open, and without safety training."""
HARMFUL = (
    "{hub: Machlovi/strongreject-dataset, revision: c18bb810edc4b60b815b205faeaa2bd5f72c3e93, rows: 48}",
    "{hub: mlabonne/harmful_behaviors, split: test, rows: 48}",
)
BENIGN = ("{hub: Paul/XSTest, where: {label: safe}, rows: 60}",)
"""Open probes on the Hub, used if none are named."""
SHARE, MOST = 0.2, 500
"""Share of the pool that is chosen, and most rows."""
LENGTHS = (128, 256, 512, 1024, 2048)
"""Choices for the most tokens of a row: the first that nine in ten rows stay below, at SIGNS characters per token."""
SIGNS = 3.5
CAPS = ((0.02, 0.05), (0.02, 0.1), (0.02, 0.2), (0.05, 0.2), (None, 0.2))
"""Shares of a set that may have one answer and one opener: the defaults, then values that suit a repetitive pool."""
ROOM = 1.25
"""Rows that the shares must leave per chosen row, since cleaning drops some."""
TASK_ROWS, TEST_ROWS = 400, 100
SAMPLE = 100
"""Number of records examined for columns of text."""


@dataclass(frozen=True)
class Looked:
    """The content of a file: its name, its form in a recipe, its rows, and their lengths."""

    name: str
    source: str
    rows: pl.DataFrame

    @property
    def signs(self) -> list[int]:
        """Number of characters of each conversation."""
        messages = self.rows["messages"].to_list()
        return [sum(len(turn["content"]) for turn in turns) for turns in messages]


def draft(
    name: str,
    *,
    pool: Sequence[str],
    tasks: Sequence[str],
    harmful: Sequence[str] = (),
    benign: Sequence[str] = (),
    keep: str | None = None,
    model: str | None = None,
    base: Path = Path("."),
) -> str:
    """The text of a recipe for these files, with comments, which `curator check` accepts as it stands.

    Args:
        name: Name of the recipe, and of its run folder.
        pool, tasks: Files of candidate safety examples, and of data that users will fine-tune on, each a separate task.
        harmful, benign: Files of probes; open ones on the Hub are used if there are none.
        keep: A file of harmless requests with answers, which every arm is aligned on; null for none.
        model: The model that is aligned; null for SMOLLM2.
        base: Folder that relative paths start from.

    Raises:
        RecipeError: The name cannot be a run folder's, or no file of a kind is named.
        DataError: A file cannot be read, or has too few rows.
    """
    from curator.recipe.file import parse, template

    template(name)  # it refuses names that cannot be a folder's
    if not pool or not tasks:
        raise RecipeError("--pool, --task: give a file for each; leave both out for a recipe to fill in")
    candidates = [looked(file, base) for file in pool]
    anticipated = [looked(file, base) for file in tasks]
    probes = [looked(file, base, prompts_only=True) for file in (*harmful, *benign)]
    kept = None if keep is None else looked(keep, base)
    rows = sum(each.rows.height for each in candidates)
    if rows < 20:
        raise DataError(f"--pool: found {these(rows, 'row', 'rows')}; give at least 20 to choose from")
    for each in anticipated:
        if each.rows.height < 20:
            raise DataError(f"--task {each.name}: found {these(each.rows.height, 'row', 'rows')}; give at least 20")
    length = longest([*candidates, *anticipated])
    text = "\n".join(
        [
            *_opening(name, model or SMOLLM2),
            *_pool(candidates),
            *_tasks(anticipated),
            *_probes(probes[: len(harmful)], probes[len(harmful) :]),
            *_choice(max(10, min(MOST, round(rows * SHARE))), candidates, length),
            *_training(kept, length),
        ]
    )
    parse(text, name=f"{name}.yaml")  # an invalid draft is a bug in curator, and is reported as one
    return text + "\n"


def looked(file: str, base: Path, *, prompts_only: bool = False) -> Looked:
    """The content of a file, with columns recognised as in a build. Of two unrecognised columns of text the first is
    taken as the prompt and the second as the response, and the recipe says so.

    Raises:
        DataError: It cannot be read, or its columns are not recognised; the message says what to write.
    """
    from curator.pool.sources import read

    source = Source(file=file)
    try:
        rows = read(source, base=base, prompts_only=prompts_only).rows
    except DataError:
        pair = {} if prompts_only else _two_texts(file, base)
        if not pair:
            raise
        source = Source(file=file, columns=pair)
        rows = read(source, base=base).rows
    named = f", columns: {json.dumps(source.columns)}" if source.columns else ""
    return Looked(_name(source.label), f"{{file: {json.dumps(file)}{named}}}", rows)


def _two_texts(file: str, base: Path) -> dict[str, str | int]:
    """The only two columns of text of a file, as prompt and response; empty if it has fewer or more."""
    from curator.pool.files import records

    path = base / file
    first = [row for _, row in islice(records(path), SAMPLE) if isinstance(row, dict)] if path.is_file() else []
    texts = [column for column in (first[0] if first else ()) if all(isinstance(row.get(column), str) for row in first)]
    return dict(zip(("prompt", "response"), texts, strict=True)) if len(texts) == 2 else {}


def longest(files: Sequence[Looked]) -> int:
    """Most tokens of a row, from LENGTHS: nine in ten of each file's rows have fewer."""
    nine_in_ten = [sorted(each.signs)[(9 * each.rows.height) // 10 - 1] / SIGNS for each in files if each.rows.height]
    return next((length for length in LENGTHS if max(nine_in_ten) <= length), LENGTHS[-1])


def caps(k: int, pool: Sequence[Looked]) -> tuple[float | None, float | None]:
    """The first of CAPS, `max_same` and `max_opener`, that leave ROOM times as many rows as are chosen."""
    import polars as pl

    from curator.pool.traits import by_opener

    answers = by_opener(pl.concat([each.rows for each in pool]))
    for same, opener in CAPS:
        if Answers(max_same=same, max_opener=opener).left(answers, k) >= ROOM * k:
            return same, opener
    return None, None


def _name(label: str) -> str:
    stem = Path(label).name.partition(".")[0]
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in stem).strip("-") or "task"


def _opening(name: str, model: str) -> list[str]:
    return [
        "# Drafted from your files. `curator check` says what it will cost; what you may want to change has a comment.",
        f"name: {json.dumps(name)}",
        "seed: 0",
        f"model: {{id: {json.dumps(model)}}}    # a folder, a GGUF file, package:NAME/PATH, or a model on the Hub",
        "",
    ]


def _pool(files: Sequence[Looked]) -> list[str]:
    categories = {label for each in files for label in each.rows["category"].drop_nulls()}
    count = these(len(categories), "category", "categories")
    summary = count if categories else "without categories; name their column with category:"
    lines = [f"    - {each.source}    # {these(each.rows.height, 'row', 'rows')}" for each in files]
    return [
        f"pool:                       # candidate safety examples; {summary}",
        "  sources:",
        *lines,
        "  clean: {near_duplicates: 0.8, decontaminate: 0.8}",
        "",
    ]


def _tasks(files: Sequence[Looked]) -> list[str]:
    lines = ["tasks:                      # what users will fine-tune on"]
    names = [each.name for each in files]
    for number, each in enumerate(files):
        test = min(TEST_ROWS, each.rows.height // 5)
        name = each.name if names.count(each.name) == 1 else f"{each.name}-{number + 1}"
        rows = f"rows: {min(TASK_ROWS, each.rows.height - test)}, test: {{rows: {test}}}"
        lines.append(f"  - {{name: {json.dumps(name)}, train: {each.source}, {rows}}}")
    return [*lines, "  # - {name: another, anticipated: false, train: {file: ...}}    # measured and shown apart", ""]


def _probes(harmful: Sequence[Looked], benign: Sequence[Looked]) -> list[str]:
    return [
        "probes:",
        "  harmful:                  # requests that a safe model refuses",
        *(f"    - {source}" for source in [each.source for each in harmful] or HARMFUL),
        "  benign:                   # harmless requests that sound harmful",
        *(f"    - {source}" for source in [each.source for each in benign] or BENIGN),
        "",
    ]


def _choice(k: int, pool: Sequence[Looked], length: int) -> list[str]:
    same, opener = caps(k, pool)
    shares = f"{{max_same: {json.dumps(same)}, max_opener: {json.dumps(opener)}}}"
    why = "the defaults" if (same, opener) == CAPS[0] else "the pool's answers repeat too much for smaller shares"
    return [
        f"represent: {{from: hidden-states, layer: -1, token: last-completion, max_tokens: {length}}}",
        "score: {from: cosine, aggregate: top-mean, n: 10}",
        f"select: {{k: {k}, coverage: 0.9, prefer: none, answers: {shares}}}    # {why}",
        "",
    ]


def _training(keep: Looked | None, length: int) -> list[str]:
    size = f"batch: 16, micro_batch: 8, max_tokens: {length}"
    kept = (
        "  # keep: {data: {file: ...}, rows: 150}    # harmless requests with answers, or the model refuses those too"
    )
    if keep is not None:
        kept = f"  keep: {{data: {keep.source}, rows: {min(150, keep.rows.height)}}}"
    return [
        "verify:",
        "  arms: [curated, random, matched-random, {name: none, seeds: 1}]",
        "  seeds: 6                  # paired seeds; more see smaller differences and take longer",
        kept,
        f"  align: {{method: lora, learning_rate: 5e-4, schedule: cosine, steps: 40, {size}}}",
        f"  finetune: {{method: lora, learning_rate: 2e-4, schedule: constant, steps: 12, {size}}}",
        "  generate: {max_new_tokens: 32, batch: 64}",
        "  # regime: auto            # finds the length of finetune at which a difference could be seen",
        "judges:                     # whoever does not refuse a harmful request is counted as harmful",
        "  headline: phrases",
        "  panel: [{name: phrases, refusal: phrases}]",
        "engine: {workers: 1}",
    ]
