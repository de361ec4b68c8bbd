"""What pages say can be done: every command, recipe, key, block of Python or YAML, link and anchor in them is real."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

import curator
from curator.cli import cli, main
from curator.errors import RecipeError
from curator.recipe.file import parse, read
from curator.recipe.schema import schema
from tests.recipe.reference import anchor
from tests.test_words import FORMS

ROOT = Path(__file__).parent.parent
TEMPLATE = (ROOT / "curator" / "recipe" / "template.yaml").read_text(encoding="utf-8").format(name="mine")
PAGES = (
    "README.md",
    "recipes/README.md",
    "recipes/paper/README.md",
    *sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.md") if path.name != "CHANGELOG.md"
    ),
)
VOICED = tuple(page for page in PAGES if not page.startswith("recipes/") and page != ".github/CONTRIBUTING.md")
"""Those that are written as VOICE's rules say; the others hold studies, or speak to whoever changes the code."""
SHELL = {"size": "0.8M", "HOME": "home", "SCRATCH": "scratch"}
SCHEMA: dict[str, Any] = schema()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of some languages, also those that are indented below an item of a list."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, language, code in found if language in languages]


def unfenced(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str, bool]]:
    """Every command with its page: of blocks and steps of an action, which are whole, and between backticks."""
    found = []
    for page in PAGES:
        text = text_of(page)
        lines = "\n".join(blocks(text, "sh", "bash", "yaml")).replace("\\\n", " ").splitlines()
        for line in lines:
            for part in re.split(r"&&|\|\||;|(?:^| )then ", line.partition(" #")[0]):
                named = re.search(r"(?:^|[\s/])curator( +(?:[a-z]|--?[a-z]).*)", part)
                if named and not part.lstrip().startswith(("#", "git ")):
                    found.append((page, f"curator{re.sub(r' [12]?>.*', '', named[1])}", True))
        found += [(page, code, False) for code in re.findall(r"`(curator [a-z][^`\n]*)`", unfenced(text))]
    return sorted(set(found))


def test_pages_hold_commands_of_blocks_of_actions_and_of_sentences() -> None:
    found = {command for _, command, _ in commands()}
    assert len(found) >= 60
    for command in (
        "curator build recipes/quickstart.yaml",
        "curator audit data/safety.jsonl --task data/assistant.jsonl --no-embedder --fail-on error --out audit",
        "curator show --schema recipe",
        "curator build recipe.yaml",
    ):
        assert command in found


def expanded(command: str) -> list[str]:
    for name, value in SHELL.items():
        command = re.sub(rf"\${name}\b|\${{{name}[^}}]*}}", value, command)
    return shlex.split(command)[1:]


@pytest.mark.parametrize(("page", "command", "whole"), commands())
def test_every_command_is_one_that_the_program_takes(page: str, command: str, whole: bool) -> None:
    words = expanded(command)
    assert words[0] in cli.commands, command
    found: click.Command = cli.commands[words.pop(0)]
    while isinstance(found, click.Group) and words:
        assert words[0] in found.commands, command
        found = found.commands[words.pop(0)]
    if not whole and all(word.startswith("-") for word in words):
        # A mention in a sentence, as in "`curator check --measure` prints its table", lacks arguments.
        assert set(words) <= {name for option in found.params for name in option.opts}, f"{page}: {command}"
        return
    found.make_context("curator", list(words))
    settings = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    recipes = [word for word in words if word.startswith("recipes/")]
    assert all((ROOT / word).exists() for word in recipes), command
    recipe = next((ROOT / word for word in recipes if word.endswith(".yaml")), None)
    if recipe is not None:
        assert read(recipe, settings).name
    elif settings:
        assert parse(TEMPLATE, settings).name


def properties(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of whatever section a node of the schema is, or may be, or is a list or mapping of."""
    if "$ref" in node:
        return properties(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]])
    found = dict(node.get("properties", {}))
    held = node.get("additionalProperties")
    for inner in (*node.get("anyOf", ()), *node.get("oneOf", ()), node.get("items"), held):
        if isinstance(inner, dict):
            found |= properties(inner)
    return found


def keys(text: str) -> Iterator[str]:
    """Paths of recipe keys between backticks: `verify.seeds: {max: 20}`, `tasks[].sweep`, `select.k`."""
    tops = "|".join(SCHEMA["properties"])
    yield from re.findall(rf"`((?:{tops})(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+)(?=[`:])", text)


@pytest.mark.parametrize("page", PAGES)
def test_every_key_on_a_page_is_a_key_of_recipes(page: str) -> None:
    for path in keys(text_of(page)):
        if path.endswith((".yaml", ".html", ".json")):
            continue
        node = SCHEMA
        for key in path.replace("[]", "").split("."):
            assert key in properties(node), f"{page}: {path}"
            node = properties(node)[key]


def test_pages_name_keys() -> None:
    assert len({path for page in PAGES for path in keys(text_of(page))}) >= 40


def recipes_on(page: str) -> list[dict[str, Any]]:
    loaded = [YAML(typ="safe", pure=True).load(code) for code in blocks(text_of(page), "yaml")]
    return [block for block in loaded if set(block) <= set(SCHEMA["properties"])]


@pytest.mark.parametrize("page", PAGES)
def test_yaml_of_recipes_is_read_as_one(page: str) -> None:
    for block in recipes_on(page):
        whole = YAML(typ="safe", pure=True).load(TEMPLATE) | block
        text = Path(ROOT / "curator" / "recipe" / "template.yaml").name
        try:
            assert parse(_dumped(whole), name=text).name
        except RecipeError as error:
            pytest.fail(f"{page}: {error}")


def _dumped(whole: dict[str, Any]) -> str:
    import io

    out = io.StringIO()
    YAML(typ="safe", pure=True).dump(whole, out)
    return out.getvalue()


def steps_of_the_action() -> list[dict[str, Any]]:
    loaded = [YAML(typ="safe", pure=True).load(code) for code in blocks(text_of(".github/docs/launch.md"), "yaml")]
    (action,) = [block for block in loaded if "jobs" in block]
    assert set(action) == {"name", "on", "jobs"}
    return [step for job in action["jobs"].values() for step in job["steps"]]


def test_every_step_of_the_action_uses_an_action_or_runs_a_command() -> None:
    assert all(("run" in step) != ("uses" in step) for step in steps_of_the_action())


def exit_code(command: str, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    monkeypatch.setattr(signal, "signal", lambda *handler: None)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def written(file: Path, answer: str) -> None:
    file.parent.mkdir(exist_ok=True)
    subjects = [f"{chr(97 + number) * 5} {chr(122 - number) * 4}" for number in range(24)]
    rows = [{"prompt": f"Tell me of {each}.", "response": answer.format(each)} for each in subjects]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("I cannot help with that.", 3), ("Say nothing about {0}, or {0}.", 0)])
def test_the_action_fails_on_a_bad_corpus_alone(
    answer: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "data" / "safety.jsonl", answer)
    written(tmp_path / "data" / "assistant.jsonl", "It is about {0}.")
    (command,) = [step["run"] for step in steps_of_the_action() if step.get("name") == "Corpus"]
    assert exit_code(command, monkeypatch) == code


def test_the_action_fails_on_a_wrong_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(TEMPLATE.replace("k: 100", "kk: 100"), encoding="utf-8")
    (command,) = [step["run"] for step in steps_of_the_action() if step.get("name") == "Recipe"]
    assert exit_code(command, monkeypatch) == 2


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_compiles_and_names_what_is_there(page: str) -> None:
    for code in blocks(text_of(page), "python"):
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert all(importlib.util.find_spec(name.name) for name in node.names)
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names), code
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "curator":
                assert hasattr(curator, node.attr), code


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them: those that come twice are numbered."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", unfenced(text), re.MULTILINE):
        name = anchor(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading))
        same = sum(1 for each in found if each == name or re.fullmatch(rf"{re.escape(name)}-\d+", each))
        found.append(f"{name}-{same}" if same else name)
    return set(found)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: str) -> None:
    text = unfenced(text_of(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, at = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        if at:
            assert at in headings(file.read_text(encoding="utf-8")), f"{page} links to {target}"


def test_every_page_of_the_documentation_is_in_its_index_and_the_index_in_the_readme() -> None:
    index = text_of(".github/docs/README.md")
    for page in (ROOT / ".github" / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
    assert all(f".github/docs/{page}" in text_of("README.md") for page in ("recipes.md", "reference.md", "audit.md"))


@pytest.mark.parametrize("page", VOICED)
def test_pages_use_the_words_of_the_field(page: str) -> None:
    text = " ".join(re.sub(r"`[^`\n]*`", "`code`", unfenced(text_of(page))).split())
    found = [(match[0], rule) for rule, form in FORMS.items() for match in re.finditer(form, text)]
    assert not found


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_that_a_page_names_is_shipped(page: str) -> None:
    named = set(re.findall(r"\brecipes/[\w./-]+\.yaml\b", text_of(page)))
    assert not [recipe for recipe in named if not (ROOT / recipe).is_file()]
