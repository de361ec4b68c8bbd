"""curator: builds and vets durable safety-alignment data sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curator.errors import CuratorError as CuratorError
    from curator.records import Selection as Selection
    from curator.selection.solve import select as select

# Public name -> where it lives. Resolved on first use, so that `import curator` costs nothing.
_PUBLIC = {
    "select": "curator.selection.solve",
    "Selection": "curator.records",
    "CuratorError": "curator.errors",
}

__all__ = ["CuratorError", "Selection", "select"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curator' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
