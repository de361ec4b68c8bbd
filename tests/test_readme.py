"""The README is short, its two commands are those that CI runs, and what it shows of a run is of one run.

That commands, keys, blocks and links are real is `test_pages`'s, of every page.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from curator.cli import cli
from curator.recipe.file import parse
from curator.run import STAGES
from tests.report.pictures import excerpt

ROOT = Path(__file__).parent.parent
PICTURES = (".github/report-light.png", ".github/report-dark.png")
WORDS = 1500
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_read_in_minutes() -> None:
    """Words are what has a letter or a digit in it, of tables, commands and output too; comments are not shown."""
    shown = re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL)
    assert len([word for word in re.split(r"[\s|]+", shown) if re.search(r"\w", word)]) <= WORDS


def test_the_contents_list_every_section() -> None:
    sections = re.findall(r"^## (.+)$", README, re.MULTILINE)
    contents = re.search(r"\*\*Contents\*\*(.*?)\n\n", README, re.DOTALL)
    assert contents
    assert re.findall(r"\[([^]]+)\]", contents[1]) == sections


def test_the_table_of_commands_names_every_command() -> None:
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    first = "\n".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE))
    named = {code.split()[0] for code in re.findall(r"`([a-z][^`]*)`", first)}
    assert set(cli.commands) <= named


def test_the_recipe_for_files_of_ones_own_is_short_and_says_what_a_choice_needs() -> None:
    (code,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 15
    recipe = YAML(typ="safe", pure=True).load(code)
    assert set(recipe) == {"name", "model", "pool", "tasks", "represent", "score", "select"}
    assert parse(code, whole=False).name == "mine"


def test_evidence_stands_between_marks_and_names_its_recipes() -> None:
    evidence = _between("evidence")
    for recipe in re.findall(r"\((recipes/[^)#]+)\)", evidence):
        assert (ROOT / recipe).exists()
    assert re.search(r"[-+]\d+\.\d points \[[-+]\d+\.\d, [-+]\d+\.\d\]", evidence)


def test_the_two_set_up_commands_use_the_constraints() -> None:
    text = README
    assert "pip install -c constraints.txt . && curator build recipes/quickstart.yaml" in text
    assert 'pip install -c constraints.txt -e ".[test]" && pytest' in text


def test_constraints_pin_every_requirement() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.match(r"[A-Za-z0-9._-]+", one).group().lower().replace("_", "-") for one in wanted}  # type: ignore[union-attr]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert names <= pinned, names - pinned


def _between(name: str) -> str:
    found = re.search(rf"<!-- {name}: begin -->(.*?)<!-- {name}: end -->", README, re.DOTALL)
    assert found
    return " ".join(re.sub("[\u2502\u2500-\u257f]", " ", found[1]).split())


def test_the_picture_shows_the_run_whose_output_is_printed() -> None:
    """The alternative text says the decision's figures, and they are the printed output's."""
    alt = re.search(r'alt="([^"]+)"', _between("quickstart picture"))
    assert alt
    figures = re.findall(r"[-+]?\d+(?:\.\d+)?%|[-+]\d+\.\d", alt[1])
    assert len(figures) >= 6
    printed = _between("quickstart output")
    assert not [one for one in figures if one not in printed]


@pytest.mark.parametrize("path", PICTURES)
def test_the_pictures_are_there_and_are_pictures(path: str) -> None:
    content = (ROOT / path).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 10_000 < len(content) < 400_000
    assert path in _between("quickstart picture")


def test_the_image_is_built_of_files_that_are_there_at_the_versions_that_are_tested() -> None:
    text = (ROOT / ".github" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"constraints.txt", "pyproject.toml", "curator"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    pinned = re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f"ARG TORCH={pinned[0]}\n" in text
    assert "--constraint constraints.txt" in text
    minor = re.search(r"FROM python:3\.(\d+)-", text)
    assert minor
    assert int(minor[1]) >= 11


def test_who_cites_it_cites_this_version() -> None:
    import curator

    cited = YAML(typ="safe").load((ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == curator.__version__
    assert f"version = {{{curator.__version__}}}" in README
    assert cited["references"][0]["url"].endswith("2506.05346")


LOG = """quickstart: runs on the CPU
pool          1.3 s  1,916 candidates
train      25 of 29, 1.3 s each
train        35.4 s  14 aligned models
quickstart
┌──┐
│ decision   │ Worse. curated against random: 55% against 32% harmful │
│            │ after fine-tuning.                                      │
│ difference │ +22.5 points                                           │
└──┘
Report: outputs/quickstart/8-report/report.html
"""


def test_the_excerpt_of_a_log_has_its_stages_and_its_decision() -> None:
    assert excerpt(LOG).splitlines() == [
        "pool          1.3 s  1,916 candidates",
        "train        35.4 s  14 aligned models",
        "",
        "decision: Worse. curated against random: 55% against 32% harmful after fine-tuning.",
    ]


def test_the_readme_shows_an_excerpt_of_every_stage() -> None:
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert shown
    assert [line.split()[0] for line in shown[1].splitlines() if re.match(r"[a-z]+ +[\d.]+ s  ", line)] == [*STAGES]
