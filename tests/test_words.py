"""Texts that people read hold none of the forms that tire them: templates, help, messages and public docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import curator
from curator.cli import cli

ROOMS = (
    "api.py",
    "cli",
    "cluster",
    "conclusions.py",
    "corpus",
    "decision",
    "engine",
    "errors.py",
    "experiment",
    "forecast",
    "judge",
    "keys",
    "language.py",
    "model",
    "neighbours.py",
    "pipeline.py",
    "pool",
    "provenance.py",
    "publish",
    "recipe",
    "records.py",
    "report",
    "represent",
    "run",
    "score",
    "seeds.py",
    "selection",
    "suite",
    "train",
    "wording.py",
)
"""The rooms below curator/ whose texts are held to the forms."""

_COUNTED = (
    "answers|arms|candidates|cases|characters|checkpoints|clusters|conversations|copies|days|draws|drops|examples|fields"
    "|files|folders|gradients|groups|hours|judges|lines|minutes|models|openers|pairs|pieces|places|prompts|probes|problems"
    "|processes|questions|records|refusals|responses|rows|samples|seconds|seeds|settings|stages|steps|tasks|texts|times"
    "|tokens|trainings|turns|values|vectors|verdicts|words|workers"
)
FORMS = {
    "X is not a Y, never 'X is no Y'": (
        r"(?<!there )\b(?:is|are|was|were|be) no (?!(?:more|less|fewer|longer|larger|smaller)\b)"
    ),
    "similarity, not likeness": r"\blikeness",
    "[default: ...], not 'when absent'": r"\b(?:when|where|if) absent\b",
    "total, not 'in all'": r"\bin all\b(?! (?:its|of|other|the|those|these|their|three|cases)\b)",
    "prompted or evaluated, not asked": r"\basked\b(?! for\b)",
    "55%, not '55 %'": r"(?:\d|\}) %(?![a-z(])",
    "#1, not '(1.)'": r"\((?:\d+|\{+[^{}]*\}+)\.\)",
    "1 row, 2 rows: these(n, 'row', 'rows')": rf"(?:(?<![\w.,])1|\{{[^{{}}]*\}}) (?:{_COUNTED})\b",
    "gibberish or degenerate, not 'no language'": r"\bno language\b",
    "fix, not mend": r"\bmend(?:s|ed|ing)?\b",
    "duplicate, not 'stands twice'": r"\bstands? twice\b",
    "must, will or should, not shall": r"\bshall\b",
    "no first person": r"\b(?:we|us|our|ours)\b",
}
"""What is wrong, and how it is found. `{}` stands for a value that is filled in."""

RIGHT = {
    ("forecast/estimate.py", "asked"),  # the name of a field
    ("judge/phrases.py", "we"),  # phrases of refusal
    ("language.py", "no language"),  # py3langid's own class for texts that are in none
    ("errors.py", "{} problems"),  # the head of two and more; one problem has none
}
"""(file, phrase) where a form is right English."""


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("'zzz' is no row of this pool", True),
        ("helpful and safe answers are no refusals", True),
        ("There is no GPU on this machine", False),
        ("The gap is no larger than 2%", False),
        ("Likeness to these is taken away", True),
        ("The task's rows when absent", True),
        ("1,200 rows in all", True),
        ("the same in all three arms", False),
        ("what the model was asked", True),
        ("the rows that were asked for", False),
        ("of 55 % of the probes", True),
        ("of {} %", True),
        ("of {}% of the probes", False),
        ("found as nearest (1.)", True),
        ("{} rows were dropped", True),
        ("1 rows", True),
        ("{these} were dropped, 1 row was kept", False),
        ("21 rows", False),
        ("the text is in no language", True),
        ("mend the line", True),
        ("recommended", False),
        ("the key 'seed' stands twice", True),
        ("a set that shall last", True),
        ("a bug of ours", True),
        ("run on a US server", False),
    ],
)
def test_the_forms_flag_what_tires_and_let_good_english_be(text: str, flagged: bool) -> None:
    assert bool(list(_wrong(text))) == flagged


def test_what_is_read_of_a_file_is_what_people_read() -> None:
    source = '''
"""The module."""
_HIDDEN = "one_word"
"""Not public."""
LIMIT = 3
"""Of rows."""

def public(n):
    """A function."""
    raise DataError(f"{path}: {these(n, 'a row', 'two rows')} of {n} rows "
        f"and {'no row' if n else 'more'}, {n:.0%}")

def _private():
    """Nobody's."""
    return "a message " + 'one'
'''
    assert [text for _, text in _literals(ast.parse(source))] == [
        "The module.",
        "Of rows.",
        "A function.",
        "{}: {these} of {} rows and {}, {}%",
        "a row",
        "two rows",
        "no row",
        "a message ",
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_no_text_of_a_room_has_a_banned_form(room: str) -> None:
    found = [f"{where}: {wrong}" for where, text in _texts(room) for wrong in _wrong(text, where.split(":")[0])]
    assert not found, "\n" + "\n".join(found)


def test_help_says_what_a_person_gets_and_has_no_banned_form() -> None:
    found = []
    for name, command in _commands(cli, "curator"):
        summary = command.help or ""
        verb = summary.split()[0]
        if verb.endswith("s") or not verb.istitle():
            found.append(f"{name}: help begins with a verb (Build, Print), not {verb!r}")
        texts = [summary, *(option.help or "" for option in command.params if isinstance(option, click.Option))]
        found += [f"{name}: {wrong}" for text in texts for wrong in _wrong(text)]
    assert not found, "\n" + "\n".join(found)


def _wrong(text: str, file: str = "") -> Iterator[str]:
    flat = " ".join(text.split())
    for rule, form in FORMS.items():
        for match in re.finditer(form, flat, 0 if rule == "no first person" else re.IGNORECASE):
            if (file, match[0].lower()) not in RIGHT:
                yield f"{rule}: ...{flat[max(0, match.start() - 40) : match.end() + 40]}..."


def _texts(room: str) -> Iterator[tuple[str, str]]:
    """(file:line, text) of everything a person reads in a room."""
    root = Path(curator.__file__).parent
    files = [root / room] if room.endswith(".py") else sorted((root / room).rglob("*"))
    assert files, f"curator/{room} has no files"
    for path in files:
        file = path.relative_to(root).as_posix()
        if path.suffix == ".py":
            for line, text in _literals(ast.parse(path.read_text("utf-8"))):
                yield f"{file}:{line}", text
        elif path.suffix == ".j2" or path.name == "template.yaml":
            template = path.suffix == ".j2"
            # In YAML braces are mappings, and keys of neighbouring lines are not one sentence.
            source = path.read_text("utf-8") if template else re.sub(r"[{}]", "", path.read_text("utf-8"))
            for line, text in _paragraphs(source) if template else enumerate(source.splitlines(), 1):
                yield f"{file}:{line}", text


def _paragraphs(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of a template, a paragraph at a time, with `{}` for what is filled in and no statements."""

    def blank(match: re.Match[str]) -> str:
        lines = "\n" * match[0].count("\n")
        if not match[0].startswith("{{"):
            return lines
        return ("{these}" if re.search(r"\bthese\(", match[0]) else "{}") + lines

    plain = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<style.*?</style>|<script.*?</script>", blank, source, flags=re.S)
    start = 1
    lines: list[str] = []
    for number, line in enumerate([*plain.splitlines(), ""], 1):
        if text := line.strip(" #"):
            start = start if lines else number
            lines.append(text)
        elif lines:
            yield start, " ".join(lines)
            lines = []


def _literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every public docstring, and every string of more than one word that is not a docstring."""
    hidden: set[ast.AST] = set()
    _hide(tree, hidden)
    yield from _strings(tree, hidden)


def _hide(node: ast.AST, hidden: set[ast.AST], private: bool = False) -> None:
    """Gathers docstrings of private names, which only those read who work on the code."""
    before: ast.stmt | None = None
    for child in getattr(node, "body", None) or []:
        if not isinstance(child, ast.stmt):
            return
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            names = [target for target in ast.walk(before) if isinstance(target, ast.Name)][:1] if before else []
            if private or any(name.id.startswith("_") for name in names):
                hidden.add(child.value)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            dunder = child.name.startswith("__") and child.name.endswith("__")
            _hide(child, hidden, private or (child.name.startswith("_") and not dunder))
        before = child


def _strings(node: ast.AST, hidden: set[ast.AST]) -> Iterator[tuple[int, str]]:
    if node in hidden:
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
        return
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values]
        yield node.lineno, "".join(str(part) for part in parts)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _strings(part.value, hidden)
        return
    for child in ast.iter_child_nodes(node):
        yield from _strings(child, hidden)


def _filled(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    counted = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "these"
    share = (
        isinstance(part, ast.FormattedValue) and part.format_spec is not None and "%" in ast.unparse(part.format_spec)
    )
    return "{these}" if counted else "{}%" if share else "{}"


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner, child in sorted(command.commands.items()):
            yield from _commands(child, f"{name} {inner}")
