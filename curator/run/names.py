"""What the folders and files of a run are called. Only this room and a room's own stage know these names.

A stage has a folder; most files hold one record each, which `run.files` saves and loads.
"""

from __future__ import annotations

STAGES = ("base", "pool", "represent", "scores", "select", "train", "answer", "judge", "report", "publish")
FOLDERS = {name: f"{number}-{name}" for number, name in enumerate(STAGES)}

# Of the run folder itself.
RECIPE, KEYS, LOCK, IDENTITIES = "recipe.yaml", "run.json", "run.lock", "identities.json"
DTYPE = "dtype.json"
VECTORS = ".vectors"  # beside it: the vectors that runs share

# Of every piece: what is written first, last, and where it was taken from another run.
STARTED, DONE, SHARED = "started.json", "done.json", "shared.json"

# Of stage `pool`.
POOL, DROPPED, KEEP, GIVEN, ROLES = "pool.arrow", "dropped.parquet", "keep.parquet", "given.parquet", "data.json"
TRAITS, FINDINGS = "traits.parquet", "findings.json"
HAZARDS = "categories.parquet"
PROBES = {name: f"probes-{name}.parquet" for name in ("harmful", "benign", "pilot")}
TASK_PARTS = ("train", "test", "regime", "defence")

# Of stages `represent` and `scores`, and of a set that was chosen.
MEAN_COSINE, TASK_COVER, EVERY_SCORE = "mean-cosine.npy", "task-cover.npy", "all.parquet"
SCORES, SELECTION = "scores", "selection"  # .parquet and .json

# Of stage `select`.
CHOSEN, OTHERS, STABILITY, DRAWN = "chosen.parquet", "others.parquet", "stability.parquet", "arms.parquet"
FRONTIER = "frontier.parquet"
OPENED, REPEATS = "recovery.parquet", "repeats.parquet"
PILOT, CANDIDATES = "pilot", "candidates.json"
# Of the bank, below stage `select`: how many mixtures it has, its sets, their groups, outcomes and features.
BANK, SIZE = "bank", "size.json"
SUBSETS, GROUPS, OUTCOMES, FEATURES = "subsets.parquet", "groups.parquet", "outcomes.parquet", "features.parquet"

# Beside the stages: the search for the regime, a grid of its own.
REGIME = "regime"

# Of stages `answer` and `judge`.
ANSWERS, FORGETTING, ROW_LOSSES = "answers.parquet", "forgetting.parquet", "losses.parquet"
UTILITY = "utility.parquet"
LOG_ODDS, OPENERS = "log-odds.parquet", "openers"
VERDICTS, PANEL, ADDED = "verdicts.parquet", "panel", "added"

# Beside the stages, too: the chosen rows as a data set that nothing has verified.
UNVERIFIED = "unverified"

# Of stages `report` and `publish`.
REPORT, MARKDOWN, WEBPAGE, FIGURES, DATASET = "report.json", "report.md", "report.html", "figures.json", "dataset"


def task_file(task: str, part: str) -> str:
    """Where rows of a task are: of its training or test, or what an attack (`regime`) or a defence mixes in."""
    return f"tasks/{task}-{part}.parquet"


def arm_file(arm: str) -> str:
    """Where the rows of an arm are that the user gave."""
    return f"arms/{arm}.parquet"


def part_below(number: int) -> str:
    """Where a stage keeps what belongs to a representation: the first in the stage's folder, others below it."""
    return "." if number == 0 else f"also-{number}"


def candidate(number: int) -> str:
    """Where a score of `verify.pilot.scores` is, below its representation."""
    return f"candidate-{number}"


def panel_file(judge: str) -> str:
    """Where the verdicts of a judge of the panel are, below stage `judge`."""
    return f"{PANEL}/{judge}/{VERDICTS}"


def cell_folder(arm: str, seed: int, task: str | None, setting: str | None = None, at: float | None = None) -> str:
    """Where a model of the grid has its pieces, below stages `train` and `answer`; `setting` names a way to fine-tune
    other than the recipe's, `at` the share of it done at a checkpoint.
    """
    phase = "after" if at is None else f"during/{at:.6g}"
    below = f"{phase}/{task}" + (f"/{setting}" if setting else "") if task else "before"
    return f"{below}/{arm}-{seed}"
