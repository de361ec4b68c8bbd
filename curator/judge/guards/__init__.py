"""Guard models by convention: how each is prompted and how its reply is read. One function and one entry each."""

from __future__ import annotations

from collections.abc import Callable

from curator.judge.guards.adapter import Adapter
from curator.judge.guards.beaver_dam import beaver_dam
from curator.judge.guards.harmbench import harmbench
from curator.judge.guards.llama_guard import llama_guard
from curator.judge.guards.qwen3guard import qwen3guard
from curator.judge.guards.strongreject import strongreject
from curator.judge.guards.wildguard import wildguard
from curator.recipe.judge import Judge

GUARDS: dict[str, Callable[[Judge], Adapter]] = {
    "qwen3guard": qwen3guard,
    "beaver-dam": beaver_dam,
    "harmbench": harmbench,
    "llama-guard": llama_guard,
    "wildguard": wildguard,
    "strongreject": strongreject,
}
