"""Texts that people read hold none of the forms that tire them: templates, help, messages, docstrings and comments."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import curator
from curator.cli import cli

ROOMS = (
    "__init__.py",
    "__main__.py",
    "api.py",
    "cli",
    "cluster",
    "conclusions",
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
"""The rooms below curator/ whose texts are held to the forms, docstrings of private names and comments among them."""
NOT_YET = ("sandbox",)
"""Not held: the code of the sandbox, comments among it, is part of the pool's key."""

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
    "a subject: 'Seed of the draw', not 'Of the draw.'": (
        r"(?:^|[:.;] )Of (?:an?|the|this|its|each|all|which|several|every|one|some|both|that|those|such)\b"
        r"[^.,;:]*\.(?=\s|$)"
    ),
    "no one, or name who, not nobody": r"\bnobody\b",
    "due to, not owed to": r"\bowed to\b",
    "subtract or remove, not take away": r"\btak(?:es?|en|ing) away\b",
    "atomically, not 'whole or not at all'": r"\bwhole or not\b",
}
"""What is wrong, and how it is found. `{}` stands for a value that is filled in."""

RIGHT = {
    ("forecast/estimate.py", "asked"),  # the name of a field
    ("judge/phrases.py", "we"),  # phrases of refusal
    ("language.py", "no language"),  # py3langid's own class for texts that are in none
    ("errors.py", "{} problems"),  # the head of two and more; one problem has none
}
"""(file, phrase) where a form is right English."""
DIRECTIVE = re.compile(r"#!|#\s*(?:fmt|noqa|type|ruff|mypy|pragma|isort)\b\s*:?")
"""Comments that a tool reads."""


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
        ("seed: Of the draw.", True),
        ("Of the settings in range, the first is named.", False),
        ("Of the rows that are left, half", False),
        ("nobody is asked for it", True),
        ("what is owed to the mix", True),
        ("the mean is taken away", True),
        ("Writes a file, whole or not at all.", True),
    ],
)
def test_the_forms_flag_what_tires_and_let_good_english_be(text: str, flagged: bool) -> None:
    assert bool(list(_wrong(text))) == flagged


def test_what_is_read_of_a_file_is_what_people_read() -> None:
    source = '''
"""The module."""
_HIDDEN = "one_word"
"""Of a private name."""
LIMIT = 3  # rows at most

def public(n):
    """A function."""
    # A comment
    # of two lines.
    raise DataError(f"{path}: {these(n, 'a row', 'two rows')} of {n} rows "
        f"and {'no row' if n else 'more'}, {n:.0%}")  # noqa: EM102

def _private():
    """A private function."""
    return "a message " + 'one'
'''
    assert [text for _, text in _literals(ast.parse(source))] == [
        "The module.",
        "Of a private name.",
        "A function.",
        "{}: {these} of {} rows and {}, {}%",
        "a row",
        "two rows",
        "no row",
        "A private function.",
        "a message ",
    ]
    assert list(_comments(source)) == [(5, "rows at most"), (9, "A comment of two lines.")]


def test_every_room_is_held_to_the_forms_or_named_as_not_yet_held() -> None:
    rooms = Path(curator.__file__).parent.iterdir()
    there = {path.name for path in rooms if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == {*ROOMS, *NOT_YET}


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
            source = path.read_text("utf-8")
            for line, text in (*_literals(ast.parse(source)), *_comments(source)):
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


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment; lines that follow each other are one text. Directives for tools are left out."""
    start, before, lines = 0, (0, 0), list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        row, column = token.start
        if lines and before != (row - 1, column):
            yield start, " ".join(lines)
            lines = []
        start = start if lines else row
        lines.append(token.string.lstrip("# "))
        before = row, column
    if lines:
        yield start, " ".join(lines)


def _literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of more than one word: docstrings, messages and all others."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
        return
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values]
        yield node.lineno, "".join(str(part) for part in parts)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _literals(part.value)
        return
    for child in ast.iter_child_nodes(node):
        yield from _literals(child)


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
