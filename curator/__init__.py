"""curator: builds and vets durable safety-alignment data sets.

import curator

checked = curator.check("recipe.yaml")       # problems, plan and cost; nothing is trained
result = curator.build("recipe.yaml", progress=True)
print(result.decision.sentence)
result.rows                                  # the chosen rows, a polars frame
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curator.api import Checked as Checked
    from curator.api import Result as Result
    from curator.api import audit as audit
    from curator.api import build as build
    from curator.api import check as check
    from curator.api import load as load
    from curator.api import select_rows as select_rows
    from curator.errors import CuratorError as CuratorError
    from curator.recipe import Recipe as Recipe
    from curator.records import Selection as Selection
    from curator.selection.solve import select as select

# Public name -> its module. Resolved on first use, so that `import curator` loads nothing else.
_PUBLIC = {
    "build": "curator.api",
    "check": "curator.api",
    "audit": "curator.api",
    "load": "curator.api",
    "select_rows": "curator.api",
    "Result": "curator.api",
    "Checked": "curator.api",
    "Recipe": "curator.recipe",
    "select": "curator.selection.solve",
    "Selection": "curator.records",
    "CuratorError": "curator.errors",
}

__all__ = [
    "Checked",
    "CuratorError",
    "Recipe",
    "Result",
    "Selection",
    "audit",
    "build",
    "check",
    "load",
    "select",
    "select_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curator' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
