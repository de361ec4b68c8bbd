"""Single files of a run folder, for commands that need no `Run`: paths, explanations, sets, finished pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import keys_of, names
from curator.run.folder import AGAIN, finished, key_of, read_json
from curator.run.names import FOLDERS

if TYPE_CHECKING:
    import polars as pl


_SET_ASIDE = re.compile(r"\.[0-9a-f]{8}$")
"""End of the name of the folder of a piece that was set aside; see `run.folder`."""

NUMBER = 2
"""Version of the code that writes chosen rows as a data set; raised when the same rows give another result."""


def recipe_file(root: Path) -> Path:
    """The file of the resolved recipe of a run folder."""
    return root / names.RECIPE


def to_continue(root: Path, stage: str) -> str:
    """What gives a run folder the results of a stage that is not finished, the end of a sentence."""
    from curator.recipe.file import open_file
    from curator.recipe.unverified import lacking, listed

    missing = lacking(open_file(recipe_file(root)).data) if recipe_file(root).exists() else ()
    if not missing:
        return "run `curator build` to continue"
    if names.STAGES.index(stage) <= names.STAGES.index("select"):
        return "run `curator select` to continue"
    return f"to verify the chosen rows, add {listed(missing)} to the recipe, then run `curator build`"


def report_file(root: Path) -> Path:
    """The file report.json of a run folder."""
    return root / FOLDERS["report"] / names.REPORT


def figures_file(root: Path) -> Path:
    """The file with the values behind the figures of report.html."""
    return root / FOLDERS["report"] / names.FIGURES


def webpage_file(root: Path) -> Path:
    """The file report.html of a run folder."""
    return root / FOLDERS["report"] / names.WEBPAGE


def dataset_folder(root: Path) -> Path:
    """The folder of the data set of a run folder."""
    return root / FOLDERS["publish"] / names.DATASET


def key_of_rows(stages: Mapping[str, str], name: str) -> str:
    """The key of the unverified data set of chosen rows, from the keys of the stages and the recipe's name."""
    return key_of(names.UNVERIFIED, NUMBER, stages["select"], name)


def unverified_folder(root: Path) -> Path | None:
    """The folder of the unverified data set; null if there is none for the recipe now in the run folder.

    Raises:
        RunError: `root` is not a run folder.
    """
    stages, done = keys_of(root), finished(root / names.UNVERIFIED)
    current = done is not None and done["key"] == key_of_rows(stages, read_json(root / names.KEYS, AGAIN)["name"])
    return root / names.UNVERIFIED / names.DATASET if current else None


def explanations(root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Why each chosen row was chosen, and each other row was not."""
    from curator.run.files import load_frame

    folder = root / FOLDERS["select"]
    return load_frame(folder / names.CHOSEN), load_frame(folder / names.OTHERS)


def pool_findings(root: Path) -> dict[str, list[str]]:
    """Kind of each finding of stage `pool` -> ids of its rows."""
    ids: dict[str, list[str]] = {}
    for finding in read_json(root / FOLDERS["pool"] / names.FINDINGS)["findings"]:
        ids.setdefault(finding["kind"], []).extend(finding["ids"])
    return ids


def sources_by_role(root: Path) -> dict[tuple[str, str], str]:
    """Role of rows (as in `role_files`) and label of their source -> its file, or its name on the Hub or in the
    sandbox. Files of two roles may have the same label.
    """
    resolved = read_json(root / FOLDERS["pool"] / names.DONE)["record"]["resolved"]
    sources: dict[tuple[str, str], str] = {}
    for role in role_files(root):
        for read in _read_as(role):
            for source in resolved.get(read, {}).get("sources", ()):
                sources.setdefault((role, source["label"]), str(source.get("file", source["label"])))
    return sources


def _read_as(role: str) -> tuple[str, ...]:
    """The names under which stage `pool` may have read the rows of a role."""
    pool, (part, _, task) = ("pool", "given"), role.partition(" ")
    if part in names.TASK_PARTS:
        others = pool if part == "defence" else (f"task {task}",)  # a defence may take rows of the pool
        return f"{part} of {task}", *others
    probes = {"harmful": "harmful probes", "pilot": "harmful probes", "benign": "benign probes"}
    return pool if role == "pool" else (probes.get(role, role),)


def role_files(root: Path) -> dict[str, Path]:
    """The files of stage `pool` by the role of their rows, see `run.files.data_files`."""
    from curator.run.files import data_files

    return data_files(root / FOLDERS["pool"])


def drawn_sets(root: Path) -> pl.DataFrame:
    """The alignment sets of all arms: a row for each `arm`, `seed` and `id`, as often as it is trained on in a pass."""
    from curator.run.files import load_dealt

    return load_dealt(root / FOLDERS["select"])


def traits_of(root: Path) -> pl.DataFrame | None:
    """The kind of each candidate's answer, in the columns of TRAITS_SCHEMA; null in a run of an earlier version."""
    from curator.run.files import load_frame

    path = root / FOLDERS["pool"] / names.TRAITS
    return load_frame(path) if path.exists() else None


def hazards_of(root: Path) -> pl.DataFrame | None:
    """The confidence of categories that come from the nearest hazard (id, category, assigned, cosine, confidence); null
    if the recipe does not ask for them.
    """
    from curator.run.files import load_frame

    path = root / FOLDERS["pool"] / names.HAZARDS
    return load_frame(path) if path.exists() else None


def pieces(root: Path, stage: str, phase: str) -> list[dict[str, Any]]:
    """The `done.json` of every finished piece of a grid that took time, in the order of their folders: without those
    that took the files of an equal piece, and without those set aside.

    Args:
        root: The run folder.
        stage: `train` or `answer`; with `pilot/`, `bank/` or `regime/` in front that of the pilot, of the bank or of
            the search for the regime, which may hold those of earlier settings too.
        phase: `before` is alignment, `after` fine-tuning; `*` is both.
    """
    folder = root / FOLDERS.get(stage, stage)
    markers = sorted(folder.glob(f"{phase}/**/{names.DONE}"))
    pieces = (finished(marker.parent) for marker in markers if not _SET_ASIDE.search(marker.parent.name))
    return [done for done in pieces if done is not None and done["seconds"]]


def finished_models(root: Path, stage: str, cells: Iterable[str] | None = None) -> int:
    """The number of models that a grid has trained or evaluated.

    Args:
        root, stage: As in `pieces`.
        cells: Folders of the grid's models below the stage; if null, all that are there, except those set aside.
    """
    folder = root / FOLDERS.get(stage, stage)
    if cells is not None:
        return sum((folder / cell / names.DONE).exists() for cell in cells)
    markers = [marker for phase in ("before", "after") for marker in folder.glob(f"{phase}/**/{names.DONE}")]
    return sum(not _SET_ASIDE.search(marker.parent.name) for marker in markers)
