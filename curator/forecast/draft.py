"""A recipe drafted from a user's files: columns, sizes and lengths come from their rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curator.errors import DataError, RecipeError
from curator.forecast.lengths import at_most
from curator.recipe.file import quoted
from curator.recipe.limits import Answers
from curator.recipe.package import is_inside, smollm2
from curator.recipe.source import Source
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

HARMFUL = (
    "{hub: Machlovi/strongreject-dataset, revision: c18bb810edc4b60b815b205faeaa2bd5f72c3e93, rows: 48}",
    "{hub: mlabonne/harmful_behaviors, split: test, rows: 48}",
)
BENIGN = ("{hub: Paul/XSTest, where: {label: safe}, rows: 60}",)
"""Open probes on the Hub, used if none are named."""
SHARE, MOST = 0.2, 500
"""Share of the pool that is chosen, and most rows."""
SHORTEST, LONGEST, STEP = 128, 2048, 64
"""The most tokens of a row: the least and the largest value that is drafted, and its step."""
CAPS = ((0.02, 0.05), (0.02, 0.1), (0.02, 0.2), (0.05, 0.2), (None, 0.2))
"""Shares of a set that may have one answer and one opener: those of `answers: {}`, then values for repetitive pools."""
ROOM = 1.25
"""Rows that the shares must leave per chosen row, since cleaning drops some."""
TASK_ROWS, TEST_ROWS = 400, 100
HARMFUL_ROWS, BENIGN_ROWS = 96, 60
"""Most probes of each kind that are taken from files."""
LABELS = ("label", "safe", "is_safe", "unsafe", "harmful")
"""Columns of a file of probes that may tell harmful from harmless ones."""
FEW = 12
"""Most different values of such a column."""
RESERVED = "anticipated"
"""The name of the mix of tasks, which no task may have."""
XSTEST = ("safe", "unsafe")
"""The values of `label` in XSTest, which holds both kinds."""


@dataclass(frozen=True)
class Looked:
    """The content of a file: its name, its form in a recipe, its rows, and a sentence about a column that says of what
    kind they are.
    """

    name: str
    source: Source
    rows: pl.DataFrame
    labels: str = ""

    def written(self, rows: int | None = None) -> str:
        """As a recipe writes it in a line, with the number of rows to take."""
        keys = {"file": quoted(self.source.file)}
        keys |= {"columns": quoted(self.source.columns)} if self.source.columns else {}
        keys |= {"where": quoted(self.source.where)} if self.source.where else {}
        keys |= {"rows": str(rows)} if rows is not None else {}
        return f"{{{', '.join(f'{key}: {text}' for key, text in keys.items())}}}"


def draft(
    name: str,
    *,
    pool: Sequence[str],
    tasks: Sequence[str],
    harmful: Sequence[str] = (),
    benign: Sequence[str] = (),
    keep: str | None = None,
    model: str | None = None,
) -> str:
    """The text of a recipe for these files, with comments, which `curator check` accepts as it stands.

    Args:
        name: Name of the recipe, and of its run folder.
        pool, tasks: Files of candidate safety examples, and of data that users will fine-tune on, each a separate task.
        harmful, benign: Files of probes; open ones on the Hub are used if there are none.
        keep: A file of harmless requests with answers, which every arm is aligned on; null for none.
        model: The model that is aligned; null for `recipe.package.smollm2`.

    Raises:
        RecipeError: The name cannot be a run folder's, or no file of a kind is named.
        DataError: A file cannot be read, or has too few rows.
    """
    from curator.recipe.file import parse, template

    template(name)  # it refuses names that cannot be a folder's
    if not pool or not tasks:
        raise RecipeError("--pool, --task: give a file for each; leave both out for a recipe to fill in")
    candidates = [looked(file) for file in pool]
    anticipated = [looked(file) for file in tasks]
    refused = [looked(file, probes="unsafe") for file in harmful]
    answered = [looked(file, probes="safe") for file in benign]
    kept = None if keep is None else looked(keep)
    rows = sum(each.rows.height for each in candidates)
    if rows < 20:
        raise DataError(f"--pool: found {these(rows, 'row', 'rows')}; give at least 20 to choose from")
    for each in anticipated:
        if each.rows.height < 20:
            raise DataError(f"--task {each.name}: found {these(each.rows.height, 'row', 'rows')}; give at least 20")
    lengths = longest([*candidates, *([] if kept is None else [kept])]), longest(anticipated)
    from curator.pool.ledger import BENIGN as BENIGN_ROLE
    from curator.pool.ledger import HARMFUL as HARMFUL_ROLE

    probes = {HARMFUL_ROLE: refused, BENIGN_ROLE: answered}
    kept_rows = 0 if kept is None else _left_to_keep(kept, [*candidates, *anticipated], probes)
    text = "\n".join(
        [
            *_opening(name, model or smollm2()),
            *_pool(candidates),
            *_tasks(anticipated),
            *_probes(refused, answered),
            *_choice(max(10, min(MOST, round(rows * SHARE))), candidates, max(lengths)),
            *_training(kept, kept_rows, *lengths),
        ]
    )
    parse(text, name=f"{name}.yaml")  # an invalid draft is a bug in curator, and is reported as one
    return text + "\n"


def looked(file: str, *, probes: str | None = None) -> Looked:
    """The content of a file, with columns recognised as in a build, or mapped as in `pool.sources.mapped`, and then the
    recipe says so.

    Args:
        probes: For a file of prompts, which of XSTEST are wanted if it holds both.

    Raises:
        DataError: It cannot be read, or its columns are not recognised; the message says what to write.
    """
    from curator.pool.sources import mapped, read

    source = Source(file=file)
    if probes is None:
        source = mapped(source)
        return Looked(_name(source.label), source, read(source).rows)
    rows = read(source, prompts_only=True).rows
    column, values = _labels(file)
    if column == "label" and set(values) == set(XSTEST):
        source = source.model_copy(update={"where": {column: probes}})
        rows = read(source, prompts_only=True).rows
    counts = ", ".join(f"{value} ({count:,})" for value, count in sorted(values.items()))
    return Looked(_name(source.label), source, rows, f"its column {column} has {counts}" if column else "")


def _labels(file: str) -> tuple[str, Counter[str]]:
    """The column of LABELS that a file has, and the number of records with each of its values; an empty name if it has
    none, or one value, or more than FEW.
    """
    from curator.pool.files import records
    from curator.recipe.inputs import locate

    rows = [row for _, row in records(locate(file)) if isinstance(row, dict)]
    for column in LABELS:
        values = Counter(str(row[column]) for row in rows if isinstance(row.get(column), str | bool | int))
        if 2 <= len(values) <= FEW:
            return column, values
    return "", Counter()


def longest(files: Sequence[Looked]) -> int:
    """Most tokens of a row: 99 in 100 of each file's rows have no more, estimated by `lengths.at_most`, rounded up to a
    multiple of STEP from SHORTEST to LONGEST.
    """
    tokens: float = max(sorted(at_most(each.rows))[math.ceil(0.99 * each.rows.height) - 1] for each in files)
    return min(LONGEST, max(SHORTEST, math.ceil(tokens / STEP) * STEP))


def holds_both(pool: Sequence[Looked]) -> bool:
    """Whether the pool holds refusals and other answers, by opening phrases."""
    import polars as pl

    from curator.pool.refusals import of_both

    return of_both(pl.concat([each.rows for each in pool])) is not None


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
    name = "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in stem).strip("-") or "task"
    return f"{name}-task" if name == RESERVED else name


def _opening(name: str, model: str) -> list[str]:
    return [
        "# Drafted from your files. `curator check` says what it will cost; what you may want to change has a comment.",
        f"name: {quoted(name)}",
        "seed: 0",
        f"model: {{id: {quoted(model)}}}    # {_of_model(model)}",
        "",
    ]


def _of_model(model: str) -> str:
    kinds = "a folder, a GGUF file, package:NAME/PATH, or a model on the Hub"
    return f"inside an installed package; or {kinds}" if is_inside(model) else kinds


def _pool(files: Sequence[Looked]) -> list[str]:
    categories = {label for each in files for label in each.rows["category"].drop_nulls()}
    count = these(len(categories), "category", "categories")
    summary = count if categories else "without categories; name their column with category:"
    lines = [f"    - {each.written()}    # {these(each.rows.height, 'row', 'rows')}" for each in files]
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
        # Of a small file all rows are taken: how many test rows and probes leave is not known before they are read.
        rows = f"test: {{rows: {test}}}"
        if _different(each.rows) - len(files) * TEST_ROWS >= TASK_ROWS:
            rows = f"rows: {TASK_ROWS}, {rows}"
        lines.append(f"  - {{name: {quoted(name)}, train: {each.written()}, {rows}}}")
    return [*lines, "  # - {name: another, anticipated: false, train: {file: ...}}    # measured and shown apart", ""]


def _different(rows: pl.DataFrame) -> int:
    """Number of different prompts."""
    from curator.pool.words import prompt_id
    from curator.records import Conversations

    return len({prompt_id(messages) for messages in Conversations(rows)})


def _left_to_keep(keep: Looked, others: Sequence[Looked], probes: Mapping[str, Sequence[Looked]]) -> int:
    """Number of rows to keep whose prompts no other role has, among them the probes, by their role.

    Raises:
        DataError: There are none.
    """
    from curator.pool.gather import probes_of
    from curator.pool.ledger import TEST, Ledger
    from curator.recipe.pool import Decontaminate

    ledger = Ledger(0, dropped={"keep": []})
    for role, files in probes.items():
        for each in files:
            ledger.claim(role, each.rows)
    roles = [(role, each.rows) for role, files in probes.items() for each in files]
    ledger.probes = probes_of(roles, Decontaminate()) if roles else None
    for each in others:
        ledger.claim(TEST + each.name, each.rows)  # any of them may become test rows
    left = ledger.unclaimed("keep", keep.rows, stage="leak").height
    if not left:
        raise DataError(
            f"--keep {keep.name}: all of its prompts also stand in the pool, in a task or among the probes; give other "
            "rows"
        )
    return left


def _probes(harmful: Sequence[Looked], benign: Sequence[Looked]) -> list[str]:
    return [
        "probes:",
        "  harmful:                  # requests that a safe model refuses",
        *(_sources(harmful, HARMFUL_ROWS) or [f"    - {source}" for source in HARMFUL]),
        "  benign:                   # harmless requests that sound harmful",
        *(_sources(benign, BENIGN_ROWS) or [f"    - {source}" for source in BENIGN]),
        "",
    ]


def _sources(files: Sequence[Looked], most: int) -> list[str]:
    """A line for each file of probes, which together give about `most`, with what it holds in a comment."""
    lines = []
    for each in files:
        share = max(1, most // len(files))
        rows = share if each.rows.height > share else None
        notes = [f"of {these(each.rows.height, 'probe', 'probes')}", each.labels]
        if each.labels and not each.source.where:
            notes.append("where: {COLUMN: VALUE} keeps some of them")
        lines.append(f"    - {each.written(rows)}    # {'; '.join(filter(None, notes))}")
    return lines


def _choice(k: int, pool: Sequence[Looked], length: int) -> list[str]:
    if holds_both(pool):
        limits, why = "within: [refusal], answers: null", "with the pool's share of refusals"
    else:
        same, opener = caps(k, pool)
        limits = f"answers: {{max_same: {quoted(same)}, max_opener: {quoted(opener)}}}"
        why = "few answers alike" if (same, opener) == CAPS[0] else "answers repeat too much for smaller shares"
    vectors = f"from: hidden-states, layer: -1, token: last-completion, max_tokens: {length}"
    return [
        "represent:                  # the model's vectors, without their mean for coverage and with it for similarity",
        f"  - {{name: centred, {vectors}}}",
        f"  - {{name: raw, centre: false, {vectors}}}",
        "score: {from: cosine, by: raw, aggregate: mean}",
        "# On SmolLM2-135M the rows most like the task lasted longer than random ones in one study of two; on larger",
        "# models a paper (arXiv 2506.05346) reports the contrary. prefer: dissimilar is its advice; measure both.",
        f"select: {{k: {k}, coverage: 0.9, prefer: similar, {limits}}}    # {why}",
        "",
    ]


def _training(keep: Looked | None, rows: int, align: int, finetune: int) -> list[str]:
    size = "batch: 16, micro_batch: 8, max_tokens"
    kept = (
        "  # keep: {data: {file: ...}, rows: 150}    # harmless requests with answers, or the model refuses those too"
    )
    if keep is not None:
        kept = f"  keep: {{data: {keep.written()}, rows: {min(150, rows)}}}"
    return [
        "verify:",
        "  arms: [curated, random, matched-random, {name: none, seeds: 1}]",
        "  seeds: 6                  # paired seeds; more see smaller differences and take longer",
        kept,
        f"  align: {{method: lora, learning_rate: 5e-4, schedule: cosine, steps: 40, {size}: {align}}}",
        f"  finetune: {{method: lora, learning_rate: 2e-4, schedule: constant, steps: 12, {size}: {finetune}}}",
        "  generate: {max_new_tokens: 32, batch: 64}",
        "  # regime: auto            # finds the length of finetune at which a difference could be seen",
        "judges:                     # whoever does not refuse a harmful request is counted as harmful",
        "  headline: phrases",
        "  panel: [{name: phrases, refusal: phrases}]",
        "engine: {workers: 1}        # without a GPU, 2 are half as fast again on two cores, and take twice the memory",
    ]
