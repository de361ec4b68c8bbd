"""Single files of a run folder, for commands that need no `Run`: paths, explanations, sets, finished pieces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import keys_of, names
from curator.run.folder import finished, key_of, read_json
from curator.run.names import FOLDERS

if TYPE_CHECKING:
    import polars as pl


NUMBER = 1
"""Of the code that writes chosen rows as a data set; raised when it makes something else of the same rows."""


def recipe_file(root: Path) -> Path:
    """Where the resolved recipe of a run folder is."""
    return root / names.RECIPE


def report_file(root: Path) -> Path:
    """Where report.json of a run folder is."""
    return root / FOLDERS["report"] / names.REPORT


def figures_file(root: Path) -> Path:
    """Where the values are that the figures of report.html draw."""
    return root / FOLDERS["report"] / names.FIGURES


def webpage_file(root: Path) -> Path:
    """Where report.html of a run folder is."""
    return root / FOLDERS["report"] / names.WEBPAGE


def dataset_folder(root: Path) -> Path:
    """Where the data set of a run folder is."""
    return root / FOLDERS["publish"] / names.DATASET


def key_of_rows(stages: Mapping[str, str], name: str) -> str:
    """The key of the data set of chosen rows that nothing has verified, by the keys of the stages and the recipe's
    name.
    """
    return key_of(names.UNVERIFIED, NUMBER, stages["select"], name)


def unverified_folder(root: Path) -> Path | None:
    """Where that data set is; null where there is none for the recipe which the run folder holds now.

    Raises:
        RunError: `root` is not a run folder.
    """
    stages, done = keys_of(root), finished(root / names.UNVERIFIED)
    current = done is not None and done["key"] == key_of_rows(stages, read_json(root / names.KEYS)["name"])
    return root / names.UNVERIFIED / names.DATASET if current else None


def explanations(root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Why each chosen row was chosen, and each other row was not."""
    from curator.run.files import load_frame

    folder = root / FOLDERS["select"]
    return load_frame(folder / names.CHOSEN), load_frame(folder / names.OTHERS)


def pool_findings(root: Path) -> dict[str, list[str]]:
    """Kind of each finding of stage `pool` -> ids of the rows that it is about."""
    ids: dict[str, list[str]] = {}
    for finding in read_json(root / FOLDERS["pool"] / names.FINDINGS)["findings"]:
        ids.setdefault(finding["kind"], []).extend(finding["ids"])
    return ids


def sources_by_label(root: Path) -> dict[str, str]:
    """How rows call their source -> its file, or its name on the Hub or in the sandbox."""
    resolved = read_json(root / FOLDERS["pool"] / names.DONE)["record"]["resolved"]
    sources = [source for role in resolved.values() for source in role["sources"]]
    return {source["label"]: str(source.get("file", source["label"])) for source in sources}


def role_files(root: Path) -> dict[str, Path]:
    """The files of stage `pool` by the role of their rows, see `run.files.data_files`."""
    from curator.run.files import data_files

    return data_files(root / FOLDERS["pool"])


def drawn_sets(root: Path) -> pl.DataFrame:
    """The alignment sets of all arms: a row for each `arm`, `seed` and `id`, as often as it is trained on in a pass."""
    from curator.run.files import load_dealt

    return load_dealt(root / FOLDERS["select"])


def traits_of(root: Path) -> pl.DataFrame | None:
    """What kind of answer each candidate has, in the columns of TRAITS_SCHEMA; null in an earlier version's run."""
    from curator.run.files import load_frame

    path = root / FOLDERS["pool"] / names.TRAITS
    return load_frame(path) if path.exists() else None


def hazards_of(root: Path) -> pl.DataFrame | None:
    """How sure the category of each candidate is that was named by the nearest hazard (id, category, assigned, cosine,
    confidence); null where the recipe does not ask for it.
    """
    from curator.run.files import load_frame

    path = root / FOLDERS["pool"] / names.HAZARDS
    return load_frame(path) if path.exists() else None


def pieces(root: Path, stage: str, phase: str) -> list[dict[str, Any]]:
    """The `done.json` of every finished piece of a grid, in the order of their folders.

    Args:
        root: The run folder.
        stage: `train` or `answer`; `pilot` and `bank` for the trainings of the pilot and of the bank; `regime/train` or
            `regime/answer` for what the search for the regime did.
        phase: `before` is alignment, `after` fine-tuning; `*` is both.
    """
    others = {"pilot": f"{FOLDERS['select']}/{names.PILOT}/train"}
    others["bank"] = f"{FOLDERS['select']}/{names.BANK}/train"
    others |= {f"{names.REGIME}/{part}": f"{names.REGIME}/{part}" for part in ("train", "answer")}
    folder = root / {**FOLDERS, **others}[stage]
    markers = (finished(marker.parent) for marker in sorted(folder.glob(f"{phase}/**/{names.DONE}")))
    return [done for done in markers if done is not None]
