"""The house keeps its plan: who may import whom, where a library lives, what a file may be called and how long it is.

Only the source is read here, with `ast`; nothing of the package is imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from curator.run import names as run_names

# From the ground up. A room is a file or a folder of curator/; it may import itself and every room of a lower floor.
FLOORS = (
    {"errors"},
    {"records", "seeds", "wording", "language", "sandbox"},
    {"conclusions", "recipe"},
    {"provenance", "run", "decision"},
    {"model", "neighbours"},
    {"engine", "train", "selection"},
    {"represent", "keys"},
    {"judge"},
    {"pool"},
    {"score"},
    {"experiment"},
    {"report"},
    {"forecast", "publish"},
    {"pipeline"},
    {"corpus", "suite"},
    {"cluster"},
    {"cli"},
    {"api"},
    {"__main__"},
)
# `curator/__init__.py` is importable from everywhere, and names the rooms of its public functions without running them.
FRONT = "curator"

# Library -> the only places that import it.
HOMES = {
    "faiss": ("neighbours.py",),
    "peft": ("train/", "model/load.py"),  # which merges adapters
    "trl": ("train/",),
    "vllm": ("train/",),
    "sentence_transformers": ("represent/",),
    "ray": ("engine/",),
    "rich": ("cli/",),
    "click": ("cli/",),
    "py3langid": ("language.py",),
    "icu4py": ("language.py",),
    "regex": ("language.py",),
}

# File -> libraries that it may import inside functions only, so that starting costs nothing.
LAZY = dict.fromkeys(("__init__.py", "__main__.py", "cli/"), ("polars", "numpy", "pydantic", "torch", "rich", "ruamel"))
LAZY |= dict.fromkeys(
    ("pipeline.py", "keys/", "report/compare.py", "forecast/", "suite/", "recipe/", "run/__init__.py"),
    ("polars", "numpy", "torch", "transformers"),
)

WITH_A_BUILD = {"cli/progress.py"}  # loaded when a build starts, not with the command line

# `base` is not among them: it is the model that every arm starts from.
NAMES_THAT_FIT_ANYTHING = {"utils", "util", "common", "helpers", "types", "constants", "config", "misc"}
LONGEST_FILE, SHORTEST_FILE = 450, 40
# May be shorter: they plug one thing in.
SHORT = ("__init__.py", "__main__.py", "judge/guards/", "pool/screen/")
NOUNS = {"forgetting", "embedding", "drawing", "training", "wording"}  # the sandbox's names are part of the pool's key
PRONOUNS = {"one", "own", "found", "told", "said", "place"}
MAY_PRINT = ("cli/", "__main__.py")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "curator"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

pytestmark = pytest.mark.parametrize("file", FILES)


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """`curator.experiment.plan` -> experiment; `curator` -> the front."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else FRONT


def rooms_of_file(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, module and names of every import, those inside functions and of type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write the module's full name"
            assert node.module is not None
            yield node.lineno, node.module, tuple(alias.name for alias in node.names)


def rooms_imported(file: str) -> Iterator[tuple[int, str]]:
    for line, module, names in imports(parsed(file)):
        if module == "curator":
            found = [name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()]
            yield from ((line, name) for name in (found or [FRONT]))
        elif module.startswith("curator."):
            yield line, room_of(module)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def run_on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything that runs when a module is imported: not what functions hold, nor what is for type checkers."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def test_a_file_stands_on_a_floor(file: str) -> None:
    assert file == "__init__.py" or any(rooms_of_file(file) in rooms for rooms in FLOORS), "give it a place in FLOORS"


def test_imports_go_down_only(file: str) -> None:
    if file == "__init__.py":
        return
    own = rooms_of_file(file)
    wrong = [
        f"{file}:{line} imports {room}"
        for line, room in rooms_imported(file)
        if room not in (own, FRONT) and floor_of(room) >= floor_of(own)
    ]
    assert not wrong


def test_a_library_lives_in_one_place(file: str) -> None:
    wrong = [
        f"{file}:{line} imports {module}; its home is {' and '.join(HOMES[library])}"
        for line, module, _ in imports(parsed(file))
        for library in [module.partition(".")[0]]
        if library in HOMES and not file.startswith(HOMES[library])
    ]
    assert not wrong


def test_what_starts_first_imports_nothing_heavy(file: str) -> None:
    if file in WITH_A_BUILD:
        return
    banned = {library for start, libraries in LAZY.items() if file.startswith(start) for library in libraries}
    if file.endswith("stage.py"):  # a finished run is passed over in no time
        banned |= {"polars", "numpy", "torch", "transformers"}
    wrong = [
        f"{file}:{node.lineno} imports {name} at module level"
        for node in run_on_import(parsed(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name, _ in imports(node)
        if name.partition(".")[0] in banned
    ]
    assert not wrong


def test_a_file_is_as_long_as_its_idea_and_its_name_tells_what_it_holds(file: str) -> None:
    length = len((PACKAGE / file).read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST_FILE, f"{file} has {length} lines; split it by subject"
    short = file.endswith(SHORT[:2]) or file.startswith(SHORT[2:])
    assert length >= SHORTEST_FILE or short, f"{file} has {length} lines; join it with what it belongs to"
    name = file.removesuffix(".py").split("/")
    assert NAMES_THAT_FIT_ANYTHING.isdisjoint(name)
    assert not name[-1].endswith("ing") or name[-1] in NOUNS or name[0] == "sandbox", f"{file}: a module is a noun"


def test_a_local_says_what_it_holds(file: str) -> None:
    """A comprehension may call its variable `one`; a local that lives longer may not."""
    if file.startswith("sandbox/"):  # whose code is part of the pool's key
        return
    wrong = [
        f"{file}:{node.lineno} {node.id}"
        for function in ast.walk(parsed(file))
        if isinstance(function, ast.FunctionDef) and len(function.body) > 3
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in PRONOUNS
        if not in_a_comprehension(function, node)
    ]
    assert not wrong


def in_a_comprehension(function: ast.FunctionDef, name: ast.Name) -> bool:
    loops = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return any(name in ast.walk(loop) for loop in ast.walk(function) if isinstance(loop, loops))


def test_only_the_command_line_prints_or_exits(file: str) -> None:
    if file.startswith(MAY_PRINT):
        return
    banned = {"print", "click.echo", "sys.exit", "exit", "quit", "sys.stdout.write", "sys.stderr.write"}
    wrong = [
        f"{file}:{node.lineno} calls {ast.unparse(node.func)}"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in banned
    ]
    assert not wrong


def test_no_error_is_swallowed_whole(file: str) -> None:
    wrong = [
        f"{file}:{node.lineno}"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "BaseException" in ast.unparse(node.type) or is_swallowed(node))
    ]
    assert not wrong


def is_swallowed(handler: ast.ExceptHandler) -> bool:
    """Whether `except Exception` ends without raising."""
    assert handler.type is not None
    return ast.unparse(handler.type) == "Exception" and not isinstance(handler.body[-1], ast.Raise)


def test_a_file_says_what_it_is_for(file: str) -> None:
    tree = parsed(file)
    if tree.body:
        assert ast.get_docstring(tree), f"{file} has no docstring"


def test_what_is_public_says_what_it_gives_back(file: str) -> None:
    wrong = [
        f"{file}:{node.lineno} {node.name}"
        for node in parsed(file).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert not wrong


def test_standard_library_names_are_not_taken(file: str) -> None:
    name = file.removesuffix(".py").rpartition("/")[2]
    assert "/" in file or name not in sys.stdlib_module_names


RUN_FOLDER = re.compile(r"(?:^|/)\d-[a-z]+(?:/|$)|\.(?:parquet|arrow|npy)$")
NAMES = {
    name for name in vars(run_names).values() if isinstance(name, str) and re.search(r"\.(?:json|yaml|md|html)$", name)
}
# Files that are not the run folder's: a user's, a published data set's, a judge's folder, a cache of vectors.
OTHER_FILES = {"pool/files.py", "publish/dataset.py", "publish/merge.py", "judge/embedding.py", "judge/questions.py"}
OTHER_FILES |= {"pool/workers.py", "pool/rows.py"}  # what workers hand over, gone when it is taken


def test_the_run_folder_is_named_in_its_room_and_by_a_stage_about_itself(file: str) -> None:
    """Another stage's result is read through `Run`; see curator/run/names.py."""
    if file.startswith("run/") or file.endswith("stage.py") or file in OTHER_FILES:
        return
    wrong = [
        f"{file}:{node.lineno} {node.value!r}"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60
        if RUN_FOLDER.search(node.value) or node.value in NAMES
    ]
    assert not wrong


# Beside a stage.py: what passes a stage's own files to workers, adds to them, or writes those of the run folder itself.
KNOW_THE_RUN_FOLDER = ("run/", "experiment/", "judge/rejudge.py", "report/effort.py", "pipeline.py", "keys/")


def test_another_stages_result_is_read_through_the_door(file: str) -> None:
    if file.endswith("stage.py") or file.startswith(KNOW_THE_RUN_FOLDER):
        return
    wrong = [
        f"{file}:{line} imports {module}"
        for line, module, names in imports(parsed(file))
        if module == "curator.run.names" or (module == "curator.run" and {"FOLDERS", "names"} & set(names))
    ]
    assert not wrong


def module_of(file: str) -> str:
    return ".".join(("curator", *file.removesuffix(".py").split("/"))).removesuffix(".__init__")


@cache
def imported_on_import() -> dict[str, set[str]]:
    """Module -> the modules of the package that are imported while it is imported."""
    known = {module_of(file) for file in FILES}
    return {
        module_of(file): {
            target if target in known else module
            for node in run_on_import(parsed(file))
            if isinstance(node, ast.ImportFrom)
            for _, module, imported in imports(node)
            if module.startswith("curator")
            for target in (f"{module}.{name}" for name in imported)
        }
        for file in FILES
    }


def test_no_modules_import_each_other_in_a_circle(file: str) -> None:
    graph, start = imported_on_import(), module_of(file)
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph.get(module, ())
    assert start not in reached - {"curator"} or start == "curator"
