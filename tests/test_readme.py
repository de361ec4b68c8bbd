"""The README's commands are real: each is run, or parsed by the program itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from curator.cli import cli
from curator.recipe_file import read

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "recipes/README.md", ".github/CONTRIBUTING.md")


def _commands() -> list[str]:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    inline = re.findall(r"`(curator [a-z][^`\n]*)`", text)
    blocks = re.findall(
        r"^(?:.*&& )?(curator .*)$", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)), re.MULTILINE
    )
    return sorted({*inline, *blocks})


def test_the_readme_names_commands() -> None:
    assert len(_commands()) >= 6


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    words = shlex.split(command)[1:]
    if words[0].startswith("-"):
        return
    assert words[0] in cli.commands, command
    found = cli.commands[words[0]]
    context = click.Context(found)
    # A bare mention of a command, as in "`curator check` names every problem", takes no arguments.
    if len(words) > 1:
        rest = found.make_parser(context).parse_args(list(words[1:]))[0]
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
