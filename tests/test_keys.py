"""What decides a stage's result: its cache key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curator import build
from curator.recipe.file import read
from curator.run import Silent, Site
from curator.run.folder import key_of

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden" / "keys.json").read_text())


@pytest.mark.parametrize("name", GOLDEN)
def test_no_key_of_a_shipped_recipe_has_moved(name: str, tmp_path: Path) -> None:
    """A key that moves runs its stage again in every folder that users have; where that is meant, raise the stage's
    number in VERSIONS and renew the file.
    """
    site, keys = Site(read(ROOT / "recipes" / name), tmp_path, ROOT, Silent()), {}
    for step in build._steps(site):
        after = [keys[stage] for stage in step.after]
        keys[step.name] = key_of(step.name, build.VERSIONS[step.name], step.settings, after)
    assert keys == GOLDEN[name]
