"""The README's commands are real: each is run, or parsed by the program itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from curator.cli import cli
from curator.recipe.file import read

ROOT = Path(__file__).parent.parent
PICTURES = (".github/report-light.png", ".github/report-dark.png")
PAGES = (
    "README.md",
    "recipes/README.md",
    *sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.md") if path.name != "CHANGELOG.md"
    ),
)


def _commands() -> list[str]:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    inline = re.findall(r"`(curator [a-z][^`\n]*)`", text)
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    blocks = re.findall(r"^(?:.*&& )?(curator .*)$", shell, re.MULTILINE)
    return sorted({*inline, *blocks})


def test_the_readme_names_commands() -> None:
    assert len(_commands()) >= 6


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("-"):
        return
    assert words[0] in cli.commands, command
    found: click.Command = cli.commands[words.pop(0)]
    if isinstance(found, click.Group) and words:
        assert words[0] in found.commands, command
        found = found.commands[words.pop(0)]
    context = click.Context(found)
    # A bare mention of a command, as in "`curator check` names every problem", takes no arguments.
    if words:
        rest = found.make_parser(context).parse_args(list(words))[0]
        assert rest
        recipe = next((word for word in words if word.endswith(".yaml")), None)
        if recipe is not None:
            settings = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
            assert read(ROOT / recipe, settings).name


def test_the_two_set_up_commands_use_the_constraints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
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
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: begin -->(.*?)<!-- {name}: end -->", text, re.DOTALL)
    assert found
    return " ".join(re.sub("[\u2502\u2500-\u257f]", " ", found[1]).split())


def test_the_picture_shows_the_run_whose_output_is_printed() -> None:
    """The alternative text says the decision's figures, and they are the printed output's."""
    alt = re.search(r'alt="([^"]+)"', _between("quickstart picture"))
    assert alt
    figures = re.findall(r"[-+]?\d+(?:\.\d+)? %|[-+]\d+\.\d", alt[1])
    assert len(figures) >= 6
    printed = _between("quickstart output")
    assert not [one for one in figures if one not in printed]


@pytest.mark.parametrize("path", PICTURES)
def test_the_pictures_are_there_and_are_pictures(path: str) -> None:
    content = (ROOT / path).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 10_000 < len(content) < 400_000
    assert path in _between("quickstart picture")


def test_every_file_that_a_page_links_to_is_there() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


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
    assert cited["references"][0]["url"].endswith("2506.05346")


def test_python_on_the_page_is_python_that_names_what_is_there() -> None:
    import curator

    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        compile(code, "README.md", "exec")
    assert callable(curator.select)
