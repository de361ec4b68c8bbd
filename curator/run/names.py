"""Names of the folders and files of a run. Only this room and a room's own stage use these names.

A stage has a folder; most files hold one record each, which `run.files` saves and loads.
"""

from __future__ import annotations

STAGES = ("base", "pool", "represent", "scores", "select", "train", "answer", "judge", "report", "publish")
FOLDERS = {name: f"{number}-{name}" for number, name in enumerate(STAGES)}

# In the run folder itself.
RECIPE, KEYS, LOCK, IDENTITIES = "recipe.yaml", "run.json", "run.lock", "identities.json"
DTYPE = "dtype.json"
VECTORS = ".vectors"  # beside it: the vectors that runs share

# In every piece: written first, written last, and its origin if it was taken from another run.
STARTED, DONE, SHARED = "started.json", "done.json", "shared.json"

# In stage `pool`.
POOL, DROPPED, KEEP, GIVEN, ROLES = "pool.arrow", "dropped.parquet", "keep.parquet", "given.parquet", "data.json"
TRAITS, FINDINGS = "traits.parquet", "findings.json"
HAZARDS = "categories.parquet"
NEAR_PROBES = "near-probes.parquet"
PROBES = {name: f"probes-{name}.parquet" for name in ("harmful", "benign", "pilot")}
TASK_PARTS = ("train", "test", "regime", "defence")

# In stages `represent` and `scores`, and for a chosen set.
MEAN_COSINE, TASK_COVER, EVERY_SCORE = "mean-cosine.npy", "task-cover.npy", "all.parquet"
SCORES, SELECTION = "scores", "selection"  # .parquet and .json

# In stage `select`.
CHOSEN, OTHERS, STABILITY, DRAWN = "chosen.parquet", "others.parquet", "stability.parquet", "arms.parquet"
FRONTIER = "frontier.parquet"
OPENED, REPEATS = "recovery.parquet", "repeats.parquet"
PILOT, CANDIDATES = "pilot", "candidates.json"
# For the bank, below stage `select`: its sets, their groups, outcomes and features.
BANK = "bank"
SUBSETS, GROUPS, OUTCOMES, FEATURES = "subsets.parquet", "groups.parquet", "outcomes.parquet", "features.parquet"

# Beside the stages: the search for the regime, a separate grid; the models and passes of scores, which outlive another
# setting of stage `scores`; and the models, answers and verdicts of the pilot and of the bank, in folders of these
# names too, which outlive another setting of stage `select`, such as more seeds of the experiment. SIZE is the number
# of mixtures in the bank.
REGIME, SCORING, SIZE = "regime", "scoring", "size.json"
DEFENDING = "defending.parquet"  # the rows of the pool that a half's model is defended with

# In stages `answer` and `judge`.
ANSWERS, FORGETTING, ROW_LOSSES = "answers.parquet", "forgetting.parquet", "losses.parquet"
UTILITY = "utility.parquet"
LOG_ODDS, OPENERS = "log-odds.parquet", "openers"
VERDICTS, PANEL, ADDED = "verdicts.parquet", "panel", "added"

# Also beside the stages: the chosen rows as a data set that is not verified.
UNVERIFIED = "unverified"

# In stages `report` and `publish`.
REPORT, MARKDOWN, WEBPAGE, FIGURES, DATASET = "report.json", "report.md", "report.html", "figures.json", "dataset"


def task_file(task: str, part: str) -> str:
    """File of a task's rows: of its training or test, or those that an attack (`regime`) or a defence mixes in."""
    return f"tasks/{task}-{part}.parquet"


def arm_file(arm: str) -> str:
    """File of the rows that the user gave for an arm."""
    return f"arms/{arm}.parquet"


def part_below(number: int) -> str:
    """Folder of a representation in a stage: the first is the stage's folder, others are below it."""
    return "." if number == 0 else f"also-{number}"


def candidate(number: int) -> str:
    """Folder of a score of `verify.pilot.scores`, below its representation."""
    return f"candidate-{number}"


def panel_file(judge: str) -> str:
    """File of the verdicts of a judge of the panel, below stage `judge`."""
    return f"{PANEL}/{judge}/{VERDICTS}"


def cell_folder(arm: str, seed: int, task: str | None, setting: str | None = None, at: float | None = None) -> str:
    """Folder of the pieces of a model of the grid, below stages `train` and `answer`; `setting` names other settings of
    fine-tuning than the recipe's, `at` the share of fine-tuning done at a checkpoint.
    """
    phase = "after" if at is None else f"during/{at:.6g}"
    below = f"{phase}/{task}" + (f"/{setting}" if setting else "") if task else "before"
    return f"{below}/{arm}-{seed}"
