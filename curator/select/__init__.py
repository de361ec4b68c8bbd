"""Choosing the rows: `curator.select(vectors, score, k)`.

Importing a sub-package binds it over the name that `curator` exports, so this module is itself the public call.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from curator.select import arms
from curator.select.choose import select as select
from curator.select.choose import solve as solve
from curator.select.explain import explain as explain
from curator.select.explain import row_of as row_of
from curator.select.explain import why as why
from curator.select.limits import limits as limits
from curator.select.problem import prepare as prepare
from curator.select.stability import stability as stability

__all__ = ["arms", "explain", "limits", "prepare", "row_of", "select", "solve", "stability", "why"]

_call = select


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _call(*args, **kwargs)


_module: Any = sys.modules[__name__]
_module.__class__ = _CallableModule
_module.__signature__ = inspect.signature(_call)
# Whichever way `curator.select` was reached, it is this module: callable, and with its parts.
_module.select = _module
